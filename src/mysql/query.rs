//! Where the statement stands in a COM_QUERY: behind the query attributes, where both sides know them.

use super::capability::Capabilities;
use super::types::{ParseError, Reader};

/// The beginning of the statement in a COM_QUERY of which `payload` is the beginning; empty where the
/// attributes fill it.
#[must_use]
pub fn statement(payload: &[u8], capabilities: Capabilities) -> &[u8] {
    let mut reader = Reader::new(payload.get(1..).unwrap_or_default());
    if capabilities.contains(Capabilities::QUERY_ATTRIBUTES) && skip_attributes(&mut reader).is_err() {
        return &[];
    }
    reader.rest()
}

/// Types and names of all attributes stand in front of all values (MySQL manual, "COM_QUERY").
fn skip_attributes(reader: &mut Reader) -> Result<(), ParseError> {
    let count = reader.lenenc_int("parameter_count")?;
    reader.lenenc_int("parameter_set_count")?;
    if count == 0 {
        return Ok(());
    }
    let bitmap_len = usize::try_from(count.div_ceil(8)).unwrap_or(usize::MAX);
    let null_bitmap = reader.bytes("null_bitmap", bitmap_len)?;
    if reader.u8("new_params_bind_flag")? == 0 {
        return Ok(());
    }
    let mut values = *reader;
    for _ in 0..count {
        values.u16("param_type_and_flag")?;
        values.lenenc_bytes("parameter name")?;
    }
    let mut types = std::mem::replace(reader, values);
    for index in 0..usize::try_from(count).unwrap_or(usize::MAX) {
        let [kind, _] = types.u16("param_type_and_flag")?.to_le_bytes();
        types.lenenc_bytes("parameter name")?;
        let bits = null_bitmap.get(index / 8).copied().unwrap_or(0);
        if bits >> (index % 8) & 1 == 0 {
            skip_value(reader, kind)?;
        }
    }
    Ok(())
}

/// A value of the binary protocol, by its `enum_field_types` (MySQL manual, "Binary Protocol Value").
fn skip_value(reader: &mut Reader, kind: u8) -> Result<(), ParseError> {
    let len = match kind {
        6 => 0,
        1 => 1,
        2 | 13 => 2,
        3 | 4 | 9 => 4,
        5 | 8 => 8,
        7 | 10..=12 => usize::from(reader.u8("length")?),
        _ => return reader.lenenc_bytes("value").map(|_| ()),
    };
    reader.bytes("value", len).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_statement_stands_behind_the_attributes() {
        let both = Capabilities::QUERY_ATTRIBUTES;
        assert_eq!(statement(b"\x03SELECT 1", Capabilities::default()), b"SELECT 1");
        assert_eq!(statement(b"\x03\x00\x01SELECT 1", both), b"SELECT 1");
        // Three attributes: a string, NULL, an integer of 8 bytes.
        let payload = b"\x03\x03\x01\x02\x01\xfd\x00\x0btraceparent\xfd\x00\x01n\x08\x00\x01i\x0200\x01\0\0\0\0\0\0\0SELECT 1";
        assert_eq!(statement(payload, both), b"SELECT 1");
        for cut in 0..payload.len() - b"SELECT 1".len() {
            assert!(statement(&payload[..cut], both).is_empty(), "cut at {cut}");
        }
    }
}
