//! Inspects the files and the filesystems of a session, to explain the failure of a step.

use std::fs::read_dir;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat, statvfs};

use super::Session;
use crate::fs::in_root;
use crate::fs::xattr::XattrFile;
use crate::runtime::spec::DEFAULT_MOUNT_POINTS;

/// The number of entries of a directory that are inspected.
const MAX_ENTRIES: usize = 1000;

/// A file as a step sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileInside {
    /// Type and permissions, as in `st_mode`.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// The device number of a node.
    pub device: u64,
}

impl FileInside {
    /// Returns the file's type.
    pub fn file_type(&self) -> FileType {
        FileType::from_raw_mode(self.mode)
    }
}

/// The space of a filesystem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// The total number of bytes.
    pub bytes: u64,
    /// The number of free bytes.
    pub free_bytes: u64,
    /// The total number of files; 0 where the filesystem does not count them.
    pub files: u64,
    /// The number of files that can still be made.
    pub free_files: u64,
}

impl Space {
    /// Returns the space of the filesystem at a path; none where that cannot be read.
    pub fn of(path: &Path) -> Option<Self> {
        let status = statvfs(path).ok()?;
        Some(Self {
            bytes: status.f_blocks.saturating_mul(status.f_frsize),
            free_bytes: status.f_bavail.saturating_mul(status.f_frsize),
            files: status.f_files,
            free_files: status.f_favail,
        })
    }

    /// Returns whether almost nothing more can be written.
    pub fn is_full(&self) -> bool {
        const LITTLE: u64 = 1 << 20;
        self.free_bytes < LITTLE.min(self.bytes / 8) || self.has_no_files()
    }

    /// Returns whether no more files can be made.
    pub fn has_no_files(&self) -> bool {
        self.files > 0 && self.free_files == 0
    }
}

impl Session<'_> {
    /// Returns the `security.capability` of a file of the root, see capabilities(7); links are followed inside the root.
    pub fn file_capabilities(&self, path: &Path) -> Option<Vec<u8>> {
        let file = in_root::open(self.live().ok()?.root.as_fd(), path, OFlags::PATH).ok()?;
        XattrFile::opened(file.as_fd()).value("security.capability").ok()?
    }

    /// Returns the file at a path; links are followed inside the mount or the root that contains it. Returns none for a file that
    /// only the container itself has, as below `/dev`. The session must have been started.
    pub fn file(&self, path: &Path) -> Option<FileInside> {
        let prepared = self.prepared();
        let points = prepared.iter().map(|mount| mount.point());
        let above = points.filter(|point| path.starts_with(&point.target));
        let file = match above.max_by_key(|point| point.target.components().count()) {
            Some(point) => {
                let content =
                    openat(CWD, point.content.as_ref()?, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?;
                let below = path.strip_prefix(&point.target).ok()?;
                if below.as_os_str().is_empty() { content } else { in_root::open(content, below, OFlags::PATH).ok()? }
            }
            None if DEFAULT_MOUNT_POINTS.iter().any(|kernels| path.starts_with(kernels)) => return None,
            None => in_root::open(&self.live().ok()?.root, path, OFlags::PATH).ok()?,
        };
        let stat = fstat(file).ok()?;
        Some(FileInside { mode: stat.st_mode, uid: stat.st_uid, gid: stat.st_gid, device: stat.st_rdev })
    }

    /// Returns whether the lowest layer removes files of a layer below it: whether it has whiteouts, or opaque directories. Only its
    /// two topmost levels are inspected.
    pub fn lowest_layer_deletes(&self) -> bool {
        let top = self.lowers.first().map(|lowest| entries(lowest.path())).unwrap_or_default();
        let is_directory = |path: &&PathBuf| path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir());
        let below: Vec<PathBuf> = top.iter().filter(is_directory).flat_map(|path| entries(path)).collect();
        top.iter().chain(&below).any(|path| deletes(path))
    }

    /// Returns whether a path is in a directory that hides the store in a bind.
    pub fn hides_store(&self, path: &Path) -> bool {
        self.prepared().iter().any(|mount| mount.hides_store(path))
    }

    /// Returns the space of a mount of the container, by its target, or of the filesystem with the steps' changes.
    pub fn space(&self, target: Option<&Path>) -> Option<Space> {
        let place = match target {
            None => self.scratch.place().to_owned(),
            Some(target) => {
                let prepared = self.prepared();
                let mount = prepared.iter().find(|mount| mount.point().target == target)?;
                mount.point().content.clone()?
            }
        };
        Space::of(&place)
    }
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = read_dir(directory).into_iter().flatten().take(MAX_ENTRIES);
    entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
}

/// Returns whether a file of a layer is a whiteout, or an opaque directory.
fn deletes(path: &Path) -> bool {
    let Ok(metadata) = path.symlink_metadata() else { return false };
    let is_opaque = || -> Option<bool> {
        let place = openat(CWD, path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()).ok()?;
        Some(!XattrFile::opened(place.as_fd()).value("trusted.overlay.opaque").ok()??.is_empty())
    };
    (metadata.file_type().is_char_device() && metadata.rdev() == 0) || (metadata.is_dir() && is_opaque() == Some(true))
}
