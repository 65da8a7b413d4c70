//! Reads the content of all files, in the order of the tree, and puts it into the blocks of an image.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;

use rustix::fs::{Mode, OFlags, SeekFrom, fstat, openat, seek};
use rustix::io::Errno;

use super::BLOCK_SIZE;
use super::blocks::Blocks;
use super::error::WriteError;
use super::order::Packed;
use super::tree::{Kind, Tree};
use super::walk::{self, Watch};
use crate::fs::regular;

/// No larger file is written, nothing but holes though it may be: the list of its blocks alone would take gigabytes, here
/// and where it is read.
pub(super) const MAX_BYTES: u64 = 16 << 40;

/// Receives the number of bytes of all files that have been read, and the size of the image.
pub(super) type ReadProgress<'a> = dyn FnMut(u64, u64) + 'a;

/// The blocks that content is put into, and the callback that progress is reported to.
pub(super) struct Data<'b, 't, 'i, 's, 'e> {
    pub blocks: Blocks<'i, 's, 'e>,
    pub tree: &'t Tree,
    /// The files whose ends may be in fragments.
    packed: &'t Packed,
    pub watch: Watch<'t>,
    pub progress: &'b mut ReadProgress<'t>,
    read: u64,
}

impl<'b, 't, 'i, 's, 'e> Data<'b, 't, 'i, 's, 'e> {
    pub(super) fn new(
        blocks: Blocks<'i, 's, 'e>,
        (tree, packed): (&'t Tree, &'t Packed),
        watch: Watch<'t>,
        progress: &'b mut ReadProgress<'t>,
    ) -> Self {
        Self { blocks, tree, packed, watch, progress, read: 0 }
    }

    /// Puts all files of the tree, which was read from `top`.
    ///
    /// # Errors
    /// Those of reading and writing; a file that has changed since the scan; a file that is too large.
    pub(super) fn put(&mut self, top: BorrowedFd<'_>) -> Result<(), WriteError> {
        walk::walk(top, self, |data| data.tree, |data, fd, directory| data.directory(fd, directory))
    }

    fn directory(&mut self, fd: BorrowedFd<'_>, directory: u32) -> Result<(), WriteError> {
        for node in self.tree.children(directory) {
            if let Kind::File { size: size @ 1.., is_sparse } = self.tree.node(node).kind {
                self.watch.check()?;
                self.file(fd, node, size, is_sparse)?;
            }
        }
        Ok(())
    }

    fn file(&mut self, fd: BorrowedFd<'_>, node: u32, size: u64, is_sparse: bool) -> Result<(), WriteError> {
        let path = || self.tree.path(node);
        if size > MAX_BYTES {
            return Err(WriteError::FileTooLarge { path: path(), size, most: MAX_BYTES });
        }
        let file = open(fd, self.tree.name(node)).map_err(|source| WriteError::Read { path: path(), source })?;
        let found = fstat(&file).map_err(|error| WriteError::Read { path: path(), source: error.into() })?;
        if found.st_size.cast_unsigned() != size {
            return Err(WriteError::Changed(path()));
        }
        if size < BLOCK_SIZE as u64 {
            let tree = self.tree;
            self.blocks.put_fragment(node, size as usize, |room| read(&file, tree, node, 0, room))?;
            self.has_read(size);
            return Ok(());
        }
        let mut holes = if is_sparse { Holes::default() } else { Holes::none() };
        let mut offset = 0;
        while offset < size {
            self.watch.check()?;
            let until = holes.data_from(&file, offset, size);
            let until = until.map_err(|source| WriteError::Read { path: self.tree.path(node), source })?;
            let hole =
                if until == size { size - offset } else { (until - offset) / BLOCK_SIZE as u64 * BLOCK_SIZE as u64 };
            if hole > 0 {
                self.blocks.put_hole(hole.div_ceil(BLOCK_SIZE as u64), hole)?;
                self.has_read(hole);
                offset += hole;
                continue;
            }
            let length = (size - offset).min(BLOCK_SIZE as u64);
            let mut bytes = self.blocks.buffer(length as usize);
            read(&file, self.tree, node, offset, &mut bytes)?;
            self.has_read(length);
            if length < BLOCK_SIZE as u64 && self.packed.has(node) && bytes.iter().any(|byte| *byte != 0) {
                self.blocks.end_file(node, offset)?;
                self.blocks.put_fragment(node, bytes.len(), |room| {
                    room.copy_from_slice(&bytes);
                    Ok(())
                })?;
                self.blocks.reuse(bytes);
                return Ok(());
            }
            self.blocks.put_block(bytes)?;
            offset += length;
        }
        self.blocks.end_file(node, size)
    }

