//! The timeouts of attacks: each deadline of the suite, times `RUNNER_ATTACKS_PATIENCE` where the machine is slow.
//!
//! An emulated machine may take twenty times as long for everything. A deadline that passes there shows nothing about the attack,
//! so all deadlines are multiplied: those of the suite, and the timeouts of steps. An attack that gets through has as much longer
//! to show itself. The attacks and their verdicts stay the same.

use std::sync::OnceLock;
use std::time::Duration;

/// The variable with the factor.
const VARIABLE: &str = "RUNNER_ATTACKS_PATIENCE";

/// A larger factor would be a mistake: at this one the suite waits a day for a runner that hangs.
const MAX_FACTOR: u64 = 1000;

/// The factor by which a wait is longer than on a usual machine.
static FACTOR: OnceLock<u64> = OnceLock::new();

/// Reads the factor from the environment.
///
/// # Errors
/// It is not a valid factor.
pub fn from_environment() -> Result<(), String> {
    let factor = match std::env::var(VARIABLE) {
        Err(std::env::VarError::NotPresent) => 1,
        value => {
            value.ok().and_then(|text| text.parse().ok()).filter(|factor| (1..=MAX_FACTOR).contains(factor)).ok_or(
                format!(
                    "{VARIABLE} is no whole number from 1 to {MAX_FACTOR}: it multiplies the deadlines of the attacks"
                ),
            )?
        }
    };
    FACTOR.set(factor).map_err(|_| format!("{VARIABLE} was read before"))
}

/// Returns whether the caller said that this machine is slow.
pub fn is_slow() -> bool {
    seconds(1) > 1
}

/// Returns as many seconds as these are on a usual machine: for timeouts in manifests.
pub fn seconds(usual: u64) -> u64 {
    usual * FACTOR.get().copied().unwrap_or(1)
}

/// Returns as long a time as this is on a usual machine.
pub fn time(usual: Duration) -> Duration {
    usual * u32::try_from(seconds(1)).unwrap()
}
