//! The facts about a layer, as text for people and as JSON for programs.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::SystemTime;

use serde_json::{Value, json};

use crate::digest::Digest;
use crate::error::Error;
use crate::report::listing::time;
use crate::report::sanitize;
use crate::store::{Inventory, LayerFile, RecordFile, Stacks, Store, named_in_lock_file};

use crate::command::command_error::store_error;
use crate::command::console::warn;

/// The content of the store, with the facts about each layer.
pub struct StoreFacts {
    pub inventory: Inventory,
    pub used: BTreeMap<Digest, SystemTime>,
    stacks: Stacks,
    /// By layer: how many are built on it.
    above: BTreeMap<Digest, usize>,
    locked: BTreeMap<Digest, Vec<PathBuf>>,
}

impl StoreFacts {
    /// Reads the store.
    pub fn read(store: &Store) -> Result<Self, Error> {
        let inventory = store.inventory().map_err(store_error)?;
        let mut locked: BTreeMap<Digest, Vec<PathBuf>> = BTreeMap::new();
        for path in store.lock_files().map_err(store_error)? {
            // An unreadable lock file is only a warning here; `runner store gc` refuses it.
            let named = named_in_lock_file(&path).unwrap_or_else(|error| {
                warn(&store_error(error));
                BTreeSet::new()
            });
            named.into_iter().for_each(|digest| locked.entry(digest).or_default().push(path.clone()));
        }
        Ok(Self::of(inventory, locked))
    }

    fn of(inventory: Inventory, locked: BTreeMap<Digest, Vec<PathBuf>>) -> Self {
        let stacks = inventory.stacks();
        Self { used: inventory.used(&stacks), above: stacks.counts_above(), stacks, inventory, locked }
    }

    /// Returns the layers, chain by chain: the chain used last first, and of each the base first. A layer of several chains is in
    /// the first of them.
    pub fn layers(&self) -> Vec<(&Digest, &LayerFile)> {
        let stacks = &self.stacks;
        let used = |layer: &Digest| self.used.get(layer).copied();
        // By stack: when any of its layers was used last, and how many it has.
        let mut wholes: Vec<(Option<SystemTime>, usize)> = Vec::with_capacity(stacks.all().len());
        for stack in stacks.all() {
            let (below, count) = stack.below.map_or((None, 0), |below| wholes[below]);
            wholes.push((used(&stack.layer).max(below), count + 1));
        }
        let mut tops: Vec<(&Digest, Option<usize>)> =
            self.inventory.layers.keys().map(|layer| (layer, stacks.newest(layer))).collect();
        // The longest of those that were used at the same time has all layers of the others.
        tops.sort_by_key(|(top, stack)| {
            let (whole, count) = stack.map_or((used(top), 1), |stack| wholes[stack]);
            Reverse((whole, used(top), count))
        });
        let (mut listed, mut is_listed) = (BTreeSet::new(), vec![false; wholes.len()]);
        let mut layers = Vec::with_capacity(tops.len());
        for (top, stack) in tops {
            let new = stacks.downwards(stack).take_while(|stack| !std::mem::replace(&mut is_listed[*stack], true));
            let mut chain: Vec<Digest> = new.map(|stack| stacks.all()[stack].layer).collect();
            chain.reverse();
            chain.push(*top);
            layers.extend(chain.into_iter().filter(|layer| listed.insert(*layer)));
        }
        layers.iter().filter_map(|layer| self.inventory.layers.get_key_value(layer)).collect()
    }

    /// Returns a layer with those in the store that it is built on, by its record that was used last, the lowest first, and the size
    /// of each.
    pub fn stack(&self, digest: &Digest) -> Vec<(Digest, u64)> {
        let size = |layer: &Digest| self.inventory.layers.get(layer).map(|file| (*layer, file.size));
        let all = self.stacks.downwards(self.stacks.newest(digest));
        let mut stack: Vec<(Digest, u64)> = all.filter_map(|stack| size(&self.stacks.all()[stack].layer)).collect();
        if stack.is_empty() {
            stack.extend(size(digest));
        }
        stack.reverse();
        stack
    }

