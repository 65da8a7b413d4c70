//! Attaches the mounts of a container: each is made detached, and then moved to a descriptor that was resolved inside the root.

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
use crate::error::context;
use crate::fs::in_root::{self, link_in_mount, open_beneath, resolve};
use crate::sys::{self, MountChange};

/// The mounts attached so far, each with its target, in order.
///
/// The mount point of a mount that lies in another mount is resolved from the descriptor of that mount, through no symbolic
/// link: other containers may have the same directory bound, and their steps may change it at any time.
#[derive(Debug, Default)]
pub struct AttachedMounts(Vec<(PathBuf, OwnedFd)>);

impl AttachedMounts {
    /// Mounts an entry of config.json at its target inside `root`.
    ///
    /// # Errors
    /// With the target, where the kernel refuses the mount or the mount point cannot be made.
    pub fn attach(&mut self, root: BorrowedFd<'_>, mount: &Mount) -> io::Result<()> {
        let target = mount.destination();
        let attach = || -> io::Result<OwnedFd> {
            let made = make(mount)?;
            let is_directory = FileType::from_raw_mode(fstat(&made)?.st_mode) == FileType::Directory;
            put(made.as_fd(), self.mount_point(root, target, is_directory)?.as_fd())?;
            Ok(made)
        };
        let made = attach().map_err(context(format_args!("mount {}", target.display())))?;
        self.add(target, made);
        Ok(())
    }

    /// Adds a mount that is attached at its target already.
    pub fn add(&mut self, target: &Path, mount: OwnedFd) {
        self.0.push((target.to_owned(), mount));
    }

    /// Returns the innermost mount that contains a target.
    pub fn enclosing(&self, target: &Path) -> Option<(&Path, BorrowedFd<'_>)> {
        let enclosing = self.0.iter().filter(|(other, _)| target != other && target.starts_with(other));
        let (other, mount) = enclosing.max_by_key(|(other, _)| other.components().count())?;
        Some((other, mount.as_fd()))
    }

