//! Tests of files that are written whole or not at all.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::time::SystemTime;

use proptest::prelude::*;

use super::*;

/// A function that writes a file.
#[derive(Debug, Clone, Copy)]
enum WriteFunction {
    Write,
    Lasting,
    Replace,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ExistingEntry {
    /// The result of the earlier writes.
    Same,
    /// A link to a file outside.
    Link,
    /// A directory that is not empty.
    Directory,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn after_any_writes_each_file_has_its_last_bytes_and_no_other_file_exists(
        known in prop::collection::vec("[^/\0]{1,60}", 4),
        writes in prop::collection::vec((
            0..4_usize,
            prop::sample::select(vec![WriteFunction::Write, WriteFunction::Lasting, WriteFunction::Replace]),
            prop::sample::select(vec![ExistingEntry::Same, ExistingEntry::Same, ExistingEntry::Link, ExistingEntry::Directory]),
            prop::collection::vec(any::<u8>(), 0..3000),
        ), 1..20),
    ) {
        let top = tempfile::tempdir_in("/dev/shm").unwrap();
        let (directory, outside) = (top.path().join("folder"), top.path().join("outside"));
        fs::create_dir(&directory).unwrap();
        fs::write(&outside, "outside").unwrap();
        let dir = super::super::dirfd::Dir::open(&directory).unwrap();
        let mut expected: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
        for (at, way, before, bytes) in writes {
            let name = known[at].as_str();
            if name == "." || name == ".." {
                continue;
            }
            let path = directory.join(name);
            if before != ExistingEntry::Same {
                let _ = fs::remove_file(&path);
                expected.remove(name);
            }
            match before {
                ExistingEntry::Same => {}
                ExistingEntry::Link => symlink(&outside, &path).unwrap(),
                ExistingEntry::Directory => fs::create_dir_all(path.join("full")).unwrap(),
            }
            let written = match way {
                WriteFunction::Write => write(&directory, name, &bytes),
                WriteFunction::Lasting => write_lasting(&directory, name, &bytes),
                WriteFunction::Replace => replace(&dir, OsStr::new(name), &bytes, Permissions::New),
            };
            prop_assert_eq!(written.is_err(), before == ExistingEntry::Directory);
            if before == ExistingEntry::Directory {
                fs::remove_dir_all(&path).unwrap();
            } else {
                expected.insert(name, bytes);
            }
            sweep(&directory, None);
        }
        let found: BTreeMap<String, Vec<u8>> = names(&directory)
            .into_iter()
            .map(|name| {
                let path = directory.join(&name);
                assert!(fs::symlink_metadata(&path).unwrap().is_file(), "{name:?}");
                let bytes = fs::read(path).unwrap();
                (name, bytes)
            })
            .collect();
        prop_assert!(found.iter().map(|(name, bytes)| (name.as_str(), bytes)).eq(expected.iter().map(|(n, b)| (*n, b))));
        prop_assert_eq!(fs::read(&outside).unwrap(), b"outside");
    }
}

#[test]
fn a_copy_is_whole_in_a_new_entry_and_replaces_none() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("source");
    fs::write(&path, vec![7; 1 << 20]).unwrap();
    symlink("outside", directory.path().join("link")).unwrap();
    let dir = super::super::dirfd::Dir::open(directory.path()).unwrap();
    for is_nameless in [false, true] {
        let copy =
            |name: &str| copy_half(File::open(&path).unwrap(), &dir, OsStr::new(name), 0o600, is_nameless, |_| Ok(()));
        copy("half").unwrap();
        assert_eq!(fs::read(directory.path().join("half")).unwrap(), fs::read(&path).unwrap());
        for taken in ["half", "link"] {
            assert_eq!(copy(taken).unwrap_err().kind(), io::ErrorKind::AlreadyExists, "{taken}");
        }
        fs::remove_file(directory.path().join("half")).unwrap();
        assert_eq!(names(directory.path()), ["link", "source"]);
    }
}

