//! Chooses the exports that a collection removes to free space: those used longest ago, in turn with layers. Pure.
//!
//! An export is removed with the record that names it. A record with a layer goes with that layer, so only records of exports alone
//! are chosen here.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use super::super::Inventory;
use super::choose::Policy;
use crate::digest::Digest;

/// The exports that are removed to free space.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct FreedExports {
    /// The keys of their records, with the times of their last use.
    pub records: BTreeMap<Digest, SystemTime>,
    /// Those that no remaining record names.
    pub exports: BTreeSet<Digest>,
    /// The size of all that remain, in bytes.
    pub remaining: u64,
}

/// Chooses records of exports until these and the layers take no more than the policy's size, if the layers used longer ago go too.
pub(super) fn free(inventory: &Inventory, policy: &Policy) -> FreedExports {
    let mut named: BTreeMap<Digest, (u64, u64)> = BTreeMap::new();
    for export in inventory.records.values().flat_map(|record| &record.recorded.exports) {
        let (count, size) = named.entry(export.digest).or_default();
        (*count, *size) = (*count + 1, export.size);
    }
    let mut freed = FreedExports { remaining: inventory.exports().values().sum(), ..FreedExports::default() };
    let Some(most) = policy.max_size else { return freed };
    let layers = inventory.used(&inventory.stacks()).into_iter().map(|(digest, used)| (used, None, digest));
    let alone = inventory.records.iter().filter(|(_, record)| record.layer().is_none());
    let alone = alone.filter(|(_, record)| !record.recorded.exports.is_empty());
    let mut order: Vec<(SystemTime, Option<&Digest>, Digest)> =
        layers.chain(alone.map(|(key, record)| (record.modified, Some(key), *key))).collect();
    order.sort_unstable();
    let mut all = inventory.size().saturating_add(freed.remaining);
    for (used, key, digest) in order {
        if all <= most {
            break;
        }
        let Some(key) = key else {
            all -= inventory.layers.get(&digest).map_or(0, |layer| layer.size);
            continue;
        };
        freed.records.insert(*key, used);
        for export in inventory.records.get(key).into_iter().flat_map(|record| &record.recorded.exports) {
            let Some((count, size)) = named.get_mut(&export.digest) else { continue };
            *count -= 1;
            if *count == 0 {
                freed.exports.insert(export.digest);
                (all, freed.remaining) = (all - *size, freed.remaining - *size);
            }
        }
    }
    freed
}

#[cfg(test)]
mod tests {
    use super::super::super::inventory::fixture::{id, recorded};
    use super::super::super::{ExportForm, RecordedExport};
    use super::*;

    /// A layer of day 2, and records of exports of days 1 and 3; both name the export 9, and each one of its own.
    fn inventory() -> Inventory {
        let mut inventory = Inventory::default();
        inventory.add_layer(1, 10, 2, false);
        inventory.add_record(recorded(1, Some(1), &[], 10), 2);
        for (number, day) in [(2, 1), (3, 3)] {
            let mut record = recorded(number, None, &[], 0);
            let export = |digest| RecordedExport { digest: id(digest), size: 100, form: ExportForm::Directory };
            record.exports = vec![export(u8::try_from(number).unwrap()), export(9)];
            inventory.add_record(record, day);
        }
        inventory
    }

    #[track_caller]
    fn frees(most: u64, exports: &[u8], remaining: u64) {
        let freed = free(&inventory(), &Policy { max_size: Some(most), ..Policy::default() });
        assert_eq!((freed.exports, freed.remaining), (exports.iter().map(|export| id(*export)).collect(), remaining));
    }

    #[test]
    fn exports_used_longest_ago_are_removed_in_turn_with_layers_and_shared_ones_last() {
        assert_eq!(free(&inventory(), &Policy::default()).remaining, 300);
        frees(310, &[], 300);
        frees(309, &[2], 200);
        // The layer of day 2 is next.
        frees(200, &[2], 200);
        frees(199, &[2, 3, 9], 0);
    }
}
