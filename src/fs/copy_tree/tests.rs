//! Tests of copies: each kind of entry, any depth, and the notes that are not copied.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use rustix::fs::{CWD, XattrFlags, llistxattr, lsetxattr};

use super::*;
use crate::difference::between_directories;

/// Returns a temporary directory and two directories in it, which are removed with it.
fn directories() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let [from, to] = ["from", "to"].map(|name| directory.path().join(name));
    for path in [&from, &to] {
        fs::create_dir(path).unwrap();
    }
    (directory, from, to)
}

#[test]
fn a_copy_has_no_difference_from_the_layer() {
    let (_directory, from, to) = directories();
    fs::create_dir_all(from.join("a/b\n/c")).unwrap();
    fs::write(from.join("a/file"), "content").unwrap();
    fs::hard_link(from.join("a/file"), from.join("a/b\n/again")).unwrap();
    fs::write(from.join("setuid"), "x").unwrap();
    std::os::unix::fs::lchown(from.join("setuid"), Some(70_000), Some(7)).unwrap();
    fs::set_permissions(from.join("setuid"), fs::Permissions::from_mode(0o4750)).unwrap();
    fs::set_permissions(from.join("a/b\n"), fs::Permissions::from_mode(0o1500)).unwrap();
    symlink("/nowhere", from.join("link")).unwrap();
    // user::rwx, user:1000:-w-, group::r-x, mask::rwx, other::---: no file of the copy is to inherit it.
    let list = b"\x02\0\0\0\x01\0\x07\0\xff\xff\xff\xff\x02\0\x02\0\xe8\x03\0\0\x04\0\x05\0\xff\xff\xff\xff\
                 \x10\0\x07\0\xff\xff\xff\xff\x20\0\0\0\xff\xff\xff\xff";
    for top in ["a", "."] {
        lsetxattr(from.join(top), "system.posix_acl_default", list, XattrFlags::empty()).unwrap();
    }
    std::os::unix::fs::lchown(from.join("link"), Some(5), Some(6)).unwrap();
    mknodat(CWD, from.join("whiteout"), FileType::CharacterDevice, Mode::empty(), 0).unwrap();
    mknodat(CWD, from.join("fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    for (path, name) in [("a", "trusted.overlay.opaque"), ("a/file", "user.kept"), (".", "user.top")] {
        lsetxattr(from.join(path), name, b"y", XattrFlags::empty()).unwrap();
    }
    let sparse = File::create(from.join("sparse")).unwrap();
    sparse.set_len(10 << 20).unwrap();
    std::os::unix::fs::FileExt::write_at(&sparse, b"end", (9 << 20) + 5).unwrap();
    copy_tree(&from, &to, &mut |_| Ok(())).unwrap();
    assert_eq!(between_directories(&from, &to).unwrap(), []);
    let number = |path: &str| to.join(path).metadata().unwrap().ino();
    assert_eq!(number("a/file"), number("a/b\n/again"));
    assert_eq!(fs::read(to.join("sparse")).unwrap(), fs::read(from.join("sparse")).unwrap());
    assert!(to.join("sparse").metadata().unwrap().blocks() * 512 < 1 << 20, "the holes are filled");
}

#[test]
fn a_tree_deeper_than_a_path_and_all_descriptors_is_copied_with_its_links_and_times() {
    const DEPTH: usize = 1200;
    // Names of 255 and fewer bytes, of which no ten fit into a path.
    let name = |depth: usize| format!("{depth:0width$}", width = 200 + depth % 50);
    let (_directory, from, to) = directories();
    let top = |path: &Path| rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
    let (source, target) = (top(&from), top(&to));
    let mut down = Descent::new(source.as_fd());
    for depth in 0..DEPTH {
        mkdirat(down.fd(), name(depth), Mode::RWXU).unwrap();
        down.enter(name(depth).as_bytes()).unwrap();
    }
    // One file whose first name is at the top, and one whose names are all at the bottom.
    let create = OFlags::WRONLY | OFlags::CREATE;
    for file in ["a", "b"] {
        openat(down.fd(), file, create, Mode::RUSR).unwrap();
        linkat(down.fd(), file, down.fd(), format!("{file}-again"), AtFlags::empty()).unwrap();
    }
    linkat(down.fd(), "a", &source, "a", AtFlags::empty()).unwrap();
    let old = Timestamps {
        last_access: Timespec { tv_sec: 1, tv_nsec: 2 },
        last_modification: Timespec { tv_sec: 3, tv_nsec: 4 },
    };
    utimensat(down.fd(), ".", &old, AtFlags::empty()).unwrap();
    copy_tree(&from, &to, &mut |_| Ok(())).unwrap();
    let mut down = Descent::new(target.as_fd());
    (0..DEPTH).for_each(|depth| down.enter(name(depth).as_bytes()).unwrap());
    let bottom = statat(down.fd(), ".", AtFlags::empty()).unwrap();
    assert_eq!((bottom.st_mtime, bottom.st_mtime_nsec), (3, 4));
    let links = |file: &str| statat(down.fd(), file, AtFlags::empty()).unwrap().st_nlink;
    assert_eq!(["a", "a-again", "b", "b-again"].map(links), [3, 3, 2, 2]);
    drop(down);
    // tempfile would remove the trees by their paths.
    super::super::remove_tree::remove_tree(&from).unwrap();
    super::super::remove_tree::remove_tree(&to).unwrap();
}

#[test]
fn the_progress_is_reported_and_its_error_ends_the_copying() {
    let (directory, from, to) = directories();
    let large = File::create(from.join("large")).unwrap();
    // The file is all holes: the copy reads none of them, or it would not end.
    large.set_len(1 << 50).unwrap_or_else(|_| large.set_len(1 << 42).unwrap());
    fs::write(from.join("small"), "content").unwrap();
    copy_tree(&from, &to, &mut |_| Ok(())).unwrap();
    let length = |path: &Path| path.join("large").metadata().unwrap().len();
    assert_eq!(length(&to), length(&from));
    let again = directory.path().join("again");
    fs::create_dir(&again).unwrap();
    let mut reported = Vec::new();
    let mut report = |bytes| {
        reported.push(bytes);
        Err(io::ErrorKind::Interrupted.into())
    };
    assert_eq!(copy_tree(&from, &again, &mut report).unwrap_err().kind(), io::ErrorKind::Interrupted);
    {
        let mut rarely = now_and_then(&mut report);
        assert!(rarely(1).is_ok() && rarely(2).is_ok(), "it is reported a few times a second");
    }
    assert_eq!(reported.len(), 1);
}

#[test]
fn notes_of_the_overlay_that_mean_nothing_elsewhere_are_not_copied() {
    let (_directory, from, to) = directories();
    fs::write(from.join("file"), "").unwrap();
    lsetxattr(from.join("file"), "trusted.overlay.origin", b"x", XattrFlags::empty()).unwrap();
    copy_tree(&from, &to, &mut |_| Ok(())).unwrap();
    let mut names = [0; 64];
    assert_eq!(llistxattr(to.join("file"), &mut names).unwrap(), 0);
    fs::remove_file(to.join("file")).unwrap();
    copy_tree_with_notes(&from, &to, &mut |_| Ok(())).unwrap();
    assert_eq!(llistxattr(to.join("file"), &mut names).unwrap(), "trusted.overlay.origin\0".len());
}
