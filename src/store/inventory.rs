//! What is in the store, read once: layers, the records that give them, and when each was used.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::error::io as failed;
use super::held::is_held;
use super::{Recorded, Store, StoreError};
use crate::digest::Digest;

/// What is in the store.
#[derive(Debug, Clone, Default)]
pub struct Inventory {
    /// By digest.
    pub layers: BTreeMap<Digest, LayerFile>,
    /// By key.
    pub records: BTreeMap<Digest, RecordFile>,
    /// Records that cannot be read, or are not of the key that they are named after.
    pub unreadable: BTreeSet<Digest>,
}

/// A layer.
#[derive(Debug, Clone)]
pub struct LayerFile {
    /// In bytes.
    pub size: u64,
    /// When it was written, if the filesystem knows that.
    pub written: Option<SystemTime>,
    /// When the file was used last. What uses the layer otherwise, [`Inventory::used`] knows.
    pub modified: SystemTime,
    /// Whether a build uses it.
    pub is_held: bool,
}

/// What was built under a key.
#[derive(Debug, Clone)]
pub struct RecordFile {
    /// What it says.
    pub recorded: Recorded,
    /// When it was used last.
    pub modified: SystemTime,
}

impl Store {
    /// Reads what is in the store. What comes or goes meanwhile may be in it or not.
    ///
    /// # Errors
    /// Whatever listing and reading gives.
    pub fn inventory(&self) -> Result<Inventory, StoreError> {
        let mut inventory = Inventory::default();
        // Records before layers: a layer is there before a record that gives it, so none is taken for lost.
        for key in self.keys()? {
            let path = self.key_path(&key);
            let Some(metadata) = look(&path)? else { continue };
            match self.recorded(&key) {
                Some(recorded) => {
                    let modified = metadata.modified().map_err(failed("look at", &path))?;
                    inventory.records.insert(key, RecordFile { recorded, modified });
                }
                None => drop(inventory.unreadable.insert(key)),
            }
        }
        let folder = self.root.join("layers/sha256");
        let entries = fs::read_dir(&folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        for entry in entries.map_err(failed("list", &folder))? {
            let path = entry.path();
            let Some(digest) = digest(&path) else { continue };
            let Some(metadata) = look(&path)? else { continue };
            let layer = LayerFile {
                size: metadata.len(),
                written: metadata.created().ok(),
                modified: metadata.modified().map_err(failed("look at", &path))?,
                is_held: is_held(&path).map_err(failed("look at", &path))?,
            };
            inventory.layers.insert(digest, layer);
        }
        Ok(inventory)
    }
}

/// The digest that a layer's file is named after.
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
    /// The records that give a layer, the one built last first.
    pub fn giving(&self, layer: &Digest) -> Vec<(&Digest, &RecordFile)> {
        let mut giving: Vec<_> = self.records.iter().filter(|(_, record)| record.layer() == Some(layer)).collect();
        giving.sort_by(|(_, one), (_, other)| other.recorded.time.cmp(&one.recorded.time));
        giving
    }

    /// The records whose layer is in the store.
    pub fn chains(&self) -> Vec<Chain<'_>> {
        let mut chains = Vec::new();
        let mut newest: BTreeMap<&Digest, usize> = BTreeMap::new();
        for (key, record) in &self.records {
            let Some(layer) = record.recorded.layer.as_ref().filter(|layer| self.layers.contains_key(&layer.digest))
            else {
                continue;
            };
            let below = layer.below.iter().filter(|below| self.layers.contains_key(below));
            let layers = below.chain([&layer.digest]).copied().collect();
            let newer = newest.entry(&layer.digest).or_insert(chains.len());
            chains.push(Chain { key, layers, used: record.modified, is_newest: false });
            let time = |at: usize| {
                let record = chains.get(at).and_then(|chain: &Chain<'_>| self.records.get(chain.key));
                record.map(|record| (record.modified, &record.recorded.time))
            };
            if time(chains.len() - 1) > time(*newer) {
                *newer = chains.len() - 1;
            }
        }
        for (layer, at) in newest {
            // A build that writes a layer once more uses it before there is a record.
            let written = self.layers.get(layer).map(|layer| layer.modified);
            chains[at].used = written.map_or(chains[at].used, |written| written.max(chains[at].used));
            chains[at].is_newest = true;
        }
        chains
    }

