//! Files that are smaller than a block, many together in one: which block each is in, and where; equal ones once.

use std::collections::HashMap;

use super::BLOCK_SIZE;
use crate::digest::Digest;

/// Where a small file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fragment {
    /// Number of the block.
    pub block: u32,
    /// Offset in the block's content.
    pub offset: u32,
}

/// The block that is being filled, and all files that were put into one.
#[derive(Debug, Default)]
pub(super) struct Fragments {
    pending: Vec<u8>,
    /// Number of that block.
    block: u32,
    known: HashMap<(Digest, u32), Fragment>,
}

impl Fragments {
    /// Returns where a file of that content is, if there was one.
    pub(super) fn find(&self, digest: Digest, length: usize) -> Option<Fragment> {
        self.known.get(&(digest, length as u32)).copied()
    }

    /// Returns whether that many bytes need another block than the one that is being filled.
    pub(super) fn is_too_full_for(&self, length: usize) -> bool {
        self.pending.len() + length > BLOCK_SIZE
    }

    /// Puts a file into the block, which must not be too full for it.
    pub(super) fn add(&mut self, digest: Digest, bytes: &[u8]) -> Fragment {
        let fragment = Fragment { block: self.block, offset: self.pending.len() as u32 };
        self.pending.extend_from_slice(bytes);
        self.known.insert((digest, bytes.len() as u32), fragment);
        fragment
    }

    /// Begins the next block, in that buffer. Returns the one that was being filled, unless there is nothing in it.
    pub(super) fn next_block(&mut self, buffer: Vec<u8>) -> Option<Vec<u8>> {
        if self.pending.is_empty() {
            return None;
        }
        self.block += 1;
        Some(std::mem::replace(&mut self.pending, buffer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_put_together_until_a_block_is_full_and_equal_ones_are_found() {
        let mut fragments = Fragments::default();
        assert_eq!(fragments.next_block(Vec::new()), None);
        let add = |fragments: &mut Fragments, bytes: &[u8]| fragments.add(Digest::of_bytes(bytes), bytes);
        assert_eq!(add(&mut fragments, b"one"), Fragment { block: 0, offset: 0 });
        assert_eq!(add(&mut fragments, b"two!"), Fragment { block: 0, offset: 3 });
        assert!(!fragments.is_too_full_for(BLOCK_SIZE - 7) && fragments.is_too_full_for(BLOCK_SIZE - 6));
        assert_eq!(fragments.next_block(Vec::new()), Some(b"onetwo!".to_vec()));
        assert_eq!(add(&mut fragments, b"three"), Fragment { block: 1, offset: 0 });
        let find = |bytes: &[u8]| fragments.find(Digest::of_bytes(bytes), bytes.len());
        assert_eq!(find(b"two!"), Some(Fragment { block: 0, offset: 3 }));
        assert_eq!(find(b"four"), None);
    }
}
