//! Tests of trees that are deeper than descriptors and paths reach, and of directories that are larger than one task.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Command;

use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};

use super::super::Contents;
use super::*;

const DIRECTORIES: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY);

/// Makes a chain of directories below `top`, with a file in the last one.
fn chain(top: &Path, name: &str, levels: usize) -> OwnedFd {
    let mut at = openat(CWD, top, DIRECTORIES, Mode::empty()).unwrap();
    for _ in 0..levels {
        mkdirat(&at, name, Mode::from_raw_mode(0o755)).unwrap();
        at = openat(&at, name, DIRECTORIES, Mode::empty()).unwrap();
    }
    write(&at, "first");
    at
}

fn write(directory: &OwnedFd, text: &str) {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC;
    let file = openat(directory, "file", flags, Mode::from_raw_mode(0o644)).unwrap();
    rustix::io::write(file, text.as_bytes()).unwrap();
}

/// Removes a tree without `remove_dir_all`, which has a descriptor open for each level.
fn remove(directory: TempDir) {
    assert!(Command::new("rm").arg("-rf").arg(directory.path()).status().unwrap().success());
}

#[test]
fn a_path_longer_than_system_calls_accept_is_walked_to_its_end() {
    let directory = tempfile::tempdir().unwrap();
    let last = chain(directory.path(), &"n".repeat(255), 70);
    let before = content(directory.path());
    assert_eq!((before.files, before.listing.entries().count()), (1, 72));
    write(&last, "other");
    let changes_of = changes(&before, &content(directory.path()));
    assert!(changes_of.len() == 1 && changes_of[0].ends_with("n/file changed (content)"), "{changes_of:?}");
    remove(directory);
}

#[test]
fn a_tree_with_more_levels_than_descriptors_is_walked_to_its_end() {
    const NAME: &str = "content::tests::deep::a_tree_with_more_levels_than_descriptors_is_walked_to_its_end";
    // The limit belongs to a process, so this test runs itself in another one, which gets the directory.
    if let Some(directory) = std::env::var_os("RUNNER_TEST_WALKED") {
        assert_eq!(content(Path::new(&directory)).listing.entries().count(), 2502);
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    drop(chain(directory.path(), "d", 2500));
    let script = "ulimit -n 64; exec \"$0\" --exact \"$1\"";
    let mut walk = Command::new("sh");
    walk.args(["-c", script]).arg(std::env::current_exe().unwrap()).arg(NAME);
    let ended = walk.env("RUNNER_TEST_WALKED", directory.path()).output().unwrap();
    let text = String::from_utf8_lossy(&ended.stdout);
    assert!(ended.status.success() && text.contains("1 passed"), "{text}");
    remove(directory);
}

#[test]
fn large_directories_give_the_same_content_with_any_number_of_threads() {
    let directory = tempfile::tempdir().unwrap();
    for at in 0..700 {
        fs::write(directory.path().join(format!("{at}")), at.to_string()).unwrap();
    }
    for at in 0..300 {
        fs::create_dir_all(directory.path().join(format!("d/{at}/e"))).unwrap();
        fs::write(directory.path().join(format!("d/{at}/e/f")), at.to_string()).unwrap();
    }
    let by = |threads| Contents { threads, ..Contents::without_cache() }.of(directory.path()).unwrap();
    let one = by(1);
    assert_eq!((one.files, one.read, one.listing.entries().count()), (1000, 1000, 1 + 700 + 1 + 3 * 300));
    assert_eq!([2, 5, 8].map(by), [one.clone(), one.clone(), one]);
}
