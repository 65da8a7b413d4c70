//! The whole root as the image of a full snapshot holds it: without what the session itself puts there, and with nothing
//! that squashfs cannot hold.
//!
//! What a layer of a session holds was made so before (`normalise`), and an image cannot hold anything else. A directory of
//! the host, or a root made of an archive, can: times before 1970 or after 2106, and access control lists. What has them is
//! changed in an overlay of its own, above the layers.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, Stat, Timespec, Timestamps, linkat, mkdirat, statat, unlinkat, utimensat,
};
use rustix::io::Errno;

use super::{Lower, Session, SessionError};
use crate::error::context;
use crate::fs::acl;
use crate::fs::in_root::open_beneath;
use crate::fs::list::entries;
use crate::fs::xattr::{XattrFile, XattrReader};
use crate::mount::{Mounted, mount_overlay};
use crate::runtime::spec::DEFAULT_MOUNT_POINTS;

/// As many paths of a kind are reported.
const MAX_REPORTED: usize = 10;

/// A whole root, mounted read-only.
#[derive(Debug)]
pub struct Whole {
    /// Where.
    pub mounted: Mounted,
    /// What had access control lists: the first ten, and how many in all.
    pub with_acl: (Vec<PathBuf>, u64),
}

impl Session<'_> {
    /// The whole root without what the session itself puts there. Where it lacks `/proc`, `/sys` or `/dev`, without which
    /// no system starts from it, it has empty ones. The session must not be running.
    ///
    /// # Errors
    /// See [`SessionError`].
    pub fn whole(&self, epoch: Option<u64>) -> Result<Whole, SessionError> {
        let target = self.workspace.folder("whole")?;
        let (upper, work, empty) =
            (self.scratch.folder("upper")?, self.scratch.folder("work")?, self.scratch.folder("empty")?);
        {
            let view = self.view(&self.workspace.folder("view")?)?;
            let root = open(view.path())?;
            super::skeleton::copy_attributes(root.as_fd(), Path::new("/"), &upper)
                .map_err(context("copy the attributes of the root directory"))?;
            drop(root);
            view.close().map_err(SessionError::Busy)?;
        }
        let mut lowers: Vec<&Path> = self.lowers.iter().rev().map(Lower::path).collect();
        if lowers.is_empty() {
            lowers.push(&empty);
        }
        let mounted = mount_overlay(&lowers, Some((&upper, &work)), &target, self.numbers())?;
        let root = open(mounted.path())?;
        let mut fixed = Fixed {
            root: root.as_fd(),
            epoch,
            linked: HashMap::new(),
            reader: XattrReader::default(),
            with_acl: Default::default(),
        };
        fixed.add_mount_points().map_err(context("make /proc, /sys and /dev in the image"))?;
        if self.lowers.iter().any(Lower::is_wider_than_squashfs) {
            fixed.all().map_err(context("make the root fit an image"))?;
        }
        let with_acl = fixed.with_acl;
        drop(root);
        mounted.make_read_only().map_err(context("make the root read-only"))?;
        Ok(Whole { mounted, with_acl })
    }
}

fn open(path: &Path) -> io::Result<rustix::fd::OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

struct Fixed<'a> {
    root: BorrowedFd<'a>,
    epoch: Option<u64>,
    /// Where the first name of a changed file with several is, by the file's number: changed, it is a file of its own.
    linked: HashMap<(u64, u64), PathBuf>,
    reader: XattrReader,
    with_acl: (Vec<PathBuf>, u64),
}

