//! Puts the parts of files that fill no block together into blocks, equal ones once.

use std::collections::HashMap;

use super::BLOCK_SIZE;
use crate::digest::Digest;

/// Where the part of a file is that fills no block: all of a small one, or what follows the blocks of a large one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fragment {
    /// Number of the block.
    pub block: u32,
    /// Offset in the block's content.
    pub offset: u32,
}

impl Fragment {
    /// Of a file that has none, as an inode says it.
    pub(super) const NONE: Self = Self { block: u32::MAX, offset: 0 };
}

/// The block that is being filled, and all fragments that were put into one.
#[derive(Debug)]
pub(super) struct Fragments {
    /// A whole block, of which the first bytes are filled.
    pending: Vec<u8>,
    filled: usize,
    /// Number of that block.
    block: u32,
    lengths: Lengths,
    known: HashMap<(Digest, u32), Fragment>,
}

impl Fragments {
    /// Makes an empty block for fragments of these lengths; 0 is none.
    pub(super) fn new(lengths: impl Iterator<Item = usize>) -> Self {
        let lengths = Lengths::new(lengths);
        Self { pending: vec![0; BLOCK_SIZE], filled: 0, block: 0, lengths, known: HashMap::new() }
    }

    /// Returns whether that many bytes need another block than the one that is being filled.
    pub(super) fn is_too_full_for(&self, length: usize) -> bool {
        self.filled + length > BLOCK_SIZE
    }

    /// Returns where the next fragment goes in the block, which must not be too full for it.
    pub(super) fn room(&mut self, length: usize) -> &mut [u8] {
        &mut self.pending[self.filled..][..length]
    }

    /// Takes the fragment that has been written there, unless there is an equal one. Returns where it is.
    pub(super) fn add(&mut self, length: usize) -> Fragment {
        let fragment = Fragment { block: self.block, offset: self.filled as u32 };
        // Most bytes are in fragments whose length no other one has: no other one is equal.
        if self.lengths.has_many(length) {
            let digest = Digest::of_bytes(self.room(length));
            let known = *self.known.entry((digest, length as u32)).or_insert(fragment);
            if known != fragment {
                return known;
            }
        }
        self.filled += length;
        fragment
    }

    /// Begins the next block, in that buffer of a whole one. Returns the one that was being filled, unless it is empty.
    pub(super) fn next_block(&mut self, buffer: Vec<u8>) -> Option<Vec<u8>> {
        if self.filled == 0 {
            return None;
        }
        let mut block = std::mem::replace(&mut self.pending, buffer);
        block.truncate(self.filled);
        self.filled = 0;
        self.block += 1;
        Some(block)
    }
}

/// The lengths that several fragments have, a bit each.
#[derive(Debug)]
struct Lengths(Vec<u64>);

impl Lengths {
    fn new(lengths: impl Iterator<Item = usize>) -> Self {
        let (mut once, mut again) = (vec![0; BLOCK_SIZE / 64], vec![0; BLOCK_SIZE / 64]);
        for length in lengths {
            let (word, bit) = (length / 64, 1_u64 << (length % 64));
            again[word] |= once[word] & bit;
            once[word] |= bit;
        }
        Self(again)
    }

    fn has_many(&self, length: usize) -> bool {
        self.0[length / 64] & 1 << (length % 64) != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(fragments: &mut Fragments, bytes: &[u8]) -> Fragment {
        fragments.room(bytes.len()).copy_from_slice(bytes);
        fragments.add(bytes.len())
    }

    #[test]
    fn fragments_are_put_together_until_a_block_is_full_and_equal_ones_are_found() {
        let buffer = || vec![7; BLOCK_SIZE];
        let mut fragments = Fragments::new([3, 4, 5, 4, 4].into_iter());
        assert_eq!(fragments.next_block(buffer()), None);
        assert_eq!(add(&mut fragments, b"one"), Fragment { block: 0, offset: 0 });
        assert_eq!(add(&mut fragments, b"two!"), Fragment { block: 0, offset: 3 });
        assert!(!fragments.is_too_full_for(BLOCK_SIZE - 7) && fragments.is_too_full_for(BLOCK_SIZE - 6));
        assert_eq!(fragments.next_block(buffer()), Some(b"onetwo!".to_vec()));
        assert_eq!(add(&mut fragments, b"three"), Fragment { block: 1, offset: 0 });
        assert_eq!(add(&mut fragments, b"two!"), Fragment { block: 0, offset: 3 });
        assert_eq!(add(&mut fragments, b"four"), Fragment { block: 1, offset: 5 });
        assert_eq!(fragments.next_block(buffer()), Some(b"threefour".to_vec()));
    }

    #[test]
    fn only_lengths_of_several_fragments_are_compared() {
        let lengths = Lengths::new([0, 1, 63, 64, 64, 0, BLOCK_SIZE - 1, BLOCK_SIZE - 1, 64].into_iter());
        let many: Vec<usize> = (0..BLOCK_SIZE).filter(|length| lengths.has_many(*length)).collect();
        assert_eq!(many, [0, 64, BLOCK_SIZE - 1]);
    }
}