    /// Opens the mount point for a target inside the root. A missing one is made, also inside another mount such as a tmpfs.
    ///
    /// # Errors
    /// Where it cannot be made, is of the wrong kind, or a symbolic link in another mount is on the way.
    pub fn mount_point(&self, root: BorrowedFd<'_>, target: &Path, is_directory: bool) -> io::Result<OwnedFd> {
        if let Some((at, enclosing)) = self.enclosing(target) {
            return mount_point_below(at, enclosing, target, is_directory);
        }
        match in_root::open(root, target, OFlags::PATH) {
            Ok(place) => Ok(place),
            Err(Errno::NOENT) => {
                let inside = resolve(root, target)?;
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW;
                let above = in_root::open(root, &inside.existing, flags)?;
                mount_point_below(&inside.existing, above.as_fd(), &inside.path(), is_directory)
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Opens, or makes, the mount point `target` below the directory `above`, which lies at `at`; follows no symbolic link.
fn mount_point_below(at: &Path, above: BorrowedFd<'_>, target: &Path, is_directory: bool) -> io::Result<OwnedFd> {
    let mut path = at.to_owned();
    let mut place = above.try_clone_to_owned()?;
    let mut names = target.strip_prefix(at).map_err(io::Error::other)?.components().peekable();
    while let Some(name) = names.next() {
        path.push(name);
        let name = name.as_os_str();
        let mut next = open_beneath(&place, name, OFlags::PATH);
        if next.as_ref().err() == Some(&Errno::NOENT) {
            let made = if names.peek().is_none() && !is_directory {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                openat(&place, name, flags, Mode::from_raw_mode(0o644)).map(drop)
            } else {
                mkdirat(&place, name, Mode::from_raw_mode(0o755))
            };
            made.map_err(context(format_args!("make its mount point {}", path.display())))?;
            next = open_beneath(&place, name, OFlags::PATH);
        }
        place = next.map_err(|error| match error {
            Errno::LOOP => link_in_mount(&path, at),
            error => context(format_args!("open its mount point {}", path.display()))(error),
        })?;
    }
    Ok(place)
}

/// Makes a detached mount with its options.
///
/// # Errors
/// Those of the kernel.
pub fn make(mount: &Mount) -> io::Result<OwnedFd> {
    let options = Options::of(mount);
    let made = match mount.typ().as_deref() {
        Some("bind") => bind(mount.source().as_deref(), &options.clone().without_data()?)?,
        kind => filesystem(kind.unwrap_or_default(), mount.source().as_deref(), &options.data)?,
    };
    change(made.as_fd(), &options)?;
    Ok(made)
}

/// Returns a copy of the mount that is visible at `source`, for this namespace alone.
fn bind(source: Option<&Path>, options: &Options) -> io::Result<OwnedFd> {
    let source = source.ok_or_else(|| io::Error::other("the bind has no source"))?;
    let recursive = if options.recursive { OpenTreeFlags::AT_RECURSIVE } else { OpenTreeFlags::empty() };
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | recursive;
    open_tree(CWD, source, flags).map_err(context(format_args!("bind {}", source.display())))
}

/// Returns a new, detached mount of a kernel filesystem.
///
/// # Errors
/// `ENODEV` where the kernel does not have it, `EINVAL` for an option that it refuses.
pub fn filesystem(kind: &str, source: Option<&Path>, data: &[(String, Option<String>)]) -> io::Result<OwnedFd> {
    let filesystem =
        fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).map_err(context(format_args!("find the filesystem {kind}")))?;
    if let Some(source) = source {
        fsconfig_set_string(filesystem.as_fd(), "source", source)?;
    }
    for (key, value) in data {
        let set = match value {
            Some(value) => fsconfig_set_string(filesystem.as_fd(), key.as_str(), value.as_str()),
            None => fsconfig_set_flag(filesystem.as_fd(), key.as_str()),
        };
        set.map_err(context(format_args!("set the option {key}")))?;
    }
    fsconfig_create(filesystem.as_fd())?;
    Ok(fsmount(filesystem.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?)
}

/// Applies the attributes and the propagation that the options request.
///
/// # Errors
/// Those of mount_setattr(2).
pub fn change(mount: BorrowedFd<'_>, options: &Options) -> io::Result<()> {
    let propagation = |recursive| options.propagation.filter(|(_, all)| *all == recursive).map_or(0, |(kind, _)| kind);
    let own = MountChange { set: options.set, clear: options.clear, propagation: propagation(false) };
    sys::change_mount(mount, own, false)?;
    let below = MountChange { set: options.set_below, clear: 0, propagation: propagation(true) };
    sys::change_mount(mount, below, true)
}

/// Attaches a detached mount at the file or directory that is open as `place`.
///
/// # Errors
/// Those of move_mount(2).
pub fn put(mount: BorrowedFd<'_>, place: BorrowedFd<'_>) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(mount, "", place, "", flags)?)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn open(path: &Path) -> OwnedFd {
        rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap()
    }

    #[test]
    fn a_mount_point_in_a_mount_is_made_there_without_following_links() {
        let (root, mount) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir(mount.path().join("there")).unwrap();
        fs::create_dir(root.path().join("led")).unwrap();
        symlink("../led", mount.path().join("link")).unwrap();
        let fd = open(root.path());
        let mut attached = AttachedMounts::default();
        attached.add("/shared".as_ref(), open(mount.path()));
        let place = |target: &str, is_directory| attached.mount_point(fd.as_fd(), target.as_ref(), is_directory);
        for (target, is_directory) in
            [("/shared/there", true), ("/shared/there/new/deep", true), ("/shared/file", false)]
        {
            let made = fstat(place(target, is_directory).unwrap()).unwrap();
            let expected = fstat(open(&mount.path().join(target.trim_start_matches("/shared/")))).unwrap();
            assert_eq!((made.st_dev, made.st_ino), (expected.st_dev, expected.st_ino), "{target}");
        }
        for target in ["/shared/link", "/shared/link/new"] {
            let error = place(target, true).unwrap_err().to_string();
            assert!(error.starts_with("/shared/link is a link that lies in the mount /shared,"), "{error}");
        }
        // The directory that the link points to is unchanged, and mount points in the root are still made.
        assert_eq!(fs::read_dir(root.path().join("led")).unwrap().count(), 0);
        let in_root = fstat(place("/led/made", true).unwrap()).unwrap();
        assert_eq!(in_root.st_ino, fstat(open(&root.path().join("led/made"))).unwrap().st_ino);
    }

    #[test]
    fn a_target_belongs_to_the_deepest_mount_that_contains_it() {
        let directory = tempfile::tempdir().unwrap();
        let mut attached = AttachedMounts::default();
        for target in ["/a", "/a/b", "/a/bc", "/a/b/c"] {
            attached.add(target.as_ref(), open(directory.path()));
        }
        let enclosing = |target: &str| attached.enclosing(target.as_ref()).map(|(at, _)| at.to_owned());
        assert_eq!(enclosing("/a/b/c/d"), Some("/a/b/c".into()));
        assert_eq!(enclosing("/a/b/c"), Some("/a/b".into()));
        assert_eq!(enclosing("/a/bd"), Some("/a".into()));
        assert_eq!(enclosing("/ab"), None);
    }
}
