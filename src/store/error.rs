//! The errors of the store, and their hints.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::FORMAT;

/// The action of making the directory that the user has named; it comes before all others.
pub(super) const CREATE: &str = "create the store";

/// An error of the store.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum StoreError {
    /// The system refused an operation.
    #[error("cannot {action} {}", path.display())]
    Io { action: &'static str, path: PathBuf, source: std::io::Error },
    /// The store is of another version.
    #[error("cannot use the store {}: its format is `{found}`, and this runner knows `{FORMAT}`", path.display())]
    Format { path: PathBuf, found: String },
    /// config.json, as all JSON, is UTF-8.
    #[error("cannot use the store {}: its path is not UTF-8, as the configuration of a container must be", path.display())]
    NotUtf8 { path: PathBuf },
    /// A step of an earlier build may have left the link.
    #[error("cannot use the store {}: it is a symbolic link to {}", path.display(), target.display())]
    Link { path: PathBuf, target: PathBuf },
    /// The directory has other files in it.
    #[error("cannot make a store of {}: it is not empty", path.display())]
    NotAStore { path: PathBuf },
    /// The owner of a store can make the steps run any program.
    #[error("cannot use the store {}: it belongs to user {owner}, not to {user}", path.display())]
    Owner { path: PathBuf, owner: u32, user: u32 },
    /// The lock file, which names layers that must not be removed, cannot be read.
    #[error("cannot understand the lock file {}: {why}", path.display())]
    LockFile { path: PathBuf, why: String },
    /// Something must be written to a store that is read-only.
    #[error("the store {} is on a read-only filesystem, so only the results that it already contains can be used", path.display())]
    ReadOnly { path: PathBuf },
    /// A name that would lead out of its directory.
    #[error("cannot use `{name}` as a file name")]
    Name { name: String },
    /// The output of an export is a directory with a file that runner did not write.
    #[error("cannot replace the directory {}: runner did not export {file} there", path.display())]
    Foreign { path: PathBuf, file: String },
    /// An output cannot be written; the source says what was tried.
    #[error("cannot write the output {}", path.display())]
    Publish { path: PathBuf, source: Box<StoreError> },
}

impl StoreError {
    /// Returns the error of a step's log that cannot be written.
    pub fn log(path: &Path, source: std::io::Error) -> Self {
        Self::Io { action: "write the log", path: path.to_owned(), source }
    }

    /// Returns the way to fix it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Io { action, source, .. } => match source.kind() {
                // An operation that root may not do is forbidden to other users too.
                ErrorKind::PermissionDenied if rustix::process::geteuid().is_root() => None,
                ErrorKind::PermissionDenied => {
                    Some("run as root, or choose another store with `--store DIRECTORY`".into())
                }
                ErrorKind::ReadOnlyFilesystem => {
                    Some("remount its filesystem writable, or choose another store with `--store DIRECTORY`".into())
                }
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
                    Some("make room with `runner store gc`, or choose another store with `--store DIRECTORY`".into())
                }
                _ if *action == CREATE => Some("choose another directory with `--store DIRECTORY`".into()),
                ErrorKind::Unsupported => Some("choose a store on a local filesystem with `--store DIRECTORY`".into()),
                _ => None,
            },
            Self::Publish { path, source } => {
                let Self::Io { source, .. } = &**source else { return source.hint() };
                match source.kind() {
                    ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
                        let directory = path.parent().unwrap_or(path);
                        Some(format!("make room in {}, or choose another output", directory.display()))
                    }
                    ErrorKind::Other => Some("let no step write to the directories on the way to an output".into()),
                    _ => Some("choose another output, in a directory that can be written to".into()),
                }
            }
            Self::Format { .. } => {
                Some("use the runner that made it, or choose another store with `--store DIRECTORY`".into())
            }
            Self::Link { .. } => Some("name the directory itself, with `--store DIRECTORY` or `RUNNER_STORE`".into()),
            Self::NotUtf8 { .. } => Some("choose another directory with `--store DIRECTORY`".into()),
            Self::NotAStore { .. } => Some("choose an empty or a new directory with `--store DIRECTORY`".into()),
            // Only root may change the owner of files.
            Self::Owner { owner, user, .. } if *user != 0 => {
                let who = if *owner == 0 { "as root, with `sudo`".to_owned() } else { format!("as user {owner}") };
                Some(format!("run it {who}, or choose another store with `--store DIRECTORY`"))
            }
            Self::Owner { path, user, .. } => Some(format!(
                "change its owner with `chown -R {user} {}`, or choose another store with `--store DIRECTORY`",
                path.display()
            )),
            Self::LockFile { .. } => {
                Some("restore it from version control, or remove it and run `runner lock` again".into())
            }
            Self::ReadOnly { .. } => {
                Some("remount its filesystem writable, or choose another store with `--store DIRECTORY`".into())
            }
            Self::Foreign { path, .. } => Some(format!(
                "choose another output, or, if nothing in it is needed, `rm -r {}`",
                crate::escape::word(&path.to_string_lossy())
            )),
            Self::Name { .. } => None,
        }
    }
}

/// Returns a function for `map_err` that adds the action and the path to an I/O error.
pub(super) fn io(action: &'static str, path: &Path) -> impl Fn(std::io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Io { action, path: path.clone(), source }
}
