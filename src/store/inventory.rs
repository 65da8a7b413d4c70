//! The contents of the store, read once: layers, the records that give them, and the last use of each.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::error::io as failed;
use super::layer_pin::is_in_use;
use super::stacks::Stacks;
use super::{CacheRecord, Store, StoreError};
use crate::cache::key::ParentRecord;
use crate::digest::Digest;

/// The contents of the store.
#[derive(Debug, Clone, Default)]
pub struct Inventory {
    /// By digest.
    pub layers: BTreeMap<Digest, LayerFile>,
    /// By key.
    pub(super) records: BTreeMap<Digest, RecordFile>,
    /// By layer: the keys of the records that give it.
    giving: HashMap<Digest, Vec<Digest>>,
    /// The parents that records are built on, each by the digest of it and those below.
    parents: HashMap<Digest, ParentRecord>,
    /// Keys whose records cannot be read, or are of another key.
    pub unreadable: BTreeSet<Digest>,
}

/// A layer.
#[derive(Debug, Clone)]
pub struct LayerFile {
    /// Its size in bytes.
    pub size: u64,
    /// The time at which it was written, if the filesystem stores that.
    pub written: Option<SystemTime>,
    /// The time of the file's last use. [`Inventory::used`] also considers the records.
    pub modified: SystemTime,
    /// Whether a build uses it.
    pub is_in_use: bool,
}

/// The record of a key.
#[derive(Debug, Clone)]
pub struct RecordFile {
    /// Its contents.
    pub recorded: CacheRecord,
    /// The time of its last use.
    pub modified: SystemTime,
}

impl Store {
    /// Reads the contents of the store. Files that are added or removed meanwhile may be in it or not.
    ///
    /// # Errors
    /// Those of listing and reading.
    pub fn inventory(&self) -> Result<Inventory, StoreError> {
        let mut inventory = Inventory::default();
        // Records before layers: a layer is written before its record, so no layer appears to be lost.
        for key in self.keys()? {
            let path = self.key_path(&key);
            let Some(metadata) = look(&path)? else { continue };
            match self.recorded(&key) {
                Some(recorded) => {
                    let modified = metadata.modified().map_err(failed("look at", &path))?;
                    inventory.add(key, RecordFile { recorded, modified });
                }
                None => drop(inventory.unreadable.insert(key)),
            }
        }
        self.find_parents(&mut inventory);
        let directory = self.root.join("layers/sha256");
        let entries = fs::read_dir(&directory).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        for entry in entries.map_err(failed("list", &directory))? {
            let path = entry.path();
            let Some(digest) = digest(&path) else { continue };
            let Some(metadata) = look(&path)? else { continue };
            let layer = LayerFile {
                size: metadata.len(),
                written: metadata.created().ok(),
                modified: metadata.modified().map_err(failed("look at", &path))?,
                is_in_use: is_in_use(&path).map_err(failed("look at", &path))?,
            };
            inventory.layers.insert(digest, layer);
        }
        Ok(inventory)
    }

    /// Looks up the parents that no record is built on directly: the result built on them was not recorded, or its
    /// record is removed.
    fn find_parents(&self, inventory: &mut Inventory) {
        let lower = inventory.records.values().filter_map(|record| record.recorded.layer.as_ref()?.lower);
        let mut next: BTreeSet<Digest> = lower.filter(|lower| !inventory.parents.contains_key(lower)).collect();
        while let Some(digest) = next.pop_first() {
            let Some(parent) = self.parent(&digest) else { continue };
            next.extend(parent.below.filter(|below| !inventory.parents.contains_key(below)));
            inventory.parents.insert(digest, parent);
        }
    }
}

/// Returns the digest that a layer's file is named after.
fn digest(path: &Path) -> Option<Digest> {
    let name = path.file_name()?.as_bytes().strip_suffix(b".squashfs")?;
    format!("sha256:{}", str::from_utf8(name).ok()?).parse().ok()
}

fn look(path: &PathBuf) -> Result<Option<Metadata>, StoreError> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        metadata => metadata.map(Some).map_err(failed("look at", path)),
    }
}

impl Inventory {
    /// Adds a record.
    pub(crate) fn add(&mut self, key: Digest, record: RecordFile) {
        if let Some(layer) = &record.recorded.layer {
            self.giving.entry(layer.digest).or_default().push(key);
            let parent = layer.below.last().map(|top| ParentRecord::of_layer(top, layer.lower));
            // A record of an older runner names all of its parents, and has no digest of them.
            if let (Some(parent), Some(digest)) = (parent, record.recorded.fields.below())
                && parent.digest() == digest
            {
                self.parents.insert(digest, parent);
            }
        }
        self.records.insert(key, record);
    }