    /// For each layer in the store, those in the store that it stands on, the lowest first, by the record of it that was used
    /// last: the same layer may have come out on others before.
    pub fn below(&self) -> BTreeMap<Digest, Vec<Digest>> {
        let newest = self.chains().into_iter().filter(|chain| chain.is_newest);
        newest.filter_map(|chain| chain.layers.split_last().map(|(layer, below)| (*layer, below.to_vec()))).collect()
    }

    /// For each layer in the store, those in the store that stand on it, by the records of them that were used last.
    pub fn above(&self) -> BTreeMap<Digest, BTreeSet<Digest>> {
        let mut above: BTreeMap<Digest, BTreeSet<Digest>> = BTreeMap::new();
        for (layer, below) in self.below() {
            for below in below {
                above.entry(below).or_default().insert(layer);
            }
        }
        above
    }

    /// When each layer was used last: itself, or one that stands on it, by the record that says so.
    pub fn used(&self) -> BTreeMap<Digest, SystemTime> {
        let mut used: BTreeMap<Digest, SystemTime> =
            self.layers.iter().map(|(digest, layer)| (*digest, layer.modified)).collect();
        for chain in self.chains() {
            for layer in &chain.layers {
                if let Some(used) = used.get_mut(layer) {
                    *used = chain.used.max(*used);
                }
            }
        }
        used
    }

    /// How many bytes the layers take.
    pub fn size(&self) -> u64 {
        self.layers.values().map(|layer| layer.size).sum()
    }
}

/// A record with the layers in the store that its result is made of.
#[derive(Debug, Clone)]
pub struct Chain<'a> {
    /// The record's key.
    pub key: &'a Digest,
    /// The lowest first; the layer that the record gives comes last.
    pub layers: Vec<Digest>,
    /// When it was used last.
    pub used: SystemTime,
    /// Of the records that give the layer it is the one that was used last.
    pub is_newest: bool,
}

impl RecordFile {
    /// The last of its steps: the snapshot, if it gives a layer.
    pub fn step(&self) -> &str {
        self.recorded.steps.last().map_or("", String::as_str)
    }

    /// The layer that it gives.
    pub fn layer(&self) -> Option<&Digest> {
        self.recorded.layer.as_ref().map(|layer| &layer.digest)
    }
}

/// A layer and all that is reached from it, each after what is reached from it, but for what is `done` and what only that
/// leads to.
pub(super) fn closure(
    from: Digest,
    next: &BTreeMap<Digest, BTreeSet<Digest>>,
    done: impl Fn(&Digest) -> bool,
) -> Vec<Digest> {
    let (mut seen, mut ordered) = (BTreeSet::new(), Vec::new());
    let mut left = vec![(from, false)];
    while let Some((digest, is_finished)) = left.pop() {
        if is_finished {
            ordered.push(digest);
        } else if !done(&digest) && seen.insert(digest) {
            left.push((digest, true));
            left.extend(next.get(&digest).into_iter().flatten().map(|next| (*next, false)));
        }
    }
    ordered
}

#[cfg(test)]
pub(super) mod fixture {
    use std::time::Duration;

    use super::super::RecordedLayer;
    use super::*;

    /// A digest for a number.
    pub fn id(number: u8) -> Digest {
        Digest::of_bytes(&[number])
    }

    pub fn days(days: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(days * 24 * 60 * 60)
    }

    /// What was built: the layer of that number, on those, with a key of its own for each `key`.
    pub fn recorded(key: u32, layer: Option<u8>, below: &[u8], size: u64) -> Recorded {
        let fields = serde_json::from_value(serde_json::json!({ "step/00000/run": key.to_string() })).unwrap();
        let below = below.iter().map(|number| id(*number)).collect();
        Recorded {
            fields,
            build: "b".into(),
            container: "c".into(),
            steps: vec!["a".into(), format!("s{key}")],
            duration_ms: 7,
            time: "2023-11-14T22:13:20Z".into(),
            layer: layer.map(|layer| RecordedLayer { digest: id(layer), size, below }),
            tmpfs_left: Vec::new(),
        }
    }

