//! Lock files of manifests: where they are, and which layers they name, so that those are kept.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::error::io as failed;
use super::{Store, StoreError};
use crate::digest::Digest;
use crate::fs::atomic;
use crate::fs::regular;

/// More than a lock file takes: that of 100,000 snapshots is shorter.
const MOST_BYTES: u64 = 16 << 20;
/// No path is longer.
const MOST_PATH: u64 = 1 << 16;

impl Store {
    /// Remembers where a lock file is: what it names is kept for as long as it is there.
    ///
    /// # Errors
    /// Whatever writing gives.
    pub fn know_lock_file(&self, path: &Path) -> Result<(), StoreError> {
        if self.is_read_only {
            return Ok(());
        }
        let path = path.canonicalize().map_err(failed("find the lock file", path))?;
        let folder = self.root.join("lock-files");
        let known = folder.join(Digest::of_bytes(path.as_os_str().as_bytes()).hex());
        if known.exists() {
            return Ok(());
        }
        let write = || -> io::Result<()> {
            let mut temp = tempfile::Builder::new().prefix(".new-").tempfile_in(&folder)?;
            temp.write_all(path.as_os_str().as_bytes())?;
            temp.as_file().sync_all()?;
            atomic::persist(temp, &known)
        };
        write().map_err(failed("write", &known))
    }

    /// The known lock files that are there.
    ///
    /// # Errors
    /// Whatever listing and reading gives.
    pub fn lock_files(&self) -> Result<BTreeSet<PathBuf>, StoreError> {
        let folder = self.root.join("lock-files");
        let list = || -> io::Result<BTreeSet<PathBuf>> {
            let mut paths = BTreeSet::new();
            for entry in fs::read_dir(&folder)? {
                let entry = entry?;
                if entry.file_name().as_encoded_bytes().starts_with(b".new-") {
                    continue;
                }
                let path = PathBuf::from(OsStr::from_bytes(&regular::read(&entry.path(), MOST_PATH)?));
                if path.try_exists()? {
                    paths.insert(path);
                }
            }
            Ok(paths)
        };
        list().map_err(failed("read the list of lock files in", &folder))
    }
}

/// Every digest in a lock file, whatever it is of.
///
/// # Errors
/// [`StoreError::LockFile`] for what is no TOML, and whatever reading gives.
pub fn named_in_lock_file(path: &Path) -> Result<BTreeSet<Digest>, StoreError> {
    let bytes = regular::read(path, MOST_BYTES).map_err(failed("read the lock file", path))?;
    let wrong = |why: &dyn ToString| StoreError::LockFile { path: path.to_owned(), why: why.to_string() };
    let text = str::from_utf8(&bytes).map_err(|error| wrong(&error))?;
    let table = text.parse::<toml::Table>().map_err(|error| wrong(&error.to_string().trim_end()))?;
    let (mut named, mut left) = (BTreeSet::new(), vec![toml::Value::Table(table)]);
    while let Some(value) = left.pop() {
        match value {
            toml::Value::String(text) => named.extend(text.parse::<Digest>()),
            toml::Value::Array(values) => left.extend(values),
            toml::Value::Table(table) => left.extend(table.into_iter().map(|(_, value)| value)),
            _ => {}
        }
    }
    Ok(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lock_files_are_known_until_they_are_gone() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store")).unwrap();
        let path = folder.path().join("runner.lock");
        assert!(store.know_lock_file(&path).is_err());
        fs::write(&path, "").unwrap();
        store.know_lock_file(&path).unwrap();
        store.know_lock_file(&folder.path().join("store/../runner.lock")).unwrap();
        assert_eq!(store.lock_files().unwrap(), [path.canonicalize().unwrap()].into());
        fs::remove_file(&path).unwrap();
        assert!(store.lock_files().unwrap().is_empty());
    }

    #[test]
    fn every_digest_is_found_wherever_it_stands() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("runner.lock");
        let digests = ["a", "b", "c"].map(|text| Digest::of_bytes(text.as_bytes()));
        let [one, other, more] = digests;
        let text = format!(
            "version = 1\n[[snapshot]]\nstep = 'a'\ndigest = '{one}'\n[sources]\nbase = {{ digest = '{other}' }}\nx = ['{more}', 'sha256:no']\n"
        );
        fs::write(&path, text).unwrap();
        assert_eq!(named_in_lock_file(&path).unwrap(), digests.into());
        for wrong in [&b"[["[..], b"\xff"] {
            fs::write(&path, wrong).unwrap();
            assert!(matches!(named_in_lock_file(&path), Err(StoreError::LockFile { .. })));
        }
    }
}
