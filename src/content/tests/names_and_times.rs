//! Tests of times before the epoch, and of files with several names: a layer contains both.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, mknodat, utimensat};

use super::super::Contents;
use super::*;

const EPOCH: i64 = 1_500_000_000;

fn set_time(path: &Path, seconds: i64) {
    let time = Timespec { tv_sec: seconds, tv_nsec: 5 };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

fn with_epoch(path: &Path) -> Content {
    Contents { threads: 4, ..Contents::without_cache() }.with_times_before(Some(EPOCH)).of(path).unwrap()
}

#[test]
fn a_time_before_the_epoch_counts_and_one_from_it_on_does_not() {
    let directory = directory(&[("file", "x"), ("folder/below", "y")]);
    symlink("file", directory.path().join("link")).unwrap();
    mknodat(CWD, directory.path().join("fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    let later = with_epoch(directory.path());
    assert_eq!(later.listing, content(directory.path()).listing, "no time is listed");
    for name in ["", "fifo", "file", "folder", "folder/below", "link"] {
        let path = if name.is_empty() { directory.path().to_owned() } else { directory.path().join(name) };
        set_time(&path, EPOCH);
        assert_eq!(with_epoch(directory.path()).digest, later.digest, "{name}");
        set_time(&path, EPOCH - 1);
        let before = with_epoch(directory.path());
        assert_eq!(changes(&later, &before), [format!("{name} changed (time)")]);
        set_time(&path, -7);
        assert_eq!(changes(&before, &with_epoch(directory.path())), [format!("{name} changed (time)")]);
        assert_eq!(content(directory.path()).digest, later.digest, "no epoch is given");
        set_time(&path, EPOCH + 1);
    }
    assert_eq!(with_epoch(directory.path()).digest, later.digest);
}

#[test]
fn the_time_of_a_directory_that_steps_do_not_see_does_not_count() {
    let directory = directory(&[("store/file", "x")]);
    let hidden = Dir::open(&directory.path().join("store")).unwrap().identity();
    let look = || {
        let contents = Contents::without_cache().with_times_before(Some(EPOCH)).without(Some(hidden));
        contents.of(directory.path()).unwrap().digest
    };
    let before = look();
    set_time(&directory.path().join("store"), 1000);
    assert_eq!(look(), before);
}

#[test]
fn hard_links_differ_from_copies_whichever_name_is_found_first() {
    let apart = directory(&[("a", "x"), ("m/b", "x"), ("z", "x")]);
    let linked = directory(&[("m/b", "x")]);
    for name in ["a", "z"] {
        fs::hard_link(linked.path().join("m/b"), linked.path().join(name)).unwrap();
    }
    let (one, other) = (content(apart.path()), content(linked.path()));
    assert_eq!(changes(&one, &other), ["m/b changed (links)", "z changed (links)"]);
    let first_names: Vec<Option<&Path>> = other.listing.entries().map(|entry| entry.first_name).collect();
    let a = Some(Path::new("a"));
    assert_eq!(first_names, [None, None, None, a, a]);
    for _ in 0..10 {
        assert_eq!(content(linked.path()).listing, other.listing);
    }
    assert_eq!(super::super::Listing::from_bytes(other.listing.as_bytes().to_vec()), Some(other.listing));
}

#[test]
fn several_names_of_links_and_nodes_count_too() {
    let directory = tempfile::tempdir().unwrap();
    symlink("nowhere", directory.path().join("link")).unwrap();
    symlink("nowhere", directory.path().join("other")).unwrap();
    mknodat(CWD, directory.path().join("fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    let before = content(directory.path());
    fs::remove_file(directory.path().join("other")).unwrap();
    fs::hard_link(directory.path().join("link"), directory.path().join("other")).unwrap();
    assert_eq!(changes(&before, &content(directory.path())), ["other changed (links)"]);
    fs::hard_link(directory.path().join("fifo"), directory.path().join("pipe")).unwrap();
    let fifo = content(directory.path()).listing.entries().find_map(|entry| entry.first_name.map(Path::to_owned));
    assert_eq!(fifo.as_deref(), Some(Path::new("link")));
    assert_eq!(content(directory.path()).listing.entries().filter(|entry| entry.first_name.is_some()).count(), 2);
}

#[test]
fn an_ignored_name_or_one_outside_does_not_count() {
    let (directory, outside) = (directory(&[("a", "x"), ("b/c", "y")]), tempfile::tempdir().unwrap());
    let before = content(directory.path());
    fs::hard_link(directory.path().join("a"), outside.path().join("a")).unwrap();
    assert_eq!(content(directory.path()).digest, before.digest);
    fs::write(directory.path().join("b/.runnerignore"), "/a\n").unwrap();
    let before = content(directory.path());
    fs::hard_link(directory.path().join("a"), directory.path().join("b/a")).unwrap();
    assert_eq!(content(directory.path()).digest, before.digest);
}
