//! A store that is only read: it exists, does not exist, or this user may not read it.

use std::fs;
use std::io;
use std::path::Path;

use super::error::io as failed;
use super::{FORMAT, Store, StoreError, is_read_only, read_format, refuse_link};

/// The result of opening a store to read it.
#[derive(Debug)]
pub enum Existing {
    /// The store.
    Store(Store),
    /// No store is there.
    None,
    /// A store may be there, but this user may not read it.
    Unreadable(StoreError),
}

impl Existing {
    /// Returns the store, where it exists and can be read.
    pub fn store(self) -> Option<Store> {
        match self {
            Self::Store(store) => Some(store),
            Self::None | Self::Unreadable(_) => None,
        }
    }
}

impl Store {
    /// Opens the store in this directory to read it, and creates nothing.
    ///
    /// # Errors
    /// [`StoreError::Format`] for a store of another version.
    pub fn open_existing(path: &Path) -> Result<Existing, StoreError> {
        refuse_link(path)?;
        let unreadable = |action, path: &Path, error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => Existing::None,
            _ => Existing::Unreadable(failed(action, path)(error)),
        };
        let root = match path.canonicalize() {
            Ok(root) => root,
            Err(error) => return Ok(unreadable("open the store", path, error)),
        };
        match read_format(&root) {
            Ok(Some(found)) if found == FORMAT => {}
            Ok(Some(found)) => return Err(StoreError::Format { path: root, found }),
            Ok(None) => return Ok(Existing::None),
            Err(error) => return Ok(Existing::Unreadable(error)),
        }
        let keys = root.join("keys");
        Ok(match fs::read_dir(&keys) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => unreadable("read", &keys, error),
            _ => Existing::Store(Self { is_read_only: is_read_only(&root)?, root }),
        })
    }
}
