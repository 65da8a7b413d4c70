//! The turn of a command with the cache mounts of its container.

use super::command_error::{CommandError, store_error};
use super::console::notice;
use crate::error::Exit;
use crate::execute::{self, Context};
use crate::model::ContainerId;
use crate::report::sanitize;
use crate::store::CacheTurn;
use crate::warning::Warning;

/// Waits for the turn with every cache of the container, and prints the caches that it waits for.
///
/// # Errors
/// If a cache cannot be locked; with [`Exit::Interrupted`], if a signal ends the wait.
pub fn take(context: Context<'_>, container: ContainerId) -> Result<Vec<CacheTurn>, CommandError> {
    let report_wait = |id: &str| notice(&Warning::CacheInUse { id: sanitize(id).into_owned() }.to_string());
    let turns = execute::take_turns(context, container, || false, report_wait).map_err(store_error)?;
    turns.ok_or_else(|| Exit::Interrupted.into())
}
