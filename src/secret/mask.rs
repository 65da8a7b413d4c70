//! Masks byte strings in a stream that comes in pieces; pure, linear in time.
//!
//! Each byte of an occurrence is masked, also where occurrences overlap, and each run of masked bytes becomes `***`. A byte is
//! released as soon as no occurrence that may still come can begin before or at it.
//!
//! This happens twice: for the bytes themselves, and then for those of them that a terminal shows without escape sequences, with
//! the hidden bytes between them.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use super::automaton::{Automaton, ROOT};
use super::patterns::MIN_BYTES;
use super::visible::{Visible, visible};

/// The text in place of a secret.
const MASK: &[u8] = b"***";

/// The bytes that may begin a secret and are released all the same, see [`Masker::release_short`].
const MAX_ECHOED: usize = 3;

/// The patterns, in both forms.
pub(super) struct Automata {
    bytes: Arc<Automaton>,
    shown: Arc<Automaton>,
}

impl Automata {
    /// Makes them for these patterns, none of them empty.
    pub(super) fn new(patterns: &BTreeSet<Vec<u8>>) -> Self {
        let bytes = Arc::new(Automaton::new(patterns));
        let visible =
            patterns.iter().map(|pattern| visible(pattern)).filter(|shown| shown.len() >= MIN_BYTES).collect();
        let shown = if *patterns == visible { Arc::clone(&bytes) } else { Arc::new(Automaton::new(&visible)) };
        Self { bytes, shown }
    }
}

/// Masks one stream.
#[derive(Default)]
pub struct Masker {
    automata: Option<Arc<Automata>>,
    bytes: Layer,
    shown: Layer,
    visible: Visible,
}

impl std::fmt::Debug for Masker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Masker(…)")
    }
}

impl Masker {
    /// Looks for the patterns of `automata` from here on; it has at least those of the one before.
    pub(super) fn look_for(&mut self, automata: Option<Arc<Automata>>) {
        let is_same = match (&self.automata, &automata) {
            (Some(old), Some(new)) => Arc::ptr_eq(old, new),
            (None, None) => true,
            _ => false,
        };
        if is_same {
            return;
        }
        self.bytes.look_for(automata.as_ref().map(|automata| Arc::clone(&automata.bytes)));
        self.shown.look_for(automata.as_ref().map(|automata| Arc::clone(&automata.shown)));
        self.automata = automata;
    }

    /// Takes the next bytes of the stream, and appends the bytes that can be released by now.
    pub fn take(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        if self.automata.is_none() {
            out.extend_from_slice(bytes);
            return;
        }
        let mut masked = Vec::with_capacity(bytes.len());
        for byte in bytes {
            self.bytes.take(*byte, true, &mut masked);
        }
        self.take_masked(&masked, out);
    }

    fn take_masked(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let Self { shown, visible, .. } = self;
        for byte in bytes {
            visible.take(*byte, &mut |byte, is_shown| shown.take(byte, is_shown, out));
        }
    }

    /// Takes the next bytes, and returns those that can be released by now: the bytes themselves where there is no pattern.
    pub fn masked<'b>(&mut self, bytes: &'b [u8], buffer: &'b mut Vec<u8>) -> &'b [u8] {
        if self.automata.is_none() {
            return bytes;
        }
        self.take(bytes, buffer);
        buffer
    }

    /// Releases up to three bytes although a secret may begin with them, so that a terminal echoes each key. If it is a secret,
    /// its other bytes are masked.
    pub fn release_short(&mut self, out: &mut Vec<u8>) {
        let mut masked = Vec::new();
        if self.bytes.depth() <= MAX_ECHOED {
            self.bytes.release_all(&mut masked);
        }
        self.take_masked(&masked, out);
        if self.shown.depth() <= MAX_ECHOED {
            self.shown.release_all(out);
        }
    }

    /// Ends the stream, or marks a pause: the bytes that were not released yet are no secret.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        let mut masked = Vec::new();
        self.bytes.finish(&mut masked);
        self.take_masked(&masked, out);
        let Self { shown, visible, .. } = self;
        visible.finish(&mut |byte, is_shown| shown.take(byte, is_shown, out));
        shown.finish(out);
    }
}

/// Masks a stream in one of the two ways.
#[derive(Default)]
struct Layer {
    automaton: Option<Arc<Automaton>>,
    node: u32,
    /// The number of bytes that have come.
    seen: u64,
    /// The last of them, which may be the beginning of a secret; with whether each is shown.
    pending: VecDeque<(u8, bool)>,
    /// The positions of those of them that are shown.
    shown: VecDeque<u64>,
    /// The secrets that reach into `pending`: from and to which byte of the stream, in order, apart.
    spans: VecDeque<(u64, u64)>,
    /// Whether the last released byte was masked.
    in_mask: bool,
}

impl Layer {
    fn look_for(&mut self, automaton: Option<Arc<Automaton>>) {
        self.automaton = automaton;
        self.node = ROOT;
        // The bytes that were not released yet are searched again: they may begin another secret as well.
        self.seen -= self.pending.len() as u64;
        self.shown.clear();
        for (byte, is_shown) in std::mem::take(&mut self.pending) {
            self.look_at(byte, is_shown);
        }
    }

    fn take(&mut self, byte: u8, is_shown: bool, out: &mut Vec<u8>) {
        self.look_at(byte, is_shown);
        let first = self.seen - self.pending.len() as u64;
        let released = self.shown.len().saturating_sub(self.depth());
        let until = self.shown.get(released).copied().unwrap_or(self.seen);
        self.release((until - first) as usize, out);
    }

