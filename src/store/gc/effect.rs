//! One thing that a collection removes: described, and carried out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::super::error::io as failed;
use super::super::layer_pin::lock_alone;
use super::super::{Inventory, Store, StoreError};
use super::choose::{Cause, Policy, Removal, choose};
use crate::digest::Digest;
use crate::fs::remove_tree::remove_tree;

/// What is removed, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effect {
    /// What it is.
    pub what: What,
    /// Why it goes.
    pub why: Why,
    /// Where it is.
    pub path: PathBuf,
    /// In bytes.
    pub size: u64,
    /// When it was used last: it stays if that is another time when it is to go.
    pub(super) modified: SystemTime,
}

/// What can be removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A layer, and what says that it was built.
    Layer {
        /// Its name.
        digest: Digest,
        /// BUILD/STEP of the record that was built last, if there is one.
        step: Option<String>,
        /// The keys of the records whose results need it.
        records: Vec<Digest>,
        /// Those right above it that are to go first.
        above: BTreeSet<Digest>,
    },
    /// What says that something was built.
    Record {
        /// Its key.
        key: Digest,
        /// The layer that it gives.
        layer: Option<Digest>,
    },
    /// The directory of a build's logs.
    Logs,
    /// The session of a step that failed.
    Failed,
    /// A layer that was set aside.
    Damaged,
    /// What was in a directory of the host.
    Listing,
    /// What something was built on.
    Parent,
    /// The last key of a step.
    LastKey,
    /// How long the steps of a build took.
    Timings,
    /// What a killed runner was writing, or has locked.
    LeftOver,
}

/// Why something goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// It was used last at that time.
    Unused(SystemTime),
    /// There is not enough room for it; it was used last at that time.
    Room(SystemTime),
    /// The layer that it gives is not there.
    NoLayer,
    /// It cannot be read.
    Unreadable,
    /// Nothing that is kept names it.
    Unnamed,
    /// Who wrote it is gone.
    LeftOver,
}

impl Effect {
    /// The keys of the records that go with it.
    pub fn keys(&self) -> &[Digest] {
        match &self.what {
            What::Layer { records, .. } => records,
            What::Record { key, .. } => std::slice::from_ref(key),
            _ => &[],
        }
    }
}

pub(super) fn layers(store: &Store, inventory: &Inventory, policy: &Policy) -> Vec<Effect> {
    let used = inventory.used(&inventory.stacks());
    let effect = |Removal { layer: digest, cause, records, above }: Removal| {
        let (layer, used) = (inventory.layers.get(&digest)?, *used.get(&digest)?);
        let giving = inventory.giving(&digest);
        let step = giving.first().map(|(_, record)| format!("{}/{}", record.recorded.build, record.step()));
        let what = What::Layer { digest, step, records, above };
        let why = match cause {
            Cause::Unused => Why::Unused(used),
            Cause::Room => Why::Room(used),
        };
        Some(Effect { what, why, path: store.layer_path(&digest), size: layer.size, modified: layer.modified })
    };
    choose(inventory, policy).into_iter().filter_map(effect).collect()
}

/// Records whose layer stays or is none of the store's.
pub(super) fn records(store: &Store, inventory: &Inventory, gone: &[Effect], old: SystemTime) -> Vec<Effect> {
    let gone: BTreeSet<&Digest> = gone.iter().flat_map(Effect::keys).collect();
    let mut newest: BTreeMap<&Digest, SystemTime> = BTreeMap::new();
    for record in inventory.records.values() {
        if let Some(layer) = record.layer() {
            let newest = newest.entry(layer).or_insert(record.modified);
            *newest = record.modified.max(*newest);
        }
    }
    let mut effects = Vec::new();
    let mut push = |key: &Digest, layer: Option<&Digest>, why: Why, modified: Option<SystemTime>| {
        let path = store.key_path(key);
        let Ok(metadata) = path.symlink_metadata() else { return };
        let Some(modified) = modified.or_else(|| metadata.modified().ok()) else { return };
        let what = What::Record { key: *key, layer: layer.copied() };
        effects.push(Effect { what, why, path, size: metadata.len(), modified });
    };
    for key in &inventory.unreadable {
        push(key, None, Why::Unreadable, None);
    }
    for (key, record) in inventory.records.iter().filter(|(key, _)| !gone.contains(key)) {
        let is_old = record.modified < old;
        let why = match record.layer() {
            Some(layer) if !inventory.layers.contains_key(layer) => Why::NoLayer,
            // By the newest, a layer that is kept is found; the others are what was before some change without effect.
            Some(layer) if is_old && newest.get(layer) != Some(&record.modified) => Why::Unused(record.modified),
            None if is_old => Why::Unused(record.modified),
            _ => continue,
        };
        push(key, record.layer(), why, Some(record.modified));
    }
    effects
}

/// Carries effects out.
#[derive(Debug)]
pub struct Collection<'a> {
    store: &'a Store,
    /// Layers that were to go, and are used by now.
    kept: BTreeSet<Digest>,
}

impl<'a> Collection<'a> {
    /// Nothing is removed yet.
    pub fn new(store: &'a Store) -> Self {
        Self { store, kept: BTreeSet::new() }
    }

    /// Removes it, unless it was used since it was looked at, or is in use; whether it is gone. In the order in which the
    /// effects were given.
    ///
    /// # Errors
    /// Whatever removing it gives; it then stays, and may be tried again.
    pub fn remove(&mut self, effect: &Effect) -> Result<bool, StoreError> {
        let result = match &effect.what {
            What::Layer { digest, records, above, .. } => {
                let removed = above.is_disjoint(&self.kept) && self.layer(effect, records)?;
                if !removed {
                    self.kept.insert(*digest);
                }
                Ok(removed)
            }
            // The lock of one that builds is looked at, too.
            What::Logs | What::Failed | What::LeftOver => alone(effect, || remove_tree(&effect.path)),
            What::Record { layer: Some(layer), .. } if effect.why == Why::NoLayer => {
                if self.store.layer_path(layer).exists() { Ok(false) } else { unchanged(effect) }
            }
            _ => unchanged(effect),
        };
        result.map_err(failed("remove", &effect.path))
    }

    fn layer(&self, effect: &Effect, records: &[Digest]) -> Result<bool, StoreError> {
        let mut forgotten = Ok(());
        let removed = alone(effect, || {
            // First what says that it is there: after a crash in between, it is a layer that nobody knows.
            forgotten = records.iter().try_for_each(|key| self.store.forget(key));
            if forgotten.is_ok() { fs::remove_file(&effect.path) } else { Ok(()) }
        });
        forgotten?;
        removed.map_err(failed("remove", &effect.path))
    }
}

/// Removes it where nobody has it, and it was not used meanwhile.
fn alone(effect: &Effect, remove: impl FnOnce() -> io::Result<()>) -> io::Result<bool> {
    match lock_alone(&effect.path)? {
        Some(_alone) if is_same(effect)? => remove().map(|()| true),
        Some(_) => Ok(false),
        None => is_gone(&effect.path),
    }
}

fn unchanged(effect: &Effect) -> io::Result<bool> {
    if is_gone(&effect.path)? {
        return Ok(true);
    }
    if is_same(effect)? { fs::remove_file(&effect.path).map(|()| true) } else { Ok(false) }
}

fn is_same(effect: &Effect) -> io::Result<bool> {
    Ok(effect.path.symlink_metadata()?.modified()? == effect.modified)
}

fn is_gone(path: &Path) -> io::Result<bool> {
    match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        metadata => metadata.map(|_| false),
    }
}

#[cfg(test)]
mod tests;