#[test]
fn a_written_file_gets_a_free_name_and_replaces_no_file() {
    let directory = tempfile::tempdir().unwrap();
    let [temp, to] = ["temp", "to"].map(|name| directory.path().join(name));
    for (text, is_new) in [("one", true), ("two", false)] {
        fs::write(&temp, text).unwrap();
        assert_eq!(persist_new_lasting(&File::open(&temp).unwrap(), &temp, &to).unwrap(), is_new);
        assert_eq!((fs::read_to_string(&to).unwrap().as_str(), temp.exists()), ("one", !is_new));
    }
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn grow_old(file: &Path, days: u64) {
    let time = SystemTime::now() - Duration::from_secs(days * 24 * 60 * 60);
    File::open(file).unwrap().set_modified(time).unwrap();
}

#[test]
fn a_file_is_put_in_a_new_directory_and_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let below = directory.path().join("a");
    write(&below, "name", b"old").unwrap();
    write(&below, "name", b"new").unwrap();
    assert_eq!(fs::read(below.join("name")).unwrap(), b"new");
    assert_eq!(names(&below), ["name"]);
}

#[test]
fn a_removed_parent_directory_is_not_made_again() {
    let directory = tempfile::tempdir().unwrap();
    let gone = directory.path().join("store");
    assert_eq!(write(&gone.join("timings"), "name", b"").unwrap_err().kind(), io::ErrorKind::NotFound);
    assert!(!gone.exists());
}

#[test]
fn a_callers_file_is_replaced_and_a_link_in_its_place_is_not_followed() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("name");
    fs::write(directory.path().join("outside"), "kept").unwrap();
    symlink("outside", &path).unwrap();
    let dir = super::super::dirfd::Dir::open(directory.path()).unwrap();
    for text in ["one", "two"] {
        replace(&dir, OsStr::new("name"), text.as_bytes(), Permissions::Exactly(0o640)).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
    assert_eq!(fs::symlink_metadata(&path).unwrap().permissions().mode(), 0o100_640);
    assert_eq!(fs::read_to_string(directory.path().join("outside")).unwrap(), "kept");
    assert_eq!(names(directory.path()), ["name", "outside"]);
}

#[test]
fn a_file_that_cannot_be_put_leaves_nothing_half_written() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir_all(directory.path().join("name/full")).unwrap();
    let dir = super::super::dirfd::Dir::open(directory.path()).unwrap();
    assert!(replace(&dir, OsStr::new("name"), b"text", Permissions::New).is_err());
    assert_eq!(names(directory.path()), ["name"]);
}

#[test]
fn a_sweep_removes_half_written_files_of_killed_runners_alone() {
    let directory = tempfile::tempdir().unwrap();
    let living = File::create(directory.path().join(".half-living")).unwrap();
    living.lock().unwrap();
    File::create(directory.path().join(".half-dead")).unwrap();
    write(directory.path(), "whole", b"").unwrap();
    sweep(directory.path(), None);
    assert_eq!(names(directory.path()), [".half-living", "whole"]);
}

#[test]
fn a_sweep_removes_files_that_were_not_used_for_long() {
    const MONTH: Duration = Duration::from_secs(30 * 24 * 60 * 60);
    let directory = tempfile::tempdir().unwrap();
    for name in ["fresh", "old", "used"] {
        write(directory.path(), name, b"").unwrap();
    }
    grow_old(&directory.path().join("old"), 31);
    grow_old(&directory.path().join("used"), 31);
    touch(&directory.path().join("used"));
    sweep(directory.path(), Some(MONTH));
    assert_eq!(names(directory.path()), ["fresh", "used"]);
}

#[test]
fn writes_and_sweeps_at_the_same_time_lose_no_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    std::thread::scope(|scope| {
        for byte in 0..3 {
            scope.spawn(move || {
                for _ in 0..200 {
                    write(path, "name", &[byte; 1000]).unwrap();
                    sweep(path, None);
                    if let Ok(bytes) = fs::read(path.join("name")) {
                        assert!(bytes.len() == 1000 && bytes.iter().all(|other| *other == bytes[0]));
                    }
                }
            });
        }
    });
    assert_eq!(names(path), ["name"]);
}
