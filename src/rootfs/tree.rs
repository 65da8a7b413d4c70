//! Writes files of every type into a directory that is the root of all paths.
//!
//! The files may come from a hostile archive. So the directory of an entry is always opened by openat2(2) with
//! `RESOLVE_IN_ROOT`: a symlink on the way leads to the same file as after chroot(2), `..` in its target ends at the
//! root, and an absolute target starts from the root. The entry itself is made by its last name in that directory, by
//! calls that never follow a symlink. No other path is ever passed to the kernel.

mod below;

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, chmodat, chownat, fchmod, fchown, futimens,
    linkat, mkdirat, mknodat, openat, statat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;

use crate::fs::in_root;
use crate::fs::remove_tree::remove_tree_at;
use crate::fs::xattr::XattrFile;

use self::below::Below;

/// The metadata of an inode.
#[derive(Debug, Clone)]
pub(super) struct Meta {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Permission bits with setuid, setgid and sticky.
    pub(super) mode: u32,
    pub(super) mtime: Timespec,
    pub(super) xattrs: Vec<(CString, Vec<u8>)>,
}

impl Meta {
    /// Returns the default metadata with this mode: owned by root, from 1970.
    pub(super) fn plain(mode: u32) -> Self {
        Self { uid: 0, gid: 0, mode, mtime: Timespec { tv_sec: 0, tv_nsec: 0 }, xattrs: Vec::new() }
    }
}

/// A failed operation, in words that fit after "cannot", and the system's error.
#[derive(Debug)]
pub(super) struct TreeError {
    pub(super) action: String,
    pub(super) source: io::Error,
}

/// Adds the operation to the error of a system call.
trait Context<T> {
    fn context(self, action: &str) -> Result<T, TreeError>;
}

impl<T, E: Into<io::Error>> Context<T> for Result<T, E> {
    fn context(self, action: &str) -> Result<T, TreeError> {
        self.map_err(|error| TreeError { action: action.to_owned(), source: error.into() })
    }
}

/// Returns a path in the tree: names joined by one `/`, without `.`, `..` or a leading `/`; empty for the root itself.
///
/// The error describes the problem of the name.
pub(super) fn normalise(name: &[u8]) -> Result<Vec<u8>, &'static str> {
    if name.is_empty() {
        return Err("is empty");
    }
    if name.contains(&0) {
        return Err("has a NUL in it");
    }
    let mut path = Vec::with_capacity(name.len());
    for part in name.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return Err("leads upwards by `..`"),
            part => {
                if !path.is_empty() {
                    path.push(b'/');
                }
                path.extend_from_slice(part);
            }
        }
    }
    Ok(path)
}

/// Returns a path's directory and its last name.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

/// A tree that is being written. All paths are in the form that [`normalise`] returns.
pub(super) struct Tree {
    root: OwnedFd,
    /// The directory that was last written to: entries mostly come directory by directory.
    last: Option<(Vec<u8>, OwnedFd)>,
    /// The times of directories, in the order of their entries. A new entry changes its directory's time, so all times
    /// are set at the end.
    times: Vec<(Vec<u8>, Timespec)>,
    /// The directories that were there before, where the tree is on top of another one.
    below: Option<Below>,
}

impl Tree {
    /// Returns a tree in an empty directory, which has the default metadata until an entry describes it.
    pub(super) fn new(root: BorrowedFd<'_>) -> Result<Self, TreeError> {
        // The caller's descriptor may be an O_PATH one, which fchown(2) refuses.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(root, ".", flags, Mode::empty()).context("open the root")?;
        let mut tree = Self { root, last: None, times: Vec::new(), below: None };
        tree.directory(b"", &Meta::plain(0o755))?;
        Ok(tree)
    }

    /// Sets the times of the directories.
    pub(super) fn close(mut self) -> Result<(), TreeError> {
        self.last = None;
        let below = self.below.take().unwrap_or_default();
        let below = below.times.into_iter().map(|(path, mtime)| (path, mtime, OFlags::empty()));
        let own = std::mem::take(&mut self.times).into_iter().map(|(path, mtime)| (path, mtime, OFlags::NOFOLLOW));
        for (path, mtime, flag) in below.chain(own) {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | flag;
            match self.open_in_root(&path, flags) {
                Ok(directory) => futimens(directory, &both(mtime)).context("set a directory's time")?,
                // A later entry replaced it, or a directory above it.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(errno) => return Err(errno).context("open a directory to set its time"),
            }
        }
        Ok(())
    }

