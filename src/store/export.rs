//! The exports in the store: what an export step wrote, under its digest, so that a later build writes the output again.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::io as failed;
use super::layer_pin::{LayerPin, lock_shared, touch};
use super::lock::Locked;
use super::{LayerState, Store, StoreError};
use crate::digest::Digest;
use crate::fs::{atomic, regular};

/// An export in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedExport {
    /// Its name in the store.
    pub digest: Digest,
    /// Its size there, in bytes.
    pub size: u64,
    /// The form of its output.
    pub form: ExportForm,
}

/// The form of the output of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExportForm {
    /// A file: the same bytes as in the store.
    File {
        /// The permission bits.
        mode: u32,
        /// The time of its last change, in seconds since 1970; none for the time at which it is written.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        time: Option<i64>,
    },
    /// A directory: the store has a squashfs image of it.
    Directory,
}

impl Store {
    /// Returns the path that the export of that digest has, if it is in the store.
    pub fn export_path(&self, digest: &Digest) -> PathBuf {
        self.root.join(format!("exports/sha256/{}", digest.hex()))
    }

    /// Looks at an export's size, before it is used.
    ///
    /// # Errors
    /// Those of looking at the file.
    pub fn look_at_export(&self, export: &RecordedExport) -> Result<LayerState, StoreError> {
        let path = self.export_path(&export.digest);
        match regular::open(&path).and_then(|file| Ok(file.metadata()?.len())) {
            Ok(size) if size == export.size => Ok(LayerState::Whole(path)),
            Ok(_) => Ok(LayerState::Damaged),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(LayerState::Missing),
            Err(error) => Err(failed("look at the export", &path)(error)),
        }
    }

    /// Locks an export, so that no collection removes it until the result is dropped; none where it is missing.
    ///
    /// # Errors
    /// Those of opening and locking it.
    pub fn pin_export(&self, digest: &Digest) -> Result<Option<LayerPin>, StoreError> {
        let path = self.export_path(digest);
        let locked = lock_shared(&path).map_err(failed("lock the export", &path))?;
        Ok(locked.map(|locked| LayerPin::new(path, locked)))
    }

    /// Makes a finished file, which [`Lease::temp_file`](super::Lease::temp_file) named, the export of that digest, and pins it. When
    /// this returns, it survives a crash. Where an undamaged export of that digest exists already, that one is pinned, and the
    /// file is removed.
    ///
    /// # Errors
    /// Those of syncing and renaming; the file is not moved then.
    pub fn put_export(&self, temp: &Path, digest: &Digest) -> Result<LayerPin, StoreError> {
        let export = self.export_path(digest);
        let put = || -> io::Result<Locked> {
            // Locked before it has its name: no other process knows the file yet.
            let file = Locked::shared(regular::open(temp)?)?;
            loop {
                if let Some(existing) = lock_shared(&export)? {
                    if Digest::of_file(&existing)? == *digest {
                        touch(&existing)?;
                        fs::remove_file(temp)?;
                        return Ok(existing);
                    }
                    fs::remove_file(&export)?;
                }
                file.set_permissions(Permissions::from_mode(0o444))?;
                if atomic::persist_new_lasting(&file, temp, &export)? {
                    return Ok(file);
                }
            }
        };
        let file = put().map_err(failed("put the export", &export))?;
        Ok(LayerPin::new(export, file))
    }

    /// Reads an export and returns whether its bytes have its digest.
    ///
    /// # Errors
    /// Those of reading the file.
    pub fn verify_export(&self, digest: &Digest) -> Result<bool, StoreError> {
        let path = self.export_path(digest);
        let found = regular::open(&path).and_then(|file| Digest::of_file(&file));
        Ok(found.map_err(failed("read the export", &path))? == *digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_export_is_put_once_and_a_damaged_one_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let lease = store.lease().unwrap();
        let digest = Digest::of_bytes(b"bytes");
        let export = RecordedExport { digest, size: 5, form: ExportForm::Directory };
        assert_eq!(store.look_at_export(&export).unwrap(), LayerState::Missing);
        assert!(store.pin_export(&digest).unwrap().is_none());
        for damaged in [&b"bytes"[..], b"byte", b"bites"] {
            let temp = lease.temp_file("export").unwrap();
            fs::write(&temp, b"bytes").unwrap();
            let path = store.put_export(&temp, &digest).unwrap().path().to_owned();
            assert!(!temp.exists() && store.verify_export(&digest).unwrap());
            assert_eq!(store.look_at_export(&export).unwrap(), LayerState::Whole(path.clone()));
            assert!(store.pin_export(&digest).unwrap().is_some());
            fs::remove_file(&path).unwrap();
            fs::write(&path, damaged).unwrap();
        }
        assert!(!store.verify_export(&digest).unwrap());
    }
}
