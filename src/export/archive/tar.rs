//! Writes tar archives: POSIX ustar headers, and pax records for what these have no place for.
//!
//! Extended attributes are `SCHILY.xattr.NAME` records, as GNU tar, bsdtar and container tools read them.

use std::io::{self, Write};
use std::path::Path;

use rustix::fs::{FileType, major, minor};
use tar::{EntryType, Header};

use super::{Archive, Entry, bytes};
use crate::export::Epoch;
use crate::export::watch::Watch;

/// The bytes of a block.
const BLOCK: u64 = 512;

/// The bytes of a name in a header.
const MAX_NAME: usize = 100;

/// The largest number of a user or group in a header: seven octal digits.
const MAX_ID: u32 = 0o7_777_777;

/// The largest size in a header: eleven octal digits.
const MAX_SIZE: u64 = 0o77_777_777_777;

/// An archive that is being written.
pub struct TarWriter<W: Write> {
    to: W,
    epoch: Epoch,
    /// The number of sockets, which tar has no type for.
    pub left_out: u64,
}

impl<W: Write> TarWriter<W> {
    /// Begins an archive.
    pub fn new(to: W, epoch: Epoch) -> Self {
        Self { to, epoch, left_out: 0 }
    }

    /// Ends the archive. Returns the writer.
    ///
    /// # Errors
    /// Those of writing.
    pub fn finish(mut self) -> io::Result<W> {
        self.to.write_all(&[0; 2 * BLOCK as usize])?;
        Ok(self.to)
    }

    /// Writes an empty file, as the marks of a deletion in layers of OCI images are.
    ///
    /// # Errors
    /// Those of writing.
    pub fn empty_file(&mut self, path: &Path, time: u64) -> io::Result<()> {
        let mut header = empty_header();
        header.set_mode(0o600);
        header.set_mtime(time);
        header.set_entry_type(EntryType::Regular);
        self.header(header, &bytes(path), None, Vec::new())
    }

    /// Writes an entry under this path.
    fn write(&mut self, entry: &Entry<'_>, watch: &mut Watch<'_>) -> io::Result<()> {
        let mut header = empty_header();
        let (mut path, mut link, mut records) = (bytes(entry.path), None, Vec::new());
        header.set_mode(entry.stat.st_mode & 0o7777);
        header.set_mtime(entry.time(self.epoch));
        let (uid, gid) = (entry.stat.st_uid, entry.stat.st_gid);
        header.set_uid(u64::from(uid.min(MAX_ID)));
        header.set_gid(u64::from(gid.min(MAX_ID)));
        for (name, id) in [("uid", uid), ("gid", gid)].into_iter().filter(|(_, id)| *id > MAX_ID) {
            record(&mut records, name.as_bytes(), id.to_string().as_bytes());
        }
        let mut has_content = false;
        if let Some(first) = entry.first_name {
            header.set_entry_type(EntryType::Link);
            link = Some(bytes(first));
        } else {
            header.set_entry_type(match entry.kind {
                FileType::Directory => {
                    path.extend(if path.is_empty() { b"./".as_slice() } else { b"/" });
                    EntryType::Directory
                }
                FileType::Symlink => {
                    link = Some(entry.target()?);
                    EntryType::Symlink
                }
                FileType::CharacterDevice => EntryType::Char,
                FileType::BlockDevice => EntryType::Block,
                FileType::Fifo => EntryType::Fifo,
                FileType::RegularFile => {
                    has_content = true;
                    EntryType::Regular
                }
                FileType::Socket | FileType::Unknown => {
                    self.left_out += 1;
                    return Ok(());
                }
            });
            if matches!(entry.kind, FileType::CharacterDevice | FileType::BlockDevice) {
                header.set_device_major(major(entry.stat.st_rdev))?;
                header.set_device_minor(minor(entry.stat.st_rdev))?;
            }
        }
        if has_content {
            let size = entry.size();
            header.set_size(size.min(MAX_SIZE));
            if size > MAX_SIZE {
                record(&mut records, b"size", size.to_string().as_bytes());
            }
        }
        for (name, value) in &entry.attributes {
            record(&mut records, &attribute_key(name), value);
        }
        self.header(header, &path, link.as_deref(), records)?;
        if has_content {
            entry.copy_content(&mut self.to, watch)?;
            self.pad(entry.size())?;
        }
        Ok(())
    }

