//! `runner.lock`: the digests that a build is held to, of every rootfs source and every snapshot; made to be committed.
//!
//! ```toml
//! version = 1
//!
//! [[rootfs]]
//! container = "base"
//! kind = "tar"
//! digest = "sha256:…"
//!
//! [[snapshot]]
//! step = "base-layer"
//! digest = "sha256:…"
//! ```
//! Entries are sorted by name, so that a change of one is a change of few lines.

use std::fmt;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::build::Build;
use crate::fs::atomic::Permissions;
use crate::fs::named_file::NamedFile;
use crate::fs::regular;

/// The version of the format.
const VERSION: u64 = 1;

const HEAD: &str = "# Written by `runner lock`. `runner apply --locked` fails where a digest is another one.\n\n";

/// The fix of a difference that is meant.
pub const FIX: &str = "where the change is meant, write the lock anew with `runner lock`";

/// What a build is held to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    version: u64,
    /// Rootfs sources, by container.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rootfs: Vec<LockedRootfs>,
    /// Snapshots, by step.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub snapshot: Vec<LockedSnapshot>,
}

/// What a rootfs source held.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedRootfs {
    /// Whose.
    pub container: String,
    /// `squashfs`, `tar`, `dir` or `programs`.
    pub kind: String,
    /// Of all that it holds.
    pub digest: String,
}

/// What a snapshot gave.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedSnapshot {
    /// The step's name.
    pub step: String,
    /// Of the image.
    pub digest: String,
}

/// Why there is no lock to go by.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// There is none.
    #[error("there is no {}", path.display())]
    Missing {
        /// Where it would be.
        path: PathBuf,
    },
    /// It is there and cannot be read or written.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is no lock.
    #[error("cannot use {}: {problem}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and where.
        problem: String,
    },
}

impl LockError {
    /// What mends it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Missing { .. } => Some("`runner lock` writes it".into()),
            Self::Malformed { .. } => Some("write it anew with `runner lock`".into()),
            Self::Io { source, .. } if source.kind() == ErrorKind::PermissionDenied => {
                Some("run it as the user that the file belongs to, or with sudo".into())
            }
            Self::Io { .. } => None,
        }
    }
}

/// A thing that is not as it is locked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// What it is of.
    pub what: String,
    /// As it is locked; none for what the lock does not name.
    pub locked: Option<String>,
    /// As it is; none for what there is no more.
    pub found: Option<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.locked, &self.found) {
            (Some(locked), Some(found)) => write!(f, "{}: locked {locked}, found {found}", self.what),
            (None, _) => write!(f, "{}: is not in the lock", self.what),
            (Some(_), None) => write!(f, "{}: is locked, and not in the manifest", self.what),
        }
    }
}

impl Lock {
    /// A lock of these, in order.
    pub fn new(mut rootfs: Vec<LockedRootfs>, mut snapshot: Vec<LockedSnapshot>) -> Self {
        rootfs.sort();
        snapshot.sort();
        Self { version: VERSION, rootfs, snapshot }
    }

    /// Where the lock of a build is.
    pub fn path(build: &Build) -> PathBuf {
        build.folder.join("runner.lock")
    }

    /// Reads it.
    ///
    /// # Errors
    /// See [`LockError`].
    pub fn read(path: &Path) -> Result<Self, LockError> {
        let malformed = |problem: String| LockError::Malformed { path: path.to_owned(), problem };
        let read = || read_text(&NamedFile::find(path)?);
        let text = read().map_err(|source| match source.kind() {
            ErrorKind::NotFound => LockError::Missing { path: path.to_owned() },
            ErrorKind::InvalidData => malformed("it is not UTF-8".to_owned()),
            _ => LockError::Io { action: "read", path: path.to_owned(), source },
        })?;
        let lock: Self = toml::from_str(&text).map_err(|error| malformed(error.to_string().trim_end().to_owned()))?;
        if lock.version != VERSION {
            return Err(malformed(format!("its version is {}, and this runner knows {VERSION}", lock.version)));
        }
        Ok(lock)
    }

    /// Writes it, whole or not at all; a file that says the same already is left alone.
    ///
    /// # Errors
    /// What writing gives.
    pub fn write(&self, file: &NamedFile) -> Result<(), LockError> {
        let text = format!("{HEAD}{}", toml::to_string(self).unwrap_or_default());
        if read_text(file).is_ok_and(|there| there == text) {
            return Ok(());
        }
        let written = file.replace(text.as_bytes(), Permissions::Exactly(0o644));
        written.map_err(|source| LockError::Io { action: "write", path: file.path().to_owned(), source })
    }

    /// Finds the file that the lock is to be written to, before anything runs.
    ///
    /// # Errors
    /// Where it cannot be one: a link, a directory.
    pub fn find(path: &Path) -> Result<NamedFile, LockError> {
        NamedFile::find(path).map_err(|source| LockError::Io { action: "write", path: path.to_owned(), source })
    }

    /// What is locked of a snapshot.
    pub fn digest_of(&self, step: &str) -> Option<&str> {
        self.snapshot.iter().find(|locked| locked.step == step).map(|locked| locked.digest.as_str())
    }

    /// The rootfs sources that are not as they are locked.
    pub fn rootfs_differences(&self, found: &[LockedRootfs]) -> Vec<Difference> {
        let as_text = |rootfs: &LockedRootfs| format!("{} {}", rootfs.kind, rootfs.digest);
        let mut differences = Vec::new();
        for rootfs in found {
            let locked = self.rootfs.iter().find(|locked| locked.container == rootfs.container).map(as_text);
            let found = as_text(rootfs);
            if locked.as_ref() != Some(&found) {
                let what = format!("the rootfs of container {}", rootfs.container);
                differences.push(Difference { what, locked, found: Some(found) });
            }
        }
        differences
    }

