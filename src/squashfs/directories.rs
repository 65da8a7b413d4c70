//! The content of a directory in an image: runs of entries, and an index of long ones.

use std::io;

use super::compressor::Compressor;
use super::error::WriteError;
use super::metadata::{Metadata, Place, SIZE};

/// A run has no more entries.
const MAX_ENTRIES: u32 = 256;

/// Bytes of what a run begins with.
const HEADER: usize = 12;

/// An entry of a directory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry<'a> {
    pub name: &'a [u8],
    /// Where its inode is.
    pub place: Place,
    /// The number of its inode.
    pub inode: u32,
    pub kind: u16,
}

/// Where the entries of a directory are, and how many bytes they have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Listing {
    pub block: u32,
    pub offset: u16,
    pub size: u32,
    /// The index, and how many records it has.
    pub index: Vec<u8>,
    pub indexed: u16,
}

/// Adds the entries, which are sorted, to the table.
///
/// # Errors
/// Those of the compressor; where an image cannot store as much.
pub(super) fn push<'a>(
    table: &mut Metadata,
    compressor: &mut Compressor,
    entries: impl Iterator<Item = Entry<'a>>,
) -> Result<Listing, WriteError> {
    let mut writer = Writer { listing: Listing::default(), written: 0, run: Run::default(), indexed: None };
    for entry in entries {
        if !writer.run.takes(table.place(), entry) {
            writer.end_run(table, compressor)?;
        }
        if writer.run.entries == 0 {
            writer.begin_run(table.place(), entry)?;
        }
        writer.run.add(entry);
    }
    writer.end_run(table, compressor)?;
    Ok(writer.listing)
}

struct Writer {
    listing: Listing,
    /// Bytes in the table.
    written: u64,
    run: Run,
    /// The block in which the first run began, or the last one that is in the index.
    indexed: Option<u64>,
}

/// Entries whose inodes are in one block, with numbers that are not far apart.
#[derive(Default)]
struct Run {
    bytes: Vec<u8>,
    entries: u32,
    block: u64,
    inode: u32,
}

impl Run {
    /// Whether the entry can belong to the run, which begins at that place of the table.
    fn takes(&self, begin: Place, entry: Entry<'_>) -> bool {
        let is_near = i16::try_from(i64::from(entry.inode) - i64::from(self.inode)).is_ok();
        // A run ends with the block of the table, so that the index leads close to each name.
        let is_in_block = usize::from(begin.offset) + HEADER + self.bytes.len() < SIZE;
        self.entries == 0 || self.entries < MAX_ENTRIES && self.block == entry.place.block && is_near && is_in_block
    }

    fn add(&mut self, entry: Entry<'_>) {
        // As `takes` has found; the bytes of a negative one are the same.
        let apart = entry.inode.wrapping_sub(self.inode) as u16;
        for half in [entry.place.offset, apart, entry.kind, (entry.name.len() - 1) as u16] {
            self.bytes.extend(half.to_le_bytes());
        }
        self.bytes.extend_from_slice(entry.name);
        self.entries += 1;
    }
}

impl Writer {
    fn begin_run(&mut self, place: Place, entry: Entry<'_>) -> Result<(), WriteError> {
        (self.run.block, self.run.inode) = (entry.place.block, entry.inode);
        let block = offset(place.block)?;
        match self.indexed {
            None => (self.listing.block, self.listing.offset) = (block, place.offset),
            // Readers find what comes later from the last record.
            Some(last) if last != place.block && self.listing.indexed < u16::MAX => {
                for word in [offset(self.written)?, block, (entry.name.len() - 1) as u32] {
                    self.listing.index.extend(word.to_le_bytes());
                }
                self.listing.index.extend_from_slice(entry.name);
                self.listing.indexed += 1;
            }
            Some(_) => return Ok(()),
        }
        self.indexed = Some(place.block);
        Ok(())
    }

