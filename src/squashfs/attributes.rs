//! Extended attributes: those of an entry that an image can store, and the table of all sets of them.
//!
//! Squashfs has names below `user.`, `trusted.` and `security.`. A set that several entries have is in the table once, and
//! of a value that several sets have all but the first have its place.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::os::fd::BorrowedFd;
use std::rc::Rc;

use super::compressor::Compressor;
use super::error::WriteError;
use super::metadata::{Metadata, Table};
use super::tree::NO_ATTRIBUTES;
use crate::fs::xattr::{XattrFile, XattrReader};

/// The beginnings of names, by their number in an image.
const PREFIXES: [&[u8]; 3] = [b"user.", b"trusted.", b"security."];

/// With the number of a prefix: the value's place follows, and not the value.
const ELSEWHERE: u16 = 1 << 8;

/// A place has as many bytes; a shorter value is not worth it.
const PLACE: usize = 8;

/// The attributes of one entry, in the order in which readers list them.
type Pairs = Vec<(u16, Vec<u8>, Vec<u8>)>;

/// Returns the attributes of the entry `name` of an open directory.
///
/// They are in the order of their names backwards, as tmpfs lists them.
///
/// # Errors
/// Those of listxattr(2) and getxattr(2).
pub(super) fn read(reader: &mut XattrReader, directory: BorrowedFd<'_>, name: &OsStr) -> io::Result<Pairs> {
    let prefix_of = |name: &[u8]| PREFIXES.iter().position(|prefix| name.starts_with(prefix));
    let mut found = reader.read(&XattrFile::entry(directory, name)?, |name| prefix_of(name).is_some())?;
    found.sort_unstable_by(|one, other| other.cmp(one));
    let pairs = found.into_iter().filter_map(|(name, value)| {
        let prefix = prefix_of(&name)?;
        Some((prefix as u16, name[PREFIXES[prefix].len()..].to_vec(), value))
    });
    Ok(pairs.collect())
}

/// All sets together are in memory until the image is whole, and have no more.
const MAX_SET_BYTES: u64 = 256 << 20;

/// All sets of attributes, each once.
#[derive(Debug, Default)]
pub(super) struct Attributes {
    sets: Vec<Rc<Pairs>>,
    /// Bytes of names and values in all sets.
    bytes: u64,
    numbers: HashMap<Rc<Pairs>, u32>,
}

/// The table as it is in an image: the attributes, and where each set is.
#[derive(Debug)]
pub(super) struct AttributeTable {
    /// Metadata blocks of names and values.
    pub pairs: Vec<u8>,
    /// The table of sets, which follows them.
    pub sets: Table,
    /// The record that the superblock leads to, which follows both.
    pub head: Vec<u8>,
}

impl Attributes {
    /// Returns the number of a set.
    ///
    /// # Errors
    /// Where there are more sets than an image can store.
    pub(super) fn number(&mut self, pairs: Pairs) -> Result<u32, WriteError> {
        if pairs.is_empty() {
            return Ok(NO_ATTRIBUTES);
        }
        if let Some(number) = self.numbers.get(&pairs) {
            return Ok(*number);
        }
        let next = u32::try_from(self.sets.len()).unwrap_or(NO_ATTRIBUTES);
        if next == NO_ATTRIBUTES {
            return Err(WriteError::TooMany { what: "sets of extended attributes", most: NO_ATTRIBUTES.into() });
        }
        self.bytes += pairs.iter().map(|(_, name, value)| (name.len() + value.len()) as u64).sum::<u64>();
        if self.bytes > MAX_SET_BYTES {
            return Err(WriteError::TooMany { what: "bytes of different extended attributes", most: MAX_SET_BYTES });
        }
        let pairs = Rc::new(pairs);
        self.sets.push(Rc::clone(&pairs));
        self.numbers.insert(pairs, next);
        Ok(next)
    }

