//! Cache mounts: the directory of each, the builds that have it mounted, the steps that are using it, and its removal.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::error::io as failed;
use super::layer_pin::{is_in_use, touch};
use super::lock::{Locked, is_linked};
use super::{LayerPin, Store, StoreError, make_directory};
use crate::digest::Digest;
use crate::fs::atomic;
use crate::fs::regular;
use crate::fs::tree_size::tree_size;
use crate::model::Sharing;

/// The bytes that an id may have: a manifest cannot be longer.
const MAX_ID: u64 = 4 << 20;

/// A cache mount as it is in the store.
#[derive(Debug, Clone)]
pub struct Cache {
    /// Its name in manifests; none where an older runner made it, which did not store the name.
    pub id: Option<String>,
    /// Its directory.
    pub path: PathBuf,
    /// Its size in bytes; none where that cannot be measured, as while a step moves its directories.
    pub size: Option<u64>,
    /// The time at which a build last had it mounted.
    pub used: SystemTime,
    /// Whether a build has it mounted.
    pub is_in_use: bool,
}

/// The turn of a step with a cache. Released when dropped, and by the kernel however this process ends.
#[derive(Debug)]
pub struct CacheTurn {
    _locked: Locked,
}

impl Store {
    /// Returns the directory of a cache mount, made where it is missing: 0755, as the directory that it replaces would
    /// be. No collection removes it until the result is dropped.
    ///
    /// # Errors
    /// Those of making and locking its files.
    pub fn use_cache(&self, id: &str) -> Result<LayerPin, StoreError> {
        let path = self.cache_path(id);
        let in_use = path.with_extension("use");
        let lock = || -> io::Result<Locked> {
            loop {
                // A process that is removing the cache needs little time: it only moves the directory aside.
                let locked = Locked::shared(open_or_create(&in_use)?)?;
                if is_linked(&locked)? {
                    return Ok(locked);
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
        make_directory(&path, 0o755)?;
        Ok(LayerPin::new(path, file))
    }

    /// Takes the turn of a step with a cache; none while other steps use it in a way that excludes this one.
    ///
    /// # Errors
    /// Those of making and locking its file.
    pub fn try_cache_turn(&self, id: &str, sharing: Sharing) -> Result<Option<CacheTurn>, StoreError> {
        let path = self.cache_path(id).with_extension("turn");
        let take = || -> io::Result<Option<Locked>> {
            loop {
                let file = open_or_create(&path)?;
                let locked = match sharing {
                    Sharing::Shared => Locked::try_shared(file)?,
                    Sharing::Locked => Locked::try_alone(file)?,
                };
                let Some(locked) = locked else { return Ok(None) };
                // A collection may have removed it between the opening and the locking: then the lock is of no use.
                if is_linked(&locked)? {
                    return Ok(Some(locked));
                }
            }
        };
        Ok(take().map_err(failed("lock", &path))?.map(|locked| CacheTurn { _locked: locked }))
    }

    /// Returns all caches, the one used last first.
    ///
    /// # Errors
    /// Those of listing and locking.
    pub fn caches(&self) -> Result<Vec<Cache>, StoreError> {
        let directory = self.root.join("cache");
        let list = || -> io::Result<Vec<Cache>> {
            let mut caches = Vec::new();
            for entry in fs::read_dir(&directory)? {
                let path = entry?.path();
                // The files beside a directory have an extension.
                if path.extension().is_some() || !path.symlink_metadata().is_ok_and(|found| found.is_dir()) {
                    continue;
                }
                let in_use = path.with_extension("use");
                let noted = regular::read(&in_use, MAX_ID).ok().filter(|id| !id.is_empty());
                // Another collection may have removed it by now.
                let Ok(found) = in_use.metadata().or_else(|_| path.metadata()) else { continue };
                let used = found.modified()?;
                caches.push(Cache {
                    id: noted.map(|id| String::from_utf8_lossy(&id).into_owned()),
                    size: tree_size(&path).ok(),
                    used,
                    is_in_use: is_in_use(&in_use)?,
                    path,
                });
            }
            caches.sort_by(|one, other| (other.used, &one.path).cmp(&(one.used, &other.path)));
            Ok(caches)
        };
        list().map_err(failed("list the caches in", &directory))
    }

    /// Removes a cache, unless a build has it mounted or has used it since it was listed, and returns whether the cache
    /// is removed. The next build makes it anew, empty.
    ///
    /// # Errors
    /// Those of locking, moving and removing.
    pub fn remove_cache(&self, path: &Path, used: SystemTime) -> Result<bool, StoreError> {
        let (in_use, turn) = (path.with_extension("use"), path.with_extension("turn"));
        let lock = |path: &Path| -> io::Result<Option<Locked>> {
            let Some(locked) = Locked::try_alone(open_or_create(path)?)? else { return Ok(None) };
            Ok(is_linked(&locked)?.then_some(locked))
        };
        let unused = || -> io::Result<bool> {
            // A cache that an older runner made has its time of use on the directory.
            let noted = if in_use.metadata()?.len() == 0 { path } else { &in_use };
            Ok(noted.metadata()?.modified()? == used)
        };
        let lease = self.lease()?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let aside = lease.temp_file(&name)?;
        let move_aside = || -> io::Result<bool> {
            let (Some(_in_use), Some(_turn)) = (lock(&in_use)?, lock(&turn)?) else { return Ok(false) };
            if !unused()? {
                return Ok(false);
            }
            // Moved in one instant, because a program that finds half of its files may take them for all. The directory
            // is removed with the lease.
            match atomic::rename(path, &aside) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            fs::remove_file(&turn)?;
            fs::remove_file(&in_use)?;
            Ok(true)
        };
        let moved = move_aside().map_err(failed("remove the cache", path));
        lease.close()?;
        moved
    }

    fn cache_path(&self, id: &str) -> PathBuf {
        self.root.join("cache").join(Digest::of_bytes(id.as_bytes()).hex())
    }
}

fn open_or_create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    // Opened for reading and writing, so that the call does not wait where a FIFO has the name.
    let file = options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
    regular::is_regular(&file)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI32, Ordering};
    use std::thread;

    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        (directory, store)
    }

