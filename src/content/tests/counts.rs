//! Tests of the facts that the digest includes, those that it omits, and files that are refused.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::UNIX_EPOCH;

use caps::{CapSet, Capability};
use rustix::fs::{CWD, FileType, Mode, XattrFlags, makedev, mknodat, setxattr};

use super::super::{ContentError, Contents, Kind};
use super::*;
use crate::digest::Digest;

fn node(path: &Path, kind: FileType, minor: u32) {
    mknodat(CWD, path, kind, Mode::from_raw_mode(0o600), makedev(1, minor)).unwrap();
}

/// One file of each type.
fn one_of_each() -> TempDir {
    let directory = directory(&[("file", "text"), ("folder/below", "more")]);
    symlink("file", directory.path().join("link")).unwrap();
    node(&directory.path().join("character"), FileType::CharacterDevice, 3);
    node(&directory.path().join("block"), FileType::BlockDevice, 3);
    node(&directory.path().join("fifo"), FileType::Fifo, 0);
    drop(UnixListener::bind(directory.path().join("socket")).unwrap());
    directory
}

/// Makes one change and returns the reported differences.
fn changes_of(change: impl FnOnce(&Path)) -> Vec<String> {
    let directory = one_of_each();
    let before = content(directory.path());
    change(directory.path());
    changes(&before, &content(directory.path()))
}

#[test]
fn each_type_of_file_is_listed_without_waiting() {
    let directory = one_of_each();
    let content = content(directory.path());
    let kinds: Vec<(String, Kind<'_>)> =
        content.listing.entries().map(|entry| (entry.path.display().to_string(), entry.kind)).collect();
    let expected = [
        ("", Kind::Directory),
        ("block", Kind::BlockDevice(1, 3)),
        ("character", Kind::CharacterDevice(1, 3)),
        ("fifo", Kind::Fifo),
        ("file", Kind::File(Digest::of_bytes(b"text"))),
        ("folder", Kind::Directory),
        ("folder/below", Kind::File(Digest::of_bytes(b"more"))),
        ("link", Kind::Link(Path::new("file"))),
        ("socket", Kind::Socket),
    ];
    assert_eq!(kinds, expected.map(|(path, kind)| (path.to_owned(), kind)));
    assert_eq!((content.files, content.bytes, content.read), (2, 8, 2));
}

#[test]
fn every_change_that_a_step_can_see_is_reported() {
    assert_eq!(
        changes_of(|at| fs::write(at.join("folder/below"), "mory").unwrap()),
        ["folder/below changed (content)"]
    );
    let mode = |name: &'static str, mode| {
        move |at: &Path| fs::set_permissions(at.join(name), fs::Permissions::from_mode(mode)).unwrap()
    };
    for name in ["file", "folder", "character", "fifo", "socket"] {
        assert_eq!(changes_of(mode(name, 0o4711)), [format!("{name} changed (mode)")]);
        assert_eq!(
            changes_of(|at| lchown(at.join(name), Some(70_000), None).unwrap()),
            [format!("{name} changed (owner)")]
        );
    }
    assert_eq!(changes_of(mode("", 0o1777)), [" changed (mode)"]);
    assert_eq!(changes_of(|at| lchown(at.join("link"), None, Some(7)).unwrap()), ["link changed (owner)"]);
    let relink = |at: &Path| {
        fs::remove_file(at.join("link")).unwrap();
        symlink("elsewhere", at.join("link")).unwrap();
    };
    assert_eq!(changes_of(relink), ["link changed (content)"]);
    let renumber = |at: &Path| {
        fs::remove_file(at.join("block")).unwrap();
        node(&at.join("block"), FileType::BlockDevice, 4);
    };
    assert_eq!(changes_of(renumber), ["block changed (content)"]);
    assert_eq!(changes_of(|at| fs::rename(at.join("file"), at.join("life")).unwrap()), ["file removed", "life added"]);
    assert_eq!(changes_of(|at| fs::create_dir(at.join("folder/new")).unwrap()), ["folder/new added"]);
}

