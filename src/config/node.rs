//! Reads JSON text into a tree that keeps duplicate keys. `serde_json::Value` would keep only the last of them.

use std::fmt::{self, Write};

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Number;

use super::error::ConfigError;

/// Maximum length of a configuration in bytes, because the whole tree is in memory while it is read.
pub const MAX_BYTES: usize = 1 << 20;

/// Maximum number of characters of a value that a message shows.
const MAX_SHOWN_CHARS: usize = 60;

/// One JSON value. `serde_json` bounds the depth. `Display` is compact JSON, cut after 60 characters.
#[derive(Debug)]
pub(super) enum Node {
    Null,
    Bool(bool),
    /// Whole floats become integers, because Istio turns `pluginConfig` into a protobuf `Struct`, in which all numbers are
    /// floats.
    Number(Number),
    String(String),
    Array(Vec<Node>),
    /// In the order of the text, duplicates included.
    Object(Vec<(String, Node)>),
}

/// Reads the text of a configuration; `None` if it is white space alone.
pub(super) fn read(json: &[u8]) -> Result<Option<Node>, ConfigError> {
    let refuse = |problem: &str| Err(ConfigError::new("$", problem));
    if json.trim_ascii().is_empty() {
        return Ok(None);
    }
    if json.len() > MAX_BYTES {
        return refuse(&format!("expected at most {MAX_BYTES} bytes, found {}", json.len()));
    }
    match serde_json::from_slice(json) {
        Ok(node) => Ok(Some(node)),
        Err(_) if looks_like_protobuf(json) => refuse(
            "expected a JSON object, found the raw bytes of a protobuf message: in Envoy put the JSON in a \
             google.protobuf.StringValue, not in a Struct",
        ),
        Err(error) => refuse(&format!("expected JSON, found a syntax error: {error}")),
    }
}

/// Whether the text is the raw bytes of a `google.protobuf.Struct`, in which form Envoy passes it on: the tag 0x0a, a
/// length, an entry with the tags 0x0a and 0x12. JSON takes the first tag for white space, and the length may be `{`.
fn looks_like_protobuf(bytes: &[u8]) -> bool {
    let control = |byte: &u8| byte.is_ascii_control() && !byte.is_ascii_whitespace();
    let a_struct = bytes.starts_with(b"\x0a") && bytes.contains(&0x12);
    let text_of_json = bytes.trim_ascii_start().starts_with(b"{");
    a_struct || (!text_of_json && (bytes.iter().any(control) || std::str::from_utf8(bytes).is_err()))
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = Shown { text: String::new(), left: MAX_SHOWN_CHARS };
        let whole = self.render(&mut shown).is_ok();
        f.write_str(&shown.text)?;
        if whole { Ok(()) } else { f.write_str("...") }
    }
}

impl Node {
    fn render(&self, out: &mut Shown) -> fmt::Result {
        match self {
            Self::Null => out.write_str("null"),
            Self::Bool(value) => write!(out, "{value}"),
            Self::Number(value) => write!(out, "{value}"),
            // `Debug` instead of JSON's own escapes, because it also escapes invisible characters.
            Self::String(value) => write!(out, "{value:?}"),
            Self::Array(items) => {
                out.write_str("[")?;
                for (index, item) in items.iter().enumerate() {
                    out.write_str(if index == 0 { "" } else { "," })?;
                    item.render(out)?;
                }
                out.write_str("]")
            }
            Self::Object(entries) => {
                out.write_str("{")?;
                for (index, (key, value)) in entries.iter().enumerate() {
                    write!(out, "{}{key:?}:", if index == 0 { "" } else { "," })?;
                    value.render(out)?;
                }
                out.write_str("}")
            }
        }
    }
}

/// Text with a maximum length, so that a large value costs no more than a small one.
struct Shown {
    text: String,
    left: usize,
}

impl Write for Shown {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for char in text.chars() {
            self.left = self.left.checked_sub(1).ok_or(fmt::Error)?;
            self.text.push(char);
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        // Within 32 bits a float and its integer are the same number. No setting is larger.
        let integral = value.fract() == 0.0 && value.abs() <= f64::from(u32::MAX);
        #[expect(clippy::cast_possible_truncation, reason = "integral and within 33 bits")]
        let number = if integral { Some((value as i64).into()) } else { Number::from_f64(value) };
        Ok(number.map_or(Node::Null, Node::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Node::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(Node::Object(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(json: &str) -> String {
        read(json.as_bytes()).unwrap().unwrap().to_string()
    }

    #[test]
    fn a_node_is_shown_as_compact_json_with_duplicates() {
        assert_eq!(
            shown(r#" {"a" : [1, -2, 3306.0, 0.5, null], "a": {"b": true}} "#),
            r#"{"a":[1,-2,3306,0.5,null],"a":{"b":true}}"#
        );
    }

    #[test]
    fn a_large_value_is_shown_in_part_without_control_characters() {
        let large = format!("[{}\"x\"]", "\"\\u0007\\u001b\",".repeat(50_000));
        assert_eq!(shown(&large).chars().count(), MAX_SHOWN_CHARS + 3);
        assert!(!shown(&large).contains(char::is_control));
    }

    #[test]
    fn the_depth_of_json_is_bounded() {
        let deep = "[".repeat(100_000);
        assert!(read(deep.as_bytes()).unwrap_err().problem.contains("recursion limit exceeded"));
    }

    #[test]
    fn a_struct_is_recognised_by_its_bytes_for_every_first_length() {
        for length in 0..=0x7f_u8 {
            let bytes = [&[0x0a, length, 0x0a, 4][..], b"mode", &[0x12, 0x05, 0x1a, 3], b"off"].concat();
            assert!(
                read(&bytes).unwrap_err().problem.contains("raw bytes of a protobuf message"),
                "{length}"
            );
        }
        assert!(read(b"\xff\xfe").unwrap_err().problem.contains("protobuf"));
        assert!(read(b"{\"a\": \"\x01\"}").unwrap_err().problem.contains("control character"));
        assert!(
            read(b"mode: off")
                .unwrap_err()
                .problem
                .contains("syntax error: expected value at line 1 column 1")
        );
    }
}
