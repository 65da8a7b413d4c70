//! Layers: put under their digest, whole or not at all.

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

/// What there is of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LayerState {
    /// It is there, of the right size, and a squashfs image.
    Whole(PathBuf),
    /// It is not there.
    Missing,
    /// What is there is not what was written.
    Damaged,
}

/// The first bytes of a squashfs image.
const MAGIC: &[u8] = b"hsqs";

impl Store {
    /// Looks at a layer before it is used: its size and its first bytes. Its digest takes reading all of it, see
    /// [`verify_layer`](Self::verify_layer).
    ///
    /// # Errors
    /// Whatever looking gives.
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

    /// Reads a layer and tells whether its bytes have its digest.
    ///
    /// # Errors
    /// Whatever reading gives.
    pub fn verify_layer(&self, digest: &Digest) -> Result<bool, StoreError> {
        let path = self.layer_path(digest);
        let found = regular::open(&path).and_then(|file| Digest::of_file(&file));
        Ok(found.map_err(failed("read the layer", &path))? == *digest)
    }

    /// Moves a damaged layer out of the way, so that it is built again; it stays to be looked at.
    ///
    /// # Errors
    /// Whatever renaming gives.
    pub fn set_layer_aside(&self, digest: &Digest) -> Result<(), StoreError> {
        let path = self.layer_path(digest);
        match atomic::rename(&path, &self.root.join(format!("damaged/{}.squashfs", digest.hex()))) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("set aside the layer", &path)(error)),
            _ => Ok(()),
        }
    }

    /// Makes a finished file, which [`Lease::temp_file`](super::Lease::temp_file) named, the layer of that digest,
    /// which is the caller's to have right, and holds it: at no time in between could it be removed. When this returns, the
    /// layer lasts. A layer that is there already, as it was written, is kept, and the file is removed.
    ///
    /// # Errors
    /// Whatever syncing and renaming gives; the file is then where it was.
    pub fn put_and_pin(&self, temp: &Path, digest: &Digest) -> Result<LayerPin, StoreError> {
        let layer = self.layer_path(digest);
        let put = || -> io::Result<Locked> {
            // Before it has its name; no other process knows it yet.
            let file = Locked::shared(regular::open(temp)?)?;
            loop {
                if let Some(there) = lock_shared(&layer)? {
                    // It is read for that, which a build that writes it anew hardly notices.
                    let is_whole =
                        there.metadata()?.len() == file.metadata()?.len() && Digest::of_file(&there)? == *digest;
                    if is_whole {
                        touch(&there)?;
                        fs::remove_file(temp)?;
                        return Ok(there);
                    }
                    // A disk lost some of it, and it is to be replaced.
                    fs::remove_file(&layer)?;
                }
                file.set_permissions(Permissions::from_mode(0o444))?;
                // Another runner's equal layer may be mounted already, and would take room twice.
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
        // A layer that lost its end, or a bit, is replaced.
        for damaged in [&b"la"[..], b"lAyer"] {
            fs::remove_file(&path).unwrap();
            fs::write(&path, damaged).unwrap();
            put(b"layer");
            assert_eq!(fs::read(&path).unwrap(), b"layer");
        }
    }

    #[test]
    fn a_layer_that_is_not_as_it_was_written_is_seen_and_set_aside() {
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
    fn a_missing_file_puts_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let digest = Digest::of_bytes(b"layer");
        assert!(store.put_and_pin(&directory.path().join("tmp/none"), &digest).is_err());
        assert!(!store.layer_path(&digest).exists());
    }
}
