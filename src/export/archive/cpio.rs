//! Writes cpio archives in the format `newc`, which the kernel unpacks as an initramfs: Documentation/driver-api/early-userspace.

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::PathBuf;

use rustix::fs::{FileType, major, minor};

use super::{Archive, Entry, bytes};
use crate::export::Epoch;
use crate::export::watch::Watch;

/// The name of the last entry.
const TRAILER: &[u8] = b"TRAILER!!!";

/// GNU cpio fills the last block.
const BLOCK: u64 = 512;

/// The number of paths that are reported.
const MAX_REPORTED: usize = 3;

/// An archive that is being written.
pub struct CpioWriter<W: Write> {
    to: W,
    epoch: Epoch,
    written: u64,
    next_inode: u32,
    /// The inode numbers of files with several names, by their first one.
    inodes: HashMap<PathBuf, u32>,
    /// The files with extended attributes, which the format has no place for: the first ones, and the number of all.
    pub with_attributes: (Vec<PathBuf>, u64),
}

/// The fields of a header that differ between entries.
#[derive(Debug, Clone, Copy, Default)]
struct Fields {
    inode: u32,
    mode: u32,
    uid: u32,
    gid: u32,
    links: u32,
    time: u32,
    size: u32,
    device: (u32, u32),
}

impl<W: Write> CpioWriter<W> {
    /// Begins an archive.
    pub fn new(to: W, epoch: Epoch) -> Self {
        Self { to, epoch, written: 0, next_inode: 1, inodes: HashMap::new(), with_attributes: Default::default() }
    }

    /// Ends the archive. Returns the writer.
    ///
    /// # Errors
    /// Those of writing.
    pub fn finish(mut self) -> io::Result<W> {
        self.header(TRAILER, Fields { links: 1, ..Fields::default() })?;
        self.pad(BLOCK)?;
        Ok(self.to)
    }

    fn header(&mut self, name: &[u8], fields: Fields) -> io::Result<()> {
        let Fields { inode, mode, uid, gid, links, time, size, device } = fields;
        let length = u32::try_from(name.len() + 1).map_err(io::Error::other)?;
        let numbers = [inode, mode, uid, gid, links, time, size, 0, 0, device.0, device.1, length, 0];
        let text = numbers.iter().fold("070701".to_owned(), |text, number| text + &format!("{number:08X}"));
        self.put(text.as_bytes())?;
        self.put(name)?;
        self.put(&[0])?;
        self.pad(4)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.written += bytes.len() as u64;
        self.to.write_all(bytes)
    }

    fn pad(&mut self, to: u64) -> io::Result<()> {
        let rest = (to - self.written % to) % to;
        self.put(&[0; BLOCK as usize][..rest as usize])
    }

    /// Returns the inode number of an entry, which all names of a file share.
    fn inode(&mut self, entry: &Entry<'_>) -> u32 {
        if let Some(known) = entry.first_name.and_then(|first| self.inodes.get(first)) {
            return *known;
        }
        let inode = self.next_inode;
        self.next_inode += 1;
        if entry.kind != FileType::Directory && entry.stat.st_nlink > 1 {
            self.inodes.insert(entry.path.to_owned(), inode);
        }
        inode
    }
}

impl<W: Write> Archive for CpioWriter<W> {
    fn entry(&mut self, entry: &Entry<'_>, watch: &mut Watch<'_>) -> io::Result<()> {
        if !entry.attributes.is_empty() {
            self.with_attributes.1 += 1;
            if self.with_attributes.0.len() < MAX_REPORTED {
                self.with_attributes.0.push(entry.path.to_owned());
            }
        }
        let name = if entry.path.as_os_str().is_empty() { b".".to_vec() } else { bytes(entry.path) };
        if name == TRAILER {
            return Err(io::Error::other("this name means the end of a cpio archive; use `format: tar`"));
        }
        let target = if entry.kind == FileType::Symlink { entry.target()? } else { Vec::new() };
        // The first name has the content: the kernel and cpio(1) link the others to it.
        let has_content = entry.kind == FileType::RegularFile && entry.first_name.is_none();
        let size = if has_content { entry.size() } else { target.len() as u64 };
        let too_large =
            || io::Error::other("it has 4 GiB or more, which a cpio archive cannot have; use `format: tar`");
        let is_device = matches!(entry.kind, FileType::CharacterDevice | FileType::BlockDevice);
        let device = if is_device { (major(entry.stat.st_rdev), minor(entry.stat.st_rdev)) } else { (0, 0) };
        let fields = Fields {
            inode: self.inode(entry),
            mode: entry.stat.st_mode,
            uid: entry.stat.st_uid,
            gid: entry.stat.st_gid,
            links: if entry.kind == FileType::Directory {
                2
            } else {
                u32::try_from(entry.stat.st_nlink).unwrap_or(u32::MAX)
            },
            time: u32::try_from(entry.time(self.epoch)).unwrap_or(u32::MAX),
            size: u32::try_from(size).map_err(|_| too_large())?,
            device,
        };
        self.header(&name, fields)?;
        if has_content {
            entry.copy_content(&mut self.to, watch)?;
            self.written += size;
        } else {
            self.put(&target)?;
        }
        self.pad(4)
    }
}
