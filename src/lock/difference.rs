//! Describes the difference between a rootfs source or a snapshot and its lock, with the causes.

use std::fmt;

use crate::diagnostic::escaped;

/// The hint for a difference.
pub const FIX: &str = "if the change is intended, write the lock again with `runner lock`; if not, undo the change";

/// The report where no input of a snapshot differs.
const NO_CAUSE: &str =
    "cause: unknown; the same steps gave different bytes, and `runner verify` names the files that differ";

/// The beginning of a digest.
const DIGEST: &str = "sha256:";

/// The number of characters that are shown of a digest.
const DIGITS: usize = 12;

/// A difference from the lock; `what` is its subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// Its content differs.
    Other {
        /// The subject.
        what: String,
        /// Its digest in the lock.
        locked: String,
        /// Its digest now.
        found: String,
        /// The inputs that differ; none where they were not compared.
        causes: Option<Vec<String>>,
    },
    /// It was locked for other inputs. Its present content is unknown.
    OtherInputs {
        /// The subject.
        what: String,
        /// The inputs that differ.
        causes: Vec<String>,
    },
    /// The lock does not name it.
    NotLocked {
        /// The subject.
        what: String,
    },
    /// The lock names it, but the manifest does not.
    Gone {
        /// The subject.
        what: String,
    },
}

/// Shows it on one line, escaped: anybody may have written the lock.
impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Other { what, .. } => write!(f, "{}: {}", escaped(what), self.without_subject()),
            Self::OtherInputs { what, causes } => {
                write!(f, "{} was locked for other inputs: {}", escaped(what), escaped(&causes.join("; ")))
            }
            Self::NotLocked { what } => write!(f, "{}: is not in the lock", escaped(what)),
            Self::Gone { what } => write!(f, "{}: is locked, but not in the manifest", escaped(what)),
        }
    }
}

impl Difference {
    /// Returns the text for a message that names the subject already.
    pub fn without_subject(&self) -> String {
        let Self::Other { locked, found, causes, .. } = self else { return self.to_string() };
        let [short_locked, short_found] = [locked, found].map(|digests| shortened(digests));
        let [locked, found] = if short_locked == short_found { [locked, found] } else { [&short_locked, &short_found] };
        let both = format!("locked {}, found {}", escaped(locked), escaped(found));
        match causes {
            None => both,
            Some(causes) if causes.is_empty() => format!("{both}; {NO_CAUSE}"),
            Some(causes) => format!("{both}; cause: {}", escaped(&causes.join("; "))),
        }
    }
}

/// Returns the text with each digest shortened to its beginning.
fn shortened(digests: &str) -> String {
    let short = |word: &str| match word.strip_prefix(DIGEST).and_then(|hex| hex.char_indices().nth(DIGITS)) {
        Some((end, _)) => format!("{}…", &word[..DIGEST.len() + end]),
        None => word.to_owned(),
    };
    digests.split(' ').map(short).collect::<Vec<_>>().join(" ")
}