    /// Returns the reasons why `runner store gc` would not remove the layer.
    pub fn keep_reasons(&self, digest: &Digest) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.inventory.layers.get(digest).is_some_and(|layer| layer.is_in_use) {
            reasons.push("a running build".to_owned());
        }
        reasons.extend(self.locked.get(digest).into_iter().flatten().map(|path| path.display().to_string()));
        match self.above.get(digest).copied().unwrap_or_default() {
            0 => {}
            1 => reasons.push("1 layer above".to_owned()),
            many => reasons.push(format!("{many} layers above")),
        }
        reasons
    }

    /// Returns the facts as JSON, without the fields of the key.
    pub fn json(&self, digest: &Digest, layer: &LayerFile) -> Value {
        let above: Vec<String> = self.stacks.layers_above(digest).iter().map(ToString::to_string).collect();
        let locks = self.locked.get(digest).into_iter().flatten();
        json!({
            "digest": digest.to_string(),
            "size": layer.size,
            "written": self.written(digest, layer),
            "used": self.used.get(digest).map(|used| time(*used)),
            "kept_by": {
                "running_build": layer.is_in_use,
                "lock_files": locks.map(|path| path.display().to_string()).collect::<Vec<_>>(),
                "layers_above": above,
            },
            "built": self.inventory.giving(digest).into_iter().map(|(key, record)| self.built(key, record)).collect::<Vec<_>>(),
        })
    }

    /// Returns the time when the layer was written: that of its newest record, else that of its file.
    pub fn written(&self, digest: &Digest, layer: &LayerFile) -> Option<String> {
        let giving = self.inventory.giving(digest);
        giving.first().map(|(_, record)| record.recorded.time.clone()).or_else(|| layer.written.map(time))
    }

    fn built(&self, key: &Digest, record: &RecordFile) -> Value {
        let recorded = &record.recorded;
        let below = self.inventory.layers_below(recorded);
        json!({
            "build": recorded.build,
            "container": recorded.container,
            "step": record.step(),
            "steps": recorded.steps,
            "key": key.to_string(),
            "below": below.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "duration_ms": recorded.duration_ms,
            "time": recorded.time,
            "used": time(record.modified),
        })
    }
}

/// Returns BUILD/CONTAINER/STEP, and marks a checkpoint.
pub fn origin(record: &RecordFile) -> String {
    let recorded = &record.recorded;
    let checkpoint = if recorded.fields.is_of_checkpoint() { " (checkpoint)" } else { "" };
    // A build may have the name of its directory, which may contain any character.
    sanitize(&format!("{}/{}/{}{checkpoint}", recorded.build, recorded.container, record.step())).into_owned()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::store::{CacheRecord, RecordedLayer};

    #[test]
    fn layers_are_listed_chain_by_chain_with_the_base_first() {
        let digest = |number: u8| Digest::from([number; 32]);
        let day = |day: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(day * 86_400);
        let mut inventory = Inventory::default();
        // 9 ← 5 ← 1 and 9 ← 2, used at the same time except 2, and 7 alone, which was used in between.
        for (layer, below, used) in [(9, &[][..], 3), (5, &[9], 3), (1, &[9, 5], 3), (2, &[9], 1), (7, &[], 2)] {
            let file = LayerFile { size: 1, written: None, modified: day(used), is_in_use: false };
            inventory.layers.insert(digest(layer), file);
            let recorded = CacheRecord {
                fields: serde_json::from_value(json!({ "x": layer.to_string() })).unwrap(),
                build: "b".into(),
                container: "c".into(),
                steps: vec!["s".into()],
                duration_ms: 1,
                time: time(day(used)),
                layer: Some(RecordedLayer {
                    digest: digest(layer),
                    size: 1,
                    below: below.iter().map(|n| digest(*n)).collect(),
                    lower: None,
                }),
                exports: Vec::new(),
                tmpfs_left: Vec::new(),
            };
            inventory.add(recorded.fields.key(), RecordFile { recorded, modified: day(used) });
        }
        let facts = StoreFacts::of(inventory, BTreeMap::new());
        let listed: Vec<Digest> = facts.layers().into_iter().map(|(digest, _)| *digest).collect();
        assert_eq!(listed, [9, 5, 1, 2, 7].map(digest));
    }
}
