//! Where the content of a file is, and whether two files have the same blocks.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::BLOCK_SIZE;
use super::block_list::BlockList;
use super::error::WriteError;
use super::fragments::Fragment;
use super::walk::Watch;

/// A file without blocks of its own.
const NO_RUN: u32 = u32::MAX;

/// Where the content of a file is; nowhere if the file is empty, or the entry is no file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Content {
    /// The number of the [`Run`] of its full blocks.
    pub run: u32,
    /// Where the part that fills no block is.
    pub fragment: Fragment,
}

impl Content {
    /// Of nothing.
    pub(super) const NONE: Self = Self { run: NO_RUN, fragment: Fragment::NONE };

    /// Returns the number of the [`Run`] of its full blocks, if there is one.
    pub(super) fn run(self) -> Option<u32> {
        (self.run != NO_RUN).then_some(self.run)
    }
}

#[cfg(test)]
impl Content {
    /// A place to test with.
    pub(super) fn at(run: Option<u32>, fragment: Option<Fragment>) -> Self {
        Self { run: run.unwrap_or(NO_RUN), fragment: fragment.unwrap_or(Fragment::NONE) }
    }
}

/// The blocks of one file, or of several with equal ones; what fills no block is no part of them, unless it is zero.
#[derive(Debug, Default)]
pub(super) struct Run {
    /// Offset of the first block in the image.
    pub start: u64,
    pub list: BlockList,
    /// Bytes of blocks that are not stored, for they are zero.
    pub sparse: u64,
}

/// Whether two runs have the same blocks: the same content gives the same blocks.
///
/// # Errors
/// Those of reading the image; an interrupt.
pub(super) fn equal(image: &File, one: &Run, other: &Run, watch: Watch<'_>) -> Result<bool, WriteError> {
    if one.list != other.list {
        return Ok(false);
    }
    let (mut offset, length) = (0, one.list.bytes());
    let mut buffers = [vec![0; BLOCK_SIZE], vec![0; BLOCK_SIZE]];
    while offset < length {
        watch.check()?;
        let now = (length - offset).min(BLOCK_SIZE as u64) as usize;
        for (buffer, run) in buffers.iter_mut().zip([one, other]) {
            image.read_exact_at(&mut buffer[..now], run.start + offset).map_err(WriteError::File)?;
        }
        if buffers[0][..now] != buffers[1][..now] {
            return Ok(false);
        }
        offset += now as u64;
    }
    Ok(true)
}
