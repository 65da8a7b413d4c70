//! Copies files of one root to a place in another one, where other files already are. Both roots are hostile: each path is resolved
//! inside its root, and no link below the source or the target is followed.
//!
//! Each directory is opened by its path from the top: a changed directory of an overlay may have another inode number, by which
//! [`Descent`](super::descent::Descent) recognises it.

mod error;
mod place;

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Stat, Uid, chmodat, chownat, fchmod, fchown, fstat, futimens, linkat,
    mkdirat, mknodat, openat, readlinkat, statat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;

use super::copy_tree::{CHUNK, copy_data, has_time, times};
use super::dirfd::path_of;
use super::in_root::{open_beneath, shorten};
use super::list::entries;
use super::regular::reopen;
use super::xattr::{XattrFile, XattrReader};
pub use error::CopyError;
use error::at;
pub use place::{Source, Target};

/// The mode of directories that the manifest names and that no source has.
const MODE_OF_PARENTS: u32 = 0o755;

/// The rules of a copy.
pub struct Rules<'a> {
    /// The owner of all copies; default: that of the source.
    pub owner: Option<(u32, u32)>,
    /// The permission bits of copied files; default: those of the source.
    pub mode: Option<u32>,
    /// Whether an extended attribute of that name is copied.
    pub has_attribute: fn(&[u8]) -> bool,
    /// Whether the file at a path below the source is copied.
    pub is_wanted: &'a dyn Fn(&Path) -> bool,
    /// Called before each entry and each piece of a file; its error ends the copy.
    pub check: &'a dyn Fn() -> io::Result<()>,
}

/// The result of a copy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Copied {
    /// The number of files of all types but directories.
    pub files: u64,
    /// The number of bytes in regular files.
    pub bytes: u64,
}

/// Copies sources into one root, one after the other. Files with several names among all of them keep these names.
pub struct Copier<'a> {
    target: Target<'a>,
    rules: Rules<'a>,
    /// The path in the root of the first name of each file with several names, by device and inode of the source.
    linked: HashMap<(u64, u64), PathBuf>,
    /// The directories that were made, with the stat of their source.
    made: Vec<(PathBuf, Stat)>,
    buffer: Vec<u8>,
    attributes: XattrReader,
    copied: Copied,
}

impl<'a> Copier<'a> {
    /// Makes one that copies into that root.
    pub fn new(target: Target<'a>, rules: Rules<'a>) -> Self {
        Self {
            target,
            rules,
            linked: HashMap::new(),
            made: Vec::new(),
            buffer: vec![0; CHUNK],
            attributes: XattrReader::default(),
            copied: Copied::default(),
        }
    }

    /// Copies a source to `place`, a path in the root: a directory's content into the directory there, and any other file to this
    /// path. `is_directory`: the parent of `place` was named as a directory.
    ///
    /// # Errors
    /// See [`CopyError`].
    pub fn copy(&mut self, source: &Source, place: &Path) -> Result<(), CopyError> {
        if source.kind() == FileType::Directory {
            let top = self.directory(source, place)?;
            return self.content_of(source, &top);
        }
        let (above, name) = match (place.parent(), place.file_name()) {
            (Some(above), Some(name)) => (above, name),
            // The root itself is a directory.
            _ => (place, source.name().unwrap_or_default()),
        };
        let above = self.parents(above)?;
        let path = above.join(name);
        self.refuse_mount_point(&path)?;
        let to = self.target.open(&above).map_err(at(&above))?;
        self.entry(source.file(), to.as_fd(), name, &path).map_err(|error| error.of(source.path()))?;
        Ok(())
    }

    /// Gives the directories that were made their times, which each file in them has changed. Returns the number of copied files.
    ///
    /// # Errors
    /// See [`CopyError`].
    pub fn finish(mut self) -> Result<Copied, CopyError> {
        for (path, stat) in std::mem::take(&mut self.made).into_iter().rev() {
            let set = || -> io::Result<()> {
                let directory = self.target.open(&path)?;
                futimens(&directory, &times(&stat))?;
                has_time(directory.as_fd(), OsStr::new("."), &stat)
            };
            set().map_err(at(&path))?;
        }
        Ok(self.copied)
    }

