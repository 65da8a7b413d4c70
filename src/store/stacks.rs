//! The layers that each layer of a store is built on, by its records: a forest, because chains with the same beginning
//! share it.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::SystemTime;

use super::inventory::{Inventory, RecordFile};
use crate::digest::Digest;

/// A layer with the layers that it is built on. All of them are in the store.
#[derive(Debug, Clone)]
pub struct Stack {
    /// The topmost layer.
    pub layer: Digest,
    /// The stack that it is built on, which comes before this one. Layers that are not in the store are in no stack.
    pub below: Option<usize>,
    /// The keys of the records that name this stack.
    pub keys: Vec<Digest>,
    /// The time of the last use of one of these records, or of one on top of it.
    pub used: Option<SystemTime>,
}

/// All stacks of a store, each after the one that it is built on.
#[derive(Debug, Clone, Default)]
pub struct Stacks {
    all: Vec<Stack>,
    /// By layer: the stack of the record that was used last. Builds on other layers may have given the same layer
    /// before.
    newest: BTreeMap<Digest, usize>,
}

/// Collects the stacks.
struct Builder<'i> {
    inventory: &'i Inventory,
    all: Vec<Stack>,
    of_layer: HashMap<(Option<usize>, Digest), usize>,
    of_parents: HashMap<Digest, Option<usize>>,
}

impl Builder<'_> {
    /// Returns the stack of a layer on another stack; the latter itself where the layer is not in the store.
    fn with(&mut self, below: Option<usize>, layer: &Digest) -> Option<usize> {
        if !self.inventory.layers.contains_key(layer) {
            return below;
        }
        match self.of_layer.entry((below, *layer)) {
            Entry::Occupied(known) => Some(*known.get()),
            Entry::Vacant(new) => {
                self.all.push(Stack { layer: *layer, below, keys: Vec::new(), used: None });
                Some(*new.insert(self.all.len() - 1))
            }
        }
    }

    /// Returns the stack of the parents of that digest, as far as records name them.
    fn of_parents(&mut self, digest: Option<Digest>) -> Option<usize> {
        let (mut unknown, mut next) = (Vec::new(), digest);
        let mut stack = None;
        while let Some(digest) = next {
            if let Some(known) = self.of_parents.get(&digest) {
                stack = *known;
                break;
            }
            let parent = self.inventory.parent(&digest);
            unknown.push((digest, parent.and_then(|parent| parent.layer())));
            next = parent.and_then(|parent| parent.below);
        }
        for (digest, layer) in unknown.into_iter().rev() {
            stack = layer.map_or(stack, |layer| self.with(stack, &layer));
            self.of_parents.insert(digest, stack);
        }
        stack
    }
}

impl Stacks {
    /// Collects the stacks of the records whose layer is in the store.
    pub(super) fn new(inventory: &Inventory) -> Self {
        let (all, of_layer, of_parents) = (Vec::new(), HashMap::new(), HashMap::new());
        let mut builder = Builder { inventory, all, of_layer, of_parents };
        let mut newest: BTreeMap<Digest, (usize, &RecordFile)> = BTreeMap::new();
        for (key, record) in &inventory.records {
            let Some(layer) =
                record.recorded.layer.as_ref().filter(|layer| inventory.layers.contains_key(&layer.digest))
            else {
                continue;
            };
            let lowest = builder.of_parents(layer.lower);
            let below = layer.below.iter().fold(lowest, |stack, layer| builder.with(stack, layer));
            let Some(stack) = builder.with(below, &layer.digest) else { continue };
            builder.all[stack].keys.push(*key);
            builder.all[stack].used = builder.all[stack].used.max(Some(record.modified));
            let newer = newest.entry(layer.digest).or_insert((stack, record));
            if record.is_newer_than(newer.1) {
                *newer = (stack, record);
            }
        }
        let mut all = builder.all;
        for (layer, (stack, _)) in &newest {
            // A build that writes an existing layer again uses it before it has a record.
            all[*stack].used = all[*stack].used.max(inventory.layers.get(layer).map(|layer| layer.modified));
        }
        for index in (0..all.len()).rev() {
            if let Some(below) = all[index].below {
                all[below].used = all[below].used.max(all[index].used);
            }
        }
        Self { all, newest: newest.into_iter().map(|(layer, (stack, _))| (layer, stack)).collect() }
    }

    /// Returns all stacks.
    pub fn all(&self) -> &[Stack] {
        &self.all
    }

    /// Returns the stack of a layer, by its record that was used last; none for a layer without a record.
    pub fn newest(&self, layer: &Digest) -> Option<usize> {
        self.newest.get(layer).copied()
    }

    /// Returns a stack and all that it is built on, the topmost first.
    pub fn downwards(&self, stack: Option<usize>) -> impl Iterator<Item = usize> {
        std::iter::successors(stack, |stack| self.all[*stack].below)
    }

    /// Returns for each stack those that are built directly on it.
    pub fn above(&self) -> Vec<Vec<usize>> {
        let mut above = vec![Vec::new(); self.all.len()];
        for (index, stack) in self.all.iter().enumerate() {
            if let Some(below) = stack.below {
                above[below].push(index);
            }
        }
        above
    }

    /// Returns the layers that are built on a layer, by their records that were used last.
    pub fn layers_above(&self, layer: &Digest) -> BTreeSet<Digest> {
        let mut is_above = vec![false; self.all.len()];
        for (index, stack) in self.all.iter().enumerate() {
            is_above[index] = stack.below.is_some_and(|below| is_above[below] || self.all[below].layer == *layer);
        }
        self.newest.iter().filter(|(_, stack)| is_above[**stack]).map(|(layer, _)| *layer).collect()
    }

