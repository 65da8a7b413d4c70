//! Removes the leftovers of killed runners from the store and among the cgroups.

use super::command_error::store_error;
use crate::error::{Error, error_chain_with_hint};
use crate::runtime::cgroups;
use crate::store::{Store, StoreError};
use crate::warning::Warning;

/// Removes the leftovers of killed runners, and returns a warning for each that could not be removed.
pub fn remove(store: &Store) -> Result<Vec<Warning>, Error> {
    let swept = store.sweep().map_err(store_error)?;
    let remaining = |error: &StoreError| Warning::LeftOver { why: error_chain_with_hint(error, error.hint()) };
    let mut warnings: Vec<Warning> = swept.problems.iter().map(remaining).collect();
    if swept.dead.is_empty() {
        return Ok(warnings);
    }
    let mut groups = cgroups::LeftOver::find();
    for lease in swept.dead {
        if !groups.remove(lease.id()) {
            warnings.push(Warning::LeftCgroup { build: lease.id().to_owned() });
            continue;
        }
        if let Err(error) = lease.close() {
            warnings.push(remaining(&error));
        }
    }
    groups.restore();
    Ok(warnings)
}