    /// Returns the records, in the order of their keys.
    pub fn records(&self) -> impl Iterator<Item = (&Digest, &RecordFile)> {
        self.records.iter()
    }

    /// Returns the records that give a layer, the one built last first.
    pub fn giving(&self, layer: &Digest) -> Vec<(&Digest, &RecordFile)> {
        let keys = self.giving.get(layer).into_iter().flatten();
        let mut giving: Vec<_> = keys.filter_map(|key| self.records.get_key_value(key)).collect();
        giving.sort_by_key(|(key, record)| (Reverse(&record.recorded.time), *key));
        giving
    }

    /// Returns the topmost of the parents of that digest, if a record or file names it.
    pub(super) fn parent(&self, digest: &Digest) -> Option<&ParentRecord> {
        self.parents.get(digest)
    }

    /// Returns the layers that a result is built on, the lowest first, as far as records name them, including layers
    /// that are not in the store.
    pub fn layers_below(&self, recorded: &CacheRecord) -> Vec<Digest> {
        let Some(layer) = &recorded.layer else { return Vec::new() };
        let lower = layer.lower.and_then(|digest| self.parent(&digest));
        let lower = std::iter::successors(lower, |parent| self.parent(parent.below.as_ref()?));
        let mut layers: Vec<Digest> = lower.filter_map(ParentRecord::layer).collect();
        layers.reverse();
        layers.extend(&layer.below);
        layers
    }

    /// Returns the stacks of the layers.
    pub fn stacks(&self) -> Stacks {
        Stacks::new(self)
    }

    /// Returns the time of each layer's last use: its own, or that of a layer built on it, by the records.
    pub fn used(&self, stacks: &Stacks) -> BTreeMap<Digest, SystemTime> {
        let mut used: BTreeMap<Digest, SystemTime> =
            self.layers.iter().map(|(digest, layer)| (*digest, layer.modified)).collect();
        for stack in stacks.all() {
            if let (Some(used), Some(time)) = (used.get_mut(&stack.layer), stack.used) {
                *used = time.max(*used);
            }
        }
        used
    }

    /// Returns the sizes of all exports that records name, in bytes, by digest.
    pub fn exports(&self) -> BTreeMap<Digest, u64> {
        let exports = self.records.values().flat_map(|record| &record.recorded.exports);
        exports.map(|export| (export.digest, export.size)).collect()
    }

    /// Returns the size of all layers, in bytes.
    pub fn size(&self) -> u64 {
        self.layers.values().map(|layer| layer.size).sum()
    }
}

impl RecordFile {
    /// Returns the last of its steps: the snapshot, if it gives a layer.
    pub fn step(&self) -> &str {
        self.recorded.steps.last().map_or("", String::as_str)
    }

    /// Returns the layer that it gives.
    pub fn layer(&self) -> Option<&Digest> {
        self.recorded.layer.as_ref().map(|layer| &layer.digest)
    }

    /// Whether it was used later than another record; of two that were used at the same time, whether it was built
    /// later.
    pub(super) fn is_newer_than(&self, other: &Self) -> bool {
        (self.modified, &self.recorded.time) > (other.modified, &other.recorded.time)
    }
}

#[cfg(test)]
pub(super) mod fixture {
    use std::time::Duration;

    use super::super::RecordedLayer;
    use super::*;
    use crate::cache::key::Parents;

    /// Returns a digest for a number.
    pub fn id(number: u8) -> Digest {
        Digest::of_bytes(&[number])
    }

    pub fn days(days: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(days * 24 * 60 * 60)
    }

    /// Returns a record as this runner writes it: the last of these layers on the others, with a key of its own for
    /// each `key`.
    pub fn chained(key: u32, chain: &[u8], size: u64) -> CacheRecord {
        let (layer, below) = chain.split_last().unwrap();
        let parents = below.iter().fold(Parents::default(), |parents, number| parents.with_layer("", &id(*number)));
        let recorded = recorded(key, None, &[], size);
        let layer = Some(RecordedLayer::on(&parents, id(*layer), size));
        CacheRecord { fields: recorded.fields.with_base(&parents), layer, ..recorded }
    }

    /// Returns a record as an older runner wrote it: the layer of that number on those, with a key of its own for each
    /// `key`.
    pub fn recorded(key: u32, layer: Option<u8>, below: &[u8], size: u64) -> CacheRecord {
        let fields = serde_json::from_value(serde_json::json!({ "step/00000/run": key.to_string() })).unwrap();
        let below = below.iter().map(|number| id(*number)).collect();
        CacheRecord {
            fields,
            build: "b".into(),
            container: "c".into(),
            steps: vec!["a".into(), format!("s{key}")],
            duration_ms: 7,
            time: "2023-11-14T22:13:20Z".into(),
            layer: layer.map(|layer| RecordedLayer { digest: id(layer), size, below, lower: None }),
            exports: Vec::new(),
            tmpfs_left: Vec::new(),
        }
    }

