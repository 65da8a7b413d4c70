//! Tests of the stat cache: which files are read again, and which are not.

use std::fs;
use std::path::PathBuf;
use std::time::SystemTime;

use super::super::Contents;
use super::*;
use crate::digest::Digest;

/// Returns the content that a separate command reads, with the number of files that it read.
fn of(store: &TempDir, path: &Path) -> Content {
    let contents = Contents { threads: 3, ..Contents::open(&store.path().join("stat")) };
    let found = contents.of(path).unwrap();
    contents.close().unwrap();
    assert_eq!(found.digest, content(path).digest, "with and without a cache");
    found
}

fn caches(store: &TempDir) -> Vec<PathBuf> {
    fs::read_dir(store.path().join("stat")).unwrap().map(|entry| entry.unwrap().path()).collect()
}

fn three() -> TempDir {
    directory(&[("a", "1"), ("sub/b", "2"), ("sub/c", "3")])
}

#[test]
fn only_changed_files_are_read_again() {
    let (store, directory) = (tempfile::tempdir().unwrap(), three());
    assert_eq!(of(&store, directory.path()).read, 3);
    assert_eq!(of(&store, directory.path()).read, 0);
    fs::write(directory.path().join("sub/b"), "4").unwrap();
    fs::write(directory.path().join("d"), "5").unwrap();
    fs::remove_file(directory.path().join("a")).unwrap();
    assert_eq!(of(&store, directory.path()).read, 2);
    fs::rename(directory.path().join("sub"), directory.path().join("bus")).unwrap();
    let last = of(&store, directory.path());
    assert_eq!(last.read, 0, "renaming its directory does not change a file");
    assert_eq!(paths(&last), ["", "bus", "bus/b", "bus/c", "d"]);
    assert_eq!(caches(&store).len(), 1);
}

#[test]
fn an_immediate_change_with_the_same_size_and_time_is_detected() {
    let (store, directory) = (tempfile::tempdir().unwrap(), three());
    let path = directory.path().join("a");
    let mut digests = vec![of(&store, directory.path()).digest];
    for round in 100..150_u8 {
        let time = fs::metadata(&path).unwrap().modified().unwrap();
        fs::write(&path, [round]).unwrap();
        fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
        digests.push(of(&store, directory.path()).digest);
    }
    digests.sort();
    digests.dedup();
    assert_eq!(digests.len(), 51);
}

#[test]
fn a_changed_mode_is_detected_with_a_cache() {
    let (store, directory) = (tempfile::tempdir().unwrap(), three());
    let before = of(&store, directory.path());
    let path = directory.path().join("sub/c");
    let mut mode = fs::metadata(&path).unwrap().permissions();
    mode.set_readonly(true);
    fs::set_permissions(&path, mode).unwrap();
    assert_eq!(changes(&before, &of(&store, directory.path())), ["sub/c changed (mode)"]);
}

#[test]
fn a_damaged_cache_counts_as_empty_and_is_replaced() {
    let (store, directory) = (tempfile::tempdir().unwrap(), three());
    of(&store, directory.path());
    let cache = caches(&store).remove(0);
    let mut bytes = fs::read(&cache).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    for damaged in [&bytes[..], b"", b"foreign"] {
        fs::write(&cache, damaged).unwrap();
        assert_eq!(of(&store, directory.path()).read, 3);
        assert_eq!(of(&store, directory.path()).read, 0);
    }
}

#[test]
fn a_cache_that_cannot_be_written_is_reported_at_the_end() {
    let directory = three();
    let contents = Contents::open(&directory.path().join("a/stat"));
    assert_eq!(contents.of(directory.path()).unwrap().digest, content(directory.path()).digest);
    let problem = contents.close().unwrap_err();
    assert_eq!(
        problem.to_string(),
        format!("cannot write a stat cache in {}", directory.path().join("a/stat").display())
    );
}

#[test]
fn a_path_inside_another_is_not_read_twice_by_one_command() {
    let directory = three();
    let contents = Contents::without_cache();
    assert_eq!(contents.of(directory.path()).unwrap().read, 3);
    assert_eq!(contents.of(&directory.path().join("sub")).unwrap().read, 0);
    assert_eq!(contents.of_file(&directory.path().join("a")).unwrap(), Digest::of_bytes(b"1"));
}

#[test]
fn files_read_before_an_error_are_not_read_again() {
    let (store, directory) = (tempfile::tempdir().unwrap(), three());
    let bad = directory.path().join("sub/.runnerignore");
    fs::write(&bad, "[z-a]").unwrap();
    // One thread does the top first, and the failing directory last.
    let contents = Contents { threads: 1, ..Contents::open(&store.path().join("stat")) };
    contents.of(directory.path()).unwrap_err();
    contents.close().unwrap();
    fs::remove_file(&bad).unwrap();
    assert_eq!(of(&store, directory.path()).read, 2);
}

#[test]
fn a_future_mtime_does_not_make_a_file_be_read_again() {
    let (store, directory) = (tempfile::tempdir().unwrap(), three());
    let file = fs::File::options().write(true).open(directory.path().join("a")).unwrap();
    file.set_modified(SystemTime::now() + std::time::Duration::from_secs(3600)).unwrap();
    of(&store, directory.path());
    assert_eq!(of(&store, directory.path()).read, 0);
}

#[test]
fn concurrent_commands_with_one_cache_give_the_same_content() {
    let (store, directory) = (tempfile::tempdir().unwrap(), three());
    let expected = content(directory.path()).digest;
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..20 {
                    assert_eq!(of(&store, directory.path()).digest, expected);
                }
            });
        }
    });
    assert_eq!(of(&store, directory.path()).read, 0);
    assert_eq!(caches(&store).len(), 1);
}

#[test]
fn a_state_differs_only_after_a_change_even_one_that_was_undone() {
    let directory = three();
    let state = || content(directory.path()).state;
    let before = state();
    assert_eq!(state(), before);
    let path = directory.path().join("a");
    let (bytes, time) = (fs::read(&path).unwrap(), fs::metadata(&path).unwrap().modified().unwrap());
    let back = |undo: &dyn Fn()| {
        let before = state();
        // After the tick in which it was read.
        std::thread::sleep(std::time::Duration::from_millis(20));
        undo();
        state() != before
    };
    assert!(back(&|| {
        fs::write(&path, "other").unwrap();
        fs::write(&path, &bytes).unwrap();
        fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
    }));
    assert!(back(&|| {
        fs::rename(directory.path().join("sub"), directory.path().join("moved")).unwrap();
        fs::rename(directory.path().join("moved"), directory.path().join("sub")).unwrap();
    }));
    fs::write(directory.path().join(".runnerignore"), "/ignored\n").unwrap();
    assert!(!back(&|| fs::write(directory.path().join("ignored"), "").unwrap()));
}
