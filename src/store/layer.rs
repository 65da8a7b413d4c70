//! Puts layers into the store under their digest, and checks them.

use std::fs::{self, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::digest::Digest;
use crate::fs::atomic;

use super::error::io as failed;
use super::layer_pin::{LayerPin, lock_shared, touch};
use super::lock::Locked;
use super::{Store, StoreError};
use crate::fs::regular;

/// The state of a layer in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LayerState {
    /// A squashfs image of the right size.
    Whole(PathBuf),
    /// It is missing.
    Missing,
    /// Its bytes have changed since it was written.
    Damaged,
}

/// The first bytes of a squashfs image.
const MAGIC: &[u8] = b"hsqs";

impl Store {
    /// Looks at a layer's size and first bytes, before it is used. [`verify_layer`](Self::verify_layer) checks its
    /// digest, and reads all of it.
    ///
    /// # Errors
    /// Those of opening and reading the file.
    pub fn look_at_layer(&self, digest: &Digest, size: u64) -> Result<LayerState, StoreError> {
        let path = self.layer_path(digest);
        let look = || -> io::Result<LayerState> {
            let mut file = match regular::open(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(LayerState::Missing),
                file => file?,
            };
            let mut start = [0; MAGIC.len()];
            let whole = file.metadata()?.len() == size && file.read_exact(&mut start).is_ok() && start == MAGIC;
            Ok(if whole { LayerState::Whole(path.clone()) } else { LayerState::Damaged })
        };
        look().map_err(failed("look at the layer", &path))
    }

    /// Reads a layer and returns whether its bytes have its digest.
    ///
    /// # Errors
    /// Those of reading the file.
    pub fn verify_layer(&self, digest: &Digest) -> Result<bool, StoreError> {
        let path = self.layer_path(digest);
        let found = regular::open(&path).and_then(|file| Digest::of_file(&file));
        Ok(found.map_err(failed("read the layer", &path))? == *digest)
    }

    /// Moves a damaged layer aside, so that it is built again. The file remains for inspection.
    ///
    /// # Errors
    /// Those of renaming.
    pub fn set_layer_aside(&self, digest: &Digest) -> Result<(), StoreError> {
        let path = self.layer_path(digest);
        match atomic::rename(&path, &self.root.join(format!("damaged/{}.squashfs", digest.hex()))) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("set aside the layer", &path)(error)),
            _ => Ok(()),
        }
    }

    /// Makes a finished file, which [`Lease::temp_file`](super::Lease::temp_file) named, the layer of that digest, and
    /// pins the layer: at no time in between can a collection remove it. The caller has computed the digest. When this
    /// returns, the layer survives a crash. Where an undamaged layer of that digest exists already, that one is pinned,
    /// and the file is removed.
    ///
    /// # Errors
    /// Those of syncing and renaming; the file is not moved then.
    pub fn put_and_pin(&self, temp: &Path, digest: &Digest) -> Result<LayerPin, StoreError> {
        let layer = self.layer_path(digest);
        let put = || -> io::Result<Locked> {
            // Locked before it has its name: no other process knows the file yet.
            let file = Locked::shared(regular::open(temp)?)?;
            loop {
                if let Some(existing) = lock_shared(&layer)? {
                    // That reads all of it, in far less time than the build that wrote the new file has taken.
                    let is_whole =
                        existing.metadata()?.len() == file.metadata()?.len() && Digest::of_file(&existing)? == *digest;
                    if is_whole {
                        touch(&existing)?;
                        fs::remove_file(temp)?;
                        return Ok(existing);
                    }
                    // The disk lost some of it, so the new file replaces it.
                    fs::remove_file(&layer)?;
                }
                file.set_permissions(Permissions::from_mode(0o444))?;
                // Another runner may have mounted an equal layer already; replacing that one would use its space twice.
                if atomic::persist_new_lasting(&file, temp, &layer)? {
                    return Ok(file);
                }
            }
        };
        let file = put().map_err(failed("put the layer", &layer))?;
        Ok(LayerPin::new(layer, file))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_layer_is_put_once() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let lease = store.lease().unwrap();
        let digest = Digest::of_bytes(b"layer");
        let put = |bytes: &[u8]| {
            let temp = lease.temp_file("layer").unwrap();
            fs::write(&temp, bytes).unwrap();
            let path = store.put_and_pin(&temp, &digest).unwrap().path().to_owned();
            assert!(!temp.exists());
            (path.metadata().unwrap().ino(), path)
        };
        let (inode, path) = put(b"layer");
        assert_eq!(path, store.layer_path(&digest));
        assert_eq!(path.metadata().unwrap().mode() & 0o7777, 0o444);
        assert_eq!(put(b"layer").0, inode);
        // A layer whose end or any bit was lost is replaced.
        for damaged in [&b"la"[..], b"lAyer"] {
            fs::remove_file(&path).unwrap();
            fs::write(&path, damaged).unwrap();
            put(b"layer");
            assert_eq!(fs::read(&path).unwrap(), b"layer");
        }
    }

    #[test]
    fn a_damaged_layer_is_detected_and_set_aside() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let digest = Digest::of_bytes(b"hsqs and more");
        let path = store.layer_path(&digest);
        assert_eq!(store.look_at_layer(&digest, 13).unwrap(), LayerState::Missing);
        fs::write(&path, b"hsqs and more").unwrap();
        assert_eq!(store.look_at_layer(&digest, 13).unwrap(), LayerState::Whole(path.clone()));
        assert!(store.verify_layer(&digest).unwrap());
        for damaged in [&b"hsqs and mor"[..], b"", b"hsq", b"Hsqs and more"] {
            fs::write(&path, damaged).unwrap();
            assert_eq!(store.look_at_layer(&digest, 13).unwrap(), LayerState::Damaged);
        }
        fs::write(&path, b"hsqs and mOre").unwrap();
        assert!(!store.verify_layer(&digest).unwrap());
        store.set_layer_aside(&digest).unwrap();
        store.set_layer_aside(&digest).unwrap();
        assert_eq!(store.look_at_layer(&digest, 13).unwrap(), LayerState::Missing);
    }

    #[test]
    fn putting_a_missing_file_fails_and_adds_no_layer() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let digest = Digest::of_bytes(b"layer");
        assert!(store.put_and_pin(&directory.path().join("tmp/none"), &digest).is_err());
        assert!(!store.layer_path(&digest).exists());
    }
}
