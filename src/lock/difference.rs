//! A rootfs source or a snapshot that is not as it is locked, and why, in words.

use std::fmt;

use crate::diagnostic::escaped;

/// The fix of a difference that is meant.
pub const FIX: &str = "if the change is meant, `runner lock` writes the lock anew; if not, undo it";

/// The report where no input of a snapshot differs.
const NO_CAUSE: &str = "cause: none that runner knows of; the same steps gave other bytes, and `runner verify` names the files that differ";

/// The beginning of a digest.
const DIGEST: &str = "sha256:";

/// As many characters of a digest are shown.
const DIGITS: usize = 12;

/// A thing that is not as it is locked; `what` is its subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// Its content is another one.
    Other {
        /// See above.
        what: String,
        /// Its digest in the lock.
        locked: String,
        /// Its digest now.
        found: String,
        /// Which of its inputs are others; none where that was not looked at.
        causes: Option<Vec<String>>,
    },
    /// It was locked for other inputs. What it holds now is not known.
    OtherInputs {
        /// See above.
        what: String,
        /// Which of its inputs are others.
        causes: Vec<String>,
    },
    /// The lock does not name it.
    NotLocked {
        /// See above.
        what: String,
    },
    /// The lock names it, and the manifest does not.
    Gone {
        /// See above.
        what: String,
    },
}

/// On one line: what is in a lock anybody may have written.
impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Other { what, .. } => write!(f, "{}: {}", escaped(what), self.without_subject()),
            Self::OtherInputs { what, causes } => {
                write!(f, "{} was locked for other inputs: {}", escaped(what), escaped(&causes.join("; ")))
            }
            Self::NotLocked { what } => write!(f, "{}: is not in the lock", escaped(what)),
            Self::Gone { what } => write!(f, "{}: is locked, and not in the manifest", escaped(what)),
        }
    }
}

impl Difference {
    /// The same in a place that names the subject already.
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

/// With the beginning of each digest.
fn shortened(digests: &str) -> String {
    let short = |word: &str| match word.strip_prefix(DIGEST).and_then(|hex| hex.char_indices().nth(DIGITS)) {
        Some((end, _)) => format!("{}…", &word[..DIGEST.len() + end]),
        None => word.to_owned(),
    };
    digests.split(' ').map(short).collect::<Vec<_>>().join(" ")
}
