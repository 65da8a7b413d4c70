//! Removes directories that steps filled, with everything in them and nothing outside.
//!
//! `std::fs::remove_dir_all` follows no links either, but it opens a descriptor for every level, so that a tree of some thousand
//! levels could not be removed; and it continues into directories that are mounted inside, which may be the host's. Here a
//! directory inside a directory is first moved up to the top, so that depth costs nothing, and a mount is an error.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, IFlags, Mode, OFlags, RenameFlags, fstat, ioctl_getflags, ioctl_setflags, openat,
    renameat_with, unlinkat,
};
use rustix::io::Errno;
use rustix::path::Arg;

use super::dirfd::reopen;
use super::in_root::open_on_same_mount;
use super::regular;

/// A file with one of these flags can be neither removed nor renamed, and nothing can be removed from such a directory:
/// chattr(1).
const FIXED: IFlags = IFlags::IMMUTABLE.union(IFlags::APPEND);

/// Removes the file, link or directory with everything in it. An entry that does not exist counts as removed: two processes may
/// remove the same tree.
///
/// # Errors
/// `EXDEV` or `EBUSY` if something is mounted inside, and those of the system calls; the other entries may be removed by then.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    remove_tree_at(CWD, path)
}

/// Removes the entry `name` of an open directory as [`remove_tree`] does.
///
/// # Errors
/// Those of [`remove_tree`].
pub fn remove_tree_at(dir: BorrowedFd<'_>, name: &Path) -> io::Result<()> {
    if unlink(dir, name)? {
        return Ok(());
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(dir, name, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        directory => empty(&directory?)?,
    }
    if unlink(dir, name)? { Ok(()) } else { Err(io::ErrorKind::DirectoryNotEmpty.into()) }
}

/// Removes everything in a directory, but not the directory; links on the way to it are followed.
///
/// # Errors
/// Those of [`remove_tree`], and where it is no directory.
pub fn empty_directory(path: &Path) -> io::Result<()> {
    empty(&openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// Empties a directory. An entry that disappears meanwhile counts as removed.
fn empty(top: &OwnedFd) -> io::Result<()> {
    let mut moved = 0_u64;
    each(top.as_fd(), |name| {
        if unlink(top, name)? {
            return Ok(());
        }
        let directory = match open(top.as_fd(), name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            result => result?,
        };
        each(directory.as_fd(), |inner| {
            if unlink(&directory, inner)? {
                return Ok(());
            }
            loop {
                moved += 1;
                match renameat_with(&directory, inner, top, format!("moved-{moved}"), RenameFlags::NOREPLACE) {
                    Err(Errno::EXIST) => {}
                    Err(Errno::NOENT) => return Ok(()),
                    Err(Errno::PERM) if release(directory.as_fd(), inner) => {}
                    result => return Ok(result?),
                }
            }
        })?;
        unlink(top, name)?;
        Ok(())
    })
}

/// Calls `remove` for every entry until there is none: reading a directory while it changes may miss some.
fn each(directory: BorrowedFd<'_>, mut remove: impl FnMut(&CStr) -> io::Result<()>) -> io::Result<()> {
    let mut entries = Dir::read_from(directory)?;
    loop {
        let mut found = false;
        while let Some(entry) = entries.read() {
            let entry = entry?;
            if entry.file_name() != c"." && entry.file_name() != c".." {
                remove(entry.file_name())?;
                found = true;
            }
        }
        if !found {
            return Ok(());
        }
        entries.rewind();
    }
}

/// Opens a directory that is no mount point and no link.
fn open(parent: BorrowedFd<'_>, name: &CStr) -> io::Result<OwnedFd> {
    Ok(open_on_same_mount(parent, name, OFlags::RDONLY | OFlags::DIRECTORY)?)
}

/// Removes an entry, and returns whether it is removed; a directory with entries is not.
fn unlink(directory: impl AsFd, name: impl Arg + Copy) -> io::Result<bool> {
    let unlinked = |flags| match unlinkat(&directory, name, flags) {
        Err(Errno::PERM) if release(directory.as_fd(), name) => unlinkat(&directory, name, flags),
        result => result,
    };
    match unlinked(AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(true),
        Err(Errno::ISDIR) => {}
        Err(error) => return Err(error.into()),
    }
    match unlinked(AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Removes the flags of chattr(1) that fix an entry or its directory. Returns whether there were any.
fn release(directory: BorrowedFd<'_>, name: impl Arg) -> bool {
    let unflag = |file: BorrowedFd<'_>| {
        let flags = ioctl_getflags(file).unwrap_or(IFlags::empty());
        flags.intersects(FIXED) && ioctl_setflags(file, flags.difference(FIXED)).is_ok()
    };
    // Only these types have such flags, and opening a device has effects.
    let entry = || -> io::Result<OwnedFd> {
        let place = openat(directory, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        match FileType::from_raw_mode(fstat(&place)?.st_mode) {
            FileType::Directory => Ok(reopen(place.as_fd(), OFlags::RDONLY | OFlags::DIRECTORY)?),
            _ => Ok(regular::reopen(place.as_fd())?.into()),
        }
    };
    let is_entry_released = entry().is_ok_and(|entry| unflag(entry.as_fd()));
    unflag(directory) || is_entry_released
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::thread;

    use rustix::mount::{MountPropagationFlags, mount_bind, mount_change};

    use super::*;

    #[test]
    fn immutable_files_and_directories_are_removed() {
        let directory = tempfile::tempdir().unwrap();
        let top = directory.path().join("top");
        fs::create_dir_all(top.join("a/b/c")).unwrap();
        for file in ["file", "a/file", "a/b/file"] {
            fs::write(top.join(file), "x").unwrap();
        }
        for (path, flag) in [
            ("file", IFlags::IMMUTABLE),
            ("a/file", IFlags::APPEND),
            ("a/b/file", IFlags::IMMUTABLE),
            ("a/b/c", IFlags::IMMUTABLE),
            ("a/b", IFlags::APPEND),
            ("a", IFlags::IMMUTABLE),
            ("", IFlags::IMMUTABLE),
        ] {
            let file = fs::File::open(top.join(path)).unwrap();
            ioctl_setflags(&file, ioctl_getflags(&file).unwrap().union(flag)).unwrap();
        }
        assert_eq!(fs::remove_file(top.join("file")).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        remove_tree(&top).unwrap();
        assert!(!top.exists());
    }

    #[test]
    fn all_kinds_of_entries_are_removed_and_links_are_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let (tree_path, outside) = (directory.path().join("tree"), directory.path().join("outside"));
        fs::create_dir_all(tree_path.join("a/b/c")).unwrap();
        fs::create_dir_all(tree_path.join("moved-1/moved-1/moved-2")).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("kept"), "").unwrap();
        symlink(&outside, tree_path.join("a/link")).unwrap();
        symlink(&outside, tree_path.join("link")).unwrap();
        fs::hard_link(outside.join("kept"), tree_path.join("a/b/hard")).unwrap();
        rustix::fs::mknodat(CWD, tree_path.join("a/fifo"), rustix::fs::FileType::Fifo, Mode::RUSR, 0).unwrap();
        for i in 0..500 {
            fs::write(tree_path.join(format!("a/b/{i}")), "").unwrap();
        }
        remove_tree(&tree_path).unwrap();
        assert!(!tree_path.exists() && outside.join("kept").exists());
        remove_tree(&tree_path).unwrap();
    }

    #[test]
    fn an_emptied_directory_stays_and_no_link_in_it_is_followed() {
        let directory = tempfile::tempdir().unwrap();
        let (top, outside) = (directory.path().join("top"), directory.path().join("outside"));
        fs::create_dir_all(top.join("a/b")).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("kept"), "").unwrap();
        for link in ["link", "a/link"] {
            symlink(&outside, top.join(link)).unwrap();
        }
        empty_directory(&top).unwrap();
        assert_eq!(fs::read_dir(&top).unwrap().count(), 0);
        assert!(outside.join("kept").exists());
        assert!(empty_directory(&outside.join("kept")).is_err());
    }

    #[test]
    fn a_link_in_place_of_the_directory_is_removed_and_its_target_stays() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("kept")).unwrap();
        symlink(directory.path().join("kept"), directory.path().join("link")).unwrap();
        remove_tree(&directory.path().join("link")).unwrap();
        assert!(directory.path().join("kept").exists() && !directory.path().join("link").is_symlink());
    }

    #[test]
    fn a_tree_deeper_than_the_longest_path_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let top = directory.path().join("tree");
        fs::create_dir(&top).unwrap();
        let mut inner =
            open(rustix::fs::open(directory.path(), OFlags::DIRECTORY, Mode::empty()).unwrap().as_fd(), c"tree")
                .unwrap();
        for _ in 0..1000 {
            rustix::fs::mkdirat(&inner, c"a-rather-long-name", Mode::RWXU).unwrap();
            inner = open(inner.as_fd(), c"a-rather-long-name").unwrap();
        }
        remove_tree(&top).unwrap();
        assert!(!top.exists());
    }

    #[test]
    fn several_threads_remove_the_same_tree_without_an_error() {
        let directory = tempfile::tempdir().unwrap();
        for _ in 0..3 {
            let top = directory.path().join("tree");
            for i in 0..20 {
                fs::create_dir_all(top.join(format!("{i}/a/b/c"))).unwrap();
                fs::create_dir_all(top.join(format!("{i}/d/e"))).unwrap();
            }
            thread::scope(|scope| {
                for removed in [0; 3].map(|_| scope.spawn(|| remove_tree(&top))) {
                    removed.join().unwrap().unwrap();
                }
            });
            assert!(!top.exists());
        }
    }

    #[test]
    fn files_mounted_inside_are_not_removed() {
        let directory = tempfile::tempdir().unwrap();
        let (top, host) = (directory.path().join("tree"), directory.path().join("host"));
        fs::create_dir_all(top.join("a/mounted")).unwrap();
        fs::create_dir(&host).unwrap();
        fs::write(host.join("kept"), "").unwrap();
        thread::scope(|scope| {
            // The namespace is this thread's alone and goes with it.
            let thread = scope.spawn(|| {
                nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
                mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
                mount_bind(&host, top.join("a/mounted")).unwrap();
                remove_tree(&top).unwrap_err()
            });
            let error = thread.join().unwrap();
            assert!(matches!(error.raw_os_error(), Some(16 | 18)), "{error}");
        });
        assert!(host.join("kept").exists());
        remove_tree(&top).unwrap();
    }
}