    fn release_all(&mut self, out: &mut Vec<u8>) {
        self.release(self.pending.len(), out);
    }

    fn finish(&mut self, out: &mut Vec<u8>) {
        self.release_all(out);
        (self.node, self.in_mask) = (ROOT, false);
    }

    /// Returns the length of the longest beginning of a pattern that the stream ends with.
    fn depth(&self) -> usize {
        self.automaton.as_ref().map_or(0, |automaton| automaton.depth(self.node))
    }

    fn look_at(&mut self, byte: u8, is_shown: bool) {
        self.pending.push_back((byte, is_shown));
        self.seen += 1;
        let Some(automaton) = self.automaton.as_ref().filter(|_| is_shown) else { return };
        self.shown.push_back(self.seen - 1);
        self.node = automaton.step(self.node, byte);
        let found = automaton.found(self.node);
        if found > 0 {
            // The beginning may have been released, see `release_short`.
            let at = self.shown.len().saturating_sub(found);
            let mut from = self.shown[at];
            while let Some((before, to)) = self.spans.back().copied()
                && to >= from
            {
                from = from.min(before);
                self.spans.pop_back();
            }
            self.spans.push_back((from, self.seen));
        }
    }

    fn release(&mut self, count: usize, out: &mut Vec<u8>) {
        let first = self.seen - self.pending.len() as u64;
        for (at, (byte, _)) in (first..).zip(self.pending.drain(..count)) {
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
        let first = first + count as u64;
        while self.shown.front().is_some_and(|at| *at < first) {
            self.shown.pop_front();
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
        masker.look_for(Some(Arc::new(Automata::new(&patterns))));
        let mut out = Vec::new();
        for chunk in chunks {
            masker.take(chunk, &mut out);
        }
        masker.finish(&mut out);
        out
    }

    /// Masks a whole text in the simplest way.
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
    fn bytes_that_cannot_be_a_secret_any_more_are_released_at_once() {
        let mut masker = Masker::default();
        masker.look_for(Some(Arc::new(Automata::new(&BTreeSet::from([b"secret".to_vec()])))));
        let mut out = Vec::new();
        masker.take(b"prompt: sec", &mut out);
        assert_eq!(out, b"prompt: ");
        masker.take(b"o", &mut out);
        assert_eq!(out, b"prompt: seco");
    }

    #[test]
    fn a_terminal_echoes_each_key_and_the_other_bytes_of_a_secret_are_masked() {
        let mut masker = Masker::default();
        masker.look_for(Some(Arc::new(Automata::new(&BTreeSet::from([b"secret".to_vec()])))));
        let mut out = Vec::new();
        for key in b"se" {
            masker.take(&[*key], &mut out);
            masker.release_short(&mut out);
        }
        assert_eq!(out, b"se");
        for key in b"cret! set" {
            masker.take(&[*key], &mut out);
            masker.release_short(&mut out);
        }
        masker.finish(&mut out);
        assert_eq!(out, b"sec***! set");
    }

    #[test]
    fn a_new_secret_is_masked_in_the_bytes_that_were_not_released_yet() {
        let mut masker = Masker::default();
        let known = |patterns: &[&[u8]]| {
            Some(Arc::new(Automata::new(&patterns.iter().map(|pattern| pattern.to_vec()).collect())))
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
    fn text_full_of_beginnings_and_ends_of_secrets_is_searched_once() {
        // If each byte were searched once for each beginning, or for each end, this would take minutes.
        let patterns = [vec![b'a'; 9_000], [vec![b'a'; 10_000], vec![b'b'; 5_000]].concat()];
        let mut masker = Masker::default();
        masker.look_for(Some(Arc::new(Automata::new(&patterns.into()))));
        let mut out = Vec::new();
        for _ in 0..200 {
            masker.take(&[vec![b'a'; 9_999], vec![b'c'; 1]].concat(), &mut out);
        }
        masker.finish(&mut out);
        assert_eq!(out, b"***c".repeat(200));
    }

    #[test]
    fn text_full_of_unfinished_sequences_is_searched_once() {
        let patterns = BTreeSet::from([b"secret".to_vec()]);
        for introducer in ["\x1b]", "\x1b[", "\u{9d}\x1b", "\x1b(", "\x1b[0"] {
            let text = introducer.repeat(200_000);
            let mut masker = Masker::default();
            masker.look_for(Some(Arc::new(Automata::new(&patterns))));
            let mut out = Vec::new();
            masker.take(text.as_bytes(), &mut out);
            masker.take(b"\nse\x1b]cret", &mut out);
            masker.finish(&mut out);
            assert!(out == [text.as_bytes(), b"\n***"].concat(), "{introducer:?}");
        }
    }

    proptest! {
        #[test]
        fn each_occurrence_is_masked_and_all_other_bytes_are_unchanged(
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
        fn on_a_terminal_at_most_three_bytes_of_a_secret_are_released(
            patterns in proptest::collection::vec(proptest::collection::vec(b'a'..=b'b', 4..8), 1..4),
            text in proptest::collection::vec(b'a'..=b'c', 0..60),
        ) {
            let mut masker = Masker::default();
            masker.look_for(Some(Arc::new(Automata::new(&patterns.iter().cloned().collect()))));
            let mut out = Vec::new();
            for byte in &text {
                masker.take(&[*byte], &mut out);
                masker.release_short(&mut out);
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
