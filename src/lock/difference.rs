//! A rootfs source or a snapshot that is not as it is locked, and why, in words.

use std::fmt;

use crate::diagnostic::escaped;

/// The fix of a difference that is meant.
pub const FIX: &str = "where the change is meant, write the lock anew with `runner lock`";

/// The report where no input of a snapshot differs.
const NO_CAUSE: &str = "cause: none that runner knows of; the same steps gave other bytes, and `runner verify` names the files that differ";

/// A thing that is not as it is locked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Its subject.
    pub what: String,
    /// As it is locked; none for what the lock does not name.
    pub locked: Option<String>,
    /// As it is; none for what there is no more.
    pub found: Option<String>,
    /// Which of its inputs are others; none where that was not looked at.
    pub causes: Option<Vec<String>>,
}

impl Difference {
    /// A thing that the lock does not name.
    pub fn not_locked(what: String) -> Self {
        Self { what, locked: None, found: None, causes: None }
    }
}

/// On one line: what is in a lock anybody may have written.
impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = escaped(&self.what);
        match (&self.locked, &self.found) {
            (Some(locked), Some(found)) => write!(f, "{what}: locked {}, found {}", escaped(locked), escaped(found))?,
            (None, _) => write!(f, "{what}: is not in the lock")?,
            (Some(_), None) => write!(f, "{what}: is locked, and not in the manifest")?,
        }
        match &self.causes {
            None => Ok(()),
            Some(causes) if causes.is_empty() => write!(f, "; {NO_CAUSE}"),
            Some(causes) => write!(f, "; cause: {}", escaped(&causes.join("; "))),
        }
    }
}