    /// Makes a directory, or uses an existing one. Any other file of that name, a symlink to a directory included, is
    /// replaced, as by GNU tar without `--keep-directory-symlink`.
    pub(super) fn directory(&mut self, path: &[u8], meta: &Meta) -> Result<(), TreeError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made;
        let directory = if path.is_empty() {
            self.root.as_fd()
        } else {
            let (parent, name) = split(path);
            if self.make_directory(parent, name)? == MakeResult::InTheWay {
                self.remove(parent, name)?;
                self.make_directory(parent, name)?;
            }
            made = openat(self.parent(parent)?, name, flags, Mode::empty()).context("open the directory")?;
            made.as_fd()
        };
        set_owner_mode_xattrs(directory, meta)?;
        let directory = directory.try_clone_to_owned().context("open the directory")?;
        self.know(path, directory.as_fd(), false)?;
        self.times.push((path.to_vec(), meta.mtime));
        Ok(())
    }

    /// Makes an empty regular file; [`Tree::finish`] sets its metadata when its content is written.
    pub(super) fn file(&mut self, path: &[u8]) -> Result<File, TreeError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let create =
            |directory: BorrowedFd<'_>, name: &[u8]| openat(directory, name, flags, Mode::from_raw_mode(0o600));
        self.replacing(path, "create the file", create).map(File::from)
    }

    /// Sets the owner, mode, attributes and time of a written file.
    pub(super) fn finish(file: &File, meta: &Meta) -> Result<(), TreeError> {
        set_owner_mode_xattrs(file.as_fd(), meta)?;
        futimens(file, &both(meta.mtime)).context("set the time")
    }

    /// Makes a symlink; its target may be any bytes.
    pub(super) fn symlink(&mut self, path: &[u8], target: &[u8], meta: &Meta) -> Result<(), TreeError> {
        self.replacing(path, "make the symlink", |directory, name| symlinkat(target, directory, name))?;
        self.finish_by_name(path, FileType::Symlink, meta)
    }

    /// Makes a fifo or a device node.
    pub(super) fn node(&mut self, path: &[u8], kind: FileType, device: u64, meta: &Meta) -> Result<(), TreeError> {
        let mode = Mode::from_raw_mode(0o600);
        self.replacing(path, "make the node", |directory, name| mknodat(directory, name, kind, mode, device))?;
        self.finish_by_name(path, kind, meta)
    }

    /// Makes another name for a file, whose path is resolved like that of an entry.
    pub(super) fn hard_link(&mut self, path: &[u8], target: &[u8]) -> Result<(), TreeError> {
        let (target_parent, target_name) = split(target);
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let target_directory =
            self.open_in_root(target_parent, flags).context("open the directory of the link's target")?;
        // An archive may link a name to itself; removing the name first would lose the file.
        let of_target =
            statat(&target_directory, target_name, AtFlags::SYMLINK_NOFOLLOW).context("find the link's target")?;
        let (parent, name) = split(path);
        match statat(self.parent(parent)?, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(there) if (there.st_dev, there.st_ino) == (of_target.st_dev, of_target.st_ino) => return Ok(()),
            _ => {}
        }
        self.replacing(path, "make the hard link", |directory, name| {
            linkat(&target_directory, target_name, directory, name, AtFlags::empty())
        })
    }

    /// Makes a file that is not a directory. A file of that name is removed before, unless it is a directory with
    /// files in it.
    fn replacing<T>(
        &mut self,
        path: &[u8],
        action: &str,
        make: impl Fn(BorrowedFd<'_>, &[u8]) -> rustix::io::Result<T>,
    ) -> Result<T, TreeError> {
        let (parent, name) = split(path);
        match make(self.parent(parent)?, name) {
            Err(Errno::EXIST) => {
                self.remove(parent, name)?;
                make(self.parent(parent)?, name).context(action)
            }
            result => result.context(action),
        }
    }

    /// Removes a file or an empty directory.
    fn remove(&mut self, parent: &[u8], name: &[u8]) -> Result<(), TreeError> {
        let is_on_top = self.below.is_some();
        let directory = self.parent(parent)?;
        match unlinkat(directory, name, AtFlags::empty()) {
            Err(Errno::ISDIR) if is_on_top => {
                remove_tree_at(directory, Path::new(OsStr::from_bytes(name))).context("replace a directory")?
            }
            Err(Errno::ISDIR) => {
                unlinkat(directory, name, AtFlags::REMOVEDIR).context("replace a directory that is not empty")?
            }
            result => result.context("replace the earlier entry of that name")?,
        }
        // It may have been the cached directory, or on the way to it.
        self.last = None;
        Ok(())
    }

    /// Sets the same metadata as [`Tree::finish`], on a file that cannot be opened for writing without side effects.
    fn finish_by_name(&mut self, path: &[u8], kind: FileType, meta: &Meta) -> Result<(), TreeError> {
        let (parent, name) = split(path);
        let directory = self.parent(parent)?;
        let (uid, gid) = (Uid::from_raw(meta.uid), Gid::from_raw(meta.gid));
        chownat(directory, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).context("set the owner")?;
        if kind != FileType::Symlink {
            // This call follows symlinks, but the name is the node that was just made, and no other process writes
            // here.
            chmodat(directory, name, Mode::from_raw_mode(meta.mode), AtFlags::empty()).context("set the mode")?;
        }
        if !meta.xattrs.is_empty() {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let inode = openat(directory, name, flags, Mode::empty()).context("open it to set attributes")?;
            let file = XattrFile::opened(inode.as_fd());
            for (key, value) in &meta.xattrs {
                file.set(key, value).context(&setting(key))?;
            }
        }
        utimensat(directory, name, &both(meta.mtime), AtFlags::SYMLINK_NOFOLLOW).context("set the time")
    }

    /// Returns the directory of a path, and makes it if it is missing.
    fn parent(&mut self, path: &[u8]) -> Result<BorrowedFd<'_>, TreeError> {
        if path.is_empty() {
            return Ok(self.root.as_fd());
        }
        if self.last.as_ref().is_none_or(|(last, _)| last != path) {
            let directory = match self.open_in_root(path, OFlags::PATH | OFlags::DIRECTORY) {
                Err(Errno::NOENT) => {
                    self.make_parents(path)?;
                    self.open_in_root(path, OFlags::PATH | OFlags::DIRECTORY)
                }
                result => result,
            };
            let directory = directory.context("open the directory that it is in")?;
            self.know(path, directory.as_fd(), true)?;
            self.last = Some((path.to_vec(), directory));
        }
        match &self.last {
            Some((_, directory)) => Ok(directory.as_fd()),
            None => Ok(self.root.as_fd()),
        }
    }

    /// Makes the missing directories of a path that no entry describes.
    fn make_parents(&mut self, path: &[u8]) -> Result<(), TreeError> {
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        for end in ends.chain([path.len()]).collect::<Vec<_>>() {
            let prefix = &path[..end];
            match self.open_in_root(prefix, OFlags::PATH | OFlags::DIRECTORY) {
                Ok(_) => continue,
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno).context("open the directory that it is in"),
            }
            let (parent, name) = split(prefix);
            let directory =
                self.open_in_root(parent, OFlags::PATH | OFlags::DIRECTORY).context("open a directory above it")?;
            // A dangling symlink exists and cannot be opened; making its target would be a guess.
            mkdirat(&directory, name, Mode::from_raw_mode(0o755)).context("make the directory that it is in")?;
            self.directory(prefix, &Meta::plain(0o755))?;
        }
        Ok(())
    }

    fn make_directory(&mut self, parent: &[u8], name: &[u8]) -> Result<MakeResult, TreeError> {
        let directory = self.parent(parent)?;
        match mkdirat(directory, name, Mode::from_raw_mode(0o700)) {
            Err(Errno::EXIST) => {
                let there = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).context("look at the earlier entry")?;
                Ok(match FileType::from_raw_mode(there.st_mode) {
                    FileType::Directory => MakeResult::Directory,
                    _ => MakeResult::InTheWay,
                })
            }
            result => result.context("make the directory").map(|()| MakeResult::Directory),
        }
    }

    fn open_in_root(&self, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
        in_root::open(&self.root, path, flags)
    }
}

#[derive(PartialEq, Eq)]
enum MakeResult {
    Directory,
    InTheWay,
}

/// Sets the owner first: chown(2) clears setuid bits and file capabilities.
fn set_owner_mode_xattrs(file: BorrowedFd<'_>, meta: &Meta) -> Result<(), TreeError> {
    fchown(file, Some(Uid::from_raw(meta.uid)), Some(Gid::from_raw(meta.gid))).context("set the owner")?;
    fchmod(file, Mode::from_raw_mode(meta.mode)).context("set the mode")?;
    for (key, value) in &meta.xattrs {
        XattrFile::open(file).set(key, value).context(&setting(key))?;
    }
    Ok(())
}

fn setting(key: &CString) -> String {
    format!("set the attribute {}", key.to_string_lossy().escape_debug())
}

fn both(mtime: Timespec) -> Timestamps {
    Timestamps { last_access: mtime, last_modification: mtime }
}
