//! The lock of a key: if several runners need the same layer, one builds it and the others wait.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::error::io as failed;
use super::lock::{Locked, is_linked};
use super::{Store, StoreError};
use crate::digest::Digest;
use crate::fs::regular;

/// The right to build the result of a key. Released when dropped, and by the kernel however this process ends.
#[derive(Debug)]
pub struct BuildLock {
    path: PathBuf,
    _locked: Locked,
}

impl Store {
    /// Takes the right to build a key; none while another runner has it.
    ///
    /// # Errors
    /// Those of making and locking its file.
    pub fn try_lock_key(&self, key: &Digest) -> Result<Option<BuildLock>, StoreError> {
        let path = self.root.join(format!("building/{}", key.hex()));
        let take = || -> io::Result<Option<Locked>> {
            loop {
                let Some(locked) = Locked::try_alone(open(&path, true)?)? else { return Ok(None) };
                // Its last owner may have removed it between the opening and the locking: then the lock is of no use.
                if is_linked(&locked)? {
                    return Ok(Some(locked));
                }
            }
        };
        let locked = take().map_err(failed("lock", &path))?;
        Ok(locked.map(|locked| BuildLock { path, _locked: locked }))
    }

    /// Removes the files of keys that no runner has locked: a runner was killed after it recorded its results, and nobody locks
    /// these keys again.
    ///
    /// # Errors
    /// Those of listing the directory.
    pub(super) fn sweep_build_locks(&self) -> Result<(), StoreError> {
        for path in self.list("building")? {
            // The next sweep removes a file that cannot be removed now; until then it hinders no runner.
            if let Ok(file) = open(&path, false)
                && let Ok(Some(locked)) = Locked::try_alone(file)
                && is_linked(&locked).unwrap_or(false)
            {
                let _ = fs::remove_file(&path);
            }
        }
        Ok(())
    }
}

fn open(path: &Path, create: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(create).truncate(false).mode(0o600);
    // Opened for reading and writing, so that the call does not wait where a FIFO has the name.
    let file = options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
    regular::is_regular(&file)?;
    Ok(file)
}

impl Drop for BuildLock {
    fn drop(&mut self) {
        // Before the lock is released with the file. A killed runner leaves an empty file that any runner may lock.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use super::*;

    #[test]
    fn a_key_is_locked_by_one_runner_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let (one, other) = (Digest::of_bytes(b"1"), Digest::of_bytes(b"2"));
        let lock = store.try_lock_key(&one).unwrap().unwrap();
        assert!(store.try_lock_key(&one).unwrap().is_none());
        assert!(store.try_lock_key(&other).unwrap().is_some());
        drop(lock);
        assert!(store.try_lock_key(&one).unwrap().is_some());
        assert_eq!(fs::read_dir(store.root().join("building")).unwrap().count(), 0);
    }

    #[test]
    fn a_sweep_removes_the_lock_files_of_unlocked_keys() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let locked = store.try_lock_key(&Digest::of_bytes(b"1")).unwrap().unwrap();
        let of_killed = store.try_lock_key(&Digest::of_bytes(b"2")).unwrap().unwrap();
        fs::rename(&of_killed.path, directory.path().join("aside")).unwrap();
        let path = of_killed.path.clone();
        drop(of_killed);
        fs::rename(directory.path().join("aside"), &path).unwrap();
        store.sweep_build_locks().unwrap();
        assert!(locked.path.exists() && !path.exists());
    }

    #[test]
    fn two_runners_never_have_the_lock_of_one_key() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let key = Digest::of_bytes(b"1");
        let holders = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut locks_taken = 0;
                    while locks_taken < 100 {
                        if let Some(_held) = store.try_lock_key(&key).unwrap() {
                            assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0);
                            holders.fetch_sub(1, Ordering::SeqCst);
                            locks_taken += 1;
                        }
                    }
                });
            }
        });
    }
}
