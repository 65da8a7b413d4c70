//! Chooses the layers that a collection removes: those used longest ago, and never one that is needed. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use super::super::{Inventory, Stacks};
use super::forest::Forest;
use crate::digest::Digest;

/// The rules by which a collection chooses layers.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    /// Layers that were not used since that time are removed.
    pub unused_since: Option<SystemTime>,
    /// Layers used longest ago are removed until the layers take no more bytes than that.
    pub max_size: Option<u64>,
    /// Layers that are never removed, nor those that they are built on.
    pub locked: BTreeSet<Digest>,
}

/// The reason for which a layer is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// It was not used since the policy's time.
    Unused,
    /// The layers take too much space.
    Room,
}

/// A layer to be removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LayerRemoval {
    /// Its digest.
    pub layer: Digest,
    /// The reason.
    pub cause: Cause,
    /// The keys of the records whose results need it.
    pub records: Vec<Digest>,
    /// The layers right above it, in any of these records, that are removed before it: if one of them turns out to be
    /// in use, this layer remains.
    pub above: BTreeSet<Digest>,
}

/// Returns the layers to be removed, each after those that are built on it alone.
///
/// The records that need a layer are removed with it. A layer that another record gives or needs remains.
pub(super) fn choose(inventory: &Inventory, policy: &Policy) -> Vec<LayerRemoval> {
    let stacks = inventory.stacks();
    let needed = needed(inventory, &stacks, policy);
    let used = inventory.used(&stacks);
    let mut order: Vec<(SystemTime, Digest)> =
        used.iter().filter(|(digest, _)| !needed.contains(digest)).map(|(digest, used)| (*used, *digest)).collect();
    order.sort_unstable();
    let (mut size, mut removals) = (inventory.size(), Vec::new());
    let mut forest = Forest::new(&stacks);
    let has_room = |size: u64| policy.max_size.is_none_or(|most| size <= most);
    for (time, digest) in order {
        let is_unused = policy.unused_since.is_some_and(|since| time < since);
        if !is_unused && has_room(size) {
            break;
        }
        if forest.is_removed(&digest) {
            continue;
        }
        // The layers above it that only its records need.
        let is_removable = |layer: &Digest| !needed.contains(layer) && used.get(layer) <= Some(&time);
        let above = forest.removable_above(&digest, is_removable);
        let mut broken: BTreeSet<Digest> = BTreeSet::new();
        for layer in closure(digest, &above) {
            // Layers may be built on each other in a circle, which is removed as a whole.
            if !is_unused && has_room(size) && broken.is_empty() {
                break;
            }
            size -= inventory.layers.get(&layer).map_or(0, |layer| layer.size);
            let cause = if is_unused { Cause::Unused } else { Cause::Room };
            let (records, first) = forest.remove(&layer);
            removals.push(LayerRemoval { layer, cause, records, above: first });
            broken.extend(above.get(&layer).into_iter().flatten().filter(|above| !forest.is_removed(above)));
            broken.remove(&layer);
        }
    }
    removals
}

/// Returns a layer and all that are reached from it, each after those reached from it.
fn closure(from: Digest, next: &BTreeMap<Digest, BTreeSet<Digest>>) -> Vec<Digest> {
    let (mut visited, mut ordered) = (BTreeSet::new(), Vec::new());
    let mut open = vec![(from, false)];
    while let Some((digest, is_finished)) = open.pop() {
        if is_finished {
            ordered.push(digest);
        } else if visited.insert(digest) {
            open.push((digest, true));
            open.extend(next.get(&digest).into_iter().flatten().map(|next| (*next, false)));
        }
    }
    ordered
}

