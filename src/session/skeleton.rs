//! Makes the skeleton layer: the mount points that a root lacks, on a layer of their own, so that no snapshot contains them.
//!
//! It lies right below the writable directory, where no whiteout and no opaque directory of a layer can hide it. It also contains the
//! directories above a missing mount point, as exact copies, because an overlay shows the owner, mode, times and extended
//! attributes of the topmost one.

use std::ffi::OsStr;
use std::fs::{DirBuilder, File, Permissions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Timestamps, chmodat, chownat, stat, utimensat};

use super::{SessionError, scratch};
use crate::error::context;
use crate::fs::in_root::{self, Cover, ResolvedPath, resolve_covered};
use crate::fs::xattr::{XattrFile, XattrReader};
use crate::runtime::spec::DEFAULT_MOUNT_POINTS;

/// A mount point: its target, and whether it is a directory or a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountPoint {
    /// The absolute path in the manifest.
    pub target: PathBuf,
    /// Whether it must be a directory; otherwise a file.
    pub is_directory: bool,
    /// The file or directory that will be visible there, if it exists before it is mounted.
    pub content: Option<PathBuf>,
    /// The source on the host or the type of the mount, for errors.
    pub name: String,
}

/// Makes in `skeleton` the mount points that the root at `root` lacks for `points`; returns the real path of each target, with links
/// followed.
///
/// The runtime makes a mount point that lies in another mount.
///
/// # Errors
/// Where a target exists but has the wrong type, or cannot be made, or where a link leads it into the kernel's own filesystems.
pub fn prepare(root: &Path, skeleton: &Path, points: &[MountPoint]) -> Result<Vec<PathBuf>, SessionError> {
    let root = rustix::fs::open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(io::Error::from)?;
    let copied = copy_attributes(root.as_fd(), Path::new("/"), skeleton);
    copied.map_err(context("copy the attributes of the root directory"))?;
    let mut real: Vec<PathBuf> = Vec::new();
    let mut covers: Vec<Cover> = Vec::new();
    for point in points {
        let inside = match resolve_covered(root.as_fd(), &covers, &point.target) {
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Err(wrong(point, "below a file")),
            resolved => resolved.map_err(context(format_args!("mount target {}", point.target.display())))?,
        };
        let path = inside.path();
        refuse_kernels_own(&point.target, &path)?;
        check_kind(point, &inside)?;
        if !real.iter().any(|other| path != *other && path.starts_with(other)) {
            let made = make(root.as_fd(), skeleton, &inside, point.is_directory);
            made.map_err(context(format_args!("make the mount point {}", point.target.display())))?;
        }
        let open = |content: &PathBuf| rustix::fs::open(content, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
        let content = point.content.as_ref().map(open).transpose().map_err(io::Error::from)?;
        covers.push(Cover { at: path.clone(), content });
        real.push(path);
    }
    Ok(real)
}

/// Refuses a target that a link inside the root leads into /dev, /proc or /sys: a mount there can reveal to a step files that the
/// runtime hides, or replace mounts that it makes (CVE-2025-31133). The manifest may still name such a target itself.
fn refuse_kernels_own(target: &Path, real: &Path) -> io::Result<()> {
    let own = DEFAULT_MOUNT_POINTS.iter().find(|own| real.starts_with(own) && !target.starts_with(own));
    match own {
        None => Ok(()),
        Some(_) => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!(
                "mount target {} leads to {} by a link inside; remove that link from the rootfs, or write {1} as the target",
                target.display(),
                real.display()
            ),
        )),
    }
}

/// Refuses a target that is no directory but must be one, and the other way round.
fn check_kind(point: &MountPoint, inside: &ResolvedPath) -> Result<(), SessionError> {
    let is_directory = inside.kind == FileType::Directory;
    match inside.missing.is_empty() {
        true if is_directory && !point.is_directory => Err(wrong(point, "a directory")),
        true if !is_directory && point.is_directory => Err(wrong(point, "a file")),
        false if !is_directory => Err(wrong(point, "below a file")),
        _ => Ok(()),
    }
}

