//! `runner apply`: builds.

use super::build_options::build_with_options;
use super::command_error::CommandError;
use super::target;
use crate::cli::{ApplyArgs, Cli};

/// Builds what the manifest or the requested targets describe.
pub fn apply(cli: &Cli, args: &ApplyArgs) -> Result<(), CommandError> {
    build_with_options(cli, args, target::steps)
}