    /// Returns the table of an image that has it from the offset `at` on; none where no entry has attributes.
    ///
    /// # Errors
    /// Those of the compressor.
    pub(super) fn table(&self, at: u64, compressor: &mut Compressor) -> io::Result<Option<AttributeTable>> {
        if self.sets.is_empty() {
            return Ok(None);
        }
        let (mut metadata, mut records, mut places) = (Metadata::default(), Vec::new(), HashMap::new());
        let mut record = Vec::new();
        for set in &self.sets {
            let reference = metadata.place().reference();
            let mut size = 0;
            for (prefix, name, value) in set.iter() {
                let place = places.get(value.as_slice()).copied().filter(|_| value.len() > PLACE);
                record.clear();
                record.extend((prefix | if place.is_some() { ELSEWHERE } else { 0 }).to_le_bytes());
                record.extend((name.len() as u16).to_le_bytes());
                record.extend_from_slice(name);
                metadata.push(&record, compressor)?;
                size += record.len();
                record.clear();
                if let Some(place) = place {
                    let place: u64 = place;
                    record.extend((PLACE as u32).to_le_bytes());
                    record.extend(place.to_le_bytes());
                } else {
                    places.insert(value.as_slice(), metadata.place().reference());
                    record.extend((value.len() as u32).to_le_bytes());
                    record.extend_from_slice(value);
                }
                metadata.push(&record, compressor)?;
                size += record.len();
            }
            records.extend(reference.to_le_bytes());
            records.extend((set.len() as u32).to_le_bytes());
            records.extend((size as u32).to_le_bytes());
        }
        let pairs = metadata.finish(compressor)?;
        let sets = Table::new(&records, at + pairs.len() as u64, compressor)?;
        let mut head = at.to_le_bytes().to_vec();
        head.extend((self.sets.len() as u32).to_le_bytes());
        head.extend([0; 4]);
        head.extend_from_slice(&sets.places);
        Ok(Some(AttributeTable { pairs, sets, head }))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::fd::AsFd;

    use rustix::fs::{XattrFlags, setxattr};

    use super::*;
    use crate::model::Compression;
    use crate::squashfs::codec::Codec;

    fn pair(prefix: u16, name: &str, value: &[u8]) -> (u16, Vec<u8>, Vec<u8>) {
        (prefix, name.as_bytes().to_vec(), value.to_vec())
    }

    #[test]
    fn names_below_three_prefixes_are_read_backwards_and_others_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "").unwrap();
        let acl = [
            2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 4, 0, 1, 0, 0, 0, 4, 0, 4, 0, 255, 255, 255, 255, 16, 0,
            4, 0, 255, 255, 255, 255, 32, 0, 0, 0, 255, 255, 255, 255,
        ];
        let long = vec![7; 2000];
        for (name, value) in [
            ("user.a", &long[..]),
            ("trusted.overlay.opaque", b"y"),
            ("user.z", b""),
            ("system.posix_acl_access", &acl),
        ] {
            setxattr(&path, name, value, XattrFlags::empty()).unwrap();
        }
        let directory = fs::File::open(folder.path()).unwrap();
        let expected = [pair(0, "z", b""), pair(0, "a", &long), pair(1, "overlay.opaque", b"y")];
        let mut reader = XattrReader::default();
        assert_eq!(read(&mut reader, directory.as_fd(), OsStr::new("file")).unwrap(), expected);
        assert_eq!(read(&mut reader, directory.as_fd(), OsStr::new(".")).unwrap(), []);
    }

    #[test]
    fn equal_sets_are_one_and_equal_values_are_stored_once() {
        let mut attributes = Attributes::default();
        let value = [9; 20];
        let sets = [
            vec![pair(0, "a", &value)],
            vec![pair(1, "b", &value), pair(0, "c", b"12345678")],
            vec![pair(0, "a", &value)],
            vec![],
        ];
        let numbers = sets.map(|set| attributes.number(set).unwrap());
        assert_eq!(numbers, [0, 1, 0, NO_ATTRIBUTES]);
        let mut none = Compressor::new(Codec::new(Compression::None, None)).unwrap();
        let table = attributes.table(1000, &mut none).unwrap().unwrap();
        // Both names, the value once and the place of it, and the short value.
        let mut expected = vec![0, 0, 1, 0, b'a', 20, 0, 0, 0];
        expected.extend(value);
        expected.extend([1, 1, 1, 0, b'b', 8, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0]);
        expected.extend([0, 0, 1, 0, b'c', 8, 0, 0, 0]);
        expected.extend(b"12345678");
        assert_eq!(table.pairs[2..], expected);
        let sets: Vec<u8> = table.sets.blocks[2..].to_vec();
        assert_eq!(sets[..16], [0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 29, 0, 0, 0]);
        assert_eq!(sets[16..], [29, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 34, 0, 0, 0]);
        assert_eq!(table.head[..16], [232, 3, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
        assert!(Attributes::default().table(0, &mut none).unwrap().is_none());
    }
}
