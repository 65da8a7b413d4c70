//! Tests of files and directories that change while they are read.

use std::fs;
use std::os::fd::AsFd;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use rustix::fs::{CWD, Mode, OFlags, openat};

use super::super::cache::StatCache;
use super::super::directory::Directory;
use super::super::long_read::LongRead;
use super::super::read::{KnownDigests, Reader};
use super::super::stat::FileLocation;
use super::*;

#[test]
fn a_file_replaced_since_its_stat_is_reported_as_changing() {
    let directory = directory(&[("a", "old")]);
    let path = directory.path().join("a");
    let (cache, fresh) = (StatCache::default(), Mutex::default());
    let known =
        KnownDigests { cache: &cache, fresh: &fresh, stop: &AtomicBool::new(false), long_read: &LongRead::default() };
    let mut reader = Reader::new(&known);
    let top = openat(CWD, directory.path(), OFlags::PATH, Mode::empty()).unwrap();
    let place = FileLocation::new(top.as_fd(), c"a");
    let changes: [&dyn Fn(); 4] = [
        &|| fs::write(&path, "new").unwrap(),
        &|| fs::remove_file(&path).unwrap(),
        &|| fs::create_dir(&path).unwrap(),
        &|| fs::remove_dir(&path).and_then(|()| std::os::unix::fs::symlink("x", &path)).unwrap(),
    ];
    let before = place.stat().unwrap();
    for change in changes {
        change();
        let error = reader.digest(&place, &before, || path.clone()).unwrap_err();
        assert!(matches!(error, ContentError::Changing { .. }), "{error}");
    }
    assert!(reader.digests.is_empty() && fresh.lock().unwrap().is_empty());
}

#[test]
fn a_directory_that_gains_or_loses_files_is_reported_unless_they_are_ignored() {
    let directory = directory(&[("sub/.runnerignore", "*.log"), ("sub/a", "")]);
    let top = openat(CWD, directory.path(), OFlags::PATH, Mode::empty()).unwrap();
    let list = || {
        Directory { path: b"sub".to_vec(), rules: None, has_rules: true, hidden: None }
            .list(top.as_fd(), directory.path())
            .unwrap()
    };
    let sub = directory.path().join("sub");
    let listed = list();
    listed.check(directory.path()).unwrap();
    fs::write(sub.join("x.log"), "").unwrap();
    listed.check(directory.path()).unwrap();
    fs::write(sub.join("x"), "").unwrap();
    let is_changing = |error: ContentError| matches!(error, ContentError::Changing { path } if path == sub);
    assert!(is_changing(listed.check(directory.path()).unwrap_err()));
    let listed = list();
    fs::rename(sub.join("x"), sub.join("y")).unwrap();
    assert!(is_changing(listed.check(directory.path()).unwrap_err()));
}

#[test]
fn a_path_is_read_again_until_it_no_longer_changes() {
    let directory = directory(&[("a", "")]);
    let path = directory.path().join("a");
    let found = std::thread::scope(|scope| {
        let writer = scope.spawn(|| (0..3000).for_each(|round| fs::write(&path, round.to_string()).unwrap()));
        let contents = Contents::without_cache();
        let mut found = contents.of(directory.path());
        while !writer.is_finished() {
            if let Err(error) = &found {
                assert!(matches!(error, ContentError::Changing { .. }), "{error}");
            }
            found = contents.of(directory.path());
        }
        writer.join().unwrap();
        contents.of(directory.path())
    });
    assert_eq!(found.unwrap().digest, content(directory.path()).digest);
    assert_eq!(fs::read(&path).unwrap(), b"2999");
}
