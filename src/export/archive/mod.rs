//! Archives: the entries of a directory in a fixed order, each written by the format.
//!
//! A directory is followed by its files, sorted by the bytes of their names, and then by its directories, each with all that is in
//! it: programs that unpack set the time of a directory when they leave it. Of a file with several names, all but the first are links
//! to the first. So the same directory gives the same bytes.

pub mod cpio;
pub mod tar;

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, openat, readlinkat, statat};

use super::watch::Watch;
use crate::fs::regular;
use crate::fs::walk::{MountPoints, Walk};
use crate::fs::xattr::{XattrFile, XattrReader};

/// The beginnings of the names of attributes that are archived, as in squashfs images.
const ATTRIBUTES: [&[u8]; 3] = [b"user.", b"trusted.", b"security."];

/// The bytes of a file that are copied at once.
const CHUNK: usize = 64 << 10;

/// An entry of a directory that is archived.
#[derive(Clone)]
pub struct Entry<'a> {
    directory: BorrowedFd<'a>,
    name: &'a OsStr,
    /// The path from the top; empty for the top itself.
    pub path: &'a Path,
    pub stat: Stat,
    pub kind: FileType,
    /// The path of its first name, where that is another one.
    pub first_name: Option<&'a Path>,
    /// Its extended attributes, by name.
    pub attributes: Vec<(Vec<u8>, Vec<u8>)>,
}

/// A format.
pub trait Archive {
    /// Writes an entry. A file's content is read from it.
    fn entry(&mut self, entry: &Entry<'_>, watch: &mut Watch<'_>) -> io::Result<()>;
}

impl Entry<'_> {
    /// Returns the target of a link.
    pub fn target(&self) -> io::Result<Vec<u8>> {
        Ok(readlinkat(self.directory, self.name, Vec::new())?.into_bytes())
    }

    /// Copies the content of a file, of exactly the size that its entry has.
    pub fn copy_content(&self, to: &mut dyn Write, watch: &mut Watch<'_>) -> io::Result<()> {
        // The file may be a fifo by now only where a process is left that can change the tree.
        let place =
            openat(self.directory, self.name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        let mut from = regular::reopen(place.as_fd())?;
        let (mut left, mut buffer) = (self.size(), vec![0; CHUNK]);
        while left > 0 {
            let most = buffer.len().min(usize::try_from(left).unwrap_or(CHUNK));
            let count = from.read(&mut buffer[..most])?;
            if count == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it has become shorter while it was read"));
            }
            to.write_all(&buffer[..count])?;
            left -= count as u64;
            watch.read(count as u64)?;
        }
        Ok(())
    }

    /// Returns the size of a file's content.
    pub fn size(&self) -> u64 {
        u64::try_from(self.stat.st_size).unwrap_or(0)
    }

    /// Returns the time of the last change in whole seconds, not later than the epoch.
    pub fn time(&self, epoch: super::Epoch) -> u64 {
        let seconds = u64::try_from(self.stat.st_mtime).unwrap_or(0);
        epoch.map_or(seconds, |epoch| seconds.min(epoch))
    }
}

/// Archives a directory with everything in it.
///
/// # Errors
/// Those of reading and writing, with the path.
pub fn walk(top: &Path, archive: &mut dyn Archive, watch: &mut Watch<'_>) -> io::Result<()> {
    let top = File::from(rustix::fs::open(
        top,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )?);
    let mut reader = Reader { archive, watch, attributes: XattrReader::default(), names: HashMap::new() };
    let mut walk = Walk::new(top.as_fd(), MountPoints::Refuse);
    while walk.advance().map_err(|error| told(walk.path(), error))? {
        reader.entry(walk.fd(), OsStr::new("."), walk.path()).map_err(|error| told(walk.path(), error))?;
        let mut entries = walk.entries().map_err(|error| told(walk.path(), error))?;
        entries.sort_unstable_by(|one, other| one.name().cmp(other.name()));
        let mut directories = Vec::new();
        for entry in entries {
            let path = walk.path().join(entry.name());
            let kind = entry.kind(walk.fd()).map_err(|error| told(&path, error.into()))?;
            if kind == FileType::Directory {
                directories.push(entry.into_name());
            } else {
                reader.entry(walk.fd(), entry.name(), &path).map_err(|error| told(&path, error))?;
            }
        }
        // The walk continues with the one that it was given last.
        directories.into_iter().rev().for_each(|name| walk.enter(name));
    }
    Ok(())
}

fn told(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", Path::new("/").join(path).display().to_string().escape_debug()))
}

struct Reader<'a, 'w> {
    archive: &'a mut dyn Archive,
    watch: &'a mut Watch<'w>,
    attributes: XattrReader,
    /// The first names of files with several.
    names: HashMap<(u64, u64), PathBuf>,
}

impl Reader<'_, '_> {
    fn entry(&mut self, directory: BorrowedFd<'_>, name: &OsStr, path: &Path) -> io::Result<()> {
        self.watch.check()?;
        let stat = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        let several = (kind != FileType::Directory && stat.st_nlink > 1).then_some((stat.st_dev, stat.st_ino));
        let first_name = several.and_then(|several| self.names.get(&several));
        let is_archived = |name: &[u8]| ATTRIBUTES.iter().any(|prefix| name.starts_with(prefix));
        let mut attributes = match first_name {
            Some(_) => Vec::new(),
            None => self.attributes.read(&XattrFile::entry(directory, name)?, is_archived)?,
        };
        attributes.sort_unstable();
        let entry =
            Entry { directory, name, path, stat, kind, first_name: first_name.map(PathBuf::as_path), attributes };
        self.archive.entry(&entry, self.watch)?;
        if let Some(several) = several {
            self.names.entry(several).or_insert_with(|| path.to_owned());
        }
        Ok(())
    }
}

/// Returns the bytes of a path.
fn bytes(path: &Path) -> Vec<u8> {
    path.as_os_str().to_owned().into_vec()
}
