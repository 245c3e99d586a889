//! The statement in a COM_QUERY, which follows the query attributes if both peers support them, and the attribute
//! `traceparent`.

use crate::mysql::wire::capability::Capabilities;
use crate::mysql::wire::types::{ParseError, Reader};

/// Returns the beginning of the statement in a COM_QUERY that begins with `payload`; empty if the attributes fill it.
#[must_use]
pub fn statement(payload: &[u8], capabilities: Capabilities) -> &[u8] {
    let mut reader = Reader::new(payload.get(1..).unwrap_or_default());
    if capabilities.contains(Capabilities::QUERY_ATTRIBUTES) && query_attributes(&mut reader).is_err() {
        return &[];
    }
    reader.rest()
}

/// Returns the value of the attribute `traceparent` of a COM_QUERY.
#[must_use]
pub fn traceparent_of_query(payload: &[u8], capabilities: Capabilities) -> Option<&[u8]> {
    let mut reader = Reader::new(payload.get(1..)?);
    let known = capabilities.contains(Capabilities::QUERY_ATTRIBUTES);
    known.then(|| query_attributes(&mut reader).ok()).flatten().flatten()
}

/// Returns the value of the attribute `traceparent` of a COM_STMT_EXECUTE. Attributes are parameters with a name.
#[must_use]
pub fn traceparent_of_execute(payload: &[u8], capabilities: Capabilities) -> Option<&[u8]> {
    /// Flag of COM_STMT_EXECUTE: the number of parameters follows.
    const PARAMETER_COUNT_AVAILABLE: u8 = 8;
    let mut reader = Reader::new(payload.get(1..)?);
    reader.u32("statement_id").ok()?;
    let flags = reader.u8("flags").ok()?;
    reader.u32("iteration_count").ok()?;
    if !capabilities.contains(Capabilities::QUERY_ATTRIBUTES) || flags & PARAMETER_COUNT_AVAILABLE == 0 {
        return None;
    }
    let count = reader.lenenc_int("parameter_count").ok()?;
    attributes(&mut reader, count).ok()?
}

fn query_attributes<'a>(reader: &mut Reader<'a>) -> Result<Option<&'a [u8]>, ParseError> {
    let count = reader.lenenc_int("parameter_count")?;
    reader.lenenc_int("parameter_set_count")?;
    attributes(reader, count)
}

/// Reads the attributes. Returns the value of `traceparent`. The types and names of all attributes precede all values (MySQL
/// manual, "COM_QUERY").
fn attributes<'a>(reader: &mut Reader<'a>, count: u64) -> Result<Option<&'a [u8]>, ParseError> {
    if count == 0 {
        return Ok(None);
    }
    let bitmap_len = usize::try_from(count.div_ceil(8)).unwrap_or(usize::MAX);
    let null_bitmap = reader.bytes("null_bitmap", bitmap_len)?;
    if reader.u8("new_params_bind_flag")? == 0 {
        return Ok(None);
    }
    let mut values = *reader;
    for _ in 0..count {
        values.u16("param_type_and_flag")?;
        values.lenenc_bytes("parameter name")?;
    }
    let mut types = std::mem::replace(reader, values);
    let mut traceparent = None;
    for index in 0..usize::try_from(count).unwrap_or(usize::MAX) {
        let [kind, _] = types.u16("param_type_and_flag")?.to_le_bytes();
        let name = types.lenenc_bytes("parameter name")?;
        let bits = null_bitmap.get(index / 8).copied().unwrap_or(0);
        if bits >> (index % 8) & 1 == 0 {
            let value = value(reader, kind)?;
            if name == b"traceparent" {
                traceparent = Some(value);
            }
        }
    }
    Ok(traceparent)
}

/// Reads a value of the binary protocol, by its `enum_field_types` (MySQL manual, "Binary Protocol Value").
fn value<'a>(reader: &mut Reader<'a>, kind: u8) -> Result<&'a [u8], ParseError> {
    let len = match kind {
        6 => 0,
        1 => 1,
        2 | 13 => 2,
        3 | 4 | 9 => 4,
        5 | 8 => 8,
        7 | 10..=12 => usize::from(reader.u8("length")?),
        _ => return reader.lenenc_bytes("value"),
    };
    reader.bytes("value", len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_statement_follows_the_attributes() {
        let both = Capabilities::QUERY_ATTRIBUTES;
        assert_eq!(statement(b"\x03SELECT 1", Capabilities::default()), b"SELECT 1");
        assert_eq!(statement(b"\x03\x00\x01SELECT 1", both), b"SELECT 1");
        // Three attributes: a string, NULL, an integer of 8 bytes.
        let payload = b"\x03\x03\x01\x02\x01\xfd\x00\x0btraceparent\xfd\x00\x01n\x08\x00\x01i\x0200\x01\0\0\0\0\0\0\0SELECT 1";
        assert_eq!(statement(payload, both), b"SELECT 1");
        for cut in 0..payload.len() - b"SELECT 1".len() {
            assert!(statement(&payload[..cut], both).is_empty(), "cut at {cut}");
        }
        assert_eq!(traceparent_of_query(payload, both), Some(&b"00"[..]));
        assert_eq!(traceparent_of_query(payload, Capabilities::default()), None);
        assert_eq!(traceparent_of_query(b"\x03\x00\x01SELECT 1", both), None);
    }

    #[test]
    fn an_execute_can_have_attributes() {
        let both = Capabilities::QUERY_ATTRIBUTES;
        // A parameter without a name, and an attribute.
        let payload =
            b"\x17\x01\0\0\0\x08\x01\0\0\0\x02\0\x01\x08\0\0\xfd\0\x0btraceparent\x09\0\0\0\0\0\0\0\x0200";
        assert_eq!(traceparent_of_execute(payload, both), Some(&b"00"[..]));
        assert_eq!(traceparent_of_execute(payload, Capabilities::default()), None);
        let mut without = payload.to_vec();
        without[5] = 0;
        assert_eq!(traceparent_of_execute(&without, both), None);
        for cut in 0..payload.len() {
            assert_eq!(traceparent_of_execute(&payload[..cut], both), None, "cut at {cut}");
        }
    }
}
