//! Looks at the files and the filesystems of a session, to explain the failure of a step.

use std::fs::read_dir;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat, statvfs};

use super::Session;
use crate::fs::in_root;
use crate::fs::xattr::XattrFile;
use crate::runtime::spec::DEFAULT_MOUNT_POINTS;

/// As many entries of a directory are looked at.
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
    /// The number of a device node.
    pub device: u64,
}

impl FileInside {
    /// Returns its type.
    pub fn file_type(&self) -> FileType {
        FileType::from_raw_mode(self.mode)
    }
}

/// The room of a filesystem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Bytes in all.
    pub bytes: u64,
    /// Bytes that are free.
    pub free_bytes: u64,
    /// Files in all; 0 where they are not counted.
    pub files: u64,
    /// How many more files it takes.
    pub free_files: u64,
}

impl Space {
    /// Returns that of the filesystem at a path; none where it cannot be looked at.
    pub fn of(path: &Path) -> Option<Self> {
        let found = statvfs(path).ok()?;
        Some(Self {
            bytes: found.f_blocks.saturating_mul(found.f_frsize),
            free_bytes: found.f_bavail.saturating_mul(found.f_frsize),
            files: found.f_files,
            free_files: found.f_favail,
        })
    }

    /// Whether next to nothing more can be written.
    pub fn is_full(&self) -> bool {
        const LITTLE: u64 = 1 << 20;
        self.free_bytes < LITTLE.min(self.bytes / 8) || self.has_no_files()
    }

    /// Whether no more files can be made.
    pub fn has_no_files(&self) -> bool {
        self.files > 0 && self.free_files == 0
    }
}

impl Session<'_> {
    /// The `security.capability` of a file of the root, see capabilities(7), links followed inside it.
    pub fn file_capabilities(&self, path: &Path) -> Option<Vec<u8>> {
        let file = in_root::open(self.live().ok()?.root.as_fd(), path, OFlags::PATH).ok()?;
        XattrFile::opened(file.as_fd()).value("security.capability").ok()?
    }

    /// Returns the file at a path, links followed inside the mount or the root that it is in; none where only the container
    /// itself has it, as below `/dev`. The session must have been started.
    pub fn file(&self, path: &Path) -> Option<FileInside> {
        let points = self.mounts.ready().iter().map(|mount| mount.point());
        let above = points.filter(|point| path.starts_with(&point.target));
        let file = match above.max_by_key(|point| point.target.components().count()) {
            Some(point) => {
                let content =
                    openat(CWD, point.content.as_ref()?, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?;
                let rest = path.strip_prefix(&point.target).ok()?;
                if rest.as_os_str().is_empty() { content } else { in_root::open(content, rest, OFlags::PATH).ok()? }
            }
            None if DEFAULT_MOUNT_POINTS.iter().any(|kernels| path.starts_with(kernels)) => return None,
            None => in_root::open(&self.live().ok()?.root, path, OFlags::PATH).ok()?,
        };
        let found = fstat(file).ok()?;
        Some(FileInside { mode: found.st_mode, uid: found.st_uid, gid: found.st_gid, device: found.st_rdev })
    }

    /// Whether the lowest layer removes files that one below it would have: it has whiteouts, or directories that hide what
    /// is below. Only its two topmost levels are looked at.
    pub fn lowest_layer_deletes(&self) -> bool {
        let top = self.lowers.first().map(|lowest| entries(lowest.path())).unwrap_or_default();
        let is_directory = |path: &&PathBuf| path.symlink_metadata().is_ok_and(|found| found.is_dir());
        let below: Vec<PathBuf> = top.iter().filter(is_directory).flat_map(|path| entries(path)).collect();
        top.iter().chain(&below).any(|path| deletes(path))
    }

    /// Whether a path is in a directory that hides the store in a bind.
    pub fn hides_store(&self, path: &Path) -> bool {
        self.mounts.ready().iter().any(|mount| mount.hides_store(path))
    }

    /// Returns the room of the filesystem that a mount of the container brings, by its target, or of the one where the changes
    /// of the steps live.
    pub fn space(&self, target: Option<&Path>) -> Option<Space> {
        let place = match target {
            None => self.scratch.place(),
            Some(target) => {
                let mount = self.mounts.ready().iter().find(|mount| mount.point().target == target)?;
                mount.point().content.as_deref()?
            }
        };
        Space::of(place)
    }
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = read_dir(directory).into_iter().flatten().take(MAX_ENTRIES);
    entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
}

/// Whether a file of a layer is a whiteout, or a directory that hides what is below it.
fn deletes(path: &Path) -> bool {
    let Ok(found) = path.symlink_metadata() else { return false };
    let is_opaque = || -> Option<bool> {
        let place = openat(CWD, path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()).ok()?;
        Some(!XattrFile::opened(place.as_fd()).value("trusted.overlay.opaque").ok()??.is_empty())
    };
    (found.file_type().is_char_device() && found.rdev() == 0) || (found.is_dir() && is_opaque() == Some(true))
}
