//! Reads all layers and exports, sets damaged ones aside, and removes damaged records.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::{Inventory, Store, StoreError};
use crate::digest::Digest;
use crate::threads;

/// The threads that read layers; more of them would wait for the disk.
const MAX_THREADS: usize = 4;

/// A damaged file, which has been moved or removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Damage {
    /// A layer's bytes do not have its digest. It was moved, and the records that give it are removed.
    Layer {
        /// Its name.
        digest: Digest,
        /// BUILD/STEP of each record that gave it.
        steps: Vec<String>,
        /// Its new path.
        aside: PathBuf,
    },
    /// An export's bytes do not have its digest. It was removed: the next build writes it again.
    Export {
        /// Its name.
        digest: Digest,
        /// BUILD/STEP of each record that names it.
        steps: Vec<String>,
    },
    /// A record cannot be read, is not of its key, or gives a layer another size than it has. It was removed.
    Record {
        /// The key that it was named after.
        key: Digest,
    },
}

impl Store {
    /// Reads all layers of an inventory, and the exports that its records name, and compares them with their names, and the
    /// records with the layers. The layers
    /// built on a damaged layer remain: they are valid again when the same layer is rebuilt.
    ///
    /// # Errors
    /// Those of reading, moving and removing.
    pub fn verify(&self, inventory: &Inventory) -> Result<Vec<Damage>, StoreError> {
        let damaged = self.damaged_layers(inventory)?;
        let mut damages = Vec::new();
        for digest in &damaged {
            // The layer is moved first: otherwise a rebuild would find it in its place.
            self.set_layer_aside(digest)?;
            let mut steps = Vec::new();
            for (key, record) in inventory.giving(digest) {
                self.forget(key)?;
                steps.push(format!("{}/{}", record.recorded.build, record.step()));
            }
            let aside = self.root.join(format!("damaged/{}.squashfs", digest.hex()));
            damages.push(Damage::Layer { digest: *digest, steps, aside });
        }
        damages.extend(self.verify_exports(inventory)?);
        let of_another_size = inventory.records.iter().filter(|(_, record)| {
            let layer = record.recorded.layer.as_ref().filter(|layer| !damaged.contains(&layer.digest));
            layer.is_some_and(|layer| inventory.layers.get(&layer.digest).is_some_and(|file| file.size != layer.size))
        });
        for key in inventory.unreadable.iter().chain(of_another_size.map(|(key, _)| key)) {
            self.forget(key)?;
            damages.push(Damage::Record { key: *key });
        }
        Ok(damages)
    }

    fn verify_exports(&self, inventory: &Inventory) -> Result<Vec<Damage>, StoreError> {
        let mut named: BTreeMap<Digest, Vec<String>> = BTreeMap::new();
        for record in inventory.records.values() {
            for export in &record.recorded.exports {
                named.entry(export.digest).or_default().push(format!("{}/{}", record.recorded.build, record.step()));
            }
        }
        let mut damages = Vec::new();
        for (digest, steps) in named {
            if let Some(pin) = self.pin_export(&digest)?
                && !self.verify_export(&digest)?
            {
                std::fs::remove_file(pin.path()).map_err(super::error::io("remove", pin.path()))?;
                damages.push(Damage::Export { digest, steps });
            }
        }
        Ok(damages)
    }

    fn damaged_layers(&self, inventory: &Inventory) -> Result<BTreeSet<Digest>, StoreError> {
        let digests: Vec<&Digest> = inventory.layers.keys().collect();
        let next = AtomicUsize::new(0);
        let work = |_| -> Result<Vec<Digest>, StoreError> {
            let mut damaged = Vec::new();
            while let Some(digest) = digests.get(next.fetch_add(1, Ordering::Relaxed)) {
                // A layer that was collected meanwhile is missing, not damaged.
                if let Some(_pin) = self.pin_layer(digest)?
                    && !self.verify_layer(digest)?
                {
                    damaged.push(**digest);
                }
            }
            Ok(damaged)
        };
        let count = thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS);
        let mut damaged = BTreeSet::new();
        for found in threads::share(count, work) {
            damaged.extend(found?);
        }
        Ok(damaged)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::super::inventory::fixture::recorded;
    use super::*;
    use crate::cache::key::Parents;

    fn built(store: &Store, key: u32, bytes: &[u8], size: u64, below: &[Digest]) -> (Digest, Digest) {
        let digest = Digest::of_bytes(bytes);
        let mut recorded = recorded(key, Some(0), &[], size);
        let layer = recorded.layer.as_mut().unwrap();
        (layer.digest, layer.below) = (digest, below.to_vec());
        fs::write(store.layer_path(&digest), bytes).unwrap();
        store.record(&recorded, &Parents::default(), Path::new("/b/build.yaml")).unwrap();
        (digest, recorded.fields.key())
    }

    #[test]
    fn damaged_layers_are_set_aside_damaged_records_removed_and_others_remain() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let (good, _) = built(&store, 1, b"good", 4, &[]);
        let (bad, _) = built(&store, 2, b"bad", 3, &[]);
        let (above, above_key) = built(&store, 3, b"above", 5, &[bad]);
        let (_, wrong_size) = built(&store, 4, b"good", 99, &[]);
        assert_eq!(store.verify(&store.inventory().unwrap()).unwrap(), [Damage::Record { key: wrong_size }]);
        fs::write(store.layer_path(&bad), "bat").unwrap();
        let unreadable = Digest::of_bytes(b"key");
        fs::write(store.key_path(&unreadable), "").unwrap();
        let aside = store.root().join(format!("damaged/{}.squashfs", bad.hex()));
        let damage = Damage::Layer { digest: bad, steps: vec!["b/s2".into()], aside: aside.clone() };
        assert_eq!(store.verify(&store.inventory().unwrap()).unwrap(), [damage, Damage::Record { key: unreadable }]);
        assert_eq!(fs::read(aside).unwrap(), b"bat");
        let inventory = store.inventory().unwrap();
        assert_eq!(inventory.layers.keys().collect::<BTreeSet<_>>(), [&good, &above].into());
        assert!(inventory.records.contains_key(&above_key) && inventory.records.len() == 2);
        assert_eq!(store.verify(&inventory).unwrap(), []);
    }
}
