//! Lock files of manifests: their paths, and the layers that they name, which no collection removes.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::error::io as failed;
use super::{Store, StoreError};
use crate::diagnostic::toml_problem;
use crate::digest::Digest;
use crate::fs::atomic;
use crate::fs::named_file::NamedFile;
use crate::fs::regular;

/// The largest lock file that is read: that of 100,000 snapshots is smaller.
const MAX_BYTES: u64 = 16 << 20;
/// The longest path that is read; no path is longer.
const MAX_PATH: u64 = 1 << 16;

impl Store {
    /// Stores the path of a lock file: no collection removes the layers that it names while it exists. Ignores anything
    /// but a regular file: a link in its place may lead to any file of the host.
    ///
    /// # Errors
    /// Those of writing.
    pub fn know_lock_file(&self, path: &Path) -> Result<(), StoreError> {
        if self.is_read_only {
            return Ok(());
        }
        if !is_lock_file(path).map_err(failed("find the lock file", path))? {
            return Ok(());
        }
        let path = without_links_above(path).map_err(failed("find the lock file", path))?;
        let directory = self.root.join("lock-files");
        let name = Digest::of_bytes(path.as_os_str().as_bytes()).hex();
        let known = directory.join(&name);
        if known.exists() {
            return Ok(());
        }
        let written = atomic::write_lasting(&directory, &name, path.as_os_str().as_bytes());
        written.map_err(failed("write", &known))
    }

    /// Returns the paths of the stored lock files that still exist.
    ///
    /// # Errors
    /// Those of listing and reading.
    pub fn lock_files(&self) -> Result<BTreeSet<PathBuf>, StoreError> {
        let directory = self.root.join("lock-files");
        let list = || -> io::Result<BTreeSet<PathBuf>> {
            let mut paths = BTreeSet::new();
            for entry in fs::read_dir(&directory)? {
                let entry = entry?;
                // An earlier version named half-written files `.new-`.
                let half = [atomic::HALF_WRITTEN, ".new-"];
                if half.iter().any(|half| entry.file_name().as_encoded_bytes().starts_with(half.as_bytes())) {
                    continue;
                }
                let path = PathBuf::from(OsStr::from_bytes(&regular::read(&entry.path(), MAX_PATH)?));
                if is_lock_file(&path)? {
                    paths.insert(path);
                }
            }
            Ok(paths)
        };
        list().map_err(failed("read the list of lock files in", &directory))
    }
}

/// Whether the lock file exists: a regular file, and no link to one.
fn is_lock_file(path: &Path) -> io::Result<bool> {
    match path.symlink_metadata() {
        Ok(metadata) => Ok(metadata.is_file()),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(false),
        Err(error) if Errno::from_io_error(&error) == Some(Errno::LOOP) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Returns the path of a file with the links to its directory followed, but not the last link.
fn without_links_above(path: &Path) -> io::Result<PathBuf> {
    let above = path.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().ok_or(ErrorKind::IsADirectory)?;
    Ok(above.canonicalize()?.join(name))
}

/// Returns every digest in a lock file, of layers or of anything else. Does not follow a link in its place.
///
/// # Errors
/// [`StoreError::LockFile`] for a file that is no TOML, without its text, and those of reading.
pub fn named_in_lock_file(path: &Path) -> Result<BTreeSet<Digest>, StoreError> {
    let read = || regular::read_all(NamedFile::find(path)?.read()?, MAX_BYTES);
    let bytes = read().map_err(failed("read the lock file", path))?;
    let wrong = |why: String| StoreError::LockFile { path: path.to_owned(), why };
    let text = str::from_utf8(&bytes).map_err(|error| wrong(error.to_string()))?;
    let table = text.parse::<toml::Table>().map_err(|error| wrong(toml_problem(text, &error)))?;
    let (mut named, mut remaining) = (BTreeSet::new(), vec![toml::Value::Table(table)]);
    while let Some(value) = remaining.pop() {
        match value {
            toml::Value::String(text) => named.extend(text.parse::<Digest>()),
            toml::Value::Array(values) => remaining.extend(values),
            toml::Value::Table(table) => remaining.extend(table.into_iter().map(|(_, value)| value)),
            _ => {}
        }
    }
    Ok(named)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_lock_file_is_listed_while_it_exists() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("store")).unwrap();
        let path = directory.path().join("runner.lock");
        store.know_lock_file(&path).unwrap();
        assert!(store.lock_files().unwrap().is_empty());
        fs::write(&path, "").unwrap();
        store.know_lock_file(&path).unwrap();
        store.know_lock_file(&directory.path().join("store/../runner.lock")).unwrap();
        assert_eq!(store.lock_files().unwrap(), [path.canonicalize().unwrap()].into());
        fs::remove_file(&path).unwrap();
        assert!(store.lock_files().unwrap().is_empty());
    }

    #[test]
    fn a_half_written_entry_is_ignored_and_swept() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("store")).unwrap();
        let path = directory.path().join("runner.lock");
        fs::write(&path, "").unwrap();
        for half in [".half-x", ".new-x"] {
            fs::write(store.root().join("lock-files").join(half), path.as_os_str().as_bytes()).unwrap();
        }
        assert!(store.lock_files().unwrap().is_empty());
        store.sweep().unwrap();
        assert!(!store.root().join("lock-files/.half-x").exists());
    }

    #[test]
    fn a_link_is_not_a_lock_file_even_where_a_lock_file_was() {
        let directory = tempfile::tempdir().unwrap();
        let top = directory.path().canonicalize().unwrap();
        let store = Store::open(&top.join("store")).unwrap();
        fs::create_dir(top.join("project")).unwrap();
        fs::write(top.join("victim"), "root:secret").unwrap();
        let [link, fifo, known, below] =
            ["link.lock", "fifo.lock", "known.lock", "below/a.lock"].map(|name| top.join("project").join(name));
        symlink("../victim", &link).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        for path in [&link, &fifo, &top.join("project"), &link.join("a.lock")] {
            store.know_lock_file(path).unwrap();
        }
        assert_eq!(fs::read_dir(top.join("store/lock-files")).unwrap().count(), 0);
        // Links to its directory are followed.
        symlink("project", top.join("link_to_project")).unwrap();
        fs::write(&known, "").unwrap();
        store.know_lock_file(&top.join("link_to_project/known.lock")).unwrap();
        fs::create_dir(top.join("project/below")).unwrap();
        fs::write(&below, "").unwrap();
        store.know_lock_file(&below).unwrap();
        assert_eq!(store.lock_files().unwrap(), [below.clone(), known.clone()].into());
        fs::remove_file(&known).unwrap();
        symlink("../victim", &known).unwrap();
        fs::remove_dir_all(top.join("project/below")).unwrap();
        for target in ["../victim", "below"] {
            symlink(target, top.join("project/below")).unwrap();
            assert!(store.lock_files().unwrap().is_empty(), "{target}");
            fs::remove_file(top.join("project/below")).unwrap();
        }
        // Neither is a link that replaces a known lock file followed.
        let error = crate::error::error_chain(&named_in_lock_file(&known).unwrap_err());
        assert!(error.ends_with("it is a symbolic link to ../victim; name that file itself"), "{error}");
    }

    #[test]
    fn an_error_in_a_lock_file_does_not_show_its_text() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("runner.lock");
        fs::write(&path, "version = 2\nroot:secret:1\n").unwrap();
        let error = named_in_lock_file(&path).unwrap_err().to_string();
        assert!(error.contains("line 2, column ") && !error.contains("secret") && !error.contains('\n'), "{error}");
    }

    #[test]
    fn every_digest_in_a_lock_file_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("runner.lock");
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
