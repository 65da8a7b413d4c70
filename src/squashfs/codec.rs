//! Which compressor an image has, and what the image says of it.

use crate::model::Compression;

/// The level of zstd where none is asked for: its own default, 15 in mksquashfs(1), takes fourteen times as long for a
/// seventh less.
pub const ZSTD_LEVEL: u32 = 3;

/// The level of gzip where none is asked for, as in mksquashfs(1).
const GZIP_LEVEL: u32 = 9;

/// The levels that readers assume where an image says none.
const ASSUMED_ZSTD_LEVEL: u32 = 15;
const ASSUMED_GZIP_LEVEL: u32 = 9;

/// Flags of the superblock: which blocks are stored as they are. Readers do not need them.
const STORED: u16 = 1 | 1 << 1 | 1 << 3 | 1 << 8 | 1 << 11;

/// A compressor with its level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Codec {
    compression: Compression,
    level: u32,
}

impl Codec {
    /// Returns the compressor, at its default level where none is given.
    pub(super) fn new(compression: Compression, level: Option<u32>) -> Self {
        let default = if compression == Compression::Zstd { ZSTD_LEVEL } else { GZIP_LEVEL };
        Self { compression, level: level.unwrap_or(default) }
    }

    pub(super) fn compression(self) -> Compression {
        self.compression
    }

    pub(super) fn level(self) -> u32 {
        self.level
    }

    /// Returns its number in the superblock. There is none for no compressor, so it is that of gzip, which every kernel has.
    pub(super) fn id(self) -> u16 {
        match self.compression {
            Compression::Gzip | Compression::None => 1,
            Compression::Xz => 4,
            Compression::Lz4 => 5,
            Compression::Zstd => 6,
        }
    }

    /// Returns its flags in the superblock.
    pub(super) fn flags(self) -> u16 {
        if self.compression == Compression::None { STORED } else { 0 }
    }

    /// Returns the options that follow the superblock: where they are not what readers assume, and always for lz4.
    pub(super) fn options(self) -> Option<Vec<u8>> {
        let words: &[u32] = match self.compression {
            Compression::Zstd if self.level != ASSUMED_ZSTD_LEVEL => &[self.level],
            // A window of 2^15 bytes, and no strategy of its own.
            Compression::Gzip if self.level != ASSUMED_GZIP_LEVEL => &[self.level, 15],
            // The version of its blocks, and no flag.
            Compression::Lz4 => &[1, 0],
            Compression::Zstd | Compression::Gzip | Compression::Xz | Compression::None => return None,
        };
        Some(words.iter().flat_map(|word| word.to_le_bytes()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_told_where_readers_would_assume_others() {
        let options = |compression, level| Codec::new(compression, level).options();
        assert_eq!(options(Compression::Zstd, None), Some(vec![3, 0, 0, 0]));
        assert_eq!(options(Compression::Zstd, Some(15)), None);
        assert_eq!(options(Compression::Gzip, None), None);
        assert_eq!(options(Compression::Gzip, Some(1)), Some(vec![1, 0, 0, 0, 15, 0, 0, 0]));
        assert_eq!(options(Compression::Lz4, None), Some(vec![1, 0, 0, 0, 0, 0, 0, 0]));
        assert_eq!(options(Compression::Xz, None), None);
        assert_eq!(options(Compression::None, None), None);
    }
}
