//! Masks byte strings in a stream that comes in pieces: an automaton of Aho and Corasick; pure, linear in time.
//!
//! Each byte that is part of an occurrence is masked, also where occurrences overlap, and each run of masked bytes becomes
//! `***`. A byte is let out as soon as no occurrence that is still to come can begin before or at it.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

/// What stands in place of a secret.
const MASK: &[u8] = b"***";

/// The node that nothing has led to.
const ROOT: u32 = 0;
const NONE: u32 = u32::MAX;

/// As many bytes may be the beginning of a secret and be let out all the same, see [`Masker::let_out_what_is_short`].
const SHORT: usize = 3;

/// What to look for: the patterns as a tree of their beginnings.
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
    /// For these patterns, none of them empty.
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

    /// The child of a node by a byte, made where it is missing.
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

    /// The node after one more byte.
    fn step(&self, mut node: u32, byte: u8) -> u32 {
        loop {
            match self.child(node, byte) {
                Some(child) => return child,
                None if node == ROOT => return ROOT,
                None => node = self.nodes[node as usize].fallback,
            }
        }
    }
}

/// Masks one stream.
#[derive(Default)]
pub struct Masker {
    automaton: Option<Arc<Automaton>>,
    node: u32,
    /// How many bytes have come.
    seen: u64,
    /// The last of them, which may be the beginning of a secret.
    pending: VecDeque<u8>,
    /// Where secrets are that reach into `pending`: from and to which byte of the stream, in order, apart.
    spans: VecDeque<(u64, u64)>,
    /// The last byte that was let out was masked.
    in_mask: bool,
}

impl std::fmt::Debug for Masker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Masker(…)")
    }
}

impl Masker {
    /// Looks for what that one knows from here on; it knows at least what the one before did.
    pub(super) fn look_for(&mut self, automaton: Option<Arc<Automaton>>) {
        let is_same = match (&self.automaton, &automaton) {
            (Some(old), Some(new)) => Arc::ptr_eq(old, new),
            (None, None) => true,
            _ => false,
        };
        if is_same {
            return;
        }
        self.automaton = automaton;
        self.node = ROOT;
        // What was held back is looked at again: it may be the beginning of another secret as well.
        self.seen -= self.pending.len() as u64;
        for byte in std::mem::take(&mut self.pending) {
            self.look_at(byte);
        }
    }

    /// Takes the next bytes of the stream, and appends what can be let out by now.
    pub fn take(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        if self.automaton.is_none() {
            out.extend_from_slice(bytes);
            return;
        }
        for byte in bytes {
            self.look_at(*byte);
            self.let_out(self.pending.len().saturating_sub(self.depth()), out);
        }
    }

    /// Takes the next bytes, and returns what can be let out by now: the bytes themselves where nothing is looked for.
    pub fn masked<'b>(&mut self, bytes: &'b [u8], buffer: &'b mut Vec<u8>) -> &'b [u8] {
        if self.automaton.is_none() {
            return bytes;
        }
        self.take(bytes, buffer);
        buffer
    }

    /// Lets out up to three bytes although a secret may begin with them, so that a terminal echoes each key. Should it be
    /// one, the rest of it is masked.
    pub fn let_out_what_is_short(&mut self, out: &mut Vec<u8>) {
        if self.depth() <= SHORT {
            self.let_out(self.pending.len(), out);
        }
    }