    /// Writes a header with its name, after the pax records that it needs.
    fn header(&mut self, mut header: Header, path: &[u8], link: Option<&[u8]>, mut records: Vec<u8>) -> io::Result<()> {
        if path.len() > MAX_NAME {
            record(&mut records, b"path", path);
        }
        put(&mut header.as_old_mut().name, path);
        if let Some(link) = link {
            if link.len() > MAX_NAME {
                record(&mut records, b"linkpath", link);
            }
            put(&mut header.as_old_mut().linkname, link);
        }
        if !records.is_empty() {
            let mut pax = empty_header();
            pax.set_entry_type(EntryType::XHeader);
            pax.set_mode(0o644);
            pax.set_size(records.len() as u64);
            put(&mut pax.as_old_mut().name, b"pax");
            pax.set_cksum();
            self.to.write_all(pax.as_bytes())?;
            self.to.write_all(&records)?;
            self.pad(records.len() as u64)?;
        }
        header.set_cksum();
        self.to.write_all(header.as_bytes())
    }

    fn pad(&mut self, size: u64) -> io::Result<()> {
        let rest = (BLOCK - size % BLOCK) % BLOCK;
        self.to.write_all(&[0; BLOCK as usize][..rest as usize])
    }
}

impl<W: Write> Archive for TarWriter<W> {
    fn entry(&mut self, entry: &Entry<'_>, watch: &mut Watch<'_>) -> io::Result<()> {
        self.write(entry, watch)
    }
}

/// Returns a header in which each number is 0: some readers, such as the crate `tar`, take no field without digits.
fn empty_header() -> Header {
    let mut header = Header::new_ustar();
    header.set_size(0);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

/// Fills a field as far as it goes; a record has the whole name then.
fn put(field: &mut [u8; MAX_NAME], name: &[u8]) {
    let length = name.len().min(MAX_NAME);
    field[..length].copy_from_slice(&name[..length]);
}

/// Returns the key of an attribute. A key ends at its first `=`, so that is escaped, as star(1) does.
fn attribute_key(name: &[u8]) -> Vec<u8> {
    let mut key = b"SCHILY.xattr.".to_vec();
    for byte in name {
        match byte {
            b'%' => key.extend(b"%25"),
            b'=' => key.extend(b"%3D"),
            byte => key.push(*byte),
        }
    }
    key
}

/// Appends a pax record: its length in decimal digits, which count themselves, a space, the key, `=`, the value, and a newline.
fn record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length.to_string().len() + rest != length {
        length = length.to_string().len() + rest;
    }
    records.extend(format!("{length} ").as_bytes());
    records.extend(key);
    records.push(b'=');
    records.extend(value);
    records.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_without_content_has_a_size_for_strict_readers() {
        let mut archive = TarWriter::new(Vec::new(), None);
        archive.empty_file(Path::new("etc/.wh.file"), 7).unwrap();
        let bytes = archive.finish().unwrap();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let sizes: Vec<u64> = archive.entries().unwrap().map(|entry| entry.unwrap().header().size().unwrap()).collect();
        assert_eq!(sizes, [0]);
    }

    #[test]
    fn the_length_of_a_record_counts_its_own_digits() {
        for length in [0, 1, 84, 85, 86, 87, 88, 980, 981, 982, 983, 984, 9000] {
            let mut records = Vec::new();
            record(&mut records, b"path", &vec![b'x'; length]);
            let text = String::from_utf8(records.clone()).unwrap();
            assert_eq!(text.split(' ').next().unwrap().parse::<usize>().unwrap(), records.len());
        }
        assert_eq!(attribute_key(b"user.a=b%"), b"SCHILY.xattr.user.a%3Db%25");
    }
}
