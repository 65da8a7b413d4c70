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
use crate::error::context;
use crate::fs::in_root::{self, link_in_mount, open_beneath, resolve};
use crate::sys::{self, MountChange};

/// The mounts made so far, each with its target, in order.
///
/// The place of a mount that lies in another one is resolved from the descriptor of that one, and no link leads there: other
/// containers may have what is bound there too, and their steps may change it at any time.
#[derive(Debug, Default)]
pub struct Attached(Vec<(PathBuf, OwnedFd)>);

impl Attached {
    /// Mounts what config.json says at its place inside `root`.
    ///
    /// # Errors
    /// With the target, where the kernel refuses the mount or there is no place for it.
    pub fn attach(&mut self, root: BorrowedFd<'_>, mount: &Mount) -> io::Result<()> {
        let target = mount.destination();
        let attach = || -> io::Result<OwnedFd> {
            let made = make(mount)?;
            let is_directory = FileType::from_raw_mode(fstat(&made)?.st_mode) == FileType::Directory;
            put(made.as_fd(), self.place(root, target, is_directory)?.as_fd())?;
            Ok(made)
        };
        let made = attach().map_err(context(format_args!("mount {}", target.display())))?;
        self.add(target, made);
        Ok(())
    }

    /// Adds a mount that is attached at its target.
    pub fn add(&mut self, target: &Path, mount: OwnedFd) {
        self.0.push((target.to_owned(), mount));
    }

    /// Returns the mount that a target lies in.
    pub fn around(&self, target: &Path) -> Option<(&Path, BorrowedFd<'_>)> {
        let around = self.0.iter().filter(|(other, _)| target != other && target.starts_with(other));
        let (other, mount) = around.max_by_key(|(other, _)| other.components().count())?;
        Some((other, mount.as_fd()))
    }

    /// The place of a mount inside the root. One that lies in another mount, a tmpfs say, is made there.
    ///
    /// # Errors
    /// Where it cannot be made, is of the wrong kind, or a link in another mount is on the way.
    pub fn place(&self, root: BorrowedFd<'_>, target: &Path, is_directory: bool) -> io::Result<OwnedFd> {
        if let Some((at, around)) = self.around(target) {
            return place_below(at, around, target, is_directory);
        }
        match in_root::open(root, target, OFlags::PATH) {
            Ok(place) => Ok(place),
            Err(Errno::NOENT) => {
                let inside = resolve(root, target)?;
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW;
                let above = in_root::open(root, &inside.existing, flags)?;
                place_below(&inside.existing, above.as_fd(), &inside.path(), is_directory)
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Opens, or makes, the place `target`, which lies in the directory `above`, at `at`; through no link.
fn place_below(at: &Path, above: BorrowedFd<'_>, target: &Path, is_directory: bool) -> io::Result<OwnedFd> {
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

/// Makes a mount with its options, attached nowhere.
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

/// A copy of the mount that is seen at `source`, for this namespace alone.
fn bind(source: Option<&Path>, options: &Options) -> io::Result<OwnedFd> {
    let source = source.ok_or_else(|| io::Error::other("the bind has no source"))?;
    let recursive = if options.recursive { OpenTreeFlags::AT_RECURSIVE } else { OpenTreeFlags::empty() };
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | recursive;
    open_tree(CWD, source, flags).map_err(context(format_args!("bind {}", source.display())))
}

/// A filesystem of the kernel, mounted anew.
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

/// Applies the attributes and the propagation that are asked for.
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

/// Puts a mount that is nowhere yet over what is open as `place`.
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
    fn a_place_in_a_mount_is_made_there_and_no_link_leads_to_it() {
        let (root, mount) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir(mount.path().join("there")).unwrap();
        fs::create_dir(root.path().join("led")).unwrap();
        symlink("../led", mount.path().join("link")).unwrap();
        let fd = open(root.path());
        let mut attached = Attached::default();
        attached.add("/shared".as_ref(), open(mount.path()));
        let place = |target: &str, is_directory| attached.place(fd.as_fd(), target.as_ref(), is_directory);
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
        // Beside it, and in the root, all is as it was.
        assert_eq!(fs::read_dir(root.path().join("led")).unwrap().count(), 0);
        let in_root = fstat(place("/led/made", true).unwrap()).unwrap();
        assert_eq!(in_root.st_ino, fstat(open(&root.path().join("led/made"))).unwrap().st_ino);
    }

    #[test]
    fn a_place_lies_in_the_deepest_mount_above_it() {
        let directory = tempfile::tempdir().unwrap();
        let mut attached = Attached::default();
        for target in ["/a", "/a/b", "/a/bc", "/a/b/c"] {
            attached.add(target.as_ref(), open(directory.path()));
        }
        let around = |target: &str| attached.around(target.as_ref()).map(|(at, _)| at.to_owned());
        assert_eq!(around("/a/b/c/d"), Some("/a/b/c".into()));
        assert_eq!(around("/a/b/c"), Some("/a/b".into()));
        assert_eq!(around("/a/bd"), Some("/a".into()));
        assert_eq!(around("/ab"), None);
    }
}