    /// Returns the real path of the directory at `place`, which a directory of the source becomes. Links on the way are followed.
    fn directory(&mut self, source: &Source, place: &Path) -> Result<PathBuf, CopyError> {
        let found = self.target.resolve(place)?;
        if found.missing.is_empty() {
            return match found.kind {
                FileType::Directory => Ok(found.existing),
                _ => Err(CopyError::NotADirectory { path: found.existing }),
            };
        }
        let whole = found.path();
        let (Some(above), Some(name)) = (whole.parent(), whole.file_name()) else { return Ok(whole) };
        let above = self.parents(above)?;
        let to = self.target.open(&above).map_err(at(&above))?;
        let path = above.join(name);
        self.refuse_mount_point(&path)?;
        self.entry(source.file(), to.as_fd(), name, &path).map_err(|error| error.of(source.path()))?;
        Ok(path)
    }

    /// Returns the real path of a directory of the target, and makes it and its parents where they are missing.
    fn parents(&mut self, place: &Path) -> Result<PathBuf, CopyError> {
        let found = self.target.resolve(place)?;
        if found.kind != FileType::Directory {
            return Err(CopyError::NotADirectory { path: found.existing });
        }
        self.refuse_mount_point(&found.existing)?;
        let mut path = found.existing;
        for name in found.missing {
            let make = |path: &Path| -> io::Result<()> {
                let above = self.target.open(path)?;
                mkdirat(&above, &name, Mode::RWXU)?;
                let made = openat(&above, &name, DIRECTORY, Mode::empty())?;
                let (uid, gid) = self.rules.owner.unwrap_or_default();
                fchown(&made, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
                Ok(fchmod(&made, Mode::from_raw_mode(MODE_OF_PARENTS))?)
            };
            make(&path).map_err(at(&path.join(&name)))?;
            path.push(&name);
            self.refuse_mount_point(&path)?;
        }
        Ok(path)
    }

    fn refuse_mount_point(&self, path: &Path) -> Result<(), CopyError> {
        match self.target.mount_above(path) {
            Some(mount) => Err(CopyError::InMount { path: path.to_owned(), mount: mount.to_owned() }),
            None => Ok(()),
        }
    }

    /// Copies the entries of a directory, and all that is below them, to the directory `top` of the target.
    fn content_of(&mut self, source: &Source, top: &Path) -> Result<(), CopyError> {
        let mut open = vec![PathBuf::new()];
        while let Some(below) = open.pop() {
            let from = source.directory(&below).map_err(source.at(&below))?;
            let into = top.join(&below);
            if self.target.mount_above(&into).is_some() {
                // An empty directory in the place of a mount point is the mount point.
                if self.target.is_kernels_own(&into) || entries(from.as_fd()).is_ok_and(|entries| entries.is_empty()) {
                    continue;
                }
                self.refuse_mount_point(&into)?;
            }
            let to = self.target.open(&into).map_err(at(&into))?;
            for entry in entries(from.as_fd()).map_err(|error| source.at(&below)(error.into()))? {
                let path = below.join(entry.name());
                if !(self.rules.is_wanted)(&path) {
                    continue;
                }
                let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file = openat(&from, entry.name(), flags, Mode::empty());
                let file = file.map_err(|error| source.at(&path)(error.into()))?;
                let made = self.entry(file.as_fd(), to.as_fd(), entry.name(), &into.join(entry.name()));
                if made.map_err(|error| error.of(&source.path().join(&path)))? == FileType::Directory {
                    open.push(path);
                }
            }
        }
        Ok(())
    }

    /// Copies one file to a name in a directory of the target; of a directory, only the directory itself. `path` is its path in the
    /// target's root. Returns the type of the source.
    fn entry(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        name: &OsStr,
        path: &Path,
    ) -> Result<FileType, CopyError> {
        (self.rules.check)().map_err(CopyError::Stopped)?;
        let stat = fstat(from).map_err(|error| at(path)(error.into()))?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if self.target.mount_above(path).is_some() && kind != FileType::Directory {
            self.refuse_mount_point(path)?;
        }
        let existing = match statat(to, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => None,
            existing => Some(FileType::from_raw_mode(existing.map_err(|error| at(path)(error.into()))?.st_mode)),
        };
        match (kind, existing) {
            (FileType::Directory, Some(FileType::Directory)) => return Ok(kind),
            (FileType::Directory, Some(FileType::Symlink)) => {
                let leads_to = readlinkat(to, name, Vec::new()).unwrap_or_default();
                return Err(CopyError::link(path, &leads_to));
            }
            (FileType::Directory, Some(_)) => return Err(CopyError::NotADirectory { path: path.to_owned() }),
            (_, Some(FileType::Directory)) => return Err(CopyError::IsADirectory { path: path.to_owned() }),
            // A file is replaced, and not written to: it may have other names.
            (_, Some(_)) => unlinkat(to, name, AtFlags::empty()).map_err(|error| at(path)(error.into()))?,
            (_, None) => {}
        }
        self.make(from, to, name, path, &stat, kind).map_err(at(path))?;
        if kind != FileType::Directory {
            self.copied.files += 1;
        }
        Ok(kind)
    }

    fn make(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        name: &OsStr,
        path: &Path,
        stat: &Stat,
        kind: FileType,
    ) -> io::Result<()> {
        if kind != FileType::Directory && stat.st_nlink > 1 {
            let first = self.linked.entry((stat.st_dev, stat.st_ino)).or_insert_with(|| path.to_owned()).clone();
            if first != path {
                return self.link(&first, to, name);
            }
        }
        let (uid, gid) = self.rules.owner.unwrap_or((stat.st_uid, stat.st_gid));
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        match kind {
            FileType::Directory => {
                mkdirat(to, name, Mode::RWXU)?;
                let made = openat(to, name, DIRECTORY, Mode::empty())?;
                self.made.push((path.to_owned(), *stat));
                // A change of owner removes capabilities and setuid bits, so it comes first.
                fchown(&made, uid, gid)?;
                self.attributes(from, made.as_fd())?;
                Ok(fchmod(&made, self.mode_of_directory(stat))?)
            }
            FileType::RegularFile => {
                let source = reopen(from)?;
                let made = openat(to, name, NEW_FILE, Mode::RUSR | Mode::WUSR)?;
                let check = self.rules.check;
                let copied = &mut self.copied.bytes;
                copy_data(source, File::from(made.try_clone()?), &mut self.buffer, |count| {
                    *copied += count as u64;
                    check()
                })?;
                fchown(&made, uid, gid)?;
                self.attributes(from, made.as_fd())?;
                fchmod(&made, self.rules.mode.map_or(Mode::from_raw_mode(stat.st_mode), Mode::from_raw_mode))?;
                futimens(&made, &times(stat))?;
                has_time(to, name, stat)
            }
            FileType::Symlink => {
                symlinkat(readlinkat(from, c"", Vec::new())?.as_c_str(), to, name)?;
                chownat(to, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
                utimensat(to, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)?;
                has_time(to, name, stat)
            }
            kind => {
                mknodat(to, name, kind, Mode::empty(), stat.st_rdev)?;
                chownat(to, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
                // By its descriptor, so that no link that has replaced it is followed.
                let made = openat(to, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
                self.attributes_of(&XattrFile::opened(from), &XattrFile::opened(made.as_fd()))?;
                chmodat(rustix::fs::CWD, path_of(made.as_fd()), Mode::from_raw_mode(stat.st_mode), AtFlags::empty())?;
                utimensat(to, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)?;
                has_time(to, name, stat)
            }
        }
    }

    /// Returns the mode of a copied directory: whoever may read it may also search it.
    fn mode_of_directory(&self, stat: &Stat) -> Mode {
        let mode = self.rules.mode.map(|mode| mode | (mode & 0o444) >> 2);
        mode.map_or(Mode::from_raw_mode(stat.st_mode), Mode::from_raw_mode)
    }

    /// Gives the file with the path `first` in the target's root another name.
    fn link(&self, first: &Path, to: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
        let (Some(above), Some(first)) = (first.parent(), first.file_name()) else { return Err(Errno::NOENT.into()) };
        Ok(linkat(self.target.open(above)?, first, to, name, AtFlags::empty())?)
    }

    fn attributes(&mut self, from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
        self.attributes_of(&XattrFile::opened(from), &XattrFile::open(to))
    }

    fn attributes_of(&mut self, from: &XattrFile<'_>, to: &XattrFile<'_>) -> io::Result<()> {
        for name in self.attributes.names(from)?.iter().filter(|name| (self.rules.has_attribute)(name)) {
            to.set(name, self.attributes.value(from, name)?).map_err(|error| error::attribute(name, error))?;
        }
        Ok(())
    }
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const NEW_FILE: OFlags =
    OFlags::WRONLY.union(OFlags::CREATE).union(OFlags::EXCL).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Opens the directory at a path of any length below `top`. No link is followed.
fn open_directory(top: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let below = path.strip_prefix("/").unwrap_or(path);
    let (directory, rest) =
        shorten(top, below, |from, piece| open_beneath(from, piece, OFlags::PATH | OFlags::DIRECTORY))?;
    Ok(open_beneath(directory.as_ref().map_or(top, AsFd::as_fd), rest, flags)?)
}

#[cfg(test)]
mod tests;
