//! Panics end here, because a panic that leaves a hook ends Envoy.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Calls `act`. Returns `None` if it panics. The hook that [`crate::module`] sets has then logged the panic.
///
/// What the panic interrupted may be incomplete. So the caller gives up the connection ([`crate::connection`]), and counts
/// can be missing.
pub(crate) fn catch<T>(act: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(act)).ok()
}

/// Panics if the test has asked for a panic at this place.
#[cfg(feature = "inject-panics")]
pub(crate) fn inject(place: &str) {
    let Some(path) = std::env::var_os("FIRSTWORD_PANIC") else { return };
    let is_asked = std::fs::read_to_string(&path).is_ok_and(|text| text.trim() == place);
    if is_asked && std::fs::remove_file(&path).is_ok() {
        #[allow(clippy::panic, reason = "the test wants one")]
        std::panic::panic_any(place.to_owned());
    }
}

/// Does nothing: only the module of one test panics.
#[cfg(not(feature = "inject-panics"))]
pub(crate) fn inject(_: &str) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_ends_in_none() {
        assert_eq!(catch(|| 7), Some(7));
        assert_eq!(catch(|| panic!("a bug")), None::<()>);
    }
}
