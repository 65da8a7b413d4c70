//! The roots that the store has: each is a layer with everything that it is built on. Reads records alone.

use std::cmp::Reverse;
use std::collections::HashSet;

use crate::cache::key::ParentRecord;
use crate::digest::Digest;
use crate::image::Side;
use crate::store::{CacheRecord, Inventory, RecordFile, Store};

/// The parents of a layer. Overlayfs takes 500, so a longer chain is a circle of damaged files.
const MAX_PARENTS: usize = 1000;

/// The root that ends with a layer of the store.
#[derive(Debug, Clone)]
pub struct StoredRoot {
    /// The topmost layer.
    pub layer: Digest,
    /// The layers and the rootfs source below it, the lowest first; none below a full image.
    pub parents: Vec<ParentRecord>,
    /// Whether the store knows all of them.
    pub is_complete: bool,
    /// The time at which the layer was built.
    pub built: Option<String>,
}

impl StoredRoot {
    /// Returns the root of a layer, by its record that was built last.
    pub fn of_layer(store: &Store, inventory: &Inventory, layer: Digest) -> Self {
        let giving = inventory.giving(&layer);
        let root = giving.first().map(|(_, record)| Self::of_record(store, &record.recorded, layer));
        root.unwrap_or(Self { layer, parents: Vec::new(), is_complete: false, built: None })
    }

    fn of_record(store: &Store, record: &CacheRecord, layer: Digest) -> Self {
        let mut parents = Vec::new();
        let mut next = if is_full(record) { None } else { record.fields.below() };
        while let Some(parent) = next.and_then(|next| store.parent(&next)).filter(|_| parents.len() < MAX_PARENTS) {
            next = parent.below;
            parents.push(parent);
        }
        parents.reverse();
        let is_complete = next.is_none() && (is_full(record) || !parents.is_empty());
        Self { layer, parents, is_complete, built: Some(record.time.clone()) }
    }

    /// Returns the description for a report.
    pub fn side(&self, name: &str) -> Side {
        let parents = self.parents.iter().map(|parent| parent.id.clone());
        Side {
            name: name.to_owned(),
            digest: Some(self.layer.to_string()),
            built: self.built.clone(),
            layers: parents.chain([format!("layer {}", self.layer)]).collect(),
        }
    }
}

/// Returns the different results of a snapshot step whose layers are in the store, the one that was used last first.
pub fn results(store: &Store, inventory: &Inventory, build: &str, container: &str, step: &str) -> Vec<StoredRoot> {
    let is_result = |record: &&RecordFile| {
        let recorded = &record.recorded;
        recorded.build == build
            && recorded.container == container
            && record.step() == step
            && !recorded.fields.is_of_checkpoint()
    };
    let records = inventory.records().map(|(_, record)| record).filter(is_result);
    let mut found: Vec<(&RecordFile, Digest)> = records
        .filter_map(|record| Some((record, *record.layer()?)))
        .filter(|(_, layer)| inventory.layers.contains_key(layer))
        .collect();
    // The recorded times are whole seconds; the times of the files say which one a build has used last.
    found.sort_by_key(|(record, _)| Reverse((record.modified, record.recorded.time.clone())));
    let mut seen = HashSet::new();
    // Two keys may give the same root, as after a change of a comment in a script.
    found.retain(|(record, layer)| {
        let below = if is_full(&record.recorded) { None } else { record.recorded.fields.below() };
        seen.insert((below, *layer))
    });
    found.into_iter().map(|(record, layer)| StoredRoot::of_record(store, &record.recorded, layer)).collect()
}

/// Returns whether a record's layer is a whole root.
fn is_full(record: &CacheRecord) -> bool {
    record.fields.get("snapshot").is_some_and(|snapshot| snapshot.starts_with("full "))
}