fn wrong(point: &MountPoint, found: &'static str) -> SessionError {
    let needed = if point.is_directory { "a directory" } else { "a file" };
    SessionError::Target { target: point.target.clone(), found, needed, name: point.name.clone() }
}

pub(super) fn make(
    root: rustix::fd::BorrowedFd<'_>,
    skeleton: &Path,
    inside: &ResolvedPath,
    is_directory: bool,
) -> io::Result<()> {
    let Some((last, above)) = inside.missing.split_last() else { return Ok(()) };
    let mut at = PathBuf::from("/");
    for name in inside.existing.components().skip(1) {
        at.push(name);
        let copy = below(skeleton, &at);
        if !copy.is_dir() {
            DirBuilder::new().create(&copy)?;
            copy_attributes(root, &at, &copy)?;
        }
    }
    for name in above {
        at.push(name);
        new_directory(&below(skeleton, &at))?;
    }
    at.push(last);
    let place = below(skeleton, &at);
    if is_directory {
        new_directory(&place)?;
    } else if !place.exists() {
        let file = File::options().write(true).create_new(true).open(&place)?;
        // Set explicitly, because the umask depends on how runner was started.
        file.set_permissions(Permissions::from_mode(0o644))?;
    }
    // To make an entry has changed the time of the directory above it.
    for ancestor in inside.existing.ancestors() {
        copy_times(root, ancestor, &below(skeleton, ancestor))?;
    }
    Ok(())
}

pub(super) fn below(skeleton: &Path, path: &Path) -> PathBuf {
    skeleton.join(path.strip_prefix("/").unwrap_or(path))
}

fn new_directory(path: &Path) -> io::Result<()> {
    match scratch::new_directory(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

/// Copies the owner, mode, extended attributes and times of the directory `path` inside `root` to `copy`.
///
/// # Errors
/// Where the scratch cannot store an attribute: tmpfs stores `user.*` since Linux 6.6, and `scratch: {disk: true}` any.
pub fn copy_attributes(root: rustix::fd::BorrowedFd<'_>, path: &Path, copy: &Path) -> io::Result<()> {
    let directory = open_directory(root, path)?;
    let stat = rustix::fs::fstat(&directory)?;
    chownat(
        CWD,
        copy,
        Some(rustix::fs::Uid::from_raw(stat.st_uid)),
        Some(rustix::fs::Gid::from_raw(stat.st_gid)),
        AtFlags::empty(),
    )?;
    chmodat(CWD, copy, Mode::from_raw_mode(stat.st_mode), AtFlags::empty())?;
    let attributes = XattrReader::default()
        .read(&XattrFile::open(directory.as_fd()), |name| !name.starts_with(b"trusted.overlay."))?;
    if !attributes.is_empty() {
        let place = rustix::fs::open(copy, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        let copy = XattrFile::opened(place.as_fd());
        for (name, value) in &attributes {
            copy.set(&name[..], value).map_err(|error| {
                io::Error::other(format!(
                    "the scratch cannot store the extended attribute {} of {}: {error}; `scratch: {{disk: true}}` may",
                    OsStr::from_bytes(name).display(),
                    path.display()
                ))
            })?;
        }
    }
    copy_times(root, path, copy)
}

fn copy_times(root: rustix::fd::BorrowedFd<'_>, path: &Path, copy: &Path) -> io::Result<()> {
    if stat(copy).is_err() {
        return Ok(());
    }
    let stat = rustix::fs::fstat(open_directory(root, path)?)?;
    let times = Timestamps {
        last_access: rustix::fs::Timespec { tv_sec: stat.st_atime, tv_nsec: stat.st_atime_nsec as _ },
        last_modification: rustix::fs::Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec as _ },
    };
    Ok(utimensat(CWD, copy, &times, AtFlags::empty())?)
}

fn open_directory(root: rustix::fd::BorrowedFd<'_>, path: &Path) -> io::Result<rustix::fd::OwnedFd> {
    Ok(in_root::open(root, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW)?)
}
