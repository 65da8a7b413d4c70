//! Tests of reading a directory as a root filesystem.

use std::fs;

use rustix::fs::{CWD, FileType, Mode, XattrFlags, makedev, mknodat, setxattr};

use super::super::{ContentError, Contents, OverlayMark};
use super::*;

fn mark(path: &Path) -> Option<(std::path::PathBuf, OverlayMark)> {
    match Contents::without_cache().of_root(path) {
        Ok(_) => None,
        Err(ContentError::OverlayMark { path, mark }) => Some((path, mark)),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn marks_of_overlayfs_are_refused_only_in_a_root() {
    let directory = directory(&[("b/file", "x"), ("c/file", "x")]);
    let node = directory.path().join("b/gone");
    mknodat(CWD, &node, FileType::CharacterDevice, Mode::empty(), makedev(0, 0)).unwrap();
    assert_eq!(mark(directory.path()), Some((node.clone(), OverlayMark::Whiteout)));
    assert!(content(directory.path()).files == 2);
    fs::remove_file(node).unwrap();
    for name in ["trusted.overlay.metacopy", "trusted.overlay.whiteout"] {
        let path = directory.path().join("b/file");
        // A value without meaning: an attribute may be empty.
        setxattr(&path, name, b"", XattrFlags::empty()).unwrap();
        assert_eq!(mark(directory.path()), Some((path.clone(), OverlayMark::Attribute(name))));
        content(directory.path());
        rustix::fs::removexattr(&path, name).unwrap();
    }
    for name in [
        "trusted.overlay.opaque",
        "trusted.overlay.redirect",
        "trusted.overlay.origin",
        "trusted.overlay.impure",
        "user.overlay.metacopy",
    ] {
        setxattr(directory.path().join("c"), name, b"y", XattrFlags::empty()).unwrap();
    }
    mknodat(CWD, directory.path().join("other"), FileType::CharacterDevice, Mode::empty(), makedev(0, 1)).unwrap();
    mknodat(CWD, directory.path().join("block"), FileType::BlockDevice, Mode::empty(), makedev(0, 0)).unwrap();
    assert_eq!(mark(directory.path()), None);
}

#[test]
fn times_and_names_do_not_count_in_a_root() {
    let directory = directory(&[("a", "x")]);
    fs::hard_link(directory.path().join("a"), directory.path().join("b")).unwrap();
    let found = Contents::without_cache().with_times_before(Some(i64::MAX)).of_root(directory.path()).unwrap();
    assert!(found.listing.entries().all(|entry| entry.time.is_none() && entry.first_name.is_none()));
}
