//! The automaton of Aho and Corasick, which finds byte strings in a stream; pure, linear in time.

use std::collections::{BTreeSet, VecDeque};

/// The node of the empty beginning.
pub(super) const ROOT: u32 = 0;
const NONE: u32 = u32::MAX;

/// The patterns, as a tree of their beginnings.
pub(super) struct Automaton {
    nodes: Vec<Node>,
    /// The root's children, by byte: most bytes of a stream are looked up here.
    first: [u32; 256],
}

#[derive(Clone, Copy)]
struct Node {
    byte: u8,
    child: u32,
    sibling: u32,
    /// The longest other beginning that this one ends with.
    fallback: u32,
    depth: u32,
    /// The length of the longest pattern that this beginning ends with.
    longest: u32,
}

impl Automaton {
    /// Makes one for these patterns, none of them empty.
    pub(super) fn new(patterns: &BTreeSet<Vec<u8>>) -> Self {
        let root = Node { byte: 0, child: NONE, sibling: NONE, fallback: ROOT, depth: 0, longest: 0 };
        let mut automaton = Self { nodes: vec![root], first: [NONE; 256] };
        for pattern in patterns {
            let end = pattern.iter().fold(ROOT, |node, byte| automaton.grown(node, *byte));
            automaton.nodes[end as usize].longest = automaton.nodes[end as usize].depth;
        }
        automaton.link();
        automaton
    }

    /// Returns the child of a node by a byte, made where it is missing.
    fn grown(&mut self, node: u32, byte: u8) -> u32 {
        if let Some(child) = self.child(node, byte) {
            return child;
        }
        let new = u32::try_from(self.nodes.len()).unwrap_or(NONE);
        let Node { child, depth, .. } = self.nodes[node as usize];
        self.nodes.push(Node { byte, child: NONE, sibling: child, fallback: ROOT, depth: depth + 1, longest: 0 });
        self.nodes[node as usize].child = new;
        if node == ROOT {
            self.first[usize::from(byte)] = new;
        }
        new
    }

    /// Finds the fallback of each node, the shallow before the deep.
    fn link(&mut self) {
        let mut waiting: VecDeque<u32> = self.children(ROOT).collect();
        while let Some(node) = waiting.pop_front() {
            let children: Vec<u32> = self.children(node).collect();
            for child in children {
                let fallback = self.step(self.nodes[node as usize].fallback, self.nodes[child as usize].byte);
                let longest = self.nodes[fallback as usize].longest;
                let of_child = &mut self.nodes[child as usize];
                of_child.fallback = fallback;
                of_child.longest = of_child.longest.max(longest);
                waiting.push_back(child);
            }
        }
    }

    fn children(&self, node: u32) -> impl Iterator<Item = u32> {
        let or_none = |node: u32| (node != NONE).then_some(node);
        std::iter::successors(or_none(self.nodes[node as usize].child), move |child| {
            or_none(self.nodes[*child as usize].sibling)
        })
    }

    fn child(&self, node: u32, byte: u8) -> Option<u32> {
        if node == ROOT {
            let child = self.first[usize::from(byte)];
            return (child != NONE).then_some(child);
        }
        self.children(node).find(|child| self.nodes[*child as usize].byte == byte)
    }

    /// Returns the node after one more byte.
    pub(super) fn step(&self, mut node: u32, byte: u8) -> u32 {
        loop {
            match self.child(node, byte) {
                Some(child) => return child,
                None if node == ROOT => return ROOT,
                None => node = self.nodes[node as usize].fallback,
            }
        }
    }

    /// Returns the length of the longest beginning of a pattern that a stream ends with.
    pub(super) fn depth(&self, node: u32) -> usize {
        self.nodes[node as usize].depth as usize
    }

    /// Returns the length of the longest pattern that a stream ends with, 0 where it ends with none.
    pub(super) fn found(&self, node: u32) -> usize {
        self.nodes[node as usize].longest as usize
    }
}
