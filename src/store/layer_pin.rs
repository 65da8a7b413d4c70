//! Pins a layer that is in use: a shared lock on its file, so that no collection removes it.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{Timespec, Timestamps, UTIME_NOW, futimens};

use super::error::io as failed;
use super::lock::{Locked, is_linked};
use super::{CacheRecord, Store, StoreError};
use crate::digest::Digest;
use crate::fs::regular;

/// A layer or a cache that no collection removes until this is dropped; the kernel releases it however this process
/// ends.
#[derive(Debug)]
pub struct LayerPin {
    path: PathBuf,
    _locked: Locked,
}

impl LayerPin {
    pub(super) fn new(path: PathBuf, locked: Locked) -> Self {
        Self { path, _locked: locked }
    }

    /// Returns its path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Store {
    /// Locks a layer, so that no collection removes it until the result is dropped; none where the layer is missing.
    /// Callers pin each layer of a chain, before they look at it.
    ///
    /// # Errors
    /// Those of opening and locking it.
    pub fn pin_layer(&self, digest: &Digest) -> Result<Option<LayerPin>, StoreError> {
        let path = self.layer_path(digest);
        let locked = lock_shared(&path).map_err(failed("lock the layer", &path))?;
        Ok(locked.map(|locked| LayerPin::new(path, locked)))
    }

    /// Removes a layer, unless a runner uses it.
    ///
    /// # Errors
    /// Those of locking and removing it.
    pub fn remove_unused_layer(&self, digest: &Digest) -> Result<(), StoreError> {
        let path = self.layer_path(digest);
        let remove = || -> io::Result<()> {
            let Some(_alone) = lock_alone(&path)? else { return Ok(()) };
            fs::remove_file(&path)
        };
        remove().map_err(failed("remove", &path))
    }

    /// Notes that the result of a key is used now, and with it all layers that it is built on: a collection first
    /// removes those used longest ago.
    ///
    /// # Errors
    /// Those of setting the times, except that a file is missing.
    pub fn touch(&self, recorded: &CacheRecord) -> Result<(), StoreError> {
        if self.is_read_only {
            return Ok(());
        }
        let layer = recorded.layer.as_ref().map(|layer| self.layer_path(&layer.digest));
        for path in [Some(self.key_path(&recorded.fields.key())), layer].into_iter().flatten() {
            match regular::open_or_directory(&path).and_then(|file| touch(&file)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("touch", &path)(error)),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Opens the file with a shared lock, if it exists. Waits for a process that is removing it.
pub(super) fn lock_shared(path: &Path) -> io::Result<Option<Locked>> {
    loop {
        let file = match regular::open_or_directory(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let locked = Locked::shared(file)?;
        if is_linked(&locked)? {
            return Ok(Some(locked));
        }
    }
}

/// Opens the file with an exclusive lock, to remove it; none where it is in use or missing.
pub(super) fn lock_alone(path: &Path) -> io::Result<Option<Locked>> {
    let file = match regular::open_or_directory(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let Some(locked) = Locked::try_alone(file)? else { return Ok(None) };
    Ok(is_linked(&locked)?.then_some(locked))
}

/// Whether a process uses the file, or is about to remove it.
pub(super) fn is_in_use(path: &Path) -> io::Result<bool> {
    let file = match regular::open_or_directory(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        file => file?,
    };
    Ok(Locked::try_alone(file)?.is_none())
}

/// Sets the time by which a collection decides.
pub(super) fn touch(file: &File) -> io::Result<()> {
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    Ok(futimens(file, &Timestamps { last_access: now, last_modification: now })?)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn a_pinned_layer_cannot_be_locked_alone_and_a_missing_one_cannot_be_pinned() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let digest = Digest::of_bytes(b"layer");
        assert!(store.pin_layer(&digest).unwrap().is_none());
        let path = store.layer_path(&digest);
        fs::write(&path, "layer").unwrap();
        let pin = [0; 2].map(|_| store.pin_layer(&digest).unwrap().unwrap());
        assert_eq!(pin[0].path(), path);
        assert!(lock_alone(&path).unwrap().is_none());
        drop(pin);
        assert!(lock_alone(&path).unwrap().is_some());
    }

    #[test]
    fn a_pinned_layer_exists_however_often_others_try_to_remove_it() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let lease = store.lease().unwrap();
        let digest = Digest::of_bytes(b"layer");
        let path = store.layer_path(&digest);
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    if let Some(_alone) = lock_alone(&path).unwrap() {
                        fs::remove_file(&path).unwrap();
                    }
                }
            });
            let builders = [0, 1].map(|n| {
                let (store, lease, path) = (&store, &lease, &path);
                scope.spawn(move || {
                    for round in 0..200 {
                        let pin = store.pin_layer(&digest).unwrap().unwrap_or_else(|| {
                            let temp = lease.temp_file(&format!("{n}-{round}")).unwrap();
                            fs::write(&temp, "layer").unwrap();
                            store.put_and_pin(&temp, &digest).unwrap()
                        });
                        for _ in 0..5 {
                            assert_eq!(fs::read(path).unwrap(), b"layer");
                        }
                        drop(pin);
                    }
                })
            });
            let ended = builders.map(|builder| builder.join());
            done.store(true, Ordering::Relaxed);
            ended.into_iter().for_each(|ended| ended.unwrap());
        });
    }

    #[test]
    fn touching_a_result_sets_its_last_use_to_now() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let file = File::create(&path).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        touch(&File::open(&path).unwrap()).unwrap();
        assert!(path.metadata().unwrap().modified().unwrap() > SystemTime::UNIX_EPOCH + Duration::from_secs(1));
    }
}