    /// The snapshots that are not as they are locked.
    pub fn snapshot_differences(&self, found: &[LockedSnapshot]) -> Vec<Difference> {
        let mut differences = Vec::new();
        for snapshot in found {
            let locked = self.digest_of(&snapshot.step).map(str::to_owned);
            if locked.as_deref() != Some(&snapshot.digest) {
                let what = format!("snapshot {}", snapshot.step);
                differences.push(Difference { what, locked, found: Some(snapshot.digest.clone()) });
            }
        }
        differences
    }

    /// What is locked and not among these containers and steps any more.
    pub fn left_over(
        &self,
        is_container: impl Fn(&str) -> bool,
        is_snapshot: impl Fn(&str) -> bool,
    ) -> Vec<Difference> {
        let gone = |what: String, locked: &str| Difference { what, locked: Some(locked.to_owned()), found: None };
        let rootfs = self.rootfs.iter().filter(|locked| !is_container(&locked.container));
        let rootfs = rootfs.map(|locked| gone(format!("the rootfs of container {}", locked.container), &locked.digest));
        let snapshots = self.snapshot.iter().filter(|locked| !is_snapshot(&locked.step));
        let snapshots = snapshots.map(|locked| gone(format!("snapshot {}", locked.step), &locked.digest));
        rootfs.chain(snapshots).collect()
    }
}

/// The text of a lock file. That of 100,000 snapshots is shorter than the most that is read.
fn read_text(file: &NamedFile) -> io::Result<String> {
    const MOST_BYTES: u64 = 16 << 20;
    regular::into_text(regular::read_all(file.read()?, MOST_BYTES)?)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn rootfs(container: &str, digest: &str) -> LockedRootfs {
        LockedRootfs { container: container.into(), kind: "tar".into(), digest: digest.into() }
    }

    fn snapshot(step: &str, digest: &str) -> LockedSnapshot {
        LockedSnapshot { step: step.into(), digest: digest.into() }
    }

    #[test]
    fn a_lock_is_read_as_it_was_written_and_sorted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("runner.lock");
        let lock = Lock::new(vec![rootfs("b", "2"), rootfs("a", "1")], vec![snapshot("t", "4"), snapshot("s", "3")]);
        lock.write(&Lock::find(&path).unwrap()).unwrap();
        assert_eq!(Lock::read(&path).unwrap(), lock);
        let text = fs::read_to_string(&path).unwrap();
        let expected = "version = 1\n\n[[rootfs]]\ncontainer = \"a\"\nkind = \"tar\"\ndigest = \"1\"\n\n[[rootfs]]\n\
                        container = \"b\"\nkind = \"tar\"\ndigest = \"2\"\n\n[[snapshot]]\nstep = \"s\"\ndigest = \"3\"\n\n\
                        [[snapshot]]\nstep = \"t\"\ndigest = \"4\"\n";
        assert_eq!(text, format!("{HEAD}{expected}"));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_no_lock_is_told_with_its_place_and_its_mend() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("runner.lock");
        let error = Lock::read(&path).unwrap_err();
        assert!(matches!(error, LockError::Missing { .. }), "{error}");
        assert_eq!(error.hint().as_deref(), Some("`runner lock` writes it"));
        for (text, problem) in [
            ("version = 2\n", "its version is 2"),
            ("version = 1\nsnapshots = []\n", "unknown field `snapshots`"),
            ("version = 1\n[[snapshot]]\nstep = 1\n", "line 3, column 8"),
            ("", "missing field `version`"),
        ] {
            fs::write(&path, text).unwrap();
            let error = Lock::read(&path).unwrap_err();
            assert!(error.to_string().contains(problem), "{error}");
        }
    }

    #[test]
    fn a_lock_that_is_not_utf_8_is_reported_as_malformed_with_its_fix() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("runner.lock");
        fs::write(&path, b"version = 1\n[[rootfs]]\n\xb7").unwrap();
        let error = Lock::read(&path).unwrap_err();
        assert!(matches!(error, LockError::Malformed { .. }), "{error}");
        assert!(error.to_string().ends_with("runner.lock: it is not UTF-8"), "{error}");
        assert!(error.hint().is_some_and(|hint| hint.contains("`runner lock`")));
    }

    #[test]
    fn each_difference_is_named() {
        let lock = Lock::new(vec![rootfs("a", "1"), rootfs("gone", "9")], vec![snapshot("s", "3"), snapshot("t", "4")]);
        let told = |differences: Vec<Difference>| differences.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(lock.rootfs_differences(&[rootfs("a", "1")]), []);
        assert_eq!(
            told(lock.rootfs_differences(&[rootfs("a", "2"), rootfs("new", "5")])),
            ["the rootfs of container a: locked tar 1, found tar 2", "the rootfs of container new: is not in the lock"]
        );
        assert_eq!(
            told(lock.snapshot_differences(&[snapshot("s", "3"), snapshot("t", "x")])),
            ["snapshot t: locked 4, found x"]
        );
        assert_eq!(
            told(lock.left_over(|name| name == "a", |name| name == "s")),
            [
                "the rootfs of container gone: is locked, and not in the manifest",
                "snapshot t: is locked, and not in the manifest"
            ]
        );
    }
}