    /// Returns the number of layers that are built on each layer, by their records that were used last.
    pub fn counts_above(&self) -> BTreeMap<Digest, usize> {
        let mut of_stack = vec![0; self.all.len()];
        let newest: BTreeSet<usize> = self.newest.values().copied().collect();
        for index in (0..self.all.len()).rev() {
            if let Some(below) = self.all[index].below {
                of_stack[below] += of_stack[index] + usize::from(newest.contains(&index));
            }
        }
        let mut counts = BTreeMap::new();
        for index in self.lowest_of_their_layer() {
            *counts.entry(self.all[index].layer).or_default() += of_stack[index];
        }
        counts
    }

    /// Returns the stacks that have their layer only at the top: a layer may be built on an equal one.
    fn lowest_of_their_layer(&self) -> Vec<usize> {
        let above = self.above();
        let mut lowest = Vec::new();
        let mut on_path: HashMap<Digest, usize> = HashMap::new();
        let roots = (0..self.all.len()).filter(|index| self.all[*index].below.is_none());
        let mut next: Vec<(usize, bool)> = roots.map(|root| (root, false)).collect();
        while let Some((index, is_finished)) = next.pop() {
            let count = on_path.entry(self.all[index].layer).or_default();
            if is_finished {
                *count -= 1;
                continue;
            }
            if *count == 0 {
                lowest.push(index);
            }
            *count += 1;
            next.push((index, true));
            next.extend(above[index].iter().map(|above| (*above, false)));
        }
        lowest
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::inventory::fixture::{chained, id, recorded};
    use super::*;

    /// Returns the layers that a layer is built on, the lowest first.
    fn below(stacks: &Stacks, layer: u8) -> Vec<Digest> {
        let mut layers: Vec<Digest> =
            stacks.downwards(stacks.newest(&id(layer))).map(|n| stacks.all()[n].layer).collect();
        layers.reverse();
        layers.pop();
        layers
    }

    #[test]
    fn records_of_the_parents_give_the_layers_below_a_layer() {
        let mut inventory = Inventory::default();
        (1..=4).for_each(|number| inventory.add_layer(number, 10, 1, false));
        for (key, chain) in [(1, &[1][..]), (2, &[1, 2]), (3, &[1, 2, 3]), (4, &[1, 2, 3, 4])] {
            inventory.add_record(chained(key, chain, 10), u64::from(key));
        }
        assert_eq!(below(&inventory.stacks(), 4), [1, 2, 3].map(id));
        assert_eq!(inventory.layers_below(&chained(4, &[1, 2, 3, 4], 10)), [1, 2, 3].map(id));
        // Without the record of 3, only the record of another layer on the same stack says what 2 is built on.
        inventory.remove_record(&chained(3, &[1, 2, 3], 10).fields.key());
        assert_eq!(below(&inventory.stacks(), 4), [id(3)]);
        inventory.add_record(chained(5, &[1, 2, 3], 10), 5);
        assert_eq!(below(&inventory.stacks(), 4), [1, 2, 3].map(id));
        // A removed layer is in no stack.
        inventory.layers.remove(&id(2));
        assert_eq!(below(&inventory.stacks(), 4), [1, 3].map(id));
        assert_eq!(inventory.layers_below(&chained(4, &[1, 2, 3, 4], 10)), [1, 2, 3].map(id));
    }

    #[test]
    fn old_and_new_records_give_the_same_stacks() {
        let mut inventory = Inventory::default();
        (1..=3).for_each(|number| inventory.add_layer(number, 10, 1, false));
        inventory.add_record(recorded(1, Some(1), &[], 10), 1);
        inventory.add_record(recorded(2, Some(3), &[1, 2], 10), 1);
        inventory.add_record(chained(3, &[1], 10), 1);
        inventory.add_record(chained(4, &[1, 2], 10), 1);
        inventory.add_record(chained(5, &[1, 2, 3], 10), 1);
        assert_eq!(inventory.stacks().all().len(), 3);
    }

    proptest! {
        #[test]
        fn the_counts_of_layers_above_equal_their_lists(
            records in prop::collection::vec((prop::collection::vec(0..6_u8, 1..5), 0..9_u64), 0..12),
        ) {
            let mut inventory = Inventory::default();
            (0..5).for_each(|number| inventory.add_layer(number, 1, 0, false));
            for (key, (chain, day)) in (0..).zip(records) {
                inventory.add_record(chained(key, &chain, 1), day);
            }
            let stacks = inventory.stacks();
            let counts = stacks.counts_above();
            for number in 0..6 {
                let listed = stacks.layers_above(&id(number));
                prop_assert_eq!(counts.get(&id(number)).copied().unwrap_or_default(), listed.len());
                // The layer's own stack has the number as well.
                for layer in inventory.layers.keys() {
                    let chain = stacks.downwards(stacks.newest(layer)).skip(1);
                    let is_above = chain.into_iter().any(|stack| stacks.all()[stack].layer == id(number));
                    prop_assert_eq!(is_above, listed.contains(layer));
                }
            }
            // A use of a stack is a use of the stack below it.
            let used = |stack: usize| stacks.all()[stack].used;
            prop_assert!((0..stacks.all().len()).all(|n| stacks.all()[n].below.is_none_or(|below| used(below) >= used(n))));
        }
    }
}
