//! Objects of a git repository: in a file of their own, or in a pack, whole or as a difference from another one.

use std::cell::Cell;
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use flate2::bufread::ZlibDecoder;

use super::file;

/// A larger commit is none.
const MAX_BYTES: u64 = 16 << 20;

/// As many repositories may lend their objects to the next.
const MAX_STORES: usize = 60;

/// As many differences may stand on each other. git(1) makes 50 by itself, and 250 where it packs hard.
const MAX_DEPTH: usize = 500;

/// As many bytes are unpacked and put together for one object, however many differences it is made of.
const MAX_WORK: u64 = 256 << 20;

const COMMIT: u8 = 1;
const OFFSET_DELTA: u8 = 6;
const NAME_DELTA: u8 = 7;

/// The content of the object of that name, in hexadecimal digits, below the directory `objects`, if it is there.
///
/// # Errors
/// In words, where it cannot be read.
pub fn read(objects: &Path, name: &str) -> io::Result<Option<Vec<u8>>> {
    let stores = stores(objects);
    let bytes = bytes_of(name).ok_or_else(|| broken("that is no name of an object"))?;
    Store { stores: &stores, work: Cell::new(0) }.object(&bytes, name, 0)
}

fn bytes_of(name: &str) -> Option<Vec<u8>> {
    (0..name.len() / 2).map(|n| u8::from_str_radix(name.get(2 * n..2 * n + 2)?, 16).ok()).collect()
}

/// The directory itself, and those of the repositories that lend it objects.
fn stores(objects: &Path) -> Vec<PathBuf> {
    let mut all = vec![objects.to_owned()];
    let mut next = 0;
    while next < all.len() && all.len() < MAX_STORES {
        let list = file::read(&all[next].join("info/alternates"), MAX_BYTES).unwrap_or_default();
        let list = String::from_utf8_lossy(&list).into_owned();
        let more: Vec<PathBuf> =
            list.lines().filter(|line| !line.is_empty()).map(|line| all[next].join(line)).collect();
        all.extend(more);
        all.truncate(MAX_STORES);
        next += 1;
    }
    all
}

fn broken(words: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, words)
}

struct Store<'a> {
    stores: &'a [PathBuf],
    /// The bytes that were unpacked and put together so far.
    work: Cell<u64>,
}

impl Store<'_> {
    fn inflated(&self, from: impl io::BufRead) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        ZlibDecoder::new(from).take(MAX_BYTES).read_to_end(&mut bytes)?;
        self.counted(bytes)
    }

    fn counted(&self, bytes: Vec<u8>) -> io::Result<Vec<u8>> {
        self.work.set(self.work.get() + bytes.len() as u64);
        if self.work.get() > MAX_WORK { Err(broken("it unpacks to too much")) } else { Ok(bytes) }
    }

    fn object(&self, bytes: &[u8], name: &str, depth: usize) -> io::Result<Option<Vec<u8>>> {
        let Some((first, rest)) = name.split_at_checked(2) else { return Ok(None) };
        for store in self.stores {
            match file::open(&store.join(first).join(rest)) {
                Ok(file) => {
                    let object = self.inflated(BufReader::new(file))?;
                    let end = object.iter().position(|byte| *byte == 0).ok_or_else(|| broken("it has no header"))?;
                    return Ok(Some(object[end + 1..].to_vec()));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        for store in self.stores {
            for entry in fs::read_dir(store.join("pack")).into_iter().flatten().flatten() {
                let index = entry.path();
                if index.extension().is_none_or(|extension| extension != "idx") {
                    continue;
                }
                if let Some(offset) = offset_in(&file::open(&index)?, bytes)? {
                    let pack = file::open(&index.with_extension("pack"))?;
                    return self.packed(&pack, offset, bytes.len(), depth).map(Some);
                }
            }
        }
        Ok(None)
    }

    /// The object at a place in a pack.
    fn packed(&self, pack: &File, offset: u64, name_bytes: usize, depth: usize) -> io::Result<Vec<u8>> {
        if depth > MAX_DEPTH {
            return Err(broken("too many differences stand on each other"));
        }
        let mut head = [0; 64];
        let length = pack.read_at(&mut head, offset)?;
        let mut reader = Numbers { bytes: &head[..length], read: 0 };
        let first = reader.byte()?;
        let kind = first >> 4 & 0b111;
        let mut more = first & 0x80 != 0;
        while more {
            more = reader.byte()? & 0x80 != 0;
        }
        let base = match kind {
            OFFSET_DELTA => {
                let back = reader.distance()?;
                let place =
                    offset.checked_sub(back).filter(|_| back > 0).ok_or_else(|| broken("its base is not there"))?;
                Some(self.packed(pack, place, name_bytes, depth + 1)?)
            }
            NAME_DELTA => {
                let bytes = reader.bytes.get(..name_bytes).ok_or_else(|| broken("it is cut off"))?.to_vec();
                reader.read += name_bytes as u64;
                let name: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                let base = self.object(&bytes, &name, depth + 1)?;
                Some(base.ok_or_else(|| broken("its base is not there"))?)
            }
            COMMIT => None,
            _ => return Err(broken("it is no commit")),
        };
        let content = self.inflated(BufReader::new(At { file: pack, offset: offset.saturating_add(reader.read) }))?;
        match base {
            Some(base) => self.counted(applied(&base, &content)?),
            None => Ok(content),
        }
    }
}

/// Where the index of a pack says that an object is.
fn offset_in(index: &File, name: &[u8]) -> io::Result<Option<u64>> {
    const HEAD: u64 = 8;
    const FAN_OUT: u64 = 4 * 256;
    let number = |at: u64| -> io::Result<u32> {
        let mut bytes = [0; 4];
        index.read_exact_at(&mut bytes, at)?;
        Ok(u32::from_be_bytes(bytes))
    };
    let mut head = [0; HEAD as usize];
    index.read_exact_at(&mut head, 0)?;
    if head != *b"\xfftOc\0\0\0\x02" {
        return Err(broken("the index of a pack has a version that is not known"));
    }
    let Some(&first) = name.first() else { return Ok(None) };
    let fan_out = |byte: u8| number(HEAD + 4 * u64::from(byte));
    let count = u64::from(fan_out(255)?);
    let mut low = if first == 0 { 0 } else { u64::from(fan_out(first - 1)?) };
    let mut high = u64::from(fan_out(first)?);
    let width = name.len() as u64;
    let mut found = vec![0; name.len()];
    while low < high {
        let middle = low.midpoint(high);
        index.read_exact_at(&mut found, HEAD + FAN_OUT + middle * width)?;
        match found.as_slice().cmp(name) {
            std::cmp::Ordering::Less => low = middle + 1,
            std::cmp::Ordering::Greater => high = middle,
            std::cmp::Ordering::Equal => {
                let offsets = HEAD + FAN_OUT + count * (width + 4);
                let offset = number(offsets + 4 * middle)?;
                const IS_LARGE: u32 = 1 << 31;
                if offset & IS_LARGE == 0 {
                    return Ok(Some(offset.into()));
                }
                let large = offsets + 4 * count + 8 * u64::from(offset & !IS_LARGE);
                let mut bytes = [0; 8];
                index.read_exact_at(&mut bytes, large)?;
                return Ok(Some(u64::from_be_bytes(bytes)));
            }
        }
    }
    Ok(None)
}

/// A file from a place on.
struct At<'a> {
    file: &'a File,
    offset: u64,
}

impl Read for At<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.offset)?;
        self.offset += count as u64;
        Ok(count)
    }
}

