//! Writes files of every type into a folder that is the root of all paths.
//!
//! What is written may come from a hostile archive. So the folder that an entry goes into is always opened by
//! openat2(2) with `RESOLVE_IN_ROOT`: a symlink on the way leads to where it would lead after chroot(2), `..` in its
//! target ends at the root, and an absolute target starts from the root. The entry itself is made by its last name in
//! that folder, by calls that never follow a symlink. No other path is ever handed to the kernel.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, chmodat, chownat, fchmod, fchown, futimens,
    linkat, mkdirat, mknodat, openat, statat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;

use crate::fs::in_root;
use crate::fs::xattr::XattrFile;

/// What an inode has beside its content.
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
    /// Of root, from 1970: what is not said otherwise.
    pub(super) fn plain(mode: u32) -> Self {
        Self { uid: 0, gid: 0, mode, mtime: Timespec { tv_sec: 0, tv_nsec: 0 }, xattrs: Vec::new() }
    }
}

/// What was tried, as it fits after "cannot", and what the system said.
#[derive(Debug)]
pub(super) struct TreeError {
    pub(super) doing: String,
    pub(super) source: io::Error,
}

/// Adds to a system call what it was for.
trait Doing<T> {
    fn context(self, doing: &str) -> Result<T, TreeError>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn context(self, doing: &str) -> Result<T, TreeError> {
        self.map_err(|error| TreeError { doing: doing.to_owned(), source: error.into() })
    }
}

