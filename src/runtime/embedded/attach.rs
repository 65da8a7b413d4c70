//! Mounts of a container: each made apart from any path, then put on a descriptor that was resolved inside the root.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci_spec::runtime::Mount;
use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, mkdirat, openat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

use super::options::Options;
use crate::error::doing;
use crate::fs::in_root::{self, resolve};
use crate::sys::{self, MountChange};

/// Mounts what config.json says at its place inside `root`.
///
/// # Errors
/// With the target, where the kernel refuses the mount or there is no place for it.
pub fn attach(root: BorrowedFd<'_>, mount: &Mount) -> io::Result<()> {
    let target = mount.destination();
    let attach = || -> io::Result<()> {
        let options = Options::of(mount);
        let made = match mount.typ().as_deref() {
            Some("bind") => bind(mount.source().as_deref(), &options.clone().without_data()?)?,
            kind => filesystem(kind.unwrap_or_default(), mount.source().as_deref(), &options.data)?,
        };
        let is_directory = FileType::from_raw_mode(fstat(&made)?.st_mode) == FileType::Directory;
        change(made.as_fd(), &options)?;
        put(made.as_fd(), place(root, target, is_directory)?.as_fd())
    };
    attach().map_err(doing(format_args!("mount {}", target.display())))
}

/// A copy of the mount that is seen at `source`, for this namespace alone.
fn bind(source: Option<&Path>, options: &Options) -> io::Result<OwnedFd> {
    let source = source.ok_or_else(|| io::Error::other("the bind has no source"))?;
    let recursive = if options.recursive { OpenTreeFlags::AT_RECURSIVE } else { OpenTreeFlags::empty() };
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | recursive;
    open_tree(CWD, source, flags).map_err(doing(format_args!("bind {}", source.display())))
}

/// A filesystem of the kernel, mounted anew.
///
/// # Errors
/// `ENODEV` where the kernel does not have it, `EINVAL` for an option that it refuses.
pub fn filesystem(kind: &str, source: Option<&Path>, data: &[(String, Option<String>)]) -> io::Result<OwnedFd> {
    let context =
        fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).map_err(doing(format_args!("find the filesystem {kind}")))?;
    if let Some(source) = source {
        fsconfig_set_string(context.as_fd(), "source", source)?;
    }
    for (key, value) in data {
        let set = match value {
            Some(value) => fsconfig_set_string(context.as_fd(), key.as_str(), value.as_str()),
            None => fsconfig_set_flag(context.as_fd(), key.as_str()),
        };
        set.map_err(doing(format_args!("set the option {key}")))?;
    }
    fsconfig_create(context.as_fd())?;
    Ok(fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?)
}

/// Applies the attributes and the propagation that are asked for.
///
/// # Errors
/// What mount_setattr(2) says.
pub fn change(mount: BorrowedFd<'_>, options: &Options) -> io::Result<()> {
    let propagation = |recursive| options.propagation.filter(|(_, all)| *all == recursive).map_or(0, |(kind, _)| kind);
    let own = MountChange { set: options.set, clear: options.clear, propagation: propagation(false) };
    sys::change_mount(mount, own, false)?;
    let below = MountChange { set: options.set_below, clear: 0, propagation: propagation(true) };
    sys::change_mount(mount, below, true)
}

/// Puts a mount that is nowhere yet over what is open as `place`.
///
/// # Errors
/// What move_mount(2) says.
pub fn put(mount: BorrowedFd<'_>, place: BorrowedFd<'_>) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(mount, "", place, "", flags)?)
}

/// The place of a mount inside the root. One that lies in another mount, a tmpfs say, is made there.
///
/// # Errors
/// Where it cannot be made, or is of the wrong kind.
pub fn place(root: BorrowedFd<'_>, target: &Path, is_directory: bool) -> io::Result<OwnedFd> {
    match in_root::open(root, target, OFlags::PATH) {
        Ok(place) => return Ok(place),
        Err(Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    let inside = resolve(root, target)?;
    let mut at = in_root::open(root, &inside.existing, OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW)?;
    let mut path: PathBuf = inside.existing.clone();
    for (index, name) in inside.missing.iter().enumerate() {
        path.push(name);
        let is_last = index + 1 == inside.missing.len();
        let made = if is_last && !is_directory {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            openat(&at, name, flags, Mode::from_raw_mode(0o644)).map(drop)
        } else {
            mkdirat(&at, name, Mode::from_raw_mode(0o755))
        };
        made.map_err(doing(format_args!("make its mount point {}", path.display())))?;
        at = openat(&at, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    }
    Ok(at)
}
