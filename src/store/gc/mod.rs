//! A collection: removes unneeded files from the store. It makes a list of removals, which is shown, and then carries
//! them out one by one; each checks again whether the file may be removed.

mod choose;
mod exports;
mod forest;
mod other_files;
mod removal;

use std::time::SystemTime;

pub use choose::{Cause, Policy};
pub use removal::{Collection, Removal, RemovalReason, RemovalTarget};

use super::{Store, StoreError};

impl Store {
    /// Returns the files that a collection would remove now: layers with the records that give them, each before those
    /// that it is built on; then records, logs and other files without which every result can still be used, where they
    /// are older than `old`.
    ///
    /// # Errors
    /// Those of reading the store.
    pub fn collectable(&self, policy: &Policy, old: SystemTime, now: SystemTime) -> Result<Vec<Removal>, StoreError> {
        let inventory = self.inventory()?;
        let freed = exports::free(&inventory, policy);
        let of_layers =
            Policy { max_size: policy.max_size.map(|most| most.saturating_sub(freed.remaining)), ..policy.clone() };
        let mut removals = removal::layers(self, &inventory, &of_layers);
        removals.extend(removal::records(self, &inventory, &removals, (old, &freed.records)));
        let removed_keys = removals.iter().flat_map(Removal::keys).collect();
        removals.extend(other_files::other_files(self, &inventory, (&removed_keys, &freed.exports), old, now)?);
        Ok(removals)
    }
}
