//! `limits`: the maximum memory of the filter.

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