/// A path in the tree: names joined by one `/`, without `.`, `..` or a leading `/`; empty for the root itself.
///
/// The error says what is wrong with the name.
pub(super) fn normalise(name: &[u8]) -> Result<Vec<u8>, &'static str> {
    if name.is_empty() {
        return Err("is empty");
    }
    if name.contains(&0) {
        return Err("holds a NUL");
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

/// A path's folder and its last name.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

/// A tree that is being written. Paths are as [`normalise`] gives them.
pub(super) struct Tree {
    root: OwnedFd,
    /// The folder that was written to last: entries mostly come folder by folder.
    last: Option<(Vec<u8>, OwnedFd)>,
    /// Folders in the order in which their times were said; what is made in a folder changes its time, so they are
    /// all set in the end.
    times: Vec<(Vec<u8>, Timespec)>,
}

impl Tree {
    /// A tree in an empty folder, which becomes an implied folder itself until an entry says more.
    pub(super) fn new(root: BorrowedFd<'_>) -> Result<Self, TreeError> {
        // The caller's descriptor may be an O_PATH one, which fchown(2) refuses.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(root, ".", flags, Mode::empty()).context("open the root")?;
        let mut tree = Self { root, last: None, times: Vec::new() };
        tree.folder(b"", &Meta::plain(0o755))?;
        Ok(tree)
    }

    /// Sets the folders' times.
    pub(super) fn close(mut self) -> Result<(), TreeError> {
        self.last = None;
        for (path, mtime) in std::mem::take(&mut self.times) {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
            match self.open_in_root(&path, flags) {
                Ok(folder) => futimens(folder, &both(mtime)).context("set a folder's time")?,
                // A later entry took its place, or that of a folder above it.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(errno) => return Err(errno).context("open a folder to set its time"),
            }
        }
        Ok(())
    }

    /// Makes a folder, or takes the one that is there. Anything else of that name, a symlink to a folder included, is
    /// replaced, as GNU tar does without `--keep-directory-symlink`.
    pub(super) fn folder(&mut self, path: &[u8], meta: &Meta) -> Result<(), TreeError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made;
        let folder = if path.is_empty() {
            self.root.as_fd()
        } else {
            let (parent, name) = split(path);
            if self.make_folder(parent, name)? == Made::InTheWay {
                self.remove(parent, name)?;
                self.make_folder(parent, name)?;
            }
            made = openat(self.parent(parent)?, name, flags, Mode::empty()).context("open the folder")?;
            made.as_fd()
        };
        set_owner_mode_xattrs(folder, meta)?;
        self.times.push((path.to_vec(), meta.mtime));
        Ok(())
    }

    /// Makes an empty regular file; [`Tree::finish`] gives it the rest when its content is written.
    pub(super) fn file(&mut self, path: &[u8]) -> Result<File, TreeError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let create = |folder: BorrowedFd<'_>, name: &[u8]| openat(folder, name, flags, Mode::from_raw_mode(0o600));
        self.replacing(path, "create the file", create).map(File::from)
    }

    /// Gives a file that is written its owner, mode, attributes and time.
    pub(super) fn finish(file: &File, meta: &Meta) -> Result<(), TreeError> {
        set_owner_mode_xattrs(file.as_fd(), meta)?;
        futimens(file, &both(meta.mtime)).context("set the time")
    }

    /// Makes a symlink; its target may be any bytes.
    pub(super) fn symlink(&mut self, path: &[u8], target: &[u8], meta: &Meta) -> Result<(), TreeError> {
        self.replacing(path, "make the symlink", |folder, name| symlinkat(target, folder, name))?;
        self.finish_by_name(path, FileType::Symlink, meta)
    }

    /// Makes a fifo or a device node.
    pub(super) fn node(&mut self, path: &[u8], kind: FileType, device: u64, meta: &Meta) -> Result<(), TreeError> {
        let mode = Mode::from_raw_mode(0o600);
        self.replacing(path, "make the node", |folder, name| mknodat(folder, name, kind, mode, device))?;
        self.finish_by_name(path, kind, meta)
    }

    /// Makes another name for a file, which is found as an entry of that name would be.
    pub(super) fn hard_link(&mut self, path: &[u8], target: &[u8]) -> Result<(), TreeError> {
        let (target_parent, target_name) = split(target);
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let target_folder = self.open_in_root(target_parent, flags).context("open the folder of the link's target")?;
        // An archive may link a name to itself; to remove it first would lose the file.
        let of_target =
            statat(&target_folder, target_name, AtFlags::SYMLINK_NOFOLLOW).context("find the link's target")?;
        let (parent, name) = split(path);
        match statat(self.parent(parent)?, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(there) if (there.st_dev, there.st_ino) == (of_target.st_dev, of_target.st_ino) => return Ok(()),
            _ => {}
        }
        self.replacing(path, "make the hard link", |folder, name| {
            linkat(&target_folder, target_name, folder, name, AtFlags::empty())
        })
    }

    /// Makes something that is not a folder; what has its name is removed before, if it is not a folder with
    /// something in it.
    fn replacing<T>(
        &mut self,
        path: &[u8],
        doing: &str,
        make: impl Fn(BorrowedFd<'_>, &[u8]) -> rustix::io::Result<T>,
    ) -> Result<T, TreeError> {
        let (parent, name) = split(path);
        match make(self.parent(parent)?, name) {
            Err(Errno::EXIST) => {
                self.remove(parent, name)?;
                make(self.parent(parent)?, name).context(doing)
            }
            result => result.context(doing),
        }
    }

    /// Removes a file or an empty folder.
    fn remove(&mut self, parent: &[u8], name: &[u8]) -> Result<(), TreeError> {
        let folder = self.parent(parent)?;
        match unlinkat(folder, name, AtFlags::empty()) {
            Err(Errno::ISDIR) => {
                unlinkat(folder, name, AtFlags::REMOVEDIR).context("replace a folder that is not empty")?
            }
            result => result.context("replace the earlier entry of that name")?,
        }
        // It may have been on the way to the cached folder, or that folder itself.
        self.last = None;
        Ok(())
    }

    /// Sets what [`Tree::finish`] sets, on what cannot be opened for writing without side effects.
    fn finish_by_name(&mut self, path: &[u8], kind: FileType, meta: &Meta) -> Result<(), TreeError> {
        let (parent, name) = split(path);
        let folder = self.parent(parent)?;
        let (uid, gid) = (Uid::from_raw(meta.uid), Gid::from_raw(meta.gid));
        chownat(folder, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).context("set the owner")?;
        if kind != FileType::Symlink {
            // Follows symlinks, but this name is the node that was just made, and nobody else writes here.
            chmodat(folder, name, Mode::from_raw_mode(meta.mode), AtFlags::empty()).context("set the mode")?;
        }
        if !meta.xattrs.is_empty() {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let inode = openat(folder, name, flags, Mode::empty()).context("open it to set attributes")?;
            let file = XattrFile::opened(inode.as_fd());
            for (key, value) in &meta.xattrs {
                file.set(key, value).context(&setting(key))?;
            }
        }
        utimensat(folder, name, &both(meta.mtime), AtFlags::SYMLINK_NOFOLLOW).context("set the time")
    }

    /// The folder of that path, made where it is missing.
    fn parent(&mut self, path: &[u8]) -> Result<BorrowedFd<'_>, TreeError> {
        if path.is_empty() {
            return Ok(self.root.as_fd());
        }
        if self.last.as_ref().is_none_or(|(last, _)| last != path) {
            let folder = match self.open_in_root(path, OFlags::PATH | OFlags::DIRECTORY) {
                Err(Errno::NOENT) => {
                    self.imply(path)?;
                    self.open_in_root(path, OFlags::PATH | OFlags::DIRECTORY)
                }
                result => result,
            };
            self.last = Some((path.to_vec(), folder.context("open the folder that it is in")?));
        }
        match &self.last {
            Some((_, folder)) => Ok(folder.as_fd()),
            None => Ok(self.root.as_fd()),
        }
    }

    /// Makes the missing folders of a path that nothing has said anything about.
    fn imply(&mut self, path: &[u8]) -> Result<(), TreeError> {
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        for end in ends.chain([path.len()]).collect::<Vec<_>>() {
            let prefix = &path[..end];
            match self.open_in_root(prefix, OFlags::PATH | OFlags::DIRECTORY) {
                Ok(_) => continue,
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno).context("open the folder that it is in"),
            }
            let (parent, name) = split(prefix);
            let folder =
                self.open_in_root(parent, OFlags::PATH | OFlags::DIRECTORY).context("open a folder above it")?;
            // A symlink to nowhere is there and cannot be opened; to make what it leads to would be a guess.
            mkdirat(&folder, name, Mode::from_raw_mode(0o755)).context("make the folder that it is in")?;
            self.folder(prefix, &Meta::plain(0o755))?;
        }
        Ok(())
    }

    fn make_folder(&mut self, parent: &[u8], name: &[u8]) -> Result<Made, TreeError> {
        let folder = self.parent(parent)?;
        match mkdirat(folder, name, Mode::from_raw_mode(0o700)) {
            Err(Errno::EXIST) => {
                let there = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).context("look at the earlier entry")?;
                Ok(match FileType::from_raw_mode(there.st_mode) {
                    FileType::Directory => Made::Folder,
                    _ => Made::InTheWay,
                })
            }
            result => result.context("make the folder").map(|()| Made::Folder),
        }
    }

    fn open_in_root(&self, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
        in_root::open(&self.root, path, flags)
    }
}

#[derive(PartialEq, Eq)]
enum Made {
    Folder,
    InTheWay,
}

/// Owner first: chown(2) clears setuid bits and file capabilities.
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