#[test]
fn only_attributes_that_a_step_can_see_count() {
    let set = |path: &'static str, name: &'static str, value: &'static [u8]| {
        changes_of(move |at| setxattr(at.join(path), name, value, XattrFlags::empty()).unwrap())
    };
    assert_eq!(set("file", "user.note", b"x"), ["file changed (attributes)"]);
    assert_eq!(set("folder", "user.note", b""), ["folder changed (attributes)"]);
    assert_eq!(set("", "user.note", b"x"), [" changed (attributes)"]);
    // cap_net_raw in effect: struct vfs_cap_data of linux/capability.h.
    let capability = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    assert_eq!(set("file", "security.capability", capability), ["file changed (attributes)"]);
    assert!(set("file", "trusted.overlay.opaque", b"y").is_empty());
    // User 7 may read it: struct posix_acl_xattr_entry of linux/posix_acl_xattr.h, owner, user 7, group, mask, others.
    let list = b"\x02\0\0\0\x01\0\x06\0\xff\xff\xff\xff\x02\0\x04\0\x07\0\0\0\x04\0\x04\0\xff\xff\xff\xff\x10\0\x04\0\xff\xff\xff\xff\x20\0\x04\0\xff\xff\xff\xff";
    for name in ["file", "fifo"] {
        let changes_of = set(name, "system.posix_acl_access", list);
        assert!(changes_of.len() == 1 && changes_of[0].ends_with("attributes)"), "{changes_of:?}");
    }
}

#[test]
fn the_digest_of_attributes_includes_names_values_and_their_lengths() {
    let directory = directory(&[("file", "")]);
    let file = directory.path().join("file");
    for (name, value) in [("user.b", "x"), ("user.a", "")] {
        setxattr(&file, name, value.as_bytes(), XattrFlags::empty()).unwrap();
    }
    let bytes = b"\x06\0\0\0\0\0\0\0user.a\0\0\0\0\0\0\0\0\x06\0\0\0\0\0\0\0user.b\x01\0\0\0\0\0\0\0x";
    assert_eq!(content(&file).listing.entries().next().unwrap().attributes, Some(Digest::of_bytes(bytes)));
}

#[test]
fn many_attributes_are_read_in_any_order() {
    let directory = directory(&[("one", ""), ("other", "")]);
    let names: Vec<String> = (0..20).map(|at| format!("user.{}{at}", "n".repeat(60))).collect();
    let set = |file: &str, name: &String| {
        setxattr(directory.path().join(file), name, name.as_bytes(), XattrFlags::empty()).unwrap();
    };
    names.iter().for_each(|name| set("one", name));
    names.iter().rev().for_each(|name| set("other", name));
    let attributes = || content(directory.path()).listing.entries().map(|entry| entry.attributes).collect::<Vec<_>>();
    let both = attributes();
    assert!(both[1].is_some() && both[1] == both[2]);
    set("one", &"user.last".to_owned());
    assert_ne!(attributes()[1], both[1]);
}

#[test]
fn times_and_the_name_of_the_top_do_not_count() {
    let one = one_of_each();
    let before = content(one.path());
    let file = fs::File::options().write(true).open(one.path().join("file")).unwrap();
    file.set_modified(UNIX_EPOCH).unwrap();
    assert_eq!(content(one.path()).digest, before.digest);
    let other = directory(&[("a", "same"), ("b", "same")]);
    let before = content(other.path());
    let elsewhere = tempfile::tempdir().unwrap();
    fs::rename(other.path(), elsewhere.path().join("name")).unwrap();
    assert_eq!(content(&elsewhere.path().join("name")).digest, before.digest);
}

