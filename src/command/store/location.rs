//! The store that a command of `runner store` works on, which may be missing.

use std::path::PathBuf;

use super::shown::StoreFacts;
use crate::error::{Error, Exit};
use crate::store::Store;

/// The path of the store, and the store if it exists.
pub struct StoreLocation {
    /// The path.
    pub path: PathBuf,
    /// The store.
    pub store: Option<Store>,
}

impl StoreLocation {
    /// Returns the store and its content, for a command that needs a layer.
    ///
    /// # Errors
    /// With [`Exit::Usage`], if there is no store.
    pub fn facts(&self) -> Result<(&Store, StoreFacts), Error> {
        let none = || Error::new(Exit::Usage, format!("there is no store at {}", self.path.display()));
        let hint = || Some("choose another one with `--store`; `runner apply` creates one".to_owned());
        let store = self.store.as_ref().ok_or_else(|| none().with_hint(hint()))?;
        Ok((store, StoreFacts::read(store)?))
    }
}
