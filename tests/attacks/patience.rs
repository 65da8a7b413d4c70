//! How long attacks wait: each deadline of the suite, times `RUNNER_ATTACKS_PATIENCE` where the machine is slow.
//!
//! An emulated machine may take twenty times as long for everything. A deadline that ends there says nothing of the
//! attack, so it is multiplied: for whatever is waited for, and for the timeouts of steps. An attack that gets through
//! has as much longer to show itself. What is tried and how it is judged stay the same.

use std::sync::OnceLock;
use std::time::Duration;

/// The variable that says how many times as long to wait.
const VARIABLE: &str = "RUNNER_ATTACKS_PATIENCE";

/// More would be a slip: at this factor the suite waits a day for a runner that hangs.
const MAX_FACTOR: u64 = 1000;

/// How many times as long as on a usual machine to wait.
static FACTOR: OnceLock<u64> = OnceLock::new();

/// Reads the factor from the environment.
///
/// # Errors
/// It is no number that can be meant.
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

/// Returns whether this machine is said to be slow.
pub fn is_slow() -> bool {
    seconds(1) > 1
}

/// As many seconds as that many are on a usual machine: for timeouts in manifests.
pub fn seconds(usual: u64) -> u64 {
    usual * FACTOR.get().copied().unwrap_or(1)
}

/// That time on a usual machine.
pub fn time(usual: Duration) -> Duration {
    usual * u32::try_from(seconds(1)).unwrap()
}