    /// The stream pauses or has ended: what was held back was no secret.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        self.let_out(self.pending.len(), out);
        (self.node, self.in_mask) = (ROOT, false);
    }

    /// The length of the longest beginning of a pattern that the stream ends with.
    fn depth(&self) -> usize {
        self.automaton.as_ref().map_or(0, |automaton| automaton.nodes[self.node as usize].depth as usize)
    }

    fn look_at(&mut self, byte: u8) {
        self.pending.push_back(byte);
        self.seen += 1;
        let Some(automaton) = &self.automaton else { return };
        self.node = automaton.step(self.node, byte);
        let longest = automaton.nodes[self.node as usize].longest;
        if longest > 0 {
            let mut from = self.seen - u64::from(longest);
            while let Some((before, to)) = self.spans.back().copied()
                && to >= from
            {
                from = from.min(before);
                self.spans.pop_back();
            }
            self.spans.push_back((from, self.seen));
        }
    }

    fn let_out(&mut self, count: usize, out: &mut Vec<u8>) {
        let first = self.seen - self.pending.len() as u64;
        for (at, byte) in (first..).zip(self.pending.drain(..count)) {
            while self.spans.front().is_some_and(|(_, to)| *to <= at) {
                self.spans.pop_front();
            }
            let is_masked = self.spans.front().is_some_and(|(from, _)| *from <= at);
            if !is_masked {
                out.push(byte);
            } else if !self.in_mask {
                out.extend_from_slice(MASK);
            }
            self.in_mask = is_masked;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn masked(patterns: &[&[u8]], chunks: &[&[u8]]) -> Vec<u8> {
        let patterns = patterns.iter().map(|pattern| pattern.to_vec()).collect();
        let mut masker = Masker::default();
        masker.look_for(Some(Arc::new(Automaton::new(&patterns))));
        let mut out = Vec::new();
        for chunk in chunks {
            masker.take(chunk, &mut out);
        }
        masker.finish(&mut out);
        out
    }

    /// The same, of the whole text and in the plainest way.
    fn expected(patterns: &[Vec<u8>], text: &[u8]) -> Vec<u8> {
        let mut hidden = vec![false; text.len()];
        for pattern in patterns {
            for (at, window) in text.windows(pattern.len()).enumerate() {
                if window == pattern.as_slice() {
                    hidden[at..at + pattern.len()].fill(true);
                }
            }
        }
        let mut out = Vec::new();
        for (at, byte) in text.iter().enumerate() {
            if !hidden[at] {
                out.push(*byte);
            } else if at == 0 || !hidden[at - 1] {
                out.extend_from_slice(MASK);
            }
        }
        out
    }

    #[test]
    fn secrets_are_masked_across_pieces_and_where_they_overlap() {
        assert_eq!(masked(&[b"secret"], &[b"a sec", b"ret, a sec", b"ond"]), b"a ***, a second");
        assert_eq!(masked(&[b"abcd", b"cdef"], &[b"xabcdefx"]), b"x***x");
        assert_eq!(masked(&[b"abcd", b"xabcdx"], &[b"xabcdy xabcdx"]), b"x***y ***");
        assert_eq!(masked(&[b"line 1\nline 2"], &[b"line 1\n", b"line 2\nline 1\n"]), b"***\nline 1\n");
        assert_eq!(masked(&[b"aaaa"], &[b"aaa", b"aaa"]), b"***");
        assert_eq!(masked(&[b"aaaa"], &[b"aaa"]), b"aaa");
    }

    #[test]
    fn what_cannot_be_a_secret_any_more_is_let_out_at_once() {
        let mut masker = Masker::default();
        masker.look_for(Some(Arc::new(Automaton::new(&BTreeSet::from([b"secret".to_vec()])))));
        let mut out = Vec::new();
        masker.take(b"prompt: sec", &mut out);
        assert_eq!(out, b"prompt: ");
        masker.take(b"o", &mut out);
        assert_eq!(out, b"prompt: seco");
    }

    #[test]
    fn a_terminal_echoes_each_key_and_the_rest_of_a_secret_is_masked_all_the_same() {
        let mut masker = Masker::default();
        masker.look_for(Some(Arc::new(Automaton::new(&BTreeSet::from([b"secret".to_vec()])))));
        let mut out = Vec::new();
        for key in b"se" {
            masker.take(&[*key], &mut out);
            masker.let_out_what_is_short(&mut out);
        }
        assert_eq!(out, b"se");
        for key in b"cret! set" {
            masker.take(&[*key], &mut out);
            masker.let_out_what_is_short(&mut out);
        }
        masker.finish(&mut out);
        assert_eq!(out, b"sec***! set");
    }

    #[test]
    fn a_secret_that_comes_to_be_known_is_masked_in_what_was_held_back() {
        let mut masker = Masker::default();
        let known = |patterns: &[&[u8]]| {
            Some(Arc::new(Automaton::new(&patterns.iter().map(|pattern| pattern.to_vec()).collect())))
        };
        masker.look_for(known(&[b"abcdef"]));
        let mut out = Vec::new();
        masker.take(b"abcd", &mut out);
        masker.look_for(known(&[b"abcdef", b"bcdx"]));
        masker.take(b"x", &mut out);
        masker.finish(&mut out);
        assert_eq!(out, b"a***");
    }

    #[test]
    fn text_full_of_beginnings_and_ends_of_secrets_is_looked_at_once() {
        // Where each byte were looked at once for each beginning, or for each end, this would take minutes.
        let patterns = [vec![b'a'; 9_000], [vec![b'a'; 10_000], vec![b'b'; 5_000]].concat()];
        let mut masker = Masker::default();
        masker.look_for(Some(Arc::new(Automaton::new(&patterns.into()))));
        let mut out = Vec::new();
        for _ in 0..200 {
            masker.take(&[vec![b'a'; 9_999], vec![b'c'; 1]].concat(), &mut out);
        }
        masker.finish(&mut out);
        assert_eq!(out, b"***c".repeat(200));
    }

    proptest! {
        #[test]
        fn each_occurrence_is_masked_and_all_else_is_as_it_was(
            patterns in proptest::collection::vec(proptest::collection::vec(b'a'..=b'c', 1..6), 1..5),
            chunks in proptest::collection::vec(proptest::collection::vec(b'a'..=b'd', 0..20), 0..8),
        ) {
            let chunks: Vec<&[u8]> = chunks.iter().map(Vec::as_slice).collect();
            let slices: Vec<&[u8]> = patterns.iter().map(Vec::as_slice).collect();
            let out = masked(&slices, &chunks);
            prop_assert_eq!(&out, &expected(&patterns, &chunks.concat()));
            for pattern in &patterns {
                prop_assert!(!out.windows(pattern.len()).any(|window| window == pattern.as_slice()));
            }
        }

        #[test]
        fn on_a_terminal_no_more_than_the_first_three_bytes_of_a_secret_come_out(
            patterns in proptest::collection::vec(proptest::collection::vec(b'a'..=b'b', 4..8), 1..4),
            text in proptest::collection::vec(b'a'..=b'c', 0..60),
        ) {
            let mut masker = Masker::default();
            masker.look_for(Some(Arc::new(Automaton::new(&patterns.iter().cloned().collect()))));
            let mut out = Vec::new();
            for byte in &text {
                masker.take(&[*byte], &mut out);
                masker.let_out_what_is_short(&mut out);
            }
            masker.finish(&mut out);
            for pattern in &patterns {
                prop_assert!(!out.windows(pattern.len()).any(|window| window == pattern.as_slice()));
            }
            if !patterns.iter().any(|pattern| text.windows(pattern.len()).any(|window| window == pattern.as_slice())) {
                prop_assert_eq!(out, text);
            }
        }
    }
}
