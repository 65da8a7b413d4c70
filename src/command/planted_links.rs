//! The refusal of a path behind a symbolic link that a step of an earlier build may have made.

use std::path::Path;

use crate::error::{Error, Exit};
use crate::named_paths::WritableBinds;

/// Refuses a file that runner would use for `action`, if its directory is behind such a link.
///
/// # Errors
/// With [`Exit::Usage`], if it is.
pub fn refuse(writable: &WritableBinds, action: &str, path: &Path) -> Result<(), Error> {
    // A link at the place of the file itself is refused by the code that opens the file, whoever made the link.
    let Some(planted) = writable.planted(directory_of(path)) else { return Ok(()) };
    let error = format!("cannot {action} {}: {planted}", path.display());
    Err(Error::new(Exit::Usage, error).with_hint(Some(planted.hint())))
}

/// Returns the directory of a file.
pub fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
