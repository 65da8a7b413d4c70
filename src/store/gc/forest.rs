//! The stacks of a store while layers are chosen that go: what is built on a layer goes with it. Each stack is passed a fixed number
//! of times, so the choice takes as long as there are layers. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::super::Stacks;
use crate::digest::Digest;

/// The stacks, without those that layers which are to be removed were in.
pub(super) struct Forest<'s> {
    stacks: &'s Stacks,
    /// By stack: those on it.
    above: Vec<Vec<usize>>,
    /// By layer: the stacks that have it at their top.
    of_layer: BTreeMap<Digest, Vec<usize>>,
    /// By stack: it lacks a layer.
    is_dead: Vec<bool>,
    gone: BTreeSet<Digest>,
}

impl<'s> Forest<'s> {
    pub(super) fn new(stacks: &'s Stacks) -> Self {
        let mut of_layer: BTreeMap<Digest, Vec<usize>> = BTreeMap::new();
        for (index, stack) in stacks.all().iter().enumerate() {
            of_layer.entry(stack.layer).or_default().push(index);
        }
        let (above, is_dead) = (stacks.above(), vec![false; stacks.all().len()]);
        Self { stacks, above, of_layer, is_dead, gone: BTreeSet::new() }
    }

    /// Whether that layer was removed.
    pub(super) fn is_gone(&self, layer: &Digest) -> bool {
        self.gone.contains(layer)
    }

    fn layer(&self, stack: usize) -> Digest {
        self.stacks.all()[stack].layer
    }

    /// The stacks with that layer at their top that lack none.
    fn living(&self, layer: &Digest) -> impl Iterator<Item = usize> {
        self.of_layer.get(layer).into_iter().flatten().copied().filter(|stack| !self.is_dead[*stack])
    }

    /// From each layer to those right above it that go with one that is to be removed: no stack has them but on that one.
    pub(super) fn going_above(
        &self,
        layer: &Digest,
        goes: impl Fn(&Digest) -> bool,
    ) -> BTreeMap<Digest, BTreeSet<Digest>> {
        let mut is_above = BTreeSet::new();
        let mut next: Vec<usize> = self.living(layer).collect();
        while let Some(stack) = next.pop() {
            if is_above.insert(stack) {
                next.extend(self.above[stack].iter().filter(|above| !self.is_dead[**above]));
            }
        }
        let mut known = BTreeMap::from([(*layer, false)]);
        let mut goes = |other: Digest| {
            let may_go = || goes(&other) && self.living(&other).all(|stack| is_above.contains(&stack));
            *known.entry(other).or_insert_with(may_go)
        };
        let mut going: BTreeMap<Digest, BTreeSet<Digest>> = BTreeMap::new();
        // With the layer right below that goes.
        let mut next: Vec<(usize, Digest)> = self.living(layer).map(|stack| (stack, *layer)).collect();
        let mut is_passed = BTreeSet::new();
        while let Some((stack, lower)) = next.pop() {
            if !is_passed.insert(stack) {
                continue;
            }
            let own = self.layer(stack);
            let lower = if goes(own) {
                going.entry(lower).or_default().insert(own);
                own
            } else {
                lower
            };
            next.extend(self.above[stack].iter().filter(|above| !self.is_dead[**above]).map(|above| (*above, lower)));
        }
        going
    }

    /// Removes a layer. Returns the keys of the records that need it, and the layers above it that are gone already: those right
    /// above it, for each of these has waited for those above itself.
    pub(super) fn remove(&mut self, layer: &Digest) -> (Vec<Digest>, BTreeSet<Digest>) {
        let (mut records, mut first) = (Vec::new(), BTreeSet::new());
        let mut next = self.of_layer.get(layer).cloned().unwrap_or_default();
        let own: BTreeSet<usize> = next.iter().copied().collect();
        while let Some(stack) = next.pop() {
            if !own.contains(&stack) && self.gone.contains(&self.layer(stack)) {
                first.insert(self.layer(stack));
                continue;
            }
            if !std::mem::replace(&mut self.is_dead[stack], true) {
                records.extend(&self.stacks.all()[stack].keys);
            }
            next.extend(self.above[stack].iter().filter(|above| !own.contains(above)));
        }
        self.gone.insert(*layer);
        (records, first)
    }
}