    impl Inventory {
        pub(in super::super) fn add_layer(&mut self, number: u8, size: u64, used: u64, is_held: bool) {
            self.layers.insert(id(number), LayerFile { size, written: None, modified: days(used), is_held });
        }

        pub(in super::super) fn add_record(&mut self, recorded: Recorded, used: u64) {
            self.records.insert(recorded.fields.key(), RecordFile { recorded, modified: days(used) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::fixture::{days, id, recorded};
    use super::*;

    #[test]
    fn a_layer_is_used_when_one_that_stands_on_it_is() {
        let mut inventory = Inventory::default();
        (1..=4).for_each(|number| inventory.add_layer(number, 10, 1, false));
        inventory.add_record(recorded(1, Some(1), &[], 10), 2);
        inventory.add_record(recorded(2, Some(2), &[1], 10), 5);
        inventory.add_record(recorded(3, Some(3), &[1, 2], 10), 9);
        inventory.add_record(recorded(4, Some(4), &[9], 10), 3);
        let used = inventory.used();
        assert_eq!([1, 2, 3, 4].map(|number| used[&id(number)]), [9, 9, 9, 3].map(days));
        assert_eq!(inventory.above()[&id(1)], [id(2), id(3)].into());
        assert_eq!(inventory.below()[&id(3)], [1, 2].map(id));
        assert_eq!(inventory.below().get(&id(4)), Some(&Vec::new()));
        assert_eq!(inventory.size(), 40);
    }

    #[test]
    fn a_layer_that_came_out_the_same_on_several_uses_the_one_of_the_record_that_was_used_last() {
        let mut inventory = Inventory::default();
        (1..=4).for_each(|number| inventory.add_layer(number, 10, 1, false));
        // On 1, then on 2, then on 3, and used on day 9.
        inventory.add_layer(4, 10, 9, false);
        for (number, day) in [(1, 2), (2, 3), (3, 9)] {
            inventory.add_record(recorded(u32::from(number), Some(number), &[], 10), day);
            inventory.add_record(recorded(10 + u32::from(number), Some(4), &[number], 10), day);
        }
        let used = inventory.used();
        assert_eq!([1, 2, 3, 4].map(|number| used[&id(number)]), [2, 3, 9, 9].map(days));
        assert_eq!(inventory.above(), [(id(3), [id(4)].into())].into());
    }

    #[test]
    fn layers_that_stand_on_each_other_are_used_together() {
        let mut inventory = Inventory::default();
        (1..=2).for_each(|number| inventory.add_layer(number, 10, u64::from(number), false));
        inventory.add_record(recorded(1, Some(1), &[2], 10), 1);
        inventory.add_record(recorded(2, Some(2), &[1], 10), 2);
        assert_eq!(inventory.used().into_values().collect::<Vec<_>>(), [days(2); 2]);
    }

    #[test]
    fn what_is_in_the_folders_is_found_and_other_files_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        fs::write(store.layer_path(&id(1)), "layer").unwrap();
        fs::write(store.root().join("layers/sha256/other.squashfs"), "").unwrap();
        fs::write(store.root().join("keys/.new-x"), "").unwrap();
        store.record(&recorded(1, Some(1), &[], 5), Path::new("/b/build.yaml")).unwrap();
        fs::write(store.key_path(&id(7)), "{").unwrap();
        let held = store.hold_layer(&id(1)).unwrap();
        let inventory = store.inventory().unwrap();
        assert_eq!(inventory.layers.keys().collect::<Vec<_>>(), [&id(1)]);
        assert!(inventory.layers[&id(1)].is_held && inventory.layers[&id(1)].size == 5);
        assert_eq!(inventory.giving(&id(1)).len(), 1);
        assert_eq!(inventory.unreadable, [id(7)].into());
        drop(held);
        assert!(!store.inventory().unwrap().layers[&id(1)].is_held);
    }
}
