//! A file that a collection removes: described, and carried out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::super::error::io as failed;
use super::super::layer_pin::lock_alone;
use super::super::{Inventory, Store, StoreError};
use super::choose::{Cause, LayerRemoval, Policy, choose};
use crate::digest::Digest;
use crate::fs::remove_tree::remove_tree;

/// A file to be removed, and the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removal {
    /// The kind of file.
    pub target: RemovalTarget,
    /// The reason.
    pub reason: RemovalReason,
    /// Its path.
    pub path: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// The time of its last use. The file remains if that has changed when the collection comes to it.
    pub(super) modified: SystemTime,
}

/// The kinds of files that can be removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RemovalTarget {
    /// A layer, and its records.
    Layer {
        /// Its name.
        digest: Digest,
        /// BUILD/STEP of the record that was built last, if there is one.
        step: Option<String>,
        /// The keys of the records whose results need it.
        records: Vec<Digest>,
        /// The layers right above it, which are removed first.
        above: BTreeSet<Digest>,
    },
    /// The record of a result.
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
    /// The content that an export step wrote.
    Export,
    /// The list of the files of a directory that runner exported.
    ExportedFiles,
    /// The listing of a directory of the host.
    Listing,
    /// A parent that a result was built on.
    Parent,
    /// The last key of a step.
    LastKey,
    /// The durations of a build's steps.
    Timings,
    /// The digest that a name of a rootfs source led to.
    Name,
    /// A document of an image.
    Document,
    /// A file that a killed runner was writing, or had locked.
    Leftover,
}

/// The reason for which a file is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemovalReason {
    /// It was used last at that time.
    Unused(SystemTime),
    /// There is not enough space for it; it was used last at that time.
    Room(SystemTime),
    /// The layer that it gives is missing.
    NoLayer,
    /// It cannot be read.
    Unreadable,
    /// No remaining file names it.
    Unnamed,
    /// The runner that wrote it no longer runs.
    Leftover,
}

impl Removal {
    /// Returns the keys of the records that are removed with it.
    pub fn keys(&self) -> &[Digest] {
        match &self.target {
            RemovalTarget::Layer { records, .. } => records,
            RemovalTarget::Record { key, .. } => std::slice::from_ref(key),
            _ => &[],
        }
    }
}

pub(super) fn layers(store: &Store, inventory: &Inventory, policy: &Policy) -> Vec<Removal> {
    let used = inventory.used(&inventory.stacks());
    let removal = |LayerRemoval { layer: digest, cause, records, above }: LayerRemoval| {
        let (layer, used) = (inventory.layers.get(&digest)?, *used.get(&digest)?);
        let giving = inventory.giving(&digest);
        let step = giving.first().map(|(_, record)| format!("{}/{}", record.recorded.build, record.step()));
        let target = RemovalTarget::Layer { digest, step, records, above };
        let reason = match cause {
            Cause::Unused => RemovalReason::Unused(used),
            Cause::Room => RemovalReason::Room(used),
        };
        Some(Removal { target, reason, path: store.layer_path(&digest), size: layer.size, modified: layer.modified })
    };
    choose(inventory, policy).into_iter().filter_map(removal).collect()
}

