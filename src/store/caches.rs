//! Cache mounts: the directory of each, the builds that have it mounted, and the steps that use it now.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::error::io as failed;
use super::held::touch;
use super::lock::is_linked;
use super::{Held, Store, StoreError, make_folder};
use crate::build::Sharing;
use crate::digest::Digest;
use crate::fs::regular;

/// The turn of a step with a cache. Given back when dropped, and by the kernel however its holder ends.
#[derive(Debug)]
pub struct CacheTurn {
    /// Holds the lock.
    _file: File,
}

impl Store {
    /// Returns the directory of a cache mount, made where it is missing: 0755, as the directory that it stands for would be.
    /// No collection removes it as long as the result is there.
    ///
    /// # Errors
    /// What making and locking its files gives.
    pub fn use_cache(&self, id: &str) -> Result<Held, StoreError> {
        let path = self.cache_path(id);
        let in_use = path.with_extension("use");
        let lock = || -> io::Result<File> {
            loop {
                let file = open_or_create(&in_use)?;
                // Whoever is just removing the cache is soon done: it is only moved aside.
                file.lock_shared()?;
                if is_linked(&file)? {
                    return Ok(file);
                }
            }
        };
        let note = |file: &File| -> io::Result<()> {
            if file.metadata()?.len() == 0 {
                file.write_all_at(id.as_bytes(), 0)?;
            }
            touch(file)
        };
        let file = lock().and_then(|file| note(&file).map(|()| file)).map_err(failed("lock", &in_use))?;
        make_folder(&path, 0o755)?;
        Ok(Held::new(path, file))
    }

    /// Takes the turn of a step with a cache; none while other steps use it in a way that excludes this one.
    ///
    /// # Errors
    /// What making and locking its file gives.
    pub fn try_cache_turn(&self, id: &str, sharing: Sharing) -> Result<Option<CacheTurn>, StoreError> {
        let path = self.cache_path(id).with_extension("turn");
        let take = || -> io::Result<Option<File>> {
            loop {
                let file = open_or_create(&path)?;
                let locked = match sharing {
                    Sharing::Shared => file.try_lock_shared(),
                    Sharing::Locked => file.try_lock(),
                };
                match locked {
                    Err(TryLockError::WouldBlock) => return Ok(None),
                    Err(TryLockError::Error(error)) => return Err(error),
                    // A collection may have removed it between the opening and the locking: then it is nobody's.
                    Ok(()) if !is_linked(&file)? => {}
                    Ok(()) => return Ok(Some(file)),
                }
            }
        };
        Ok(take().map_err(failed("lock", &path))?.map(|file| CacheTurn { _file: file }))
    }

    fn cache_path(&self, id: &str) -> PathBuf {
        self.root.join("cache").join(Digest::of_bytes(id.as_bytes()).hex())
    }
}

fn open_or_create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    // With both, nothing is waited for where a FIFO has its name.
    let file = options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
    regular::is_regular(&file)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::atomic::{AtomicI32, Ordering};
    use std::thread;

    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        (folder, store)
    }

    #[test]
    fn a_cache_has_one_directory_whatever_its_id() {
        let (_folder, store) = store();
        let held = store.use_cache("../../etc").unwrap();
        assert_eq!(held.path().parent().unwrap(), store.root().join("cache"));
        assert_eq!(store.use_cache("../../etc").unwrap().path(), held.path());
        assert_ne!(store.use_cache("/etc").unwrap().path(), held.path());
        assert_eq!(fs::read_to_string(held.path().with_extension("use")).unwrap(), "../../etc");
    }

    #[test]
    fn a_locked_step_is_alone_and_shared_ones_are_together() {
        let (_folder, store) = store();
        let turn = |sharing| store.try_cache_turn("apt", sharing).unwrap();
        let locked = turn(Sharing::Locked).unwrap();
        assert!(turn(Sharing::Locked).is_none() && turn(Sharing::Shared).is_none());
        assert!(store.try_cache_turn("cargo", Sharing::Locked).unwrap().is_some());
        drop(locked);
        let shared = [turn(Sharing::Shared), turn(Sharing::Shared)];
        assert!(shared.iter().all(Option::is_some) && turn(Sharing::Locked).is_none());
        drop(shared);
        assert!(turn(Sharing::Locked).is_some());
    }

    #[test]
    fn a_step_may_lock_the_directory_itself() {
        let (_folder, store) = store();
        let held = store.use_cache("apt").unwrap();
        let _turn = store.try_cache_turn("apt", Sharing::Locked).unwrap().unwrap();
        File::open(held.path()).unwrap().try_lock().unwrap();
    }

    #[test]
    fn at_no_time_do_a_locked_step_and_another_one_have_the_turn() {
        let (_folder, store) = store();
        // Shared ones count up, a locked one is far below.
        let users = AtomicI32::new(0);
        thread::scope(|scope| {
            for n in 0..4 {
                let (store, users) = (&store, &users);
                let (sharing, weight) = if n < 2 { (Sharing::Locked, -1000) } else { (Sharing::Shared, 1) };
                scope.spawn(move || {
                    let mut taken = 0;
                    while taken < 100 {
                        let Some(_turn) = store.try_cache_turn("apt", sharing).unwrap() else { continue };
                        let others = users.fetch_add(weight, Ordering::SeqCst);
                        assert!(if weight < 0 { others == 0 } else { others >= 0 }, "{others}");
                        users.fetch_sub(weight, Ordering::SeqCst);
                        taken += 1;
                    }
                });
            }
        });
    }
}