#[test]
fn links_in_the_top_path_are_followed_and_links_below_are_not() {
    let directory = directory(&[("real/a", "x"), ("outside", "y")]);
    symlink("../outside", directory.path().join("real/link")).unwrap();
    symlink("real", directory.path().join("top")).unwrap();
    symlink("real/link", directory.path().join("file")).unwrap();
    let real = content(&directory.path().join("real"));
    assert_eq!(content(&directory.path().join("top")).digest, real.digest);
    assert_eq!(paths(&real), ["", "a", "link"]);
    let file = content(&directory.path().join("file"));
    assert_eq!(file.digest, content(&directory.path().join("outside")).digest);
    assert_eq!((paths(&file), file.bytes), (vec![String::new()], 1));
    fs::write(directory.path().join("outside"), "z").unwrap();
    assert_eq!(content(&directory.path().join("real")).digest, real.digest);
    assert_eq!(changes(&file, &content(&directory.path().join("file"))), [" changed (content)"]);
}

#[test]
fn the_attributes_of_a_bound_file_count() {
    let directory = directory(&[("file", "x")]);
    let file = directory.path().join("file");
    let before = content(&file);
    setxattr(&file, "user.note", b"x", XattrFlags::empty()).unwrap();
    chown(&file, Some(1), None).unwrap();
    assert_eq!(changes(&before, &content(&file)), [" changed (owner, attributes)"]);
}

#[test]
fn a_device_or_a_fifo_that_is_bound_is_not_opened() {
    let directory = one_of_each();
    assert_eq!(content(&directory.path().join("fifo")).listing.entries().next().unwrap().kind, Kind::Fifo);
    let null = content(Path::new("/dev/null"));
    assert_eq!(null.listing.entries().next().unwrap().kind, Kind::CharacterDevice(1, 3));
}

#[test]
fn a_file_has_the_digest_of_its_bytes() {
    let bytes: String = (0..300_000).map(|at| char::from(b'a' + (at % 23) as u8)).collect();
    let directory = directory(&[("image", &bytes)]);
    symlink("image", directory.path().join("link")).unwrap();
    let contents = Contents::without_cache();
    for name in ["image", "link"] {
        assert_eq!(contents.of_file(&directory.path().join(name)).unwrap(), Digest::of_bytes(bytes.as_bytes()));
    }
    let error = contents.of_file(directory.path()).unwrap_err();
    assert!(matches!(error, ContentError::NotAFile { .. }), "{error}");
    let error = contents.of_file(Path::new("/proc/version")).unwrap_err();
    assert!(matches!(error, ContentError::MadeUp { filesystem: "proc", .. }), "{error}");
}

#[test]
fn generated_filesystems_are_refused_by_the_path_of_their_mount() {
    for (path, begins) in
        [("/proc", "/proc"), ("/proc/self/status", "/proc/self/status"), ("/sys/kernel", "/sys/kernel")]
    {
        match error(Path::new(path)) {
            ContentError::MadeUp { path, .. } => assert_eq!(path, Path::new(begins)),
            other => panic!("{path}: {other}"),
        }
    }
}

#[test]
fn a_missing_or_unreadable_file_is_an_error_with_its_path() {
    let directory = directory(&[("a/secret", "x")]);
    match error(&directory.path().join("none")) {
        ContentError::Io { path, source, .. } => {
            assert_eq!((path, source.kind()), (directory.path().join("none"), ErrorKind::NotFound));
        }
        other => panic!("{other}"),
    }
    let secret = directory.path().join("a/secret");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o000)).unwrap();
    assert_eq!(fs::metadata(&secret).unwrap().uid(), 0);
    // For this thread alone, and those that it starts.
    let unprivileged = || {
        for capability in [Capability::CAP_DAC_OVERRIDE, Capability::CAP_DAC_READ_SEARCH] {
            caps::drop(None, CapSet::Effective, capability).unwrap();
        }
        error(directory.path())
    };
    match std::thread::scope(|scope| scope.spawn(unprivileged).join().unwrap()) {
        error @ ContentError::Io { .. } => {
            assert_eq!(error.to_string(), format!("cannot open {}", secret.display()));
            assert!(error.hint().unwrap().contains("chmod"));
        }
        other => panic!("{other}"),
    }
}
