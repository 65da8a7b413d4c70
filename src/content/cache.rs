//! The stat cache of one bound path: the digests of its files, by the stamps that identify them.
//!
//! ```text
//! 16 bytes  `runner stat 1`, filled up by NUL
//!  4        CRC-32 of what follows
//! 80 each   device, inode, size, mtime, ctime (seconds), mtime, ctime (nanoseconds), SHA-256; by ascending stamp
//! ```
//! Numbers are little-endian. A file with other contents is no cache, and the next one replaces it: that costs only
//! time.

use std::path::Path;

use super::stat::Stamp;
use crate::digest::Digest;
use crate::fs::regular;

const MAGIC: &[u8; 16] = b"runner stat 1\0\0\0";
const HEADER: usize = MAGIC.len() + 4;
const RECORD: usize = 80;
/// The longest file that is read: a cache of ten million files is shorter.
const MAX_BYTES: u64 = 1 << 30;

/// Digests by stamp.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct StatCache {
    /// By ascending stamp, each once.
    records: Vec<(Stamp, Digest)>,
}

impl StatCache {
    pub(super) fn new(mut records: Vec<(Stamp, Digest)>) -> Self {
        records.sort_unstable();
        // Hard links to one file have the same stamp.
        records.dedup_by_key(|(stamp, _)| *stamp);
        Self { records }
    }

    /// Returns a cache with these records and more.
    pub(super) fn and<'a>(&self, more: impl Iterator<Item = (&'a Stamp, &'a Digest)>) -> Self {
        let more = more.map(|(stamp, digest)| (*stamp, *digest));
        Self::new(self.records.iter().copied().chain(more).collect())
    }

    /// Reads the cache in this file; an empty one where the file is no cache.
    pub(super) fn load(file: &Path) -> Self {
        regular::read(file, MAX_BYTES).ok().and_then(|bytes| parse(&bytes)).unwrap_or_default()
    }

    pub(super) fn get(&self, stamp: &Stamp) -> Option<Digest> {
        let at = self.records.binary_search_by_key(stamp, |(stamp, _)| *stamp).ok()?;
        self.records.get(at).map(|(_, digest)| *digest)
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER + RECORD * self.records.len());
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&[0; 4]);
        for (stamp, digest) in &self.records {
            for number in [stamp.device, stamp.inode, stamp.size] {
                bytes.extend_from_slice(&number.to_le_bytes());
            }
            for (seconds, _) in [stamp.mtime, stamp.ctime] {
                bytes.extend_from_slice(&seconds.to_le_bytes());
            }
            for (_, nanoseconds) in [stamp.mtime, stamp.ctime] {
                bytes.extend_from_slice(&nanoseconds.to_le_bytes());
            }
            bytes.extend_from_slice(digest.as_bytes());
        }
        let sum = crc32fast::hash(&bytes[HEADER..]);
        bytes[MAGIC.len()..HEADER].copy_from_slice(&sum.to_le_bytes());
        bytes
    }
}

fn parse(bytes: &[u8]) -> Option<StatCache> {
    let (sum, body) = bytes.strip_prefix(MAGIC)?.split_first_chunk::<4>()?;
    let (records, []) = body.as_chunks::<RECORD>() else { return None };
    if crc32fast::hash(body) != u32::from_le_bytes(*sum) {
        return None;
    }
    let records: Option<Vec<_>> = records.iter().map(|bytes| record(bytes)).collect();
    let records = records?;
    records.is_sorted_by(|(one, _), (next, _)| one < next).then_some(StatCache { records })
}

fn record(bytes: &[u8]) -> Option<(Stamp, Digest)> {
    let (numbers, rest) = bytes.split_first_chunk::<40>()?;
    let (nanoseconds, digest) = rest.split_first_chunk::<8>()?;
    let number = |at: usize| numbers.as_chunks::<8>().0.get(at).copied().map(u64::from_le_bytes);
    let nanosecond = |at: usize| nanoseconds.as_chunks::<4>().0.get(at).copied().map(u32::from_le_bytes);
    let stamp = Stamp {
        device: number(0)?,
        inode: number(1)?,
        size: number(2)?,
        mtime: (number(3)?.cast_signed(), nanosecond(0)?),
        ctime: (number(4)?.cast_signed(), nanosecond(1)?),
    };
    Some((stamp, Digest::from(*digest.first_chunk::<32>()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(count: u64) -> StatCache {
        let record = |inode: u64| {
            let stamp = Stamp {
                device: 8 << 32 | 1,
                inode,
                size: inode * 3,
                mtime: (-(inode as i64), 999_999_999),
                ctime: (1 << 40, 1),
            };
            (stamp, Digest::of_bytes(&inode.to_le_bytes()))
        };
        StatCache::new((0..count).rev().map(record).collect())
    }

    #[test]
    fn a_written_cache_is_read_back() {
        for count in [0, 1, 1000] {
            let cache = cache(count);
            assert_eq!(parse(&cache.to_bytes()).as_ref(), Some(&cache));
        }
    }

    #[test]
    fn a_record_is_found_only_by_its_complete_stamp() {
        let cache = cache(100);
        let (stamp, digest) = cache.records[41];
        assert_eq!(cache.get(&stamp), Some(digest));
        let others = [
            Stamp { device: 9, ..stamp },
            Stamp { inode: 100, ..stamp },
            Stamp { size: 1, ..stamp },
            Stamp { mtime: (stamp.mtime.0, 0), ..stamp },
            Stamp { ctime: (stamp.ctime.0, 2), ..stamp },
        ];
        assert_eq!(others.map(|other| cache.get(&other)), [None; 5]);
    }

    #[test]
    fn a_hard_link_is_recorded_once() {
        let (stamp, digest) = cache(1).records[0];
        assert_eq!(StatCache::new(vec![(stamp, digest); 3]).records.len(), 1);
    }

    #[test]
    fn a_damaged_truncated_or_foreign_file_is_no_cache() {
        let bytes = cache(3).to_bytes();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            assert_eq!(parse(&damaged), None, "byte {at}");
            assert_eq!(parse(&bytes[..at]), None, "cut at {at}");
        }
        assert_eq!(parse(b"something else"), None);
        assert_eq!(StatCache::load(Path::new("/proc/self/nothing")), StatCache::default());
    }
}
