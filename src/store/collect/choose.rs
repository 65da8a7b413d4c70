//! Which layers a collection removes: those used longest ago, and never one that is needed. Pure.

use std::collections::BTreeSet;
use std::time::SystemTime;

use super::super::Inventory;
use super::super::inventory::closure;
use crate::digest::Digest;

/// What is to be removed.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    /// What was not used since then.
    pub unused_since: Option<SystemTime>,
    /// What was used longest ago, until the layers take no more bytes than that.
    pub max_size: Option<u64>,
    /// Layers that are kept, with what they stand on, whatever their age.
    pub locked: BTreeSet<Digest>,
}

/// Why a layer is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// It was not used since the policy's time.
    Unused,
    /// The layers take too much room.
    Room,
}

/// The layers to be removed, in an order in which at no time one is missing that a remaining one stands on.
pub(super) fn choose(inventory: &Inventory, policy: &Policy) -> Vec<(Digest, Cause)> {
    let (below, above, used) = (inventory.below(), inventory.above(), inventory.used());
    let mut kept = BTreeSet::new();
    for (digest, layer) in &inventory.layers {
        if layer.is_held || policy.locked.contains(digest) {
            let needed = closure(*digest, &below, |layer| kept.contains(layer));
            kept.extend(needed);
        }
    }
    let mut order: Vec<(SystemTime, Digest)> =
        used.into_iter().filter(|(digest, _)| !kept.contains(digest)).map(|(digest, used)| (used, digest)).collect();
    order.sort_unstable();
    let (mut size, mut gone, mut chosen) = (inventory.size(), BTreeSet::new(), Vec::new());
    let has_room = |size: u64| policy.max_size.is_none_or(|most| size <= most);
    for (time, digest) in order {
        let is_unused = policy.unused_since.is_some_and(|since| time < since);
        if !is_unused && has_room(size) {
            break;
        }
        // What stands on it goes first. It was used no later, and is none of the kept: else this would be, too.
        let group = closure(digest, &above, |layer| gone.contains(layer));
        for (n, layer) in group.iter().enumerate() {
            // Layers may stand on each other in a circle, of which none is left alone.
            let is_whole =
                || group[..n].iter().filter_map(|layer| above.get(layer)).all(|above| above.is_subset(&gone));
            if !is_unused && has_room(size) && is_whole() {
                break;
            }
            size -= inventory.layers.get(layer).map_or(0, |layer| layer.size);
            gone.insert(*layer);
            chosen.push((*layer, if is_unused { Cause::Unused } else { Cause::Room }));
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::super::inventory::fixture::{days, id, recorded};
    use super::*;

    fn chosen(inventory: &Inventory, policy: &Policy) -> Vec<Digest> {
        choose(inventory, policy).into_iter().map(|(digest, _)| digest).collect()
    }

    /// Three that stand on each other and one apart, used on days 1 to 4.
    fn chain() -> Inventory {
        let mut inventory = Inventory::default();
        for (number, below) in [(1, &[][..]), (2, &[1]), (3, &[1, 2]), (4, &[])] {
            inventory.add_layer(number, 10, u64::from(number), false);
            inventory.add_record(recorded(u32::from(number), Some(number), below, 10), u64::from(number));
        }
        inventory
    }

    #[test]
    fn what_was_not_used_for_long_goes_from_the_top_of_its_chain() {
        let since = |day| Policy { unused_since: Some(days(day)), ..Policy::default() };
        assert_eq!(chosen(&chain(), &Policy::default()), []);
        assert_eq!(chosen(&chain(), &since(3)), []);
        assert_eq!(chosen(&chain(), &since(4)), [3, 2, 1].map(id));
        assert_eq!(chosen(&chain(), &since(5)), [3, 2, 1, 4].map(id));
    }

    #[test]
    fn what_was_used_longest_ago_goes_until_there_is_room() {
        let most = |size| Policy { max_size: Some(size), ..Policy::default() };
        let mut inventory = chain();
        // Now the lone one is the one that was used longest ago.
        inventory.add_layer(4, 10, 0, false);
        inventory.records.retain(|_, record| record.layer() != Some(&id(4)));
        assert_eq!(chosen(&inventory, &most(40)), []);
        assert_eq!(chosen(&inventory, &most(39)), [id(4)]);
        let of_both = Policy { unused_since: Some(days(1)), max_size: Some(0), ..Policy::default() };
        let causes: Vec<Cause> = choose(&inventory, &of_both).into_iter().map(|(_, cause)| cause).collect();
        assert_eq!(causes, [Cause::Unused, Cause::Room, Cause::Room, Cause::Room]);
    }

    #[test]
    fn of_a_chain_no_more_goes_than_there_is_to_make_room_for() {
        let mut inventory = chain();
        inventory.layers.remove(&id(4));
        let most = |size| Policy { max_size: Some(size), ..Policy::default() };
        assert_eq!(chosen(&inventory, &most(25)), [id(3)]);
        assert_eq!(chosen(&inventory, &most(10)), [3, 2].map(id));
    }

    #[test]
    fn what_is_held_or_locked_stays_with_all_below() {
        let all = Policy { max_size: Some(0), ..Policy::default() };
        let mut inventory = chain();
        inventory.add_layer(2, 10, 2, true);
        assert_eq!(chosen(&inventory, &all), [3, 4].map(id));
        let locked = Policy { locked: [id(3)].into(), ..all };
        assert_eq!(chosen(&inventory, &locked), [id(4)]);
    }

    /// Layers with their size, last use and whether a build uses them, and records: what they give, and what that
    /// stands on; chains may even go round in a circle.
    fn inventories() -> impl Strategy<Value = Inventory> {
        let layers = proptest::collection::vec((0..100_u64, 0..20_u64, proptest::bool::weighted(0.1)), 0..12);
        let records =
            proptest::collection::vec((0..14_u8, proptest::collection::vec(0..14_u8, 0..4), 0..20_u64), 0..20);
        (layers, records).prop_map(|(layers, records)| {
            let mut inventory = Inventory::default();
            for (number, (size, used, is_held)) in (0_u8..).zip(layers) {
                inventory.add_layer(number, size, used, is_held);
            }
            for (key, (layer, below, used)) in (0..).zip(records) {
                inventory.add_record(recorded(key, Some(layer), &below, 1), used);
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

    proptest! {
        #[test]
        fn nothing_needed_goes_and_all_that_is_to_go_does(inventory in inventories(), policy in policies()) {
            let chosen = chosen(&inventory, &policy);
            let below = inventory.below();
            let needed = |digest: &Digest| inventory.layers[digest].is_held || policy.locked.contains(digest);
            let mut left: BTreeSet<Digest> = inventory.layers.keys().copied().collect();
            let is_closed = |left: &BTreeSet<Digest>| left.iter().all(|layer| {
                below.get(layer).into_iter().flatten().all(|below| left.contains(below))
            });
            let is_round = below.iter().any(|(layer, _)| closure(*layer, &below, |_| false).iter().any(|reached| {
                below.get(reached).is_some_and(|below| below.contains(layer))
            }));
            for digest in &chosen {
                prop_assert!(!needed(digest), "a needed one goes");
                prop_assert!(left.remove(digest), "one goes twice");
                prop_assert!(is_round || is_closed(&left), "one goes before what stands on it");
            }
            prop_assert!(is_closed(&left), "a layer below a kept one goes");
            // What is left and is no layer of a chain that is needed was used since, and has room.
            let mut kept = BTreeSet::new();
            for digest in left.iter().filter(|digest| needed(digest)) {
                kept.extend(closure(*digest, &below, |_| false));
            }
            let used = inventory.used();
            let size: u64 = left.iter().map(|digest| inventory.layers[digest].size).sum();
            for digest in left.difference(&kept) {
                prop_assert!(policy.unused_since.is_none_or(|since| used[digest] >= since), "an unused one stays");
                prop_assert!(policy.max_size.is_none_or(|most| size <= most), "one stays without room");
            }
            // Nothing goes for room that there was already.
            if let Some((last, Cause::Room)) = choose(&inventory, &policy).last() && !is_round {
                prop_assert!(policy.max_size.is_some_and(|most| size + inventory.layers[last].size > most));
            }
            // Of those that may go, none goes that was used later than one that stays.
            let earliest = left.difference(&kept).map(|digest| used[digest]).min();
            let latest = chosen.iter().map(|digest| used[digest]).max();
            prop_assert!(earliest.zip(latest).is_none_or(|(earliest, latest)| latest <= earliest));
        }
    }
}
