//! The part of an image with the content of files: blocks, written in order as they are compressed, equal files once.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::os::unix::fs::FileExt;

use super::BLOCK_SIZE;
use super::block_list;
use super::content::{Content, Run, equal};
use super::error::WriteError;
use super::fragments::Fragments;
use super::pool::Pool;
use super::tree::Tree;
use super::walk::Watch;

/// The next piece of the image.
enum Next {
    /// A block of a file, the next one of the pool.
    Block,
    Hole {
        blocks: u64,
        bytes: u64,
    },
    /// How much of the file the blocks have, and which entry of the tree it is.
    EndOfFile {
        size: u64,
        node: u32,
    },
    /// A block of fragments, the next one of the pool.
    Fragments,
}

/// The blocks of an image that is being written.
pub(super) struct Blocks<'i, 's, 'e> {
    file: &'i File,
    watch: Watch<'i>,
    at: u64,
    pool: Pool<'s, 'e>,
    order: VecDeque<Next>,
    fragments: Fragments,
    /// The records of the fragment table.
    fragment_table: Vec<u8>,
    /// The file whose blocks are being written, and the sum of these.
    run: Run,
    sum: crc32fast::Hasher,
    runs: Vec<Run>,
    /// Runs by how much of a file they have, and the sum of their blocks.
    known: HashMap<(u64, u32), Vec<u32>>,
    contents: Vec<Content>,
}

/// The part of an image that has been written.
pub(super) struct Written {
    /// The offset at which the image continues.
    pub at: u64,
    pub fragment_table: Vec<u8>,
    pub runs: Vec<Run>,
    /// For each entry of the tree.
    pub contents: Vec<Content>,
}

impl<'i, 's, 'e> Blocks<'i, 's, 'e> {
    /// Begins at the offset `at` of an image of that tree.
    pub(super) fn new(file: &'i File, at: u64, pool: Pool<'s, 'e>, tree: &Tree, watch: Watch<'i>) -> Self {
        Self {
            file,
            watch,
            at,
            pool,
            order: VecDeque::new(),
            fragments: Fragments::new(tree.files().map(|size| (size % BLOCK_SIZE as u64) as usize)),
            fragment_table: Vec::new(),
            run: Run { start: at, ..Run::default() },
            sum: crc32fast::Hasher::new(),
            runs: Vec::new(),
            known: HashMap::new(),
            contents: vec![Content::NONE; tree.len()],
        }
    }

    /// Returns how large the image is by now.
    pub(super) fn size(&self) -> u64 {
        self.at
    }

    /// Returns a buffer of `length` bytes for the next block. They are those of an earlier one.
    pub(super) fn buffer(&mut self, length: usize) -> Vec<u8> {
        let mut buffer = self.pool.buffer();
        buffer.resize(length, 0);
        buffer
    }

    /// Takes such a buffer back.
    pub(super) fn reuse(&mut self, buffer: Vec<u8>) {
        self.pool.reuse(buffer);
    }

    /// Puts `length` bytes of a file that fill no block: all of it, or what follows its last block, after
    /// [`Blocks::end_file`]. `read` writes them.
    ///
    /// # Errors
    /// Those of `read`, of the compressor and of writing.
    pub(super) fn put_fragment(
        &mut self,
        node: u32,
        length: usize,
        read: impl FnOnce(&mut [u8]) -> Result<(), WriteError>,
    ) -> Result<(), WriteError> {
        if self.fragments.is_too_full_for(length) {
            self.put_fragments()?;
        }
        read(self.fragments.room(length))?;
        self.contents[node as usize].fragment = self.fragments.add(length);
        Ok(())
    }

    /// Puts the next block of a file; [`Blocks::end_file`] follows the last one.
    ///
    /// # Errors
    /// Those of the compressor and of writing.
    pub(super) fn put_block(&mut self, bytes: Vec<u8>) -> Result<(), WriteError> {
        if bytes.iter().all(|byte| *byte == 0) {
            return self.put_hole(1, bytes.len() as u64);
        }
        self.make_room()?;
        self.order.push_back(Next::Block);
        self.pool.put(bytes);
        Ok(())
    }

    /// Puts blocks of a file that are nothing but zeros, and have that many bytes together.
    ///
    /// # Errors
    /// Those of writing.
    pub(super) fn put_hole(&mut self, blocks: u64, bytes: u64) -> Result<(), WriteError> {
        match self.order.back_mut() {
            Some(Next::Hole { blocks: before, bytes: bytes_before }) => {
                *before += blocks;
                *bytes_before += bytes;
            }
            _ => self.order.push_back(Next::Hole { blocks, bytes }),
        }
        self.settle()
    }

