//! Who builds a key: of several runners that want the same layer, one builds it and the others wait.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use super::error::io as failed;
use super::lock::{is_linked, try_lock};
use super::{Store, StoreError};
use crate::digest::Digest;
use crate::fs::regular;

/// The right to build what a key stands for. Given back when dropped, and by the kernel however its holder ends.
#[derive(Debug)]
pub struct BuildLock {
    path: PathBuf,
    _file: File,
}

impl Store {
    /// Takes the right to build a key; none while another holds it.
    ///
    /// # Errors
    /// Whatever making and locking its file gives.
    pub fn try_lock_key(&self, key: &Digest) -> Result<Option<BuildLock>, StoreError> {
        let path = self.root.join(format!("building/{}", key.hex()));
        let take = || -> io::Result<Option<File>> {
            loop {
                let mut options = OpenOptions::new();
                options.read(true).write(true).create(true).truncate(false).mode(0o600);
                // With both, nothing is waited for where a FIFO has its name.
                let file = options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(&path)?;
                regular::is_regular(&file)?;
                if !try_lock(&file)? {
                    return Ok(None);
                }
                // Whoever held it may have removed it between the opening and the locking: then it is nobody's.
                if is_linked(&file)? {
                    return Ok(Some(file));
                }
            }
        };
        let file = take().map_err(failed("lock", &path))?;
        Ok(file.map(|file| BuildLock { path, _file: file }))
    }
}

impl Drop for BuildLock {
    fn drop(&mut self) {
        // Before the lock goes with the file. What stays of a killed runner is an empty file that anyone may lock.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use super::*;

    #[test]
    fn one_builds_a_key_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let (one, other) = (Digest::of_bytes(b"1"), Digest::of_bytes(b"2"));
        let held = store.try_lock_key(&one).unwrap().unwrap();
        assert!(store.try_lock_key(&one).unwrap().is_none());
        assert!(store.try_lock_key(&other).unwrap().is_some());
        drop(held);
        assert!(store.try_lock_key(&one).unwrap().is_some());
        assert_eq!(fs::read_dir(store.root().join("building")).unwrap().count(), 0);
    }

    #[test]
    fn at_no_time_do_two_hold_it() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let key = Digest::of_bytes(b"1");
        let holders = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut taken = 0;
                    while taken < 100 {
                        if let Some(_held) = store.try_lock_key(&key).unwrap() {
                            assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0);
                            holders.fetch_sub(1, Ordering::SeqCst);
                            taken += 1;
                        }
                    }
                });
            }
        });
    }
}