    impl Inventory {
        pub(in super::super) fn add_layer(&mut self, number: u8, size: u64, used: u64, is_in_use: bool) {
            self.layers.insert(id(number), LayerFile { size, written: None, modified: days(used), is_in_use });
        }

        pub(in super::super) fn add_record(&mut self, recorded: CacheRecord, used: u64) {
            self.add(recorded.fields.key(), RecordFile { recorded, modified: days(used) });
        }

        pub(in super::super) fn remove_record(&mut self, key: &Digest) {
            let records = std::mem::take(&mut self.records).into_iter().filter(|(other, _)| other != key);
            (self.giving, self.parents) = (HashMap::new(), HashMap::new());
            records.for_each(|(key, record)| self.add(key, record));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::fixture::{days, id, recorded};
    use super::*;
    use crate::cache::key::Parents;

    #[test]
    fn using_a_layer_counts_as_using_the_layers_below_it() {
        let mut inventory = Inventory::default();
        (1..=4).for_each(|number| inventory.add_layer(number, 10, 1, false));
        inventory.add_record(recorded(1, Some(1), &[], 10), 2);
        inventory.add_record(recorded(2, Some(2), &[1], 10), 5);
        inventory.add_record(recorded(3, Some(3), &[1, 2], 10), 9);
        inventory.add_record(recorded(4, Some(4), &[9], 10), 3);
        let stacks = inventory.stacks();
        let used = inventory.used(&stacks);
        assert_eq!([1, 2, 3, 4].map(|number| used[&id(number)]), [9, 9, 9, 3].map(days));
        assert_eq!(stacks.layers_above(&id(1)), [id(2), id(3)].into());
        assert_eq!(stacks.newest(&id(4)).and_then(|stack| stacks.all()[stack].below), None);
        assert_eq!(inventory.size(), 40);
    }

    #[test]
    fn a_layer_given_by_several_bases_counts_for_the_base_used_last() {
        let mut inventory = Inventory::default();
        (1..=4).for_each(|number| inventory.add_layer(number, 10, 1, false));
        // On 1, then on 2, then on 3, and used on day 9.
        inventory.add_layer(4, 10, 9, false);
        for (number, day) in [(1, 2), (2, 3), (3, 9)] {
            inventory.add_record(recorded(u32::from(number), Some(number), &[], 10), day);
            inventory.add_record(recorded(10 + u32::from(number), Some(4), &[number], 10), day);
        }
        let stacks = inventory.stacks();
        let used = inventory.used(&stacks);
        assert_eq!([1, 2, 3, 4].map(|number| used[&id(number)]), [2, 3, 9, 9].map(days));
        assert_eq!(stacks.layers_above(&id(3)), [id(4)].into());
        assert!([1, 2].iter().all(|number| stacks.layers_above(&id(*number)).is_empty()));
    }

    #[test]
    fn layers_built_on_each_other_in_a_circle_have_the_same_last_use() {
        let mut inventory = Inventory::default();
        (1..=2).for_each(|number| inventory.add_layer(number, 10, u64::from(number), false));
        inventory.add_record(recorded(1, Some(1), &[2], 10), 1);
        inventory.add_record(recorded(2, Some(2), &[1], 10), 2);
        assert_eq!(inventory.used(&inventory.stacks()).into_values().collect::<Vec<_>>(), [days(2); 2]);
    }

    #[test]
    fn layers_and_records_are_listed_and_other_files_are_ignored() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        fs::write(store.layer_path(&id(1)), "layer").unwrap();
        fs::write(store.root().join("layers/sha256/other.squashfs"), "").unwrap();
        fs::write(store.root().join("keys/.new-x"), "").unwrap();
        store.record(&recorded(1, Some(1), &[], 5), &Parents::default(), Path::new("/b/build.yaml")).unwrap();
        fs::write(store.key_path(&id(7)), "{").unwrap();
        let pin = store.pin_layer(&id(1)).unwrap();
        let inventory = store.inventory().unwrap();
        assert_eq!(inventory.layers.keys().collect::<Vec<_>>(), [&id(1)]);
        assert!(inventory.layers[&id(1)].is_in_use && inventory.layers[&id(1)].size == 5);
        assert_eq!(inventory.giving(&id(1)).len(), 1);
        assert_eq!(inventory.unreadable, [id(7)].into());
        drop(pin);
        assert!(!store.inventory().unwrap().layers[&id(1)].is_in_use);
    }
}
