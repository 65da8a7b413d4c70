//! The sizes of a file's blocks as an image has them, with long holes in few words.

/// With the size of a block: it is stored as it is.
const STORED: u32 = 1 << 24;

/// With the number of blocks of a hole. No block is as large.
const HOLE: u32 = 1 << 31;

/// Sizes, one after another.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct BlockList(Vec<u32>);

/// Returns the size of a block as lists and tables have it.
pub(super) fn size(length: usize, is_compressed: bool) -> u32 {
    length as u32 | if is_compressed { 0 } else { STORED }
}

impl BlockList {
    pub(super) fn push(&mut self, length: usize, is_compressed: bool) {
        self.0.push(size(length, is_compressed));
    }

    /// Adds blocks of zeros, which take no place.
    pub(super) fn push_hole(&mut self, mut blocks: u64) {
        if let Some(last) = self.0.last_mut().filter(|last| **last & HOLE != 0) {
            let more = blocks.min(u64::from(u32::MAX - *last)) as u32;
            *last += more;
            blocks -= u64::from(more);
        }
        while blocks > 0 {
            let now = blocks.min(u64::from(HOLE - 1)) as u32;
            self.0.push(HOLE | now);
            blocks -= u64::from(now);
        }
    }

    /// Returns how many bytes of the image all blocks take.
    pub(super) fn bytes(&self) -> u64 {
        self.0.iter().filter(|word| **word & HOLE == 0).map(|word| u64::from(word & !STORED)).sum()
    }

    /// Gives the words of an inode in pieces.
    ///
    /// # Errors
    /// Those of `sink`.
    pub(super) fn write<E>(&self, mut sink: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        const ZEROS: [u8; 8192] = [0; 8192];
        for word in &self.0 {
            if word & HOLE == 0 {
                sink(&word.to_le_bytes())?;
                continue;
            }
            let mut rest = u64::from(word & !HOLE) * 4;
            while rest > 0 {
                let now = rest.min(ZEROS.len() as u64) as usize;
                sink(&ZEROS[..now])?;
                rest -= now as u64;
            }
        }
        Ok(())
    }

    /// Feeds everything in which lists differ to a checksum.
    pub(super) fn sum(&self, sum: &mut crc32fast::Hasher) {
        for word in &self.0 {
            sum.update(&word.to_le_bytes());
        }
    }

    /// Returns the list without room for more.
    pub(super) fn shrunk(mut self) -> Self {
        self.0.shrink_to_fit();
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(list: &BlockList) -> Vec<u8> {
        let mut words = Vec::new();
        list.write(|bytes| std::io::Write::write_all(&mut words, bytes)).unwrap();
        words
    }

    #[test]
    fn blocks_have_their_sizes_and_holes_have_none() {
        let mut list = BlockList::default();
        list.push(100, true);
        list.push_hole(2);
        list.push_hole(1);
        list.push(131_072, false);
        assert_eq!(list.bytes(), 131_172);
        assert_eq!(words(&list), [100, 0, 0, 0, 0x0102_0000_u32].map(u32::to_le_bytes).concat());
        assert_eq!(list.0.len(), 3);
    }

    #[test]
    fn the_longest_hole_is_a_few_words() {
        let mut list = BlockList::default();
        list.push_hole(1);
        list.push_hole(1 << 32);
        assert_eq!(list.0.len(), 3);
        assert_eq!(list.bytes(), 0);
        let mut short = BlockList::default();
        short.push_hole(5000);
        assert_eq!(words(&short), vec![0; 20_000]);
    }
}