    /// Says that the file has no more blocks. They have `size` bytes of it: all but its fragment.
    ///
    /// # Errors
    /// Those of writing.
    pub(super) fn end_file(&mut self, node: u32, size: u64) -> Result<(), WriteError> {
        self.order.push_back(Next::EndOfFile { size, node });
        self.settle()
    }

    /// Waits for all, and returns what was written.
    ///
    /// # Errors
    /// Those of the compressor and of writing.
    pub(super) fn finish(mut self) -> Result<(Written, Pool<'s, 'e>), WriteError> {
        self.put_fragments()?;
        while let Some(next) = self.order.pop_front() {
            self.write(next)?;
        }
        let Self { at, fragment_table, runs, contents, pool, .. } = self;
        Ok((Written { at, fragment_table, runs, contents }, pool))
    }

    fn put_fragments(&mut self) -> Result<(), WriteError> {
        self.make_room()?;
        let buffer = self.buffer(BLOCK_SIZE);
        if let Some(block) = self.fragments.next_block(buffer) {
            self.order.push_back(Next::Fragments);
            self.pool.put(block);
        }
        Ok(())
    }

    /// Writes blocks until another one can be put.
    fn make_room(&mut self) -> Result<(), WriteError> {
        while self.pool.is_full() {
            let Some(next) = self.order.pop_front() else { break };
            self.write(next)?;
        }
        Ok(())
    }

    /// Writes what no compressor is needed for.
    fn settle(&mut self) -> Result<(), WriteError> {
        loop {
            match self.order.pop_front() {
                None => return Ok(()),
                Some(next @ (Next::Block | Next::Fragments)) => {
                    self.order.push_front(next);
                    return Ok(());
                }
                Some(next) => self.write(next)?,
            }
        }
    }

    fn write(&mut self, next: Next) -> Result<(), WriteError> {
        match next {
            Next::Block => {
                let block = self.pool.take().map_err(WriteError::Compress)?;
                let bytes = block.bytes();
                self.file.write_all_at(bytes, self.at).map_err(WriteError::File)?;
                self.sum.update(bytes);
                self.run.list.push(bytes.len(), block.is_compressed());
                self.at += bytes.len() as u64;
                self.pool.recycle(block);
            }
            Next::Hole { blocks, bytes } => {
                self.run.list.push_hole(blocks);
                self.run.sparse += bytes;
            }
            Next::EndOfFile { size, node } => self.end_run(size, node)?,
            Next::Fragments => {
                let block = self.pool.take().map_err(WriteError::Compress)?;
                let bytes = block.bytes();
                self.file.write_all_at(bytes, self.at).map_err(WriteError::File)?;
                self.fragment_table.extend(self.at.to_le_bytes());
                self.fragment_table.extend(block_list::size(bytes.len(), block.is_compressed()).to_le_bytes());
                self.fragment_table.extend([0; 4]);
                self.at += bytes.len() as u64;
                // No file has blocks before and behind it.
                self.run.start = self.at;
                self.pool.recycle(block);
            }
        }
        Ok(())
    }

