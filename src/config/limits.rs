//! `limits`: how much memory the filter may use.

use super::error::Problems;
use super::field::{Field, Object};
use super::keys;

const MIB: usize = 1 << 20;

/// `limits`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Maximum memory of the state of all connections in one VM (Envoy worker), in bytes; 1 MiB to 512 MiB.
    pub connection_state: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connection_state: 16 * MIB }
    }
}

impl Limits {
    pub(super) fn read(root: &Object<'_>, problems: &mut Problems) -> Self {
        let mut limits = Self::default();
        let Some(object) = root.object("limits", &keys::LIMITS, problems) else { return limits };
        if let Some(size) = object.get("connection_state").and_then(|field| read_size(&field, problems)) {
            limits.connection_state = size;
        }
        limits
    }
}

/// A whole number of KiB or MiB, as a string.
fn read_size(field: &Field<'_>, problems: &mut Problems) -> Option<usize> {
    let size = field.text().and_then(|text| {
        let (digits, unit) = text
            .strip_suffix("MiB")
            .map(|digits| (digits, MIB))
            .or_else(|| text.strip_suffix("KiB").map(|digits| (digits, 1 << 10)))?;
        let is_plain = digits.bytes().all(|byte| byte.is_ascii_digit());
        let number: usize = digits.parse().ok().filter(|_| is_plain)?;
        number.checked_mul(unit)
    });
    let found = size.filter(|size| (MIB..=512 * MIB).contains(size));
    if found.is_none() {
        field.refuse(r#"a size from "1MiB" to "512MiB", with the unit KiB or MiB"#, problems);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::Config;

    #[test]
    fn sizes_have_a_unit_and_a_range() {
        for (text, expected) in [
            (r#""16MiB""#, 16 << 20),
            (r#""1MiB""#, 1 << 20),
            (r#""2048KiB""#, 2 << 20),
            (r#""512MiB""#, 512 << 20),
        ] {
            let json = format!(r#"{{"limits": {{"connection_state": {text}}}}}"#);
            assert_eq!(Config::parse(json.as_bytes()).unwrap().limits.connection_state, expected);
        }
        for wrong in [
            r#""1023KiB""#,
            r#""513MiB""#,
            r#""16""#,
            "16",
            r#""+16MiB""#,
            r#""16 MiB""#,
            r#""16mb""#,
            r#""MiB""#,
        ] {
            let json = format!(r#"{{"limits": {{"connection_state": {wrong}}}}}"#);
            let problems = Config::parse(json.as_bytes()).unwrap_err().to_string();
            let expected = r#"$.limits.connection_state: expected a size from "1MiB" to "512MiB""#;
            assert!(problems.contains(expected), "{wrong}: {problems}");
        }
        assert_eq!(Config::default().limits.connection_state, 16 << 20);
    }
}