    #[test]
    fn a_cache_has_one_directory_whatever_its_id() {
        let (_directory, store) = store();
        let pin = store.use_cache("../../etc").unwrap();
        assert_eq!(pin.path().parent().unwrap(), store.root().join("cache"));
        assert_eq!(store.use_cache("../../etc").unwrap().path(), pin.path());
        assert_ne!(store.use_cache("/etc").unwrap().path(), pin.path());
        assert_eq!(fs::read_to_string(pin.path().with_extension("use")).unwrap(), "../../etc");
    }

    #[test]
    fn locked_steps_run_alone_and_shared_steps_together() {
        let (_directory, store) = store();
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
        let (_directory, store) = store();
        let pin = store.use_cache("apt").unwrap();
        let _turn = store.try_cache_turn("apt", Sharing::Locked).unwrap().unwrap();
        File::open(pin.path()).unwrap().try_lock().unwrap();
    }

    #[test]
    fn caches_are_listed_and_removed_unless_they_are_in_use() {
        let (_directory, store) = store();
        let pin = store.use_cache("apt").unwrap();
        fs::write(pin.path().join("file"), vec![7; 100 << 10]).unwrap();
        // As an older runner makes it.
        let old = store.root().join("cache").join(Digest::of_bytes(b"old").hex());
        fs::create_dir_all(old.join("deep/er")).unwrap();
        let find = |path: &Path| store.caches().unwrap().into_iter().find(|cache| cache.path == path).unwrap();
        let cache = find(pin.path());
        assert_eq!((cache.id.as_deref(), cache.is_in_use), (Some("apt"), true));
        assert!(cache.size.is_some_and(|size| (100 << 10..200 << 10).contains(&size)), "{cache:?}");
        assert_eq!((find(&old).id, find(&old).is_in_use), (None, false));
        assert!(!store.remove_cache(&cache.path, cache.used).unwrap() && cache.path.exists());
        drop(pin);
        // A step that is about to run, and a later use.
        let turn = store.try_cache_turn("apt", Sharing::Shared).unwrap();
        assert!(!store.remove_cache(&cache.path, cache.used).unwrap());
        drop(turn);
        assert!(!store.remove_cache(&cache.path, SystemTime::UNIX_EPOCH).unwrap() && cache.path.exists());
        assert!(store.remove_cache(&cache.path, cache.used).unwrap());
        assert!(store.remove_cache(&old, find(&old).used).unwrap());
        assert_eq!(fs::read_dir(store.root().join("cache")).unwrap().count(), 0);
        assert_eq!(fs::read_dir(store.root().join("tmp")).unwrap().count(), 0);
        assert_eq!(fs::read_dir(store.use_cache("apt").unwrap().path()).unwrap().count(), 0);
    }

    #[test]
    fn a_locked_step_never_has_the_turn_with_another_step() {
        let (_directory, store) = store();
        // Shared steps count up; a locked step subtracts a large number.
        let users = AtomicI32::new(0);
        thread::scope(|scope| {
            for n in 0..4 {
                let (store, users) = (&store, &users);
                let (sharing, weight) = if n < 2 { (Sharing::Locked, -1000) } else { (Sharing::Shared, 1) };
                scope.spawn(move || {
                    let mut turns_taken = 0;
                    while turns_taken < 100 {
                        let Some(_turn) = store.try_cache_turn("apt", sharing).unwrap() else { continue };
                        let others = users.fetch_add(weight, Ordering::SeqCst);
                        assert!(if weight < 0 { others == 0 } else { others >= 0 }, "{others}");
                        users.fetch_sub(weight, Ordering::SeqCst);
                        turns_taken += 1;
                    }
                });
            }
        });
    }
}
