//! Digests a large file in a time that depends on its data, not on its size.
//!
//! A step can make a file of a terabyte that is one hole, at once and without using space; hashing a terabyte of zeros
//! takes half an hour. So only the position of a block of zeros counts, whether it is a hole or not: the same bytes
//! have the same digest on each filesystem. The digest of a file without such a block is its SHA-256.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

use crate::digest::{Digest, Hasher};

/// The size of a block of most filesystems. Another size would give other digests.
const BLOCK: usize = 4096;

/// Returns the digest of a whole file, read into a buffer of whole blocks; the file's offset changes. Calls
/// `check_stop` before each read, and returns its error.
pub(super) fn digest<E: From<io::Error>>(
    file: &File,
    buffer: &mut [u8],
    check_stop: impl Fn() -> Result<(), E>,
) -> Result<Digest, E> {
    let mut data = Hasher::new();
    let mut holes = Holes::default();
    let mut offset = 0;
    loop {
        check_stop()?;
        let length = read_full(file, buffer, offset)?;
        let mut has_data = false;
        for block in buffer[..length].chunks(BLOCK) {
            if block.len() == BLOCK && block.iter().all(|byte| *byte == 0) {
                holes.add(offset, BLOCK as u64);
            } else {
                data.update(block);
                has_data = true;
            }
            offset += block.len() as u64;
        }
        if length < buffer.len() {
            return Ok(holes.finish(data, offset));
        }
        if !has_data {
            let next = after_hole(file, offset)?;
            holes.add(offset, next - offset);
            offset = next;
        }
    }
}

/// Returns the offset of the data after a hole at `offset`, rounded down to a whole block; `offset` where there is no
/// hole.
fn after_hole(file: &File, offset: u64) -> io::Result<u64> {
    let whole = |at: u64| (at - at % BLOCK as u64).max(offset);
    match seek(file, SeekFrom::Data(offset)) {
        Ok(data) => Ok(whole(data)),
        // No data follows: the incomplete block at the end is read.
        Err(Errno::NXIO) => Ok(whole(file.metadata()?.len())),
        // A filesystem without holes.
        Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(offset),
        Err(error) => Err(error.into()),
    }
}

/// Fills the buffer, or reads up to the end of the file.
fn read_full(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match file.read_at(&mut buffer[length..], offset + length as u64) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

/// The runs of blocks of zeros, in order.
#[derive(Default)]
struct Holes {
    /// The finished runs: the offset and the length of each.
    finished: Hasher,
    last: Option<(u64, u64)>,
}

impl Holes {
    fn add(&mut self, from: u64, length: u64) {
        match &mut self.last {
            _ if length == 0 => {}
            Some((begin, so_far)) if *begin + *so_far == from => *so_far += length,
            _ => {
                self.end_last();
                self.last = Some((from, length));
            }
        }
    }

    fn end_last(&mut self) {
        if let Some((from, length)) = self.last.take() {
            self.finished.update(&from.to_le_bytes());
            self.finished.update(&length.to_le_bytes());
        }
    }

    fn finish(mut self, data: Hasher, length: u64) -> Digest {
        if self.last.is_none() {
            return data.finish();
        }
        self.end_last();
        let mut whole = Hasher::new();
        for part in [data.finish(), self.finished.finish()] {
            whole.update(part.as_bytes());
        }
        whole.update(&length.to_le_bytes());
        // Each bit is inverted: nobody can make a file with that SHA-256.
        Digest::from(whole.finish().as_bytes().map(|byte| !byte))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    fn of(file: &File) -> Digest {
        digest::<io::Error>(file, &mut vec![0; 4 * BLOCK], || Ok(())).unwrap()
    }

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    #[test]
    fn the_digest_of_a_file_without_a_block_of_zeros_is_its_sha256() {
        for length in [0, 1, BLOCK, 4 * BLOCK, 4 * BLOCK + 1] {
            let mut bytes = vec![7; length];
            assert_eq!(of(&file(&bytes)), Digest::of_bytes(&bytes));
            if length > BLOCK {
                // Zeros across the border of two blocks are no block.
                bytes[1..BLOCK].fill(0);
                assert_eq!(of(&file(&bytes)), Digest::of_bytes(&bytes));
            }
        }
    }

    #[test]
    fn a_sparse_file_of_a_petabyte_is_read_by_its_data() {
        let directory = tempfile::tempdir_in("/dev/shm").unwrap();
        let sparse = |size: u64, data: &[u64]| {
            let path = directory.path().join("f");
            let file = File::options().read(true).write(true).create(true).truncate(true).open(path).unwrap();
            file.set_len(size).unwrap();
            for at in data {
                file.write_all_at(b"x", *at).unwrap();
            }
            of(&file)
        };
        let size = 1 << 50;
        let digests = [
            sparse(size, &[]),
            sparse(size + 1, &[]),
            sparse(size, &[0]),
            sparse(size, &[1 << 49]),
            sparse(size, &[(1 << 49) + 4096]),
            sparse(size, &[0, size - 1]),
        ];
        for (index, digest) in digests.iter().enumerate() {
            assert!(!digests[..index].contains(digest), "{index}");
        }
        assert_eq!(digests[3], sparse(size, &[1 << 49]));
    }

    proptest! {
        #[test]
        fn equal_bytes_have_equal_digests_with_and_without_holes(
            blocks in proptest::collection::vec(prop_oneof![Just(0_u8), 1..3_u8], 0..20),
            other in proptest::collection::vec(prop_oneof![Just(0_u8), 1..3_u8], 0..20),
            tail in 0..BLOCK,
        ) {
            let bytes = |blocks: &[u8]| -> Vec<u8> {
                let whole = blocks.iter().flat_map(|byte| [*byte; BLOCK]);
                whole.chain(std::iter::repeat_n(0, tail)).collect()
            };
            let dense = bytes(&blocks);
            let sparse = tempfile::tempfile_in("/dev/shm").unwrap();
            sparse.set_len(dense.len() as u64).unwrap();
            for (index, block) in blocks.iter().enumerate().filter(|(_, block)| **block != 0) {
                sparse.write_all_at(&[*block; BLOCK], (index * BLOCK) as u64).unwrap();
            }
            prop_assert_eq!(of(&file(&dense)), of(&sparse));
            if other != blocks {
                prop_assert_ne!(of(&file(&bytes(&other))), of(&sparse));
            }
        }
    }
}
