//! Metadata blocks: a stream of records, cut into 8 KiB that are compressed each, and tables of them.

use std::io;

use super::compressor::Compressor;

/// Bytes of a metadata block before it is compressed.
pub(super) const SIZE: usize = 8192;

/// In the length of a block: it is stored as it is.
const STORED: u16 = 1 << 15;

/// Where a record begins: the block, by its offset in the stream as it is in the image, and the offset in what the block
/// holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Place {
    pub block: u64,
    pub offset: u16,
}

impl Place {
    /// Returns the place as inodes and tables have it.
    pub(super) fn reference(self) -> u64 {
        self.block << 16 | u64::from(self.offset)
    }
}

/// As many bytes of a stream stay in memory where it can be written on the way.
const MAX_WAITING: usize = 64 << 10;

/// A stream of metadata blocks that grows.
#[derive(Debug, Default)]
pub(super) struct Metadata {
    blocks: Vec<u8>,
    /// Bytes that were taken out of `blocks`.
    taken: u64,
    pending: Vec<u8>,
    /// The block before, as it was and as it is compressed: the block list of a long hole has millions of equal blocks.
    last: Vec<u8>,
    buffer: Vec<u8>,
    is_compressed: bool,
}

impl Metadata {
    /// Returns where the next record begins.
    pub(super) fn place(&self) -> Place {
        // A full block is compressed at once, so that this is below `SIZE`.
        Place { block: self.taken + self.blocks.len() as u64, offset: self.pending.len() as u16 }
    }

    /// Takes the bytes of a record.
    ///
    /// # Errors
    /// Those of the compressor.
    pub(super) fn push(&mut self, mut bytes: &[u8], compressor: &mut Compressor) -> io::Result<()> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(SIZE - self.pending.len()));
            self.pending.extend_from_slice(now);
            bytes = later;
            if self.pending.len() == SIZE {
                self.end_block(compressor)?;
            }
        }
        Ok(())
    }

    /// Returns blocks as they are in an image, where there are many, and forgets them.
    pub(super) fn take_blocks(&mut self) -> Option<Vec<u8>> {
        if self.blocks.len() < MAX_WAITING {
            return None;
        }
        self.taken += self.blocks.len() as u64;
        Some(std::mem::take(&mut self.blocks))
    }

    /// Returns the blocks as they are in an image, but for those that were taken before.
    ///
    /// # Errors
    /// Those of the compressor.
    pub(super) fn finish(mut self, compressor: &mut Compressor) -> io::Result<Vec<u8>> {
        if !self.pending.is_empty() {
            self.end_block(compressor)?;
        }
        Ok(self.blocks)
    }

    fn end_block(&mut self, compressor: &mut Compressor) -> io::Result<()> {
        if self.pending != self.last {
            self.is_compressed = compressor.compress(&self.pending, &mut self.buffer)?;
        }
        if self.is_compressed {
            self.blocks.extend((self.buffer.len() as u16).to_le_bytes());
            self.blocks.extend_from_slice(&self.buffer);
        } else {
            self.blocks.extend((self.pending.len() as u16 | STORED).to_le_bytes());
            self.blocks.extend_from_slice(&self.pending);
        }
        std::mem::swap(&mut self.pending, &mut self.last);
        self.pending.clear();
        Ok(())
    }
}

/// A table of records of one size in the image: metadata blocks, and a list of their places.
#[derive(Debug)]
pub(super) struct Table {
    /// The blocks, as they are in the image.
    pub blocks: Vec<u8>,
    /// The list.
    pub places: Vec<u8>,
}

impl Table {
    /// Makes one of the records; the image has its blocks from the offset `at` on.
    ///
    /// # Errors
    /// Those of the compressor.
    pub(super) fn new(records: &[u8], at: u64, compressor: &mut Compressor) -> io::Result<Self> {
        let (mut metadata, mut places) = (Metadata::default(), Vec::new());
        for block in records.chunks(SIZE) {
            places.extend((at + metadata.place().block).to_le_bytes());
            metadata.push(block, compressor)?;
        }
        Ok(Self { blocks: metadata.finish(compressor)?, places })
    }
}

