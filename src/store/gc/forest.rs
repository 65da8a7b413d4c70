//! The stacks of a store while a collection chooses layers: the stacks built on a removed layer are removed with it.
//! Each stack is visited a fixed number of times, so the time grows as the number of layers does. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::super::Stacks;
use crate::digest::Digest;

/// The stacks that contain no removed layer.
pub(super) struct Forest<'s> {
    stacks: &'s Stacks,
    /// By stack: those directly on it.
    above: Vec<Vec<usize>>,
    /// By layer: the stacks that have it at their top.
    of_layer: BTreeMap<Digest, Vec<usize>>,
    /// By stack: whether one of its layers is removed.
    is_dead: Vec<bool>,
    removed: BTreeSet<Digest>,
}

impl<'s> Forest<'s> {
    pub(super) fn new(stacks: &'s Stacks) -> Self {
        let mut of_layer: BTreeMap<Digest, Vec<usize>> = BTreeMap::new();
        for (index, stack) in stacks.all().iter().enumerate() {
            of_layer.entry(stack.layer).or_default().push(index);
        }
        let (above, is_dead) = (stacks.above(), vec![false; stacks.all().len()]);
        Self { stacks, above, of_layer, is_dead, removed: BTreeSet::new() }
    }

    /// Whether that layer was removed.
    pub(super) fn is_removed(&self, layer: &Digest) -> bool {
        self.removed.contains(layer)
    }

    fn layer(&self, stack: usize) -> Digest {
        self.stacks.all()[stack].layer
    }

    /// Returns the complete stacks with that layer at their top.
    fn complete_stacks(&self, layer: &Digest) -> impl Iterator<Item = usize> {
        self.of_layer.get(layer).into_iter().flatten().copied().filter(|stack| !self.is_dead[*stack])
    }

    /// Returns the layers that are removed with a layer, because no stack has them without it: for each layer, those
    /// right above it.
    pub(super) fn removable_above(
        &self,
        layer: &Digest,
        is_removable: impl Fn(&Digest) -> bool,
    ) -> BTreeMap<Digest, BTreeSet<Digest>> {
        let mut is_above = BTreeSet::new();
        let mut next: Vec<usize> = self.complete_stacks(layer).collect();
        while let Some(stack) = next.pop() {
            if is_above.insert(stack) {
                next.extend(self.above[stack].iter().filter(|above| !self.is_dead[**above]));
            }
        }
        let mut checked = BTreeMap::from([(*layer, false)]);
        let mut is_removable = |other: Digest| {
            let check = || is_removable(&other) && self.complete_stacks(&other).all(|stack| is_above.contains(&stack));
            *checked.entry(other).or_insert_with(check)
        };
        let mut removable: BTreeMap<Digest, BTreeSet<Digest>> = BTreeMap::new();
        // Each stack with the nearest removed layer below it.
        let mut next: Vec<(usize, Digest)> = self.complete_stacks(layer).map(|stack| (stack, *layer)).collect();
        let mut is_visited = BTreeSet::new();
        while let Some((stack, lower)) = next.pop() {
            if !is_visited.insert(stack) {
                continue;
            }
            let own = self.layer(stack);
            let lower = if is_removable(own) {
                removable.entry(lower).or_default().insert(own);
                own
            } else {
                lower
            };
            next.extend(self.above[stack].iter().filter(|above| !self.is_dead[**above]).map(|above| (*above, lower)));
        }
        removable
    }

    /// Removes a layer. Returns the keys of the records that need it, and the layers right above it that are removed
    /// already; those above them were removed even before.
    pub(super) fn remove(&mut self, layer: &Digest) -> (Vec<Digest>, BTreeSet<Digest>) {
        let (mut records, mut first) = (Vec::new(), BTreeSet::new());
        let mut next = self.of_layer.get(layer).cloned().unwrap_or_default();
        let own: BTreeSet<usize> = next.iter().copied().collect();
        while let Some(stack) = next.pop() {
            if !own.contains(&stack) && self.removed.contains(&self.layer(stack)) {
                first.insert(self.layer(stack));
                continue;
            }
            if !std::mem::replace(&mut self.is_dead[stack], true) {
                records.extend(&self.stacks.all()[stack].keys);
            }
            next.extend(self.above[stack].iter().filter(|above| !own.contains(above)));
        }
        self.removed.insert(*layer);
        (records, first)
    }
}
