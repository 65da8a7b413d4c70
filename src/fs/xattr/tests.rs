//! Tests of extended attributes: names and values of any size, of files, directories and links.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::Path;

use proptest::prelude::*;
use rustix::fs::{Mode, OFlags};

use super::*;

type All = BTreeMap<Vec<u8>, Vec<u8>>;

/// Returns a directory in memory: disks have less room for attributes.
fn directory() -> (tempfile::TempDir, File) {
    let directory = tempfile::tempdir_in("/dev/shm").unwrap();
    let open = File::open(directory.path()).unwrap();
    (directory, open)
}

fn path_only(path: &Path) -> OwnedFd {
    rustix::fs::open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

fn all(reader: &mut XattrReader, file: &XattrFile<'_>) -> All {
    reader.read(file, |_| true).unwrap().into_iter().collect()
}

/// Generates names of nearly the kernel's 255 bytes and of few, of any bytes but NUL.
fn name() -> impl Strategy<Value = Vec<u8>> {
    let prefix = prop::sample::select(vec!["user.", "trusted.", "security."]);
    let length = prop_oneof![4 => 1..20_usize, 1 => 200..=239_usize];
    (prefix, length.prop_flat_map(|length| prop::collection::vec(1..=255_u8, length))).prop_map(|(prefix, rest)| {
        // A security module of the host may give these a meaning.
        let rest = if prefix == "security." { [b"runner.", &rest[..]].concat() } else { rest };
        [prefix.as_bytes(), &rest].concat()
    })
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    let around = |length: usize| length - 1..=length + 1;
    let length = prop_oneof![
        4 => 0..40_usize,
        1 => around(FIRST_VALUE),
        1 => around(FIRST_VALUE * GROWTH),
        1 => 0..20_000_usize,
        1 => Just(MAX_BYTES),
    ];
    (any::<u8>(), length).prop_map(|(byte, length)| (0..length).map(|at| byte.wrapping_add(at as u8)).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn attributes_of_any_name_and_size_are_read_as_they_were_set(
        files in prop::collection::vec(prop::collection::btree_map(name(), value(), 0..12), 1..4)
    ) {
        let (directory, open) = directory();
        // One reader for all files: a value of one file must not be read of another.
        let mut reader = XattrReader::default();
        for (n, expected) in files.iter().enumerate() {
            let name = format!("file{n}");
            let path = directory.path().join(&name);
            fs::write(&path, "").unwrap();
            let file = XattrFile::entry(open.as_fd(), OsStr::new(&name)).unwrap();
            for (name, value) in expected {
                file.set(&name[..], value).unwrap();
            }
            let (readable, place) = (File::open(&path).unwrap(), path_only(&path));
            for same in [file, XattrFile::open(readable.as_fd()), XattrFile::opened(place.as_fd())] {
                prop_assert_eq!(&all(&mut reader, &same), expected);
            }
        }
    }

    #[test]
    fn a_list_of_names_of_any_length_is_read_whole_before_and_after_removals(count in 1..250_usize) {
        let (directory, open) = directory();
        fs::write(directory.path().join("file"), "").unwrap();
        let file = XattrFile::entry(open.as_fd(), OsStr::new("file")).unwrap();
        let names: Vec<String> = (0..count).map(|n| format!("trusted.{n:0200}")).collect();
        for name in &names {
            file.set(name.as_str(), b"").unwrap();
        }
        let mut reader = XattrReader::default();
        let mut listed = || {
            let mut found: Vec<Vec<u8>> = reader.names(&file).unwrap().iter().map(<[u8]>::to_vec).collect();
            found.sort();
            found
        };
        let (first, rest) = names.split_at(count / 2);
        prop_assert!(listed().iter().eq(names.iter().map(String::as_bytes)));
        first.iter().for_each(|name| file.remove(name.as_str()).unwrap());
        prop_assert!(listed().iter().eq(rest.iter().map(String::as_bytes)));
        rest.iter().for_each(|name| file.remove(name.as_str()).unwrap());
        prop_assert!(listed().is_empty());
    }
}

#[test]
fn attributes_of_a_link_are_apart_from_those_of_its_target() {
    let (directory, open) = directory();
    fs::write(directory.path().join("target"), "").unwrap();
    symlink("target", directory.path().join("link")).unwrap();
    let entry = |name: &str| XattrFile::entry(open.as_fd(), OsStr::new(name)).unwrap();
    entry("target").set("trusted.of", b"target").unwrap();
    entry("link").set("trusted.of", b"link").unwrap();
    let place = path_only(&directory.path().join("link"));
    for link in [entry("link"), XattrFile::opened(place.as_fd())] {
        assert_eq!(link.value("trusted.of").unwrap().as_deref(), Some(&b"link"[..]));
    }
    entry("link").remove("trusted.of").unwrap();
    assert_eq!(entry("link").value("trusted.of").unwrap(), None);
    assert_eq!(entry("target").value("trusted.of").unwrap().as_deref(), Some(&b"target"[..]));
}

#[test]
fn a_name_with_a_nul_and_a_missing_file_are_errors_and_a_missing_attribute_is_none() {
    let (directory, open) = directory();
    assert_eq!(XattrFile::entry(open.as_fd(), OsStr::new("a\0b")).unwrap_err(), Errno::INVAL);
    let file = XattrFile::entry(open.as_fd(), OsStr::new("file")).unwrap();
    let mut reader = XattrReader::default();
    assert_eq!(reader.names(&file).unwrap_err(), Errno::NOENT);
    fs::write(directory.path().join("file"), "").unwrap();
    assert_eq!(file.value("trusted.none").unwrap(), None);
    assert_eq!(reader.value(&file, b"trusted.none").unwrap_err(), Errno::NODATA);
    // proc(5) has no attributes but those of a security module.
    let proc = File::open("/proc/self").unwrap();
    assert_eq!(XattrFile::open(proc.as_fd()).value("user.none").unwrap(), None);
}

#[test]
fn a_value_that_changes_while_it_is_read_is_read_whole() {
    let (directory, open) = directory();
    fs::write(directory.path().join("file"), "").unwrap();
    let file = XattrFile::entry(open.as_fd(), OsStr::new("file")).unwrap();
    let values = [vec![1; 10], vec![2; 3000], vec![3; MAX_BYTES]];
    file.set("trusted.changes", &values[0]).unwrap();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for n in 0..3000 {
                file.set("trusted.changes", &values[n % values.len()]).unwrap();
            }
        });
        while !writer.is_finished() {
            // Each reader has buffers of its own, which are too short again and again.
            let found = XattrReader::default().value(&file, b"trusted.changes").unwrap().to_vec();
            assert!(values.contains(&found), "{} bytes", found.len());
        }
    });
}
