//! Writes squashfs images, version 4.0, as the kernel and squashfs-tools read them.
//!
//! The same directory gives the same bytes, on any host and with any number of threads: entries are sorted by the bytes of
//! their names, inodes are numbered in that order, blocks are written in the order of the files, and the compressors are
//! linked in (see [`writer`] for what of them is in a cache key).
//!
//! | part of an image | made by |
//! | --- | --- |
//! | superblock, options of the compressor | `superblock`, `codec` |
//! | what is in files: blocks of 128 KiB, and together what fills none | `data`, `blocks`, `content`, `fragments`, `block_list`, `pool` |
//! | inodes | `inodes` |
//! | directories | `directories` |
//! | where the blocks of fragments are; where each inode is; users and groups | `tables`, `ids` |
//! | extended attributes | `attributes` |
//!
//! The part of a file that fills no block, all of a small one or the end of a large one, is a fragment: many share a block, which
//! compresses better than a short one of its own. Zeros at the end of a file with blocks are a hole.
//!
//! First all names and inodes are read (`scan`, into a `tree` of some 80 bytes for each), then all content (`data`), then
//! the tables are made. Directories are opened by descriptors, no more than a few at once, and no link is followed
//! (`walk`). Blocks in memory take 25 MB at most, tables grow with the number of files.
//!
//! The format is described by `fs/squashfs/squashfs_fs.h` in Linux, and by the document "Squashfs Binary Format" of
//! squashfs-tools-ng. POSIX access control lists have no place in it.

mod attributes;
mod block_list;
mod blocks;
mod codec;
mod compressor;
mod content;
mod data;
mod directories;
mod error;
mod fragments;
mod ids;
mod inodes;
mod metadata;
mod order;
mod pool;
mod scan;
mod superblock;
mod tables;
#[cfg(test)]
mod tests;
mod tree;
mod version;
mod walk;

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::thread;

use rustix::fs::{Mode, OFlags};

use crate::model::Compression;
use blocks::Blocks;
use codec::Codec;
pub use codec::ZSTD_LEVEL;
use data::Data;
pub use error::WriteError;
use pool::Pool;
use scan::Scan;
pub use version::{compressor, writer};
use walk::Watch;

/// Bytes of a block before it is compressed, and the logarithm of that.
const BLOCK_SIZE: usize = 1 << BLOCK_LOG;
const BLOCK_LOG: u16 = 17;

/// A loop device has no part of a page.
const PADDING: u64 = 4096;

/// How an image is to be written.
#[derive(Debug, Clone, Copy)]
pub struct WriteOptions {
    /// The compressor.
    pub compression: Compression,
    /// Its level, where it has one and not the default one is to be taken.
    pub level: Option<u32>,
    /// When the image was made, in seconds since 1970; no time in it is later than `latest`.
    pub time: u32,
    /// See `time`.
    pub latest: u32,
    /// As many threads compress at once, or fewer.
    pub threads: usize,
    /// A longer path below the root is refused.
    pub longest_path: usize,
}

/// How far an image is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriteProgress {
    /// Bytes that it has.
    pub size: u64,
    /// Bytes of files that are in it or on the way, and of all files.
    pub read: u64,
    /// See `read`.
    pub all: u64,
}

/// Writes the directory `root` as an image at `image`, a path that is not there yet. Nothing is synced. `progress` is
/// called for each block; when `interrupt` becomes readable, that ends it.
///
/// # Errors
/// See [`WriteError`]. The caller removes the file that was written by then.
pub fn write(
    root: &Path,
    image: &Path,
    options: WriteOptions,
    interrupt: BorrowedFd<'_>,
    progress: &mut dyn FnMut(WriteProgress),
) -> Result<(), WriteError> {
    let (codec, watch) = (Codec::new(options.compression, options.level), Watch::new(interrupt));
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let top = rustix::fs::open(root, flags, Mode::empty())
        .map_err(|error| WriteError::Read { path: "/".into(), source: error.into() })?;
    let Scan { tree, ids, attributes, .. } = scan::scan(top.as_fd(), options, watch)?;
    let file = File::options().read(true).write(true).create_new(true).mode(0o644).open(image);
    let file = file.map_err(WriteError::File)?;
    let compressor_options = codec.options().map(|options| metadata::stored(&options)).unwrap_or_default();
    let at = superblock::SIZE as u64;
    file.write_all_at(&compressor_options, at).map_err(WriteError::File)?;
    let at = at + compressor_options.len() as u64;
    let mut progress = |read, size| progress(WriteProgress { size, read, all: tree.bytes() });
    let order = order::of(&tree);
    let packed = order::Packed::new(&tree, &order);
    let (written, mut compressor) = thread::scope(|scope| {
        let pool = Pool::new(scope, codec, options.threads);
        let mut data = Data::new(Blocks::new(&file, at, pool, &tree, watch), (&tree, &packed), watch, &mut progress);
        data.put(top.as_fd())?;
        let (written, pool) = data.blocks.finish()?;
        Ok((written, pool.into_compressor().map_err(WriteError::Compress)?))
    })?;
    let superblock = tables::write(&file, (&tree, &order), &ids, &attributes, &written, &mut compressor, watch)?;
    let at = superblock.used;
    // Blocks that were taken back may lie behind all.
    file.set_len(at).map_err(WriteError::File)?;
    file.set_len(at.next_multiple_of(PADDING)).map_err(WriteError::File)?;
    let superblock = superblock::Superblock { time: options.time, ..superblock };
    file.write_all_at(&superblock.to_bytes(codec), 0).map_err(WriteError::File)
}
