//! The superblock: the first 96 bytes of an image, which say where all else is.

use super::codec::Codec;
use super::{BLOCK_LOG, BLOCK_SIZE};

/// Bytes of a superblock.
pub(super) const SIZE: usize = 96;

/// `hsqs` when it is read as text.
const MAGIC: u32 = 0x7371_7368;

/// Where a table would be that an image does not have.
const NONE: u64 = u64::MAX;

/// See `flags`.
const HAS_DUPLICATES_REMOVED: u16 = 1 << 6;
const HAS_EXPORTS: u16 = 1 << 7;
const HAS_NO_ATTRIBUTES: u16 = 1 << 9;
const HAS_OPTIONS: u16 = 1 << 10;

/// The fields of a superblock. All places are offsets from the beginning of the image.
#[derive(Debug, Clone, Default)]
pub(super) struct Superblock {
    /// How many inodes there are.
    pub inodes: u32,
    /// When the image was made, in seconds since 1970.
    pub time: u32,
    /// How many fragment blocks there are.
    pub fragments: u32,
    /// How many users and groups there are.
    pub ids: u16,
    /// Where the inode of the root is.
    pub root: u64,
    /// Bytes without the padding at the end.
    pub used: u64,
    pub id_table: u64,
    pub attribute_table: Option<u64>,
    pub inode_table: u64,
    pub directory_table: u64,
    pub fragment_table: u64,
    pub export_table: u64,
}

impl Superblock {
    /// Returns the bytes, of an image whose blocks `codec` compressed.
    pub(super) fn to_bytes(&self, codec: Codec) -> [u8; SIZE] {
        let mut flags = HAS_DUPLICATES_REMOVED | HAS_EXPORTS | codec.flags();
        if self.attribute_table.is_none() {
            flags |= HAS_NO_ATTRIBUTES;
        }
        if codec.options().is_some() {
            flags |= HAS_OPTIONS;
        }
        let mut bytes = Vec::with_capacity(SIZE);
        for word in [MAGIC, self.inodes, self.time, BLOCK_SIZE as u32, self.fragments] {
            bytes.extend(word.to_le_bytes());
        }
        // The last two are the version of the format.
        for half in [codec.id(), BLOCK_LOG, flags, self.ids, 4, 0] {
            bytes.extend(half.to_le_bytes());
        }
        let places = [
            self.root,
            self.used,
            self.id_table,
            self.attribute_table.unwrap_or(NONE),
            self.inode_table,
            self.directory_table,
            self.fragment_table,
            self.export_table,
        ];
        for place in places {
            bytes.extend(place.to_le_bytes());
        }
        let mut whole = [0; SIZE];
        whole.copy_from_slice(&bytes);
        whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Compression;

    #[test]
    fn each_field_is_where_the_kernel_reads_it() {
        let superblock = Superblock {
            inodes: 0x0102_0304,
            time: 7,
            fragments: 9,
            ids: 2,
            root: 0x11,
            used: 0x22,
            id_table: 0x33,
            attribute_table: Some(0x44),
            inode_table: 0x55,
            directory_table: 0x66,
            fragment_table: 0x77,
            export_table: 0x88,
        };
        let bytes = superblock.to_bytes(Codec::new(Compression::Zstd, Some(15)));
        assert_eq!(&bytes[..8], b"hsqs\x04\x03\x02\x01");
        assert_eq!(bytes[12..16], 131_072_u32.to_le_bytes());
        assert_eq!(bytes[20..24], [6, 0, 17, 0]);
        assert_eq!(bytes[24..32], [0xc0, 0, 2, 0, 4, 0, 0, 0]);
        let places: Vec<u8> = bytes[32..].chunks(8).map(|place| place[0]).collect();
        assert_eq!(places, [0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88]);
    }

    #[test]
    fn an_image_without_attributes_and_with_options_says_so() {
        let bytes = Superblock::default().to_bytes(Codec::new(Compression::Lz4, None));
        assert_eq!(u16::from_le_bytes([bytes[24], bytes[25]]), 0x6c0);
        assert_eq!(bytes[56..64], [255; 8]);
    }
}