/// The numbers of packs, of seven bits a byte.
struct Numbers<'a> {
    bytes: &'a [u8],
    read: u64,
}

impl Numbers<'_> {
    fn byte(&mut self) -> io::Result<u8> {
        let (first, rest) = self.bytes.split_first().ok_or_else(|| broken("it is cut off"))?;
        self.bytes = rest;
        self.read += 1;
        Ok(*first)
    }

    /// The lowest bits first.
    fn size(&mut self) -> io::Result<u64> {
        let (mut size, mut shift) = (0, 0);
        loop {
            let byte = self.byte()?;
            size |= u64::from(byte & 0x7f).checked_shl(shift).ok_or_else(|| broken("a size is too large"))?;
            shift += 7;
            if byte & 0x80 == 0 {
                return Ok(size);
            }
        }
    }

    /// The highest bits first, with one added for each byte that follows.
    fn distance(&mut self) -> io::Result<u64> {
        let mut byte = self.byte()?;
        let mut distance = u64::from(byte & 0x7f);
        while byte & 0x80 != 0 {
            byte = self.byte()?;
            let next = distance.checked_add(1).and_then(|more| more.checked_mul(128));
            distance = next.ok_or_else(|| broken("a distance is too large"))? | u64::from(byte & 0x7f);
        }
        Ok(distance)
    }
}

/// What a difference makes of its base: pieces of that, and bytes of its own.
fn applied(base: &[u8], difference: &[u8]) -> io::Result<Vec<u8>> {
    let mut reader = Numbers { bytes: difference, read: 0 };
    reader.size()?;
    let size = reader.size()?;
    if size > MAX_BYTES {
        return Err(broken("it is too large"));
    }
    let mut made = Vec::new();
    while !reader.bytes.is_empty() {
        let command = reader.byte()?;
        let piece = if command & 0x80 == 0 {
            let count = usize::from(command);
            let (own, rest) = reader.bytes.split_at_checked(count).ok_or_else(|| broken("it is cut off"))?;
            reader.bytes = rest;
            own
        } else {
            let mut part = |bits: std::ops::Range<u8>| -> io::Result<usize> {
                let mut number = 0;
                for (place, bit) in bits.enumerate() {
                    if command & 1 << bit != 0 {
                        number |= usize::from(reader.byte()?) << (8 * place);
                    }
                }
                Ok(number)
            };
            let (start, count) = (part(0..4)?, part(4..7)?);
            let count = if count == 0 { 0x10000 } else { count };
            base.get(start..start.saturating_add(count)).ok_or_else(|| broken("its base is too short"))?
        };
        if (made.len() + piece.len()) as u64 > size {
            return Err(broken("it is longer than it says"));
        }
        made.extend_from_slice(piece);
    }
    Ok(made)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_difference_is_applied_or_refused(
            base in proptest::collection::vec(any::<u8>(), 0..300),
            difference in proptest::collection::vec(any::<u8>(), 0..60),
        ) {
            if let Ok(made) = applied(&base, &difference) {
                prop_assert!(made.len() as u64 <= MAX_BYTES);
            }
        }
    }
}