/// Returns the records to be removed whose layer remains or is not in the store.
///
/// `freed` are the keys of those that are removed to free the space of their exports, with the times of their last use.
pub(super) fn records(
    store: &Store,
    inventory: &Inventory,
    removed: &[Removal],
    (old, freed): (SystemTime, &BTreeMap<Digest, SystemTime>),
) -> Vec<Removal> {
    let removed: BTreeSet<&Digest> = removed.iter().flat_map(Removal::keys).collect();
    let mut newest: BTreeMap<&Digest, SystemTime> = BTreeMap::new();
    for record in inventory.records.values() {
        if let Some(layer) = record.layer() {
            let newest = newest.entry(layer).or_insert(record.modified);
            *newest = record.modified.max(*newest);
        }
    }
    let mut removals = Vec::new();
    let mut push = |key: &Digest, layer: Option<&Digest>, reason: RemovalReason, modified: Option<SystemTime>| {
        let path = store.key_path(key);
        let Ok(metadata) = path.symlink_metadata() else { return };
        let Some(modified) = modified.or_else(|| metadata.modified().ok()) else { return };
        let target = RemovalTarget::Record { key: *key, layer: layer.copied() };
        removals.push(Removal { target, reason, path, size: metadata.len(), modified });
    };
    for key in &inventory.unreadable {
        push(key, None, RemovalReason::Unreadable, None);
    }
    for (key, record) in inventory.records.iter().filter(|(key, _)| !removed.contains(key)) {
        let is_old = record.modified < old;
        let reason = match record.layer() {
            Some(layer) if !inventory.layers.contains_key(layer) => RemovalReason::NoLayer,
            // The newest record is needed to find a remaining layer; the others are of times before a change without
            // effect.
            Some(layer) if is_old && newest.get(layer) != Some(&record.modified) => {
                RemovalReason::Unused(record.modified)
            }
            None if is_old => RemovalReason::Unused(record.modified),
            None if freed.contains_key(key) => RemovalReason::Room(record.modified),
            _ => continue,
        };
        push(key, record.layer(), reason, Some(record.modified));
    }
    removals
}

/// Carries removals out.
#[derive(Debug)]
pub struct Collection<'a> {
    store: &'a Store,
    /// Layers that were to be removed, and have come into use.
    reused: BTreeSet<Digest>,
}

impl<'a> Collection<'a> {
    /// Begins a collection. Removes nothing yet.
    pub fn new(store: &'a Store) -> Self {
        Self { store, reused: BTreeSet::new() }
    }

    /// Removes a file, unless it is in use or was used since it was listed, and returns whether it is removed. To be
    /// called in the order of the list.
    ///
    /// # Errors
    /// Those of removing it; the file then remains, and may be tried again.
    pub fn remove(&mut self, removal: &Removal) -> Result<bool, StoreError> {
        let result = match &removal.target {
            RemovalTarget::Layer { digest, records, above, .. } => {
                let removed = above.is_disjoint(&self.reused) && self.layer(removal, records)?;
                if !removed {
                    self.reused.insert(*digest);
                }
                Ok(removed)
            }
            // These are locked while a build uses them.
            RemovalTarget::Logs | RemovalTarget::Failed | RemovalTarget::Export | RemovalTarget::Leftover => {
                remove_unlocked(removal, || remove_tree(&removal.path))
            }
            RemovalTarget::Record { layer: Some(layer), .. } if removal.reason == RemovalReason::NoLayer => {
                if self.store.layer_path(layer).exists() { Ok(false) } else { remove_unchanged(removal) }
            }
            _ => remove_unchanged(removal),
        };
        result.map_err(failed("remove", &removal.path))
    }

    fn layer(&self, removal: &Removal, records: &[Digest]) -> Result<bool, StoreError> {
        let mut records_removed = Ok(());
        let removed = remove_unlocked(removal, || {
            // The records first: after a crash in between, the layer is one without a record.
            records_removed = records.iter().try_for_each(|key| self.store.forget(key));
            if records_removed.is_ok() { fs::remove_file(&removal.path) } else { Ok(()) }
        });
        records_removed?;
        removed.map_err(failed("remove", &removal.path))
    }
}

/// Removes a file that no process has locked and that was not used meanwhile.
fn remove_unlocked(removal: &Removal, remove: impl FnOnce() -> io::Result<()>) -> io::Result<bool> {
    match lock_alone(&removal.path)? {
        Some(_locked) if is_same(removal)? => remove().map(|()| true),
        Some(_) => Ok(false),
        None => is_removed(&removal.path),
    }
}

fn remove_unchanged(removal: &Removal) -> io::Result<bool> {
    if is_removed(&removal.path)? {
        return Ok(true);
    }
    if is_same(removal)? { fs::remove_file(&removal.path).map(|()| true) } else { Ok(false) }
}

fn is_same(removal: &Removal) -> io::Result<bool> {
    Ok(removal.path.symlink_metadata()?.modified()? == removal.modified)
}

fn is_removed(path: &Path) -> io::Result<bool> {
    match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        metadata => metadata.map(|_| false),
    }
}

#[cfg(test)]
mod tests;
