//! Mounts the whole root for the image of a full snapshot: without the files that the session itself adds, and only with attributes
//! that squashfs can store.
//!
//! The layers of a session were normalised before, and an image has only such attributes. A directory of the host, or a root from an
//! archive, can have others: times before 1970 or after 2106, and access control lists. Their files are changed in an overlay
//! of its own, above the layers.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, Stat, Timespec, Timestamps, linkat, mkdirat, statat, unlinkat, utimensat,
};
use rustix::io::Errno;

use super::{LowerLayer, Session, SessionError};
use crate::error::context;
use crate::fs::acl;
use crate::fs::in_root::open_beneath;
use crate::fs::list::entries;
use crate::fs::xattr::{XattrFile, XattrReader};
use crate::mount::{Mounted, mount_overlay};
use crate::runtime::spec::DEFAULT_MOUNT_POINTS;

/// The number of paths that are reported.
const MAX_REPORTED: usize = 10;

/// A whole root, mounted read-only.
#[derive(Debug)]
pub struct WholeRoot {
    /// The mount.
    pub mounted: Mounted,
    /// The files that had access control lists: the first ten, and the number of all.
    pub with_acl: (Vec<PathBuf>, u64),
}

impl Session<'_> {
    /// Mounts the whole root without the files that the session itself adds. If it lacks `/proc`, `/sys` or `/dev`, without which no
    /// system starts from it, they are added as empty directories. The session must not be running.
    ///
    /// # Errors
    /// See [`SessionError`].
    pub fn whole_root(&self, epoch: Option<u64>) -> Result<WholeRoot, SessionError> {
        let target = self.workspace.directory("whole")?;
        let (upper, work, empty) =
            (self.scratch.directory("upper")?, self.scratch.directory("work")?, self.scratch.directory("empty")?);
        {
            let layers = self.mount_layers(&self.workspace.directory("layers")?)?;
            let root = open(layers.path())?;
            super::skeleton::copy_attributes(root.as_fd(), Path::new("/"), &upper)
                .map_err(context("copy the attributes of the root directory"))?;
            drop(root);
            layers.close().map_err(SessionError::Busy)?;
        }
        let mut lowers: Vec<&Path> = self.lowers.iter().rev().map(LowerLayer::path).collect();
        if lowers.is_empty() {
            lowers.push(&empty);
        }
        let mounted = mount_overlay(&lowers, Some((&upper, &work)), &target, self.numbers())?;
        let root = open(mounted.path())?;
        let mut adapter = ImageAdapter {
            root: root.as_fd(),
            epoch,
            linked: HashMap::new(),
            reader: XattrReader::default(),
            with_acl: Default::default(),
        };
        adapter.add_mount_points().map_err(context("make /proc, /sys and /dev in the image"))?;
        if self.lowers.iter().any(LowerLayer::is_wider_than_squashfs) {
            adapter.adapt_all().map_err(context("make the root fit an image"))?;
        }
        let with_acl = adapter.with_acl;
        drop(root);
        mounted.make_read_only().map_err(context("make the root read-only"))?;
        Ok(WholeRoot { mounted, with_acl })
    }
}

fn open(path: &Path) -> io::Result<rustix::fd::OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

struct ImageAdapter<'a> {
    root: BorrowedFd<'a>,
    epoch: Option<u64>,
    /// The path of the first name of a changed file with several names, by its inode number: the changed file is a separate copy.
    linked: HashMap<(u64, u64), PathBuf>,
    reader: XattrReader,
    with_acl: (Vec<PathBuf>, u64),
}