    /// Ends the blocks of a file; where there are equal ones, they are taken back.
    fn end_run(&mut self, size: u64, node: u32) -> Result<(), WriteError> {
        let mut sum = std::mem::take(&mut self.sum);
        let mut run = std::mem::take(&mut self.run);
        run.list.sum(&mut sum);
        let sum = (size, sum.finalize());
        let known = self.known.get(&sum).map_or(&[][..], Vec::as_slice);
        let mut number = None;
        for other in known {
            if equal(self.file, &self.runs[*other as usize], &run, self.watch)? {
                number = Some(*other);
                break;
            }
        }
        let number = match number {
            Some(number) => {
                self.at = run.start;
                number
            }
            None => {
                let number = self.runs.len() as u32;
                run.list = run.list.shrunk();
                self.runs.push(run);
                self.known.entry(sum).or_default().push(number);
                number
            }
        };
        self.run.start = self.at;
        self.contents[node as usize].run = number;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::model::Compression;
    use crate::squashfs::codec::Codec;
    use crate::squashfs::fragments::Fragment;
    use crate::squashfs::tree::{Kind, Node};

    /// Returns the blocks written of files of these sizes, each of which is an entry of the tree.
    fn written(sizes: &[usize], put: impl FnOnce(&mut Blocks<'_, '_, '_>)) -> (Written, File) {
        let mut tree = Tree::default();
        for size in sizes {
            tree.add(Node::plain(Kind::File { size: *size as u64, is_sparse: false })).unwrap();
        }
        let file = tempfile::tempfile().unwrap();
        let (never, _writer) = std::io::pipe().unwrap();
        let written = thread::scope(|scope| {
            let pool = Pool::new(scope, Codec::new(Compression::None, None), 2);
            let mut blocks = Blocks::new(&file, 96, pool, &tree, Watch::new(std::os::fd::AsFd::as_fd(&never)));
            put(&mut blocks);
            blocks.finish().unwrap().0
        });
        (written, file)
    }

    #[test]
    fn equal_files_are_stored_once_and_others_of_the_same_size_are_not() {
        let full = |byte| vec![byte; BLOCK_SIZE];
        let (written, file) = written(&[BLOCK_SIZE; 6], |blocks| {
            for (node, bytes) in [(0, [1, 2]), (1, [1, 3]), (2, [1, 2]), (3, [0, 1]), (4, [1, 0])] {
                for byte in bytes {
                    blocks.put_block(full(byte)).unwrap();
                }
                blocks.end_file(node, 2 * BLOCK_SIZE as u64).unwrap();
            }
            blocks.put_hole(7, 7 * BLOCK_SIZE as u64).unwrap();
            blocks.end_file(5, 7 * BLOCK_SIZE as u64).unwrap();
        });
        let run = |node: usize| written.contents[node].run().unwrap();
        assert_eq!((0..6).map(run).collect::<Vec<_>>(), [0, 1, 0, 2, 3, 4]);
        let starts: Vec<u64> = written.runs.iter().map(|run| (run.start - 96) / BLOCK_SIZE as u64).collect();
        assert_eq!(starts, [0, 2, 4, 5, 6]);
        let sparse: Vec<u64> = written.runs.iter().map(|run| run.sparse / BLOCK_SIZE as u64).collect();
        assert_eq!(sparse, [0, 0, 1, 1, 7]);
        assert_eq!(written.at, 96 + 6 * BLOCK_SIZE as u64);
        let mut byte = [0];
        file.read_exact_at(&mut byte, 96 + 3 * BLOCK_SIZE as u64).unwrap();
        assert_eq!(byte, [3]);
    }

    /// Puts the rest of a file, which fills no block.
    fn put_fragment(blocks: &mut Blocks<'_, '_, '_>, node: u32, bytes: &[u8]) {
        let read = |room: &mut [u8]| {
            room.copy_from_slice(bytes);
            Ok(())
        };
        blocks.put_fragment(node, bytes.len(), read).unwrap();
    }

    #[test]
    fn small_files_share_blocks_that_the_table_leads_to() {
        let half = BLOCK_SIZE / 2;
        let (written, file) = written(&[half, 1, BLOCK_SIZE, half, 1], |blocks| {
            put_fragment(blocks, 0, &vec![1; half]);
            put_fragment(blocks, 1, b"x");
            blocks.put_block(vec![9; BLOCK_SIZE]).unwrap();
            blocks.end_file(2, BLOCK_SIZE as u64).unwrap();
            put_fragment(blocks, 3, &vec![2; half]);
            put_fragment(blocks, 4, b"x");
        });
        let fragment = |block, offset| Content::at(None, Some(Fragment { block, offset }));
        let half = BLOCK_SIZE as u32 / 2;
        assert_eq!(
            written.contents[..5],
            [fragment(0, 0), fragment(0, half), Content::at(Some(0), None), fragment(1, 0), fragment(0, half)]
        );
        let record =
            |at: u64, length: u32| [&at.to_le_bytes()[..], &(length | 1 << 24).to_le_bytes(), &[0; 4]].concat();
        let first = 96 + BLOCK_SIZE as u64;
        assert_eq!(
            written.fragment_table,
            [record(first, half + 1), record(first + u64::from(half) + 1, half)].concat()
        );
        let mut bytes = [0; 2];
        file.read_exact_at(&mut bytes, first + u64::from(half) - 1).unwrap();
        assert_eq!(bytes, [1, b'x']);
    }

    #[test]
    fn files_with_equal_blocks_share_them_whatever_follows_these() {
        let sizes = [2, 1, 2, 1, 2].map(|tail| BLOCK_SIZE + tail);
        let (written, _) = written(&sizes, |blocks| {
            for (node, tail) in [(0, &b"ab"[..]), (1, b"c"), (2, b"ab"), (3, b"d"), (4, b"cd")] {
                blocks.put_block(vec![9; BLOCK_SIZE]).unwrap();
                blocks.end_file(node, BLOCK_SIZE as u64).unwrap();
                put_fragment(blocks, node, tail);
            }
        });
        let content = |offset| Content::at(Some(0), Some(Fragment { block: 0, offset }));
        assert_eq!(written.contents, [0, 2, 0, 3, 4].map(content));
        assert_eq!((written.runs.len(), written.at), (1, 96 + BLOCK_SIZE as u64 + 6));
    }
}
