//! The container runtime that the settings name.

use super::command_error::CommandError;
use crate::error::{Error, Exit};
use crate::runtime::Runtime;
use crate::runtime::external::{FindError, Program};
use crate::settings::EMBEDDED;

/// Returns the runtime of this name. Runs nothing to find it.
///
/// # Errors
/// With [`Exit::Host`], if it is missing.
pub fn find(name: &str) -> Result<Runtime, CommandError> {
    if name == EMBEDDED {
        return Ok(Runtime::Embedded);
    }
    let search = std::env::var_os("PATH").unwrap_or_default();
    Ok(Program::find(name, &search).map(Runtime::External).map_err(unusable)?)
}

/// Finds the runtime of this name, and asks an external one for its version.
///
/// # Errors
/// With [`Exit::Host`], if it is missing, cannot start, or is not an OCI runtime.
pub fn find_working(name: &str) -> Result<Runtime, CommandError> {
    let runtime = find(name)?;
    if let Runtime::External(program) = &runtime {
        program.version().map_err(unusable)?;
    }
    Ok(runtime)
}

fn unusable(error: FindError) -> Error {
    let hint = error.hint();
    Error::new(Exit::Host, error).with_hint(Some(hint))
}
