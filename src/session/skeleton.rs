//! The skeleton layer: mount points that a root lacks, on a layer of their own, so that no snapshot ever holds them.
//!
//! It lies right below the writable folder: there no whiteout and no opaque folder of a layer can hide it. The folders
//! above a missing mount point stand in it too, as exact copies, for in an overlay the topmost one's owner, mode, times
//! and extended attributes are seen.

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

/// Something to be mounted: where, and whether on a folder or on a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountPoint {
    /// As the manifest says it; absolute.
    pub target: PathBuf,
    /// Whether a folder is needed; a file otherwise.
    pub folder: bool,
    /// What will be seen there, if that can be looked at before it is mounted.
    pub content: Option<PathBuf>,
    /// The source on the host or the type of the mount, for errors.
    pub name: String,
}

/// Makes in `skeleton` what the root at `root` lacks for `points`; gives where each target really is, links followed.
///
/// A point that lies in another one's target is left to the runtime, which makes it inside that mount.
///
/// # Errors
/// Where a target is there but of the wrong kind, or cannot be one, or where a link leads it into the kernel's own
/// filesystems.
pub fn prepare(root: &Path, skeleton: &Path, points: &[MountPoint]) -> Result<Vec<PathBuf>, SessionError> {
    let root = rustix::fs::open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(io::Error::from)?;
    let copied = copy_attributes(root.as_fd(), Path::new("/"), skeleton);
    copied.map_err(context("copy the attributes of the root folder"))?;
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
            let made = make(root.as_fd(), skeleton, &inside, point.folder);
            made.map_err(context(format_args!("make the mount point {}", point.target.display())))?;
        }
        let open = |content: &PathBuf| rustix::fs::open(content, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
        let content = point.content.as_ref().map(open).transpose().map_err(io::Error::from)?;
        covers.push(Cover { at: path.clone(), content });
        real.push(path);
    }
    Ok(real)
}

/// Refuses a target that is led into /dev, /proc or /sys by a link of what is inside: a mount there can open to a step what
/// the runtime hides, or take the place of what it sets up (CVE-2025-31133). A manifest may write such a target itself.
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

/// Refuses a target that is no directory where one is to be mounted, and the other way round.
fn check_kind(point: &MountPoint, inside: &ResolvedPath) -> Result<(), SessionError> {
    let is_directory = inside.kind == FileType::Directory;
    match inside.missing.is_empty() {
        true if is_directory && !point.folder => Err(wrong(point, "a directory")),
        true if !is_directory && point.folder => Err(wrong(point, "a file")),
        false if !is_directory => Err(wrong(point, "below a file")),
        _ => Ok(()),
    }
}

fn wrong(point: &MountPoint, found: &'static str) -> SessionError {
    let wanted = if point.folder { "a directory" } else { "a file" };
    SessionError::Target { target: point.target.clone(), found, wanted, name: point.name.clone() }
}

pub(super) fn make(
    root: rustix::fd::BorrowedFd<'_>,
    skeleton: &Path,
    inside: &ResolvedPath,
    folder: bool,
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
        new_folder(&below(skeleton, &at))?;
    }
    at.push(last);
    let place = below(skeleton, &at);
    if folder {
        new_folder(&place)?;
    } else if !place.exists() {
        let file = File::options().write(true).create_new(true).open(&place)?;
        // Not with the umask of whoever started runner.
        file.set_permissions(Permissions::from_mode(0o644))?;
    }
    // Making an entry has changed the time of the folder above it.
    for ancestor in inside.existing.ancestors() {
        copy_times(root, ancestor, &below(skeleton, ancestor))?;
    }
    Ok(())
}

pub(super) fn below(skeleton: &Path, path: &Path) -> PathBuf {
    skeleton.join(path.strip_prefix("/").unwrap_or(path))
}

fn new_folder(path: &Path) -> io::Result<()> {
    match scratch::new_folder(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

/// Gives `copy` the owner, mode, extended attributes and times of the folder `path` inside `root`.
///
/// # Errors
/// Where the scratch cannot hold an attribute: tmpfs takes `user.*` from Linux 6.6 on, `scratch: {disk: true}` mends it.
pub fn copy_attributes(root: rustix::fd::BorrowedFd<'_>, path: &Path, copy: &Path) -> io::Result<()> {
    let folder = open_folder(root, path)?;
    let stat = rustix::fs::fstat(&folder)?;
    chownat(
        CWD,
        copy,
        Some(rustix::fs::Uid::from_raw(stat.st_uid)),
        Some(rustix::fs::Gid::from_raw(stat.st_gid)),
        AtFlags::empty(),
    )?;
    chmodat(CWD, copy, Mode::from_raw_mode(stat.st_mode), AtFlags::empty())?;
    let attributes =
        XattrReader::default().read(&XattrFile::open(folder.as_fd()), |name| !name.starts_with(b"trusted.overlay."))?;
    if !attributes.is_empty() {
        let place = rustix::fs::open(copy, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        let copy = XattrFile::opened(place.as_fd());
        for (name, value) in &attributes {
            copy.set(&name[..], value).map_err(|error| {
                io::Error::other(format!(
                    "the scratch does not take the extended attribute {} of {}: {error}; scratch: {{disk: true}} may",
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
    let stat = rustix::fs::fstat(open_folder(root, path)?)?;
    let times = Timestamps {
        last_access: rustix::fs::Timespec { tv_sec: stat.st_atime, tv_nsec: stat.st_atime_nsec as _ },
        last_modification: rustix::fs::Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec as _ },
    };
    Ok(utimensat(CWD, copy, &times, AtFlags::empty())?)
}

fn open_folder(root: rustix::fd::BorrowedFd<'_>, path: &Path) -> io::Result<rustix::fd::OwnedFd> {
    Ok(in_root::open(root, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW)?)
}
