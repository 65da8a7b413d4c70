//! Converts durations to the milliseconds of events and records.

use std::time::Duration;

/// Returns the whole milliseconds of a duration.
pub(super) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