/// Returns the layers that are in use or locked, with those that they are built on.
fn needed(inventory: &Inventory, stacks: &Stacks, policy: &Policy) -> BTreeSet<Digest> {
    let (mut needed, mut is_needed) = (BTreeSet::new(), vec![false; stacks.all().len()]);
    for (digest, layer) in &inventory.layers {
        if layer.is_in_use || policy.locked.contains(digest) {
            let new = stacks.downwards(stacks.newest(digest));
            let new = new.take_while(|stack| !std::mem::replace(&mut is_needed[*stack], true));
            needed.extend(new.map(|stack| stacks.all()[stack].layer).chain([*digest]));
        }
    }
    needed
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::super::inventory::fixture::{chained, days, id, recorded};
    use super::*;

    fn chosen(inventory: &Inventory, policy: &Policy) -> Vec<Digest> {
        choose(inventory, policy).into_iter().map(|removal| removal.layer).collect()
    }

    /// Three layers that are built on each other and a separate one, used on days 1 to 4.
    fn chain() -> Inventory {
        let mut inventory = Inventory::default();
        for (number, below) in [(1, &[][..]), (2, &[1]), (3, &[1, 2]), (4, &[])] {
            inventory.add_layer(number, 10, u64::from(number), false);
            inventory.add_record(recorded(u32::from(number), Some(number), below, 10), u64::from(number));
        }
        inventory
    }

    #[test]
    fn layers_unused_for_long_are_removed_from_the_top_of_their_chain() {
        let since = |day| Policy { unused_since: Some(days(day)), ..Policy::default() };
        assert_eq!(chosen(&chain(), &Policy::default()), []);
        assert_eq!(chosen(&chain(), &since(3)), []);
        assert_eq!(chosen(&chain(), &since(4)), [3, 2, 1].map(id));
        assert_eq!(chosen(&chain(), &since(5)), [3, 2, 1, 4].map(id));
    }

    #[test]
    fn layers_used_longest_ago_are_removed_until_the_rest_fits() {
        let most = |size| Policy { max_size: Some(size), ..Policy::default() };
        let mut inventory = chain();
        // Now the separate layer is the one that was used longest ago.
        inventory.add_layer(4, 10, 0, false);
        inventory.remove_record(&recorded(4, None, &[], 0).fields.key());
        assert_eq!(chosen(&inventory, &most(40)), []);
        assert_eq!(chosen(&inventory, &most(39)), [id(4)]);
        let of_both = Policy { unused_since: Some(days(1)), max_size: Some(0), ..Policy::default() };
        let causes: Vec<Cause> = choose(&inventory, &of_both).into_iter().map(|removal| removal.cause).collect();
        assert_eq!(causes, [Cause::Unused, Cause::Room, Cause::Room, Cause::Room]);
    }

    #[test]
    fn no_more_of_a_chain_is_removed_than_the_size_requires() {
        let mut inventory = chain();
        inventory.layers.remove(&id(4));
        let most = |size| Policy { max_size: Some(size), ..Policy::default() };
        assert_eq!(chosen(&inventory, &most(25)), [id(3)]);
        assert_eq!(chosen(&inventory, &most(10)), [3, 2].map(id));
    }

    #[test]
    fn a_used_or_locked_layer_remains_with_all_below_it() {
        let all = Policy { max_size: Some(0), ..Policy::default() };
        let mut inventory = chain();
        inventory.add_layer(2, 10, 2, true);
        assert_eq!(chosen(&inventory, &all), [3, 4].map(id));
        let locked = Policy { locked: [id(3)].into(), ..all };
        assert_eq!(chosen(&inventory, &locked), [id(4)]);
    }

    /// A product, 9, that is the same on each of three versions of a base, the last of which is in use.
    fn versions() -> Inventory {
        let mut inventory = Inventory::default();
        inventory.add_layer(9, 10, 7, false);
        for (number, day) in [(1, 2), (2, 3), (3, 7)] {
            inventory.add_layer(number, 10, day, false);
            inventory.add_record(recorded(u32::from(number), Some(number), &[], 10), day);
            inventory.add_record(recorded(10 + u32::from(number), Some(9), &[number], 10), day);
        }
        inventory
    }

    #[test]
    fn a_product_equal_on_several_bases_needs_the_base_used_last() {
        let (inventory, key) = (versions(), |key| recorded(key, None, &[], 0).fields.key());
        let since = |day| Policy { unused_since: Some(days(day)), ..Policy::default() };
        let removals = choose(&inventory, &since(4));
        let of = |removals: &[LayerRemoval]| removals.iter().map(|removal| removal.layer).collect::<Vec<_>>();
        assert_eq!(of(&removals), [1, 2].map(id));
        // The record of the product on the removed base is removed too. The product remains because of another record.
        let records: BTreeSet<Digest> = removals[0].records.iter().copied().collect();
        assert_eq!((records, &removals[0].above), ([key(1), key(11)].into(), &[].into()));
        for most in [20, 29] {
            let room = Policy { max_size: Some(most), ..Policy::default() };
            assert_eq!(of(&choose(&inventory, &room)), [1, 2].map(id));
        }
        assert_eq!(of(&choose(&inventory, &since(8))), [1, 2, 9, 3].map(id));
        let locked = Policy { locked: [id(9)].into(), max_size: Some(0), ..Policy::default() };
        assert_eq!(of(&choose(&inventory, &locked)), [1, 2].map(id));
    }

    #[test]
    fn a_layer_that_another_record_needs_remains_without_its_base() {
        // 5 was built on 1, and on 2 with 6 above it, which is in use.
        let mut inventory = Inventory::default();
        for (number, day) in [(1, 1), (2, 9), (5, 9), (6, 9)] {
            inventory.add_layer(number, 10, day, false);
        }
        inventory.add_record(recorded(1, Some(1), &[], 10), 1);
        inventory.add_record(recorded(2, Some(2), &[], 10), 9);
        inventory.add_record(recorded(3, Some(5), &[1], 10), 1);
        inventory.add_record(recorded(4, Some(6), &[2, 5], 10), 9);
        inventory.layers.get_mut(&id(5)).unwrap().modified = days(1);
        let policy = Policy { unused_since: Some(days(5)), ..Policy::default() };
        assert_eq!(chosen(&inventory, &policy), [id(1)]);
    }

    /// Layers with their size, last use and whether a build uses them, and records: the layer that each gives, and the
    /// layers that it is built on; chains may even form a circle.
    fn inventories() -> impl Strategy<Value = Inventory> {
        let layers = proptest::collection::vec((0..100_u64, 0..20_u64, proptest::bool::weighted(0.1)), 0..12);
        let records =
            proptest::collection::vec((0..14_u8, proptest::collection::vec(0..14_u8, 0..4), 0..20_u64), 0..20);
        (layers, records).prop_map(|(layers, records)| {
            let mut inventory = Inventory::default();
            for (number, (size, used, is_in_use)) in (0_u8..).zip(layers) {
                inventory.add_layer(number, size, used, is_in_use);
            }
            for (key, (layer, below, used)) in (0..).zip(records) {
                // Records of this runner, and of an older one.
                let of_this = |mut chain: Vec<u8>| {
                    chain.push(layer);
                    chained(key, &chain, 1)
                };
                let recorded = if key % 3 == 0 { recorded(key, Some(layer), &below, 1) } else { of_this(below) };
                inventory.add_record(recorded, used);
            }
            inventory
        })
    }

    fn policies() -> impl Strategy<Value = Policy> {
        let locked = proptest::collection::btree_set((0..14_u8).prop_map(id), 0..3);
        let since = proptest::option::of((0..21_u64).prop_map(days));
        (since, proptest::option::of(0..800_u64), locked).prop_map(|(unused_since, max_size, locked)| Policy {
            unused_since,
            max_size,
            locked,
        })
    }

    /// A record with the layers in the store that its result is made of.
    struct Chain {
        key: Digest,
        /// The lowest first; the layer that the record gives comes last.
        layers: Vec<Digest>,
    }

    fn chains(stacks: &Stacks) -> Vec<Chain> {
        let chain = |(index, key): (usize, &Digest)| {
            let mut layers: Vec<Digest> =
                stacks.downwards(Some(index)).map(|stack| stacks.all()[stack].layer).collect();
            layers.reverse();
            Chain { key: *key, layers }
        };
        let keys =
            stacks.all().iter().enumerate().flat_map(|(index, stack)| stack.keys.iter().map(move |key| (index, key)));
        keys.map(chain).collect()
    }

    proptest! {
        #[test]
        fn needed_layers_remain_and_all_others_that_match_are_removed(inventory in inventories(), policy in policies()) {
            let removals = choose(&inventory, &policy);
            let stacks = inventory.stacks();
            let (chains, needed, used) = (chains(&stacks), super::needed(&inventory, &stacks, &policy), inventory.used(&stacks));
            let mut remaining: BTreeSet<Digest> = inventory.layers.keys().copied().collect();
            let mut records: BTreeSet<&Digest> = chains.iter().map(|chain| &chain.key).collect();
            let order: Vec<BTreeSet<Digest>> =
                chains.iter().map(|chain| chain.layers.iter().copied().collect()).collect();
            let is_round = chains.iter().zip(&order).any(|(chain, layers)| layers.len() < chain.layers.len())
                || remaining.iter().any(|one| remaining.iter().any(|other| {
                    let is_below = |one, other| chains.iter().any(|chain| {
                        let place = |layer| chain.layers.iter().position(|found| found == layer);
                        place(one).zip(place(other)).is_some_and(|(one, other)| one < other)
                    });
                    is_below(one, other) && is_below(other, one)
                }));
            for removal in &removals {
                prop_assert!(!needed.contains(&removal.layer), "a needed layer is removed");
                prop_assert!(remaining.remove(&removal.layer), "a layer is removed twice");
                for key in &removal.records {
                    prop_assert!(records.remove(key), "a record is removed twice");
                }
                // The remaining records have all of their layers.
                for (chain, layers) in chains.iter().zip(&order).filter(|(chain, _)| records.contains(&chain.key)) {
                    prop_assert!(layers.is_subset(&remaining), "{} lacks a layer", chain.key);
                }
            }
            // A remaining layer that no needed chain has was used since, and there is space for it.
            let size: u64 = remaining.iter().map(|digest| inventory.layers[digest].size).sum();
            for digest in remaining.difference(&needed) {
                prop_assert!(policy.unused_since.is_none_or(|since| used[digest] >= since), "an unused layer remains");
                prop_assert!(policy.max_size.is_none_or(|most| size <= most), "a layer remains without space");
            }
            // No layer is removed for space that was free already.
            if let Some(LayerRemoval { layer, cause: Cause::Room, .. }) = removals.last() && !is_round {
                prop_assert!(policy.max_size.is_some_and(|most| size + inventory.layers[layer].size > most));
            }
            // No layer is removed before one that only records built on it need.
            for (n, removal) in removals.iter().enumerate().filter(|_| !is_round) {
                for later in &removals[n + 1..] {
                    let mut needing = chains.iter().filter(|chain| chain.layers.contains(&later.layer)).peekable();
                    let is_given = chains.iter().any(|chain| chain.layers.last() == Some(&later.layer));
                    let is_above = needing.peek().is_some() && needing.all(|chain| {
                        let above = chain.layers.iter().skip_while(|layer| **layer != removal.layer).skip(1);
                        above.copied().collect::<Vec<_>>().contains(&later.layer)
                    });
                    prop_assert!(!(is_above && is_given), "a layer is removed before one that is built on it alone");
                }
            }
            // No removed layer was used later than a remaining one that could be removed.
            let earliest = remaining.difference(&needed).map(|digest| used[digest]).min();
            let latest = removals.iter().map(|removal| used[&removal.layer]).max();
            prop_assert!(earliest.zip(latest).is_none_or(|(earliest, latest)| latest <= earliest));
        }
    }
}