    fn has_read(&mut self, bytes: u64) {
        self.read += bytes;
        (self.progress)(self.read, self.blocks.size());
    }
}

/// Reads a part of a file, the whole of `bytes`.
fn read(file: &File, tree: &Tree, node: u32, offset: u64, bytes: &mut [u8]) -> Result<(), WriteError> {
    file.read_exact_at(bytes, offset).map_err(|source| match source.kind() {
        io::ErrorKind::UnexpectedEof => WriteError::Changed(tree.path(node)),
        _ => WriteError::Read { path: tree.path(node), source },
    })
}

/// Opens a regular file. A link is not followed, and nothing else is opened, such as a device.
fn open(directory: BorrowedFd<'_>, name: &[u8]) -> io::Result<File> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    regular::reopen(openat(directory, OsStr::from_bytes(name), flags, Mode::empty())?.as_fd())
}

/// The holes of a file, found as it is read.
#[derive(Debug, Default)]
struct Holes {
    /// The data that is known: from where, and up to where.
    data: u64,
    end: u64,
}

impl Holes {
    /// Of a file without any.
    fn none() -> Self {
        Self { data: 0, end: u64::MAX }
    }

    /// Returns where there is data next, from `offset` on; the size where there is none.
    fn data_from(&mut self, file: &File, offset: u64, size: u64) -> io::Result<u64> {
        if offset >= self.end {
            self.data = match seek(file, SeekFrom::Data(offset)) {
                Ok(data) => data.min(size),
                Err(Errno::NXIO) => size,
                // The filesystem does not know.
                Err(Errno::INVAL) => {
                    *self = Self::none();
                    return Ok(offset);
                }
                Err(error) => return Err(error.into()),
            };
            self.end = if self.data < size { seek(file, SeekFrom::Hole(self.data))? } else { u64::MAX };
        }
        Ok(self.data.max(offset))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn holes_are_found_where_they_are() {
        const MIB: u64 = 1 << 20;
        let file = tempfile::tempfile().unwrap();
        file.set_len(8 * MIB).unwrap();
        file.write_all_at(b"x", 3 * MIB).unwrap();
        file.write_all_at(b"y", 6 * MIB + 5).unwrap();
        let mut holes = Holes::default();
        let mut from = |offset| holes.data_from(&file, offset, 8 * MIB).unwrap() / MIB;
        assert_eq!([0, 3 * MIB, 3 * MIB + 100, 5 * MIB, 6 * MIB, 7 * MIB].map(&mut from), [3, 3, 3, 6, 6, 8]);
        assert_eq!(Holes::none().data_from(&file, 5, 10).unwrap(), 5);
    }

    #[test]
    fn nothing_but_a_regular_file_is_opened_and_nothing_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, Mode::RUSR, 0).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", folder.path().join("link")).unwrap();
        fs::write(folder.path().join("file"), "content").unwrap();
        let directory = fs::File::open(folder.path()).unwrap();
        let opened = |name: &str| open(std::os::fd::AsFd::as_fd(&directory), name.as_bytes());
        assert_eq!(opened("fifo").unwrap_err().to_string(), "it is a FIFO, not a regular file");
        assert_eq!(opened("link").unwrap_err().to_string(), "it is a symbolic link, not a regular file");
        assert!(opened("file").is_ok());
    }
}