/// Returns the bytes as a metadata block that is stored as it is.
pub(super) fn stored(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16 | STORED).to_le_bytes(), bytes].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Compression;
    use crate::squashfs::codec::Codec;

    fn compressor(compression: Compression) -> Compressor {
        Compressor::new(Codec::new(compression, None)).unwrap()
    }

    #[test]
    fn equal_blocks_one_after_the_other_are_the_same_as_each_alone() {
        for compression in [Compression::Zstd, Compression::Gzip, Compression::None] {
            let mut compressor = compressor(compression);
            let random: Vec<u8> = (0..SIZE).map(|at| (at * at % 251) as u8).collect();
            let blocks = [vec![0; SIZE], vec![0; SIZE], random.clone(), random, vec![0; SIZE], vec![0; 100]];
            let mut alone = Vec::new();
            let mut together = Metadata::default();
            for block in &blocks {
                let mut one = Metadata::default();
                one.push(block, &mut compressor).unwrap();
                alone.extend(one.finish(&mut compressor).unwrap());
                together.push(block, &mut compressor).unwrap();
            }
            assert!(together.finish(&mut compressor).unwrap() == alone, "{compression:?}");
        }
    }

    #[test]
    fn records_are_cut_at_8_kib_and_places_lead_to_them() {
        let mut none = compressor(Compression::None);
        let mut metadata = Metadata::default();
        metadata.push(&[1; 8190], &mut none).unwrap();
        assert_eq!(metadata.place(), Place { block: 0, offset: 8190 });
        metadata.push(&[2; 4], &mut none).unwrap();
        assert_eq!(metadata.place(), Place { block: 8194, offset: 2 });
        metadata.push(&[3; 8190], &mut none).unwrap();
        let place = metadata.place();
        assert_eq!((place, place.reference()), (Place { block: 16388, offset: 0 }, 16388 << 16));
        let blocks = metadata.finish(&mut none).unwrap();
        assert_eq!(blocks.len(), 16388);
        assert_eq!(blocks[..3], [0, 0xa0, 1]);
        assert_eq!(blocks[8192..8198], [2, 2, 0, 0xa0, 2, 2]);
    }

    #[test]
    fn a_block_that_gets_smaller_is_compressed_and_another_one_is_not() {
        let mut zstd = compressor(Compression::Zstd);
        let mut metadata = Metadata::default();
        metadata.push(&[0; SIZE], &mut zstd).unwrap();
        metadata.push(b"x", &mut zstd).unwrap();
        let blocks = metadata.finish(&mut zstd).unwrap();
        let length = u16::from_le_bytes([blocks[0], blocks[1]]);
        assert!(length < 100, "{length}");
        assert_eq!(blocks[2 + usize::from(length)..], [1, 0x80, b'x']);
        assert_eq!(zstd::bulk::decompress(&blocks[2..2 + usize::from(length)], SIZE).unwrap(), [0; SIZE]);
    }

    #[test]
    fn blocks_that_were_taken_count_in_places() {
        let mut none = compressor(Compression::None);
        let mut metadata = Metadata::default();
        metadata.push(&[1; 5 * SIZE], &mut none).unwrap();
        assert_eq!(metadata.take_blocks(), None);
        metadata.push(&[2; 3 * SIZE + 1], &mut none).unwrap();
        assert_eq!(metadata.take_blocks().map(|blocks| blocks.len()), Some(8 * (SIZE + 2)));
        assert_eq!(metadata.place(), Place { block: 8 * (SIZE as u64 + 2), offset: 1 });
        assert_eq!(metadata.finish(&mut none).unwrap(), [1, 0x80, 2]);
    }

    #[test]
    fn a_table_lists_the_place_of_each_of_its_blocks() {
        let mut none = compressor(Compression::None);
        let table = Table::new(&[7; SIZE + 1], 1000, &mut none).unwrap();
        assert_eq!(table.places, [1000_u64.to_le_bytes(), 9194_u64.to_le_bytes()].concat());
        assert_eq!(table.blocks.len(), 2 + SIZE + 3);
        assert_eq!(stored(b"ab"), [2, 0x80, b'a', b'b']);
    }
}
