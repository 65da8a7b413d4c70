//! A collection: removes from the store what nobody needs. What is to go is a list of effects, which is shown, and then
//! carried out one by one; each looks again whether it may.

mod choose;
mod effect;
mod forest;
mod rest;

use std::time::SystemTime;

pub use choose::{Cause, Policy};
pub use effect::{Collection, Effect, What, Why};

use super::{Store, StoreError};

impl Store {
    /// What a collection would remove now: layers with the records that give them, each before those that it stands on;
    /// then records, logs and other files that nothing is lost with, where they are older than `old`.
    ///
    /// # Errors
    /// Whatever reading the store gives.
    pub fn collectable(&self, policy: &Policy, old: SystemTime, now: SystemTime) -> Result<Vec<Effect>, StoreError> {
        let inventory = self.inventory()?;
        let mut effects = effect::layers(self, &inventory, policy);
        effects.extend(effect::records(self, &inventory, &effects, old));
        let gone = effects.iter().flat_map(Effect::keys).collect();
        effects.extend(rest::rest(self, &inventory, &gone, old, now)?);
        Ok(effects)
    }
}