impl ImageAdapter<'_> {
    fn add_mount_points(&mut self) -> io::Result<()> {
        let before = statat(self.root, ".", AtFlags::empty())?;
        for point in DEFAULT_MOUNT_POINTS {
            let name = point.trim_start_matches('/');
            match statat(self.root, name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => {
                    // Set explicitly, because the umask depends on how runner was started.
                    mkdirat(self.root, name, Mode::empty())?;
                    let made = open_at(self.root, name)?;
                    rustix::fs::fchmod(&made, Mode::from_raw_mode(0o755))?;
                    set_time(made.as_fd(), ".", self.storable_time(&before))?;
                }
                existing => drop(existing?),
            }
        }
        set_time(self.root, ".", self.storable_time(&before))
    }

    /// Changes all files that need it. It opens each directory by its path from the root: a changed directory of an overlay may have
    /// another inode number, and [`Walk`](crate::fs::walk::Walk) identifies directories by their numbers.
    fn adapt_all(&mut self) -> io::Result<()> {
        let mut remaining = vec![PathBuf::new()];
        while let Some(below) = remaining.pop() {
            let path = Path::new("/").join(&below);
            let with_path = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
            let directory = open_at(self.root, if below.as_os_str().is_empty() { Path::new(".") } else { &below })
                .map_err(with_path)?;
            let before = statat(&directory, ".", AtFlags::empty()).map_err(|error| with_path(error.into()))?;
            let mut relinked = false;
            for item in entries(directory.as_fd())? {
                let path = below.join(item.name());
                let with_path = |error: io::Error| {
                    io::Error::new(error.kind(), format!("{}: {error}", Path::new("/").join(&path).display()))
                };
                let (kind, linked) = self.entry(directory.as_fd(), item.name(), &path).map_err(with_path)?;
                relinked |= linked;
                if kind == FileType::Directory {
                    remaining.push(path);
                }
            }
            if relinked {
                set_time(directory.as_fd(), ".", self.storable_time(&before)).map_err(with_path)?;
            }
            if below.as_os_str().is_empty() {
                self.lists(directory.as_fd(), OsStr::new("."), Path::new(""))?;
            }
        }
        Ok(())
    }

    /// Changes one entry, if it needs it. Returns its type, and whether a hard link has replaced it.
    fn entry(&mut self, directory: BorrowedFd<'_>, name: &OsStr, path: &Path) -> io::Result<(FileType, bool)> {
        let stat = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        let several = (kind != FileType::Directory && stat.st_nlink > 1).then_some((stat.st_dev, stat.st_ino));
        if let Some(first) = several.and_then(|several| self.linked.get(&several)) {
            unlinkat(directory, name, AtFlags::empty())?;
            let (above, first) = (first.parent(), first.file_name().unwrap_or_default());
            let above = above.filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
            linkat(open_at(self.root, above)?, first, directory, name, AtFlags::empty())?;
            return Ok((kind, true));
        }
        let has_lists = kind != FileType::Symlink && self.lists(directory, name, path)?;
        let time = self.storable_time(&stat);
        let wrong_time = time.tv_sec != stat.st_mtime;
        if wrong_time {
            set_time(directory, name, time)?;
        }
        if let Some(several) = several.filter(|_| has_lists || wrong_time) {
            self.linked.insert(several, path.to_owned());
        }
        Ok((kind, false))
    }

    /// Removes access control lists, and returns whether the entry had any.
    fn lists(&mut self, directory: BorrowedFd<'_>, name: &OsStr, path: &Path) -> io::Result<bool> {
        if !self.reader.names(&XattrFile::entry(directory, name)?)?.iter().any(acl::is_list) {
            return Ok(false);
        }
        let stat = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
        acl::remove(directory, name)?;
        set_time(directory, name, self.storable_time(&stat))?;
        self.with_acl.1 += 1;
        if self.with_acl.0.len() < MAX_REPORTED {
            self.with_acl.0.push(Path::new("/").join(path));
        }
        Ok(true)
    }

    /// Returns the time of an entry, limited to the range that an image can store.
    fn storable_time(&self, stat: &Stat) -> Timespec {
        let most = i64::from(u32::MAX);
        let latest = self.epoch.and_then(|epoch| i64::try_from(epoch).ok()).map_or(most, |epoch| most.min(epoch));
        let time = |tv_sec, tv_nsec| Timespec { tv_sec, tv_nsec };
        match stat.st_mtime {
            ..0 => time(0, 0),
            seconds if seconds > most => time(latest, 0),
            seconds => time(seconds, stat.st_mtime_nsec as _),
        }
    }
}

fn open_at(directory: BorrowedFd<'_>, path: impl rustix::path::Arg) -> io::Result<rustix::fd::OwnedFd> {
    Ok(open_beneath(directory, path, OFlags::RDONLY | OFlags::DIRECTORY)?)
}

fn set_time(directory: BorrowedFd<'_>, name: impl rustix::path::Arg, time: Timespec) -> io::Result<()> {
    let times = Timestamps { last_access: time, last_modification: time };
    Ok(utimensat(directory, name, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}
