//! Objects of a git repository: in a file of their own, or in a pack, whole or as a difference from another one.

use std::cell::{Cell, OnceCell};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use flate2::bufread::ZlibDecoder;

use super::{file, is_missing};

/// The limit of a commit.
const MAX_BYTES: u64 = 16 << 20;

/// The limit of the bytes that are read of a badly packed commit: blocks of no bytes would have no end.
const MAX_STORED_BYTES: u64 = MAX_BYTES + (1 << 20);

/// The number of repositories that may lend their objects to one.
const MAX_LENDERS: usize = 60;

/// The limit of one list of those repositories.
const MAX_ALTERNATES_BYTES: u64 = 256 << 10;

/// The lines that all of these lists may have.
const MAX_ALTERNATES: usize = 1000;

/// The number of differences that may be applied to one another. git(1) makes 50 by itself, and 250 where it packs hard.
const MAX_DEPTH: usize = 500;

/// The bytes that are read, unpacked and put together for one object, however many differences it consists of.
const MAX_WORK: u64 = 256 << 20;

/// The cost of looking an object up in one repository, in bytes that are read.
const LOOK_UP: u64 = 4096;

/// The packs that all repositories may have. git(1) makes one of 50.
const MAX_PACKS: usize = 10_000;

/// The files that may lie beside packs, each of which has a few.
const MAX_PACK_FILES: usize = 10 * MAX_PACKS;

const COMMIT: u8 = 1;
const OFFSET_DELTA: u8 = 6;
const NAME_DELTA: u8 = 7;

/// Returns the content of the object of that name, in hexadecimal digits, below the directory `objects`, if it exists.
///
/// # Errors
/// In words, where it cannot be read.
pub fn read(objects: &Path, name: &str) -> io::Result<Option<Vec<u8>>> {
    let bytes = bytes_of(name).ok_or_else(|| broken("that is no name of an object"))?;
    let store =
        Store { stores: stores(objects)?, indexes: OnceCell::new(), last_index: Cell::new(0), work: Cell::new(0) };
    store.object(&bytes, name, 0)
}

fn bytes_of(name: &str) -> Option<Vec<u8>> {
    (0..name.len() / 2).map(|n| u8::from_str_radix(name.get(2 * n..2 * n + 2)?, 16).ok()).collect()
}

/// Returns the directory itself, and those of the repositories that lend it objects.
fn stores(objects: &Path) -> io::Result<Vec<PathBuf>> {
    let mut all = match objects.canonicalize() {
        Err(error) if is_missing(&error) => return Ok(Vec::new()),
        objects => vec![objects?],
    };
    let (mut next, mut lines) = (0, 0);
    while let Some(store) = all.get(next).cloned() {
        let list = match file::read(&store.join("info/alternates"), MAX_ALTERNATES_BYTES) {
            Err(error) if is_missing(&error) => Vec::new(),
            list => list.map_err(|error| io::Error::new(error.kind(), format!("objects/info/alternates: {error}")))?,
        };
        for line in list.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            lines += 1;
            if lines > MAX_ALTERNATES {
                let words = "lines name repositories that lend it their objects";
                return Err(broken(&format!("more than {MAX_ALTERNATES} {words}")));
            }
            // git(1) ignores a missing one, too.
            let Ok(lender) = store.join(OsStr::from_bytes(line)).canonicalize() else { continue };
            if all.contains(&lender) {
                continue;
            }
            if all.len() > MAX_LENDERS {
                return Err(broken(&format!("more than {MAX_LENDERS} repositories lend it their objects")));
            }
            all.push(lender);
        }
        next += 1;
    }
    Ok(all)
}