    fn end_run(&mut self, table: &mut Metadata, compressor: &mut Compressor) -> Result<(), WriteError> {
        if self.run.entries == 0 {
            return Ok(());
        }
        let header = [self.run.entries - 1, offset(self.run.block)?, self.run.inode];
        let header: Vec<u8> = header.iter().flat_map(|word| word.to_le_bytes()).collect();
        let pushed = |bytes: &[u8], table: &mut Metadata, compressor: &mut Compressor| -> io::Result<()> {
            table.push(bytes, compressor)
        };
        pushed(&header, table, compressor).map_err(WriteError::Compress)?;
        pushed(&self.run.bytes, table, compressor).map_err(WriteError::Compress)?;
        self.written += (HEADER + self.run.bytes.len()) as u64;
        // Three more are counted in the inode.
        self.listing.size = offset(self.written + 3)? - 3;
        self.run.bytes.clear();
        self.run.entries = 0;
        Ok(())
    }
}

/// Returns an offset in a table, for which an image has 32 bits.
fn offset(bytes: u64) -> Result<u32, WriteError> {
    u32::try_from(bytes)
        .map_err(|_| WriteError::TooMany { what: "bytes of inodes and names of files", most: u32::MAX.into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Compression;
    use crate::squashfs::codec::Codec;

    fn none() -> Compressor {
        Compressor::new(Codec::new(Compression::None, None)).unwrap()
    }

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    fn halves(halves: &[i16]) -> Vec<u8> {
        halves.iter().flat_map(|half| half.to_le_bytes()).collect()
    }

    #[test]
    fn entries_follow_each_other_until_their_inodes_are_in_another_block_or_far_apart() {
        let mut table = Metadata::default();
        table.push(&[0; 5], &mut none()).unwrap();
        let entries = [("a", 0, 7, 10), ("bc", 0, 9, 8), ("d", 100, 1, 11), ("e", 100, 2, 40_000)];
        let entries = entries.map(|(name, block, offset, inode)| Entry {
            name: name.as_bytes(),
            place: Place { block, offset },
            inode,
            kind: 2,
        });
        let listing = push(&mut table, &mut none(), entries.into_iter()).unwrap();
        let expected = [
            words(&[1, 0, 10]),
            halves(&[7, 0, 2, 0]),
            b"a".to_vec(),
            halves(&[9, -2, 2, 1]),
            b"bc".to_vec(),
            words(&[0, 100, 11]),
            halves(&[1, 0, 2, 0]),
            b"d".to_vec(),
            words(&[0, 100, 40_000]),
            halves(&[2, 0, 2, 0]),
            b"e".to_vec(),
        ]
        .concat();
        assert_eq!(listing, Listing { block: 0, offset: 5, size: expected.len() as u32, ..Listing::default() });
        assert_eq!(table.finish(&mut none()).unwrap()[7..], expected);
    }

    #[test]
    fn an_empty_directory_has_no_listing() {
        let mut table = Metadata::default();
        table.push(&[0; 5], &mut none()).unwrap();
        assert_eq!(push(&mut table, &mut none(), std::iter::empty()).unwrap(), Listing::default());
    }

    #[test]
    fn a_long_directory_has_an_index_of_the_runs_that_begin_its_blocks() {
        let mut table = Metadata::default();
        table.push(&[0; 100], &mut none()).unwrap();
        let names: Vec<String> = (0..2000).map(|n| format!("{n:020}")).collect();
        let entries = names.iter().zip(1..).map(|(name, inode)| Entry {
            name: name.as_bytes(),
            place: Place::default(),
            inode,
            kind: 2,
        });
        let listing = push(&mut table, &mut none(), entries).unwrap();
        let blocks = table.finish(&mut none()).unwrap();
        let whole: Vec<u8> = blocks.chunks(SIZE + 2).flat_map(|block| block[2..].to_vec()).collect();
        let list = &whole[100..];
        assert_eq!((list.len(), usize::from(listing.indexed)), (listing.size as usize, list.len() / SIZE));
        let mut index = &listing.index[..];
        let mut last = 0;
        for _ in 0..listing.indexed {
            let word = |n: usize| u32::from_le_bytes(index[n * 4..][..4].try_into().unwrap()) as usize;
            let (at, block, length) = (word(0), word(1), word(2) + 1);
            let name = &index[12..][..length];
            // Where the kernel looks: in that block, as far as the listing's offset leads there.
            assert_eq!(block / (SIZE + 2), (100 + at) / SIZE);
            assert!(block > last && list[at..][HEADER + 8..].starts_with(name));
            (last, index) = (block, &index[12 + length..]);
        }
        assert!(index.is_empty());
    }
}
