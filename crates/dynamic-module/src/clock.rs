//! Clock of this module. It never steps back, so durations stay correct if the system's clock is set.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use firstword::clock::Timestamp;

/// Time of the first reading, because zero means an unknown time.
const START: Duration = Duration::from_secs(1);

/// Returns the current time.
pub(crate) fn now() -> Timestamp {
    static FIRST: OnceLock<Instant> = OnceLock::new();
    #[allow(clippy::disallowed_methods, reason = "the shell has the clock that the library asks for")]
    let now = Instant::now();
    let since = now.saturating_duration_since(*FIRST.get_or_init(|| now)).saturating_add(START);
    Timestamp::from_nanos(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}
