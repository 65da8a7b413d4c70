//! A directory that is looked at as a root filesystem.

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
fn what_overlayfs_takes_for_a_mark_is_refused_by_its_path_and_only_in_a_root() {
    let folder = folder(&[("b/file", "x"), ("c/file", "x")]);
    let node = folder.path().join("b/gone");
    mknodat(CWD, &node, FileType::CharacterDevice, Mode::empty(), makedev(0, 0)).unwrap();
    assert_eq!(mark(folder.path()), Some((node.clone(), OverlayMark::Whiteout)));
    assert!(content(folder.path()).files == 2);
    fs::remove_file(node).unwrap();
    for name in ["trusted.overlay.metacopy", "trusted.overlay.whiteout"] {
        let path = folder.path().join("b/file");
        // A value that means nothing: a file may have none.
        setxattr(&path, name, b"", XattrFlags::empty()).unwrap();
        assert_eq!(mark(folder.path()), Some((path.clone(), OverlayMark::Attribute(name))));
        content(folder.path());
        rustix::fs::removexattr(&path, name).unwrap();
    }
    for name in [
        "trusted.overlay.opaque",
        "trusted.overlay.redirect",
        "trusted.overlay.origin",
        "trusted.overlay.impure",
        "user.overlay.metacopy",
    ] {
        setxattr(folder.path().join("c"), name, b"y", XattrFlags::empty()).unwrap();
    }
    mknodat(CWD, folder.path().join("other"), FileType::CharacterDevice, Mode::empty(), makedev(0, 1)).unwrap();
    mknodat(CWD, folder.path().join("block"), FileType::BlockDevice, Mode::empty(), makedev(0, 0)).unwrap();
    assert_eq!(mark(folder.path()), None);
}

#[test]
fn times_and_names_of_a_root_are_for_whoever_asks() {
    let folder = folder(&[("a", "x")]);
    fs::hard_link(folder.path().join("a"), folder.path().join("b")).unwrap();
    let found = Contents::without_cache().with_times_before(Some(i64::MAX)).of_root(folder.path()).unwrap();
    assert!(found.listing.entries().all(|entry| entry.time.is_none() && entry.first_name.is_none()));
}
