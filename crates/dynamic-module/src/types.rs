//! Values of Envoy's ABI without pointers.

use std::borrow::Cow;

/// `envoy_dynamic_module_type_network_connection_close_type`: sends what Envoy has already got for the client.
pub(crate) const FLUSH_WRITE: u32 = 0;

/// Time until the next tick if a tick has panicked, in milliseconds.
pub(crate) const TICK_AFTER_PANIC: u64 = 500;

/// Result of the hooks about new connections and bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Status {
    Continue = 0,
    /// The next filters get neither the connection nor the bytes.
    Stop = 1,
}

/// Attribute of a connection: `envoy_dynamic_module_type_attribute_id`.
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub(crate) enum Attribute {
    ResponseFlags = 17,
    ClusterName = 57,
    ListenerDirection = 59,
}

/// Side of the client's connection that closed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CloseSide {
    Client,
    Envoy,
}

/// Change of a metric.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Change {
    Count(u64),
    Raise(u64),
    Lower(u64),
    Set(u64),
}

/// Returns up to `max` bytes of `slices`, from `start` on. Copies them only if they are in several slices.
pub(crate) fn gather<'a>(slices: impl Iterator<Item = &'a [u8]>, start: usize, max: usize) -> Cow<'a, [u8]> {
    let (mut skip, mut left) = (start, max);
    let mut bytes: Cow<[u8]> = Cow::Borrowed(&[]);
    for slice in slices {
        let rest = slice.get(skip..).unwrap_or_default();
        skip = skip.saturating_sub(slice.len());
        let taken = rest.get(..left).unwrap_or(rest);
        match &mut bytes {
            Cow::Borrowed([]) => bytes = Cow::Borrowed(taken),
            _ => bytes.to_mut().extend_from_slice(taken),
        }
        left = left.saturating_sub(taken.len());
        if left == 0 {
            break;
        }
    }
    bytes
}

/// Returns `envoy_dynamic_module_type_log_level`.
pub(crate) fn log_level(level: log::Level) -> u32 {
    match level {
        log::Level::Trace => 0,
        log::Level::Debug => 1,
        log::Level::Info => 2,
        log::Level::Warn => 3,
        log::Level::Error => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_gathered_across_slices() {
        let slices: [&[u8]; 4] = [b"abc", b"", b"de", b"f"];
        let whole = b"abcdef";
        for start in 0..=7 {
            for max in 0..=7 {
                let end = (start + max).min(whole.len());
                let expected = whole.get(start..end).unwrap_or_default();
                let gathered = gather(slices.into_iter(), start, max);
                assert_eq!(*gathered, *expected, "{start} {max}");
                let is_in_one = end <= 3 || start >= 3 && end <= 5 || start >= end;
                assert!(!is_in_one || matches!(gathered, Cow::Borrowed(_)), "{start} {max}");
            }
        }
    }
}
