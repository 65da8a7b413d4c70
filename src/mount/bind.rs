//! Bind mounts of open files and directories: a copy of a mount tree, with its own attributes, attached where only
//! runner looks.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount_change, move_mount, open_tree,
};

use super::Mounted;
use super::table::{MountTable, View};
use crate::error::context;
use crate::fs::dirfd::{Dir, Identity};
use crate::fs::in_root::open_without_links;
use crate::sys::{self, MountChange};

/// The options of a bind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BindOptions {
    /// The mounts below the source are bound too.
    pub recursive: bool,
    /// Nothing can be written, also not in the mounts below.
    pub read_only: bool,
    /// Set-uid programs run as their owner.
    pub suid: bool,
    /// Device nodes can be opened.
    pub dev: bool,
    /// Later mounts below the source are shown too, if they are shared with this namespace.
    pub propagates: bool,
}

/// Binds an open file or directory at `place`, which has the same kind. No mount point is made in the directory
/// `hidden`, which will be covered.
///
/// # Errors
/// Those of open_tree(2), mount_setattr(2) and move_mount(2).
pub fn bind(source: BorrowedFd<'_>, place: &Path, options: BindOptions, hidden: Option<&Dir>) -> io::Result<Mounted> {
    let recursive = options.recursive;
    let tree = clone_tree(source, recursive)?;
    let attributes = [
        (options.read_only, libc::MOUNT_ATTR_RDONLY),
        (!options.suid, libc::MOUNT_ATTR_NOSUID),
        (!options.dev, libc::MOUNT_ATTR_NODEV),
    ];
    let set = attributes.into_iter().filter(|(on, _)| *on).fold(0, |set, (_, attribute)| set | attribute);
    sys::change_mount(tree.as_fd(), MountChange { set, clear: 0, propagation: 0 }, recursive)?;
    move_mount(&tree, "", CWD, place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    let mounted = Mounted::new(place);
    pin_mount_points(source, place, recursive, hidden)?;
    if !options.propagates {
        mount_change(place, MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    }
    Ok(mounted)
}

/// Makes a mount point, of the bind itself, of each directory of the source that has a mount which the bind does not
/// show: all of them, or for a recursive bind those whose mounts are in no bind. Otherwise a step that removed or
/// renamed such a directory would take the host's mount away; it could do so even from a read-only bind's namespace,
/// with a descriptor of a writable one.
fn pin_mount_points(source: BorrowedFd<'_>, place: &Path, recursive: bool, hidden: Option<&Dir>) -> io::Result<()> {
    let table = MountTable::read()?;
    let hidden = hidden.map(|hidden| table.locate(hidden.as_fd())).transpose()?;
    let source = match table.locate(source) {
        // The source is in no mount of this namespace, so nothing can be mounted below it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        located => located?,
    };
    let mut shown_mounts: Vec<&Path> = Vec::new();
    for path in table.mounted_below(&source, recursive) {
        let at = place.join(path);
        if hidden.as_ref().is_some_and(|hidden| source.path().join(path).starts_with(hidden.path())) {
            continue;
        }
        // A mount on a directory that the bind does not show is not shown either.
        let is_shown = !recursive || !shown_mounts.iter().any(|above| path.starts_with(above));
        if !is_shown || recursive && table.points().any(|point| point == at) {
            continue;
        }
        let pin = || -> io::Result<()> {
            let at = open_without_links(CWD, &at, OFlags::PATH)?;
            attach_over(clone_tree(at.as_fd(), false)?, at.as_fd())
        };
        pin().map_err(context(format_args!("keep {} from being removed", at.display())))?;
        shown_mounts.push(path);
    }
    Ok(())
}

fn clone_tree(source: BorrowedFd<'_>, recursive: bool) -> io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    Ok(open_tree(source, "", flags)?)
}

/// Covers a directory with an empty, read-only one, at every path at which the bind at `place` shows it.
///
/// The directories on the way to it become mount points too, so that no process that can write there moves the
/// directory: its path stays correct for this process, and it cannot be moved to a path at which it is not covered.
///
/// # Errors
/// The directory is visible and cannot be covered.
pub fn cover(place: &Path, hidden: &Dir) -> io::Result<Vec<PathBuf>> {
    let top = Dir::open(place)?;
    let table = MountTable::read()?;
    let (top, of) = (table.locate(top.as_fd())?, table.locate(hidden.as_fd())?);
    let views = table.views(&top, &of, true);
    let mut all = Vec::new();
    for View { path, mount_point } in &views {
        // A mount in the directory, such as a mount point made above, is hidden with it.
        if views.iter().any(|other| other.path != *path && path.starts_with(&other.path)) {
            continue;
        }
        let covered = || -> io::Result<()> {
            let flags = OFlags::PATH | OFlags::DIRECTORY;
            let at = open_without_links(CWD, path, flags)?;
            if path != mount_point && Identity::of(&at)? != hidden.identity() {
                return Err(io::Error::other("another directory has replaced it"));
            }
            attach_over(empty()?, at.as_fd())?;
            for above in
                path.ancestors().skip(1).take_while(|above| *above != mount_point && above.starts_with(mount_point))
            {
                let above = open_without_links(CWD, above, flags)?;
                attach_over(clone_tree(above.as_fd(), true)?, above.as_fd())?;
            }
            Ok(())
        };
        covered().map_err(context(format_args!("cover {}", path.display())))?;
        all.push(path.strip_prefix(top.path()).unwrap_or(path).to_owned());
    }
    Ok(all)
}

fn attach_over(tree: OwnedFd, at: BorrowedFd<'_>) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(&tree, "", at, "", flags)?)
}

/// Returns an empty filesystem that is mounted nowhere.
fn empty() -> io::Result<OwnedFd> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(context.as_fd(), "mode", "0555")?;
    fsconfig_set_string(context.as_fd(), "size", "4096")?;
    fsconfig_set_flag(context.as_fd(), "ro")?;
    fsconfig_create(context.as_fd())?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    Ok(fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// Excludes the mount at `place`, and all mounts below it, from binds of a directory above.
///
/// # Errors
/// Those of mount(2).
pub fn keep_out_of_binds(place: &Path) -> io::Result<()> {
    Ok(mount_change(place, MountPropagationFlags::UNBINDABLE)?)
}

/// Makes a mount point: a directory or an empty file.
///
/// # Errors
/// Those of making it.
pub fn make_mount_point(place: &Path, is_directory: bool) -> io::Result<()> {
    if is_directory {
        return Ok(rustix::fs::mkdir(place, Mode::RWXU)?);
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    Ok(rustix::fs::open(place, flags, Mode::RUSR | Mode::WUSR).map(drop)?)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;
    use std::thread;

    use super::*;
    use crate::mount::{enter_private_namespace, mount_tmpfs};

    const READ_WRITE: BindOptions =
        BindOptions { recursive: true, read_only: false, suid: false, dev: false, propagates: false };

    /// Runs a test in a namespace that ends with its thread.
    fn apart(test: impl FnOnce(&Path) + Send) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().canonicalize().unwrap();
        thread::scope(|scope| {
            scope
                .spawn(|| {
                    enter_private_namespace().unwrap();
                    test(&path);
                })
                .join()
                .unwrap();
        });
    }

    fn names(directory: PathBuf) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn bound(path: &Path, options: BindOptions) -> (Mounted, Dir) {
        let source = Dir::open(&path.join("source")).unwrap();
        make_mount_point(&path.join("place"), true).unwrap();
        (bind(source.as_fd(), &path.join("place"), options, None).unwrap(), source)
    }

    #[test]
    fn an_open_directory_is_bound_even_if_its_path_has_changed() {
        apart(|path| {
            fs::create_dir_all(path.join("source/in")).unwrap();
            let source = Dir::open(&path.join("source")).unwrap();
            fs::rename(path.join("source"), path.join("moved")).unwrap();
            std::os::unix::fs::symlink("/etc", path.join("source")).unwrap();
            make_mount_point(&path.join("place"), true).unwrap();
            let _mounted = bind(source.as_fd(), &path.join("place"), READ_WRITE, None).unwrap();
            assert_eq!(names(path.join("place")), ["in"]);
        });
    }

    #[test]
    fn a_mount_point_of_the_host_cannot_be_removed_through_a_bind_without_its_mount() {
        apart(|path| {
            fs::create_dir_all(path.join("source/in/below")).unwrap();
            fs::write(path.join("source/file"), "under").unwrap();
            fs::write(path.join("over"), "over").unwrap();
            let _below = mount_tmpfs(&path.join("source/in/below"), &[]).unwrap();
            rustix::mount::mount_bind(path.join("over"), path.join("source/file")).unwrap();
            let (_mounted, _) = bound(path, BindOptions { recursive: false, ..READ_WRITE });
            let place = path.join("place");
            // This namespace shows only the bind, as in a container.
            thread::scope(|scope| {
                let look = || {
                    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
                    rustix::mount::unmount(path.join("source/in/below"), rustix::mount::UnmountFlags::DETACH).unwrap();
                    rustix::mount::unmount(path.join("source/file"), rustix::mount::UnmountFlags::DETACH).unwrap();
                    assert_eq!(fs::read_to_string(place.join("file")).unwrap(), "under");
                    fs::write(place.join("in/below/new"), "").unwrap();
                    fs::remove_file(place.join("in/below/new")).unwrap();
                    for fixed in ["in/below", "file"] {
                        let error = fs::rename(place.join(fixed), place.join("moved")).unwrap_err();
                        assert_eq!(error.kind(), io::ErrorKind::ResourceBusy, "{fixed}");
                    }
                    assert_eq!(fs::remove_dir(place.join("in/below")).unwrap_err().kind(), io::ErrorKind::ResourceBusy);
                    assert_eq!(fs::remove_file(place.join("file")).unwrap_err().kind(), io::ErrorKind::ResourceBusy);
                };
                scope.spawn(look).join().unwrap();
            });
            assert_eq!(fs::read_to_string(path.join("source/file")).unwrap(), "over");
        });
    }

    #[test]
    fn a_mount_point_under_an_unbindable_mount_cannot_be_removed_through_a_recursive_bind() {
        apart(|path| {
            fs::create_dir_all(path.join("source/seen/in")).unwrap();
            let _seen = mount_tmpfs(&path.join("source/seen"), &[]).unwrap();
            fs::create_dir(path.join("source/seen/hidden")).unwrap();
            let _hidden = mount_tmpfs(&path.join("source/seen/hidden"), &[]).unwrap();
            keep_out_of_binds(&path.join("source/seen/hidden")).unwrap();
            fs::create_dir(path.join("source/seen/hidden/deeper")).unwrap();
            let _deeper = mount_tmpfs(&path.join("source/seen/hidden/deeper"), &[]).unwrap();
            let (_mounted, _) = bound(path, READ_WRITE);
            let place = path.join("place/seen/hidden");
            assert_eq!(names(place.clone()), [] as [&str; 0]);
            let table = MountTable::read().unwrap();
            assert_eq!(table.points().filter(|point| *point == place).count(), 1);
            assert_eq!(table.points().filter(|point| *point == path.join("place/seen")).count(), 1);
        });
    }

    #[test]
    fn a_covered_directory_with_a_mount_in_it_is_covered_in_any_bind() {
        for (recursive, read_only) in [(false, false), (false, true), (true, false), (true, true)] {
            apart(|path| {
                fs::create_dir_all(path.join("source/deep/store/mnt")).unwrap();
                let _mnt = mount_tmpfs(&path.join("source/deep/store/mnt"), &[]).unwrap();
                keep_out_of_binds(&path.join("source/deep/store/mnt")).unwrap();
                let (mounted, _) = bound(path, BindOptions { recursive, read_only, ..READ_WRITE });
                cover(mounted.path(), &Dir::open(&path.join("source/deep/store")).unwrap()).unwrap();
                assert_eq!(names(path.join("place/deep")), ["store"], "{recursive} {read_only}");
                assert_eq!(names(path.join("place/deep/store")), [] as [&str; 0], "{recursive} {read_only}");
            });
        }
    }

    #[test]
    fn mounts_below_are_bound_with_the_same_attributes() {
        apart(|path| {
            fs::create_dir_all(path.join("source/below")).unwrap();
            let _below = mount_tmpfs(&path.join("source/below"), &[]).unwrap();
            let (_mounted, _) = bound(path, BindOptions { read_only: true, ..READ_WRITE });
            let table = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
            let place = path.join("place").display().to_string();
            let found: Vec<&str> = table.lines().filter(|line| line.contains(&place)).collect();
            assert_eq!(found.len(), 2, "{found:?}");
            assert!(found.iter().all(|line| line.contains(" ro,nosuid,nodev")), "{found:?}");
            let error = fs::write(path.join("place/below/file"), "").unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ReadOnlyFilesystem);
        });
    }

    #[test]
    fn an_excluded_tree_is_in_no_bind() {
        apart(|path| {
            fs::create_dir_all(path.join("source/work")).unwrap();
            let _work = mount_tmpfs(&path.join("source/work"), &[]).unwrap();
            keep_out_of_binds(&path.join("source/work")).unwrap();
            fs::create_dir(path.join("source/work/inner")).unwrap();
            let _inner = mount_tmpfs(&path.join("source/work/inner"), &[]).unwrap();
            let (_mounted, _) = bound(path, READ_WRITE);
            assert_eq!(names(path.join("place/work")), [] as [&str; 0]);
        });
    }

    #[test]
    fn a_covered_directory_is_visible_nowhere_and_cannot_be_moved() {
        apart(|path| {
            for made in ["source/a/store/keys", "source/alias", "source/keys", "elsewhere"] {
                fs::create_dir_all(path.join(made)).unwrap();
            }
            for (from, to) in [("a", "alias"), ("a/store/keys", "keys")] {
                rustix::mount::mount_bind(path.join("source").join(from), path.join("source").join(to)).unwrap();
            }
            fs::write(path.join("source/a/store/keys/key"), "").unwrap();
            let (mounted, source) = bound(path, READ_WRITE);
            cover(mounted.path(), &Dir::open(&path.join("source/a/store")).unwrap()).unwrap();
            for covered in ["a/store", "alias/store", "keys"] {
                assert_eq!(names(path.join("place").join(covered)), [] as [&str; 0], "{covered}");
                let error = fs::write(path.join("place").join(covered).join("file"), "").unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::ReadOnlyFilesystem, "{covered}");
            }
            for fixed in ["a", "a/store", "alias", "alias/store", "keys"] {
                let error =
                    fs::rename(path.join("place").join(fixed), path.join("place").join(fixed).with_file_name("moved"));
                let error = error.unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::ResourceBusy, "{fixed}");
            }
            fs::write(path.join("place/a/file"), "").unwrap();
            assert_eq!(names(path.join("source/a")), ["file", "store"]);
            assert_eq!(names(path.join("source/a/store/keys")), ["key"]);
            drop(source);
        });
    }
}