impl Fixed<'_> {
    fn add_mount_points(&mut self) -> io::Result<()> {
        let before = statat(self.root, ".", AtFlags::empty())?;
        for point in DEFAULT_MOUNT_POINTS {
            let name = point.trim_start_matches('/');
            match statat(self.root, name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => {
                    // Not with the umask of whoever started runner.
                    mkdirat(self.root, name, Mode::empty())?;
                    let made = open_at(self.root, name)?;
                    rustix::fs::fchmod(&made, Mode::from_raw_mode(0o755))?;
                    set_time(made.as_fd(), ".", self.held(&before))?;
                }
                found => drop(found?),
            }
        }
        set_time(self.root, ".", self.held(&before))
    }

    /// Changes all that must be changed. It opens each directory by its path from the root: a directory of an overlay that was
    /// changed may have another number, and [`Walk`](crate::fs::walk::Walk) knows directories by their numbers.
    fn all(&mut self) -> io::Result<()> {
        let mut left = vec![PathBuf::new()];
        while let Some(below) = left.pop() {
            let path = Path::new("/").join(&below);
            let told = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
            let folder =
                open_at(self.root, if below.as_os_str().is_empty() { Path::new(".") } else { &below }).map_err(told)?;
            let before = statat(&folder, ".", AtFlags::empty()).map_err(|error| told(error.into()))?;
            let mut relinked = false;
            for item in entries(folder.as_fd())? {
                let path = below.join(item.name());
                let told = |error: io::Error| {
                    io::Error::new(error.kind(), format!("{}: {error}", Path::new("/").join(&path).display()))
                };
                let (kind, linked) = self.entry(folder.as_fd(), item.name(), &path).map_err(told)?;
                relinked |= linked;
                if kind == FileType::Directory {
                    left.push(path);
                }
            }
            if relinked {
                set_time(folder.as_fd(), ".", self.held(&before)).map_err(told)?;
            }
            if below.as_os_str().is_empty() {
                self.lists(folder.as_fd(), OsStr::new("."), Path::new(""))?;
            }
        }
        Ok(())
    }

    /// Changes one entry, if it must be; its type, and whether another name was put in its place.
    fn entry(&mut self, folder: BorrowedFd<'_>, name: &OsStr, path: &Path) -> io::Result<(FileType, bool)> {
        let stat = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        let several = (kind != FileType::Directory && stat.st_nlink > 1).then_some((stat.st_dev, stat.st_ino));
        if let Some(first) = several.and_then(|several| self.linked.get(&several)) {
            unlinkat(folder, name, AtFlags::empty())?;
            let (above, first) = (first.parent(), first.file_name().unwrap_or_default());
            let above = above.filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
            linkat(open_at(self.root, above)?, first, folder, name, AtFlags::empty())?;
            return Ok((kind, true));
        }
        let has_lists = kind != FileType::Symlink && self.lists(folder, name, path)?;
        let time = self.held(&stat);
        let wrong_time = time.tv_sec != stat.st_mtime;
        if wrong_time {
            set_time(folder, name, time)?;
        }
        if let Some(several) = several.filter(|_| has_lists || wrong_time) {
            self.linked.insert(several, path.to_owned());
        }
        Ok((kind, false))
    }

    /// Takes access control lists off, and says whether there were any.
    fn lists(&mut self, folder: BorrowedFd<'_>, name: &OsStr, path: &Path) -> io::Result<bool> {
        if !self.reader.names(&XattrFile::entry(folder, name)?)?.iter().any(acl::is_list) {
            return Ok(false);
        }
        let stat = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
        acl::remove(folder, name)?;
        set_time(folder, name, self.held(&stat))?;
        self.with_acl.1 += 1;
        if self.with_acl.0.len() < MAX_REPORTED {
            self.with_acl.0.push(Path::new("/").join(path));
        }
        Ok(true)
    }

    /// The time of an entry as the image holds it, if it can: one that it cannot hold is clamped.
    fn held(&self, stat: &Stat) -> Timespec {
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

fn open_at(folder: BorrowedFd<'_>, path: impl rustix::path::Arg) -> io::Result<rustix::fd::OwnedFd> {
    Ok(open_beneath(folder, path, OFlags::RDONLY | OFlags::DIRECTORY)?)
}

fn set_time(folder: BorrowedFd<'_>, name: impl rustix::path::Arg, time: Timespec) -> io::Result<()> {
    let times = Timestamps { last_access: time, last_modification: time };
    Ok(utimensat(folder, name, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}
