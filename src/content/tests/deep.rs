//! Trees that are deeper than descriptors and paths reach, and folders that are larger than one task.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Command;

use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};

use super::super::Contents;
use super::*;

const FOLDERS: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY);

/// A chain of folders below `top`, with a file in the last one.
fn chain(top: &Path, name: &str, levels: usize) -> OwnedFd {
    let mut at = openat(CWD, top, FOLDERS, Mode::empty()).unwrap();
    for _ in 0..levels {
        mkdirat(&at, name, Mode::from_raw_mode(0o755)).unwrap();
        at = openat(&at, name, FOLDERS, Mode::empty()).unwrap();
    }
    write(&at, "first");
    at
}

fn write(folder: &OwnedFd, text: &str) {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC;
    let file = openat(folder, "file", flags, Mode::from_raw_mode(0o644)).unwrap();
    rustix::io::write(file, text.as_bytes()).unwrap();
}

/// `remove_dir_all` holds a descriptor a level.
fn remove(folder: TempDir) {
    assert!(Command::new("rm").arg("-rf").arg(folder.path()).status().unwrap().success());
}

#[test]
fn a_path_longer_than_a_system_call_takes_is_walked_to_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let last = chain(folder.path(), &"n".repeat(255), 70);
    let before = content(folder.path());
    assert_eq!((before.files, before.listing.entries().count()), (1, 72));
    write(&last, "other");
    let told = changes(&before, &content(folder.path()));
    assert!(told.len() == 1 && told[0].ends_with("n/file changed (content)"), "{told:?}");
    remove(folder);
}

#[test]
fn a_tree_deeper_than_there_are_descriptors_is_walked_to_its_end() {
    let folder = tempfile::tempdir().unwrap();
    drop(chain(folder.path(), "d", 2500));
    // In a process of its own, for the limit is of a process.
    let script = "ulimit -n 64; exec \"$0\" --exact --ignored content::tests::deep::with_few_descriptors";
    let test = std::env::current_exe().unwrap();
    let ended = Command::new("sh").args(["-c", script]).arg(test).env("WALKED", folder.path()).output().unwrap();
    let text = String::from_utf8_lossy(&ended.stdout);
    assert!(ended.status.success() && text.contains("1 passed"), "{text}");
    remove(folder);
}

#[test]
#[ignore = "run by the test above"]
fn with_few_descriptors() {
    let folder = std::env::var_os("WALKED").expect("the folder to be walked");
    assert_eq!(content(Path::new(&folder)).listing.entries().count(), 2502);
}

#[test]
fn large_folders_are_the_same_to_any_number_of_threads() {
    let folder = tempfile::tempdir().unwrap();
    for at in 0..700 {
        fs::write(folder.path().join(format!("{at}")), at.to_string()).unwrap();
    }
    for at in 0..300 {
        fs::create_dir_all(folder.path().join(format!("d/{at}/e"))).unwrap();
        fs::write(folder.path().join(format!("d/{at}/e/f")), at.to_string()).unwrap();
    }
    let by = |threads| Contents { threads, ..Contents::without_cache() }.of(folder.path()).unwrap();
    let one = by(1);
    assert_eq!((one.files, one.read, one.listing.entries().count()), (1000, 1000, 1 + 700 + 1 + 3 * 300));
    assert_eq!([2, 5, 8].map(by), [one.clone(), one.clone(), one]);
}