/// Returns the indexes of all packs of these directories.
fn indexes(stores: &[PathBuf]) -> io::Result<Vec<PathBuf>> {
    let mut indexes = Vec::new();
    let mut files = 0;
    for store in stores {
        let entries = match fs::read_dir(store.join("pack")) {
            Err(error) if is_missing(&error) => continue,
            entries => entries?,
        };
        for entry in entries {
            let path = entry?.path();
            files += 1;
            if path.extension().is_some_and(|extension| extension == "idx") {
                indexes.push(path);
            }
            if indexes.len() > MAX_PACKS {
                return Err(broken(&format!("there are more than {MAX_PACKS} packs (`git gc` makes one of them)")));
            }
            if files > MAX_PACK_FILES {
                return Err(broken(&format!("there are more than {MAX_PACK_FILES} files in objects/pack")));
            }
        }
    }
    indexes.sort();
    Ok(indexes)
}

fn broken(words: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, words)
}

struct Store {
    stores: Vec<PathBuf>,
    /// The indexes of all packs, once they were looked for.
    indexes: OnceCell<Vec<PathBuf>>,
    /// The index that had the last object: the object's base is probably in the same pack.
    last_index: Cell<usize>,
    /// The bytes that were read, unpacked and put together so far.
    work: Cell<u64>,
}

impl Store {
    fn inflated(&self, from: impl Read) -> io::Result<Vec<u8>> {
        let from = BufReader::new(Counted { from, store: self, left: MAX_STORED_BYTES });
        let mut bytes = Vec::new();
        ZlibDecoder::new(from).take(MAX_BYTES).read_to_end(&mut bytes)?;
        self.count(bytes.len() as u64)?;
        Ok(bytes)
    }

    fn count(&self, work: u64) -> io::Result<()> {
        self.work.set(self.work.get().saturating_add(work));
        if self.work.get() > MAX_WORK { Err(broken("it takes too much work")) } else { Ok(()) }
    }

    fn object(&self, bytes: &[u8], name: &str, depth: usize) -> io::Result<Option<Vec<u8>>> {
        let Some((first, rest)) = name.split_at_checked(2) else { return Ok(None) };
        for store in &self.stores {
            self.count(LOOK_UP)?;
            match file::open(&store.join(first).join(rest)) {
                Ok(file) => {
                    let object = self.inflated(file)?;
                    let end = object.iter().position(|byte| *byte == 0).ok_or_else(|| broken("it has no header"))?;
                    return Ok(Some(object[end + 1..].to_vec()));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        let indexes = match self.indexes.get() {
            Some(indexes) => indexes,
            None => {
                let listed = indexes(&self.stores)?;
                self.indexes.get_or_init(|| listed)
            }
        };
        let last = self.last_index.get();
        for (place, index) in indexes.iter().enumerate().skip(last).take(1).chain(indexes.iter().enumerate()) {
            self.count(LOOK_UP)?;
            if let Some(offset) = offset_in(&file::open(index)?, bytes)? {
                self.last_index.set(place);
                let pack = file::open(&index.with_extension("pack"))?;
                return self.packed(&pack, offset, bytes.len(), depth).map(Some);
            }
        }
        Ok(None)
    }

    /// Returns the object at an offset in a pack.
    fn packed(&self, pack: &File, offset: u64, name_bytes: usize, depth: usize) -> io::Result<Vec<u8>> {
        if depth > MAX_DEPTH {
            return Err(broken("too many differences are built on one another"));
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
        let content = self.inflated(At { file: pack, offset: offset.saturating_add(reader.read) })?;
        match base {
            Some(base) => {
                let made = applied(&base, &content)?;
                self.count(made.len() as u64)?;
                Ok(made)
            }
            None => Ok(content),
        }
    }
}

/// Returns the offset of an object in a pack, by the pack's index.
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

/// A packed object, of which each byte that is read counts as work.
struct Counted<'a, R> {
    from: R,
    store: &'a Store,
    left: u64,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(buffer)?;
        let left = self.left.checked_sub(count as u64);
        self.left = left.ok_or_else(|| broken("it is stored in too many bytes"))?;
        self.store.count(count as u64)?;
        Ok(count)
    }
}

/// A file from an offset on.
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

    /// Reads a size: the lowest bits first.
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

    /// Reads a distance: the highest bits first, with one added for each byte that follows.
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

/// Applies a difference to its base: the result consists of pieces of the base, and bytes of the difference's own.
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
mod tests;
