//! Tests of files that are written whole or not at all.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::time::SystemTime;

use proptest::prelude::*;

use super::*;

/// A way to write a file, and what has its name before.
#[derive(Debug, Clone, Copy)]
enum Way {
    Write,
    Lasting,
    Replace,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    /// Whatever the writes before gave it.
    Same,
    /// A link to a file outside.
    Link,
    /// A directory that is not empty.
    Directory,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn after_any_writes_each_name_has_the_last_bytes_whole_and_nothing_else_is_there(
        known in prop::collection::vec("[^/\0]{1,60}", 4),
        writes in prop::collection::vec((
            0..4_usize,
            prop::sample::select(vec![Way::Write, Way::Lasting, Way::Replace]),
            prop::sample::select(vec![Before::Same, Before::Same, Before::Link, Before::Directory]),
            prop::collection::vec(any::<u8>(), 0..3000),
        ), 1..20),
    ) {
        let top = tempfile::tempdir_in("/dev/shm").unwrap();
        let (folder, outside) = (top.path().join("folder"), top.path().join("outside"));
        fs::create_dir(&folder).unwrap();
        fs::write(&outside, "outside").unwrap();
        let dir = super::super::dirfd::Dir::open(&folder).unwrap();
        let mut expected: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
        for (at, way, before, bytes) in writes {
            let name = known[at].as_str();
            if name == "." || name == ".." {
                continue;
            }
            let path = folder.join(name);
            if before != Before::Same {
                let _ = fs::remove_file(&path);
                expected.remove(name);
            }
            match before {
                Before::Same => {}
                Before::Link => symlink(&outside, &path).unwrap(),
                Before::Directory => fs::create_dir_all(path.join("full")).unwrap(),
            }
            let written = match way {
                Way::Write => write(&folder, name, &bytes),
                Way::Lasting => write_lasting(&folder, name, &bytes),
                Way::Replace => replace(&dir, OsStr::new(name), &bytes, Permissions::New),
            };
            prop_assert_eq!(written.is_err(), before == Before::Directory);
            if before == Before::Directory {
                fs::remove_dir_all(&path).unwrap();
            } else {
                expected.insert(name, bytes);
            }
            sweep(&folder, None);
        }
        let found: BTreeMap<String, Vec<u8>> = names(&folder)
            .into_iter()
            .map(|name| {
                let path = folder.join(&name);
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
fn a_copy_is_whole_in_a_new_entry_and_never_in_the_place_of_another_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("source");
    fs::write(&path, vec![7; 1 << 20]).unwrap();
    symlink("outside", folder.path().join("link")).unwrap();
    let dir = super::super::dirfd::Dir::open(folder.path()).unwrap();
    for is_nameless in [false, true] {
        let copy = |name: &str| copy_half(File::open(&path).unwrap(), &dir, OsStr::new(name), 0o600, is_nameless);
        copy("half").unwrap();
        assert_eq!(fs::read(folder.path().join("half")).unwrap(), fs::read(&path).unwrap());
        for taken in ["half", "link"] {
            assert_eq!(copy(taken).unwrap_err().kind(), io::ErrorKind::AlreadyExists, "{taken}");
        }
        fs::remove_file(folder.path().join("half")).unwrap();
        assert_eq!(names(folder.path()), ["link", "source"]);
    }
}

#[test]
fn a_written_file_gets_a_new_name_and_never_one_that_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let [temp, to] = ["temp", "to"].map(|name| folder.path().join(name));
    for (text, is_new) in [("one", true), ("two", false)] {
        fs::write(&temp, text).unwrap();
        assert_eq!(persist_new_lasting(&File::open(&temp).unwrap(), &temp, &to).unwrap(), is_new);
        assert_eq!((fs::read_to_string(&to).unwrap().as_str(), temp.exists()), ("one", !is_new));
    }
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn grow_old(file: &Path, days: u64) {
    let time = SystemTime::now() - Duration::from_secs(days * 24 * 60 * 60);
    File::open(file).unwrap().set_modified(time).unwrap();
}

#[test]
fn a_file_is_put_in_a_new_folder_and_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let below = folder.path().join("a");
    write(&below, "name", b"old").unwrap();
    write(&below, "name", b"new").unwrap();
    assert_eq!(fs::read(below.join("name")).unwrap(), b"new");
    assert_eq!(names(&below), ["name"]);
}

#[test]
fn a_folder_above_that_is_gone_does_not_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let gone = folder.path().join("store");
    assert_eq!(write(&gone.join("timings"), "name", b"").unwrap_err().kind(), io::ErrorKind::NotFound);
    assert!(!gone.exists());
}

#[test]
fn a_callers_file_is_replaced_and_a_link_in_its_place_is_not_followed() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("name");
    fs::write(folder.path().join("outside"), "kept").unwrap();
    symlink("outside", &path).unwrap();
    let dir = super::super::dirfd::Dir::open(folder.path()).unwrap();
    for text in ["one", "two"] {
        replace(&dir, OsStr::new("name"), text.as_bytes(), Permissions::Exactly(0o640)).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
    assert_eq!(fs::symlink_metadata(&path).unwrap().permissions().mode(), 0o100_640);
    assert_eq!(fs::read_to_string(folder.path().join("outside")).unwrap(), "kept");
    assert_eq!(names(folder.path()), ["name", "outside"]);
}

#[test]
fn a_file_that_cannot_be_put_leaves_nothing_half_written() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("name/full")).unwrap();
    let dir = super::super::dirfd::Dir::open(folder.path()).unwrap();
    assert!(replace(&dir, OsStr::new("name"), b"text", Permissions::New).is_err());
    assert_eq!(names(folder.path()), ["name"]);
}

#[test]
fn half_written_files_of_killed_runners_go_and_those_of_living_ones_stay() {
    let folder = tempfile::tempdir().unwrap();
    let living = File::create(folder.path().join(".half-living")).unwrap();
    living.lock().unwrap();
    File::create(folder.path().join(".half-dead")).unwrap();
    write(folder.path(), "whole", b"").unwrap();
    sweep(folder.path(), None);
    assert_eq!(names(folder.path()), [".half-living", "whole"]);
}

#[test]
fn what_is_not_used_for_long_goes() {
    const MONTH: Duration = Duration::from_secs(30 * 24 * 60 * 60);
    let folder = tempfile::tempdir().unwrap();
    for name in ["fresh", "old", "used"] {
        write(folder.path(), name, b"").unwrap();
    }
    grow_old(&folder.path().join("old"), 31);
    grow_old(&folder.path().join("used"), 31);
    touch(&folder.path().join("used"));
    sweep(folder.path(), Some(MONTH));
    assert_eq!(names(folder.path()), ["fresh", "used"]);
}

#[test]
fn two_that_write_and_sweep_at_once_do_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
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
