//! Tests of single entries of an archive, hostile ones among them, and of the files that they make in the root.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use tar::{EntryType, Header};

use super::{Case, add, add_file, archive, failure, pax};

#[test]
fn a_name_that_leads_upwards_is_refused() {
    for name in ["../outside", "a/../../outside", "..", "/../outside", "a/.."] {
        let case = Case::new();
        let message = failure(case.unpack_bytes(&archive(|builder| add_file(builder, name, b"x"))));
        assert!(message.contains(name) && message.contains("leads upwards"), "{message}");
    }
}

#[test]
fn an_absolute_name_starts_from_the_root() {
    let case = Case::new();
    case.unpack_bytes(&archive(|builder| add_file(builder, "//etc/./hostile", b"x"))).unwrap();
    assert_eq!(fs::read(case.root().join("etc/hostile")).unwrap(), b"x");
    assert!(!Path::new("/etc/hostile").exists());
}

#[test]
fn symlinks_on_the_way_are_resolved_inside_the_root() {
    let case = Case::new();
    let outside = case.directory.path().to_str().unwrap().to_owned();
    let bytes = archive(|builder| {
        add(builder, "usr/bin/", EntryType::Directory, "", b"");
        add(builder, "bin", EntryType::Symlink, "usr/bin", b"");
        add_file(builder, "bin/ls", b"ls");
        add(builder, "absolute", EntryType::Symlink, "/usr", b"");
        add_file(builder, "absolute/bin/cat", b"cat");
        add(builder, "up", EntryType::Symlink, "../../../..", b"");
        add_file(builder, "up/outside", b"x");
        add(builder, "away", EntryType::Symlink, &outside, b"");
    });
    case.unpack_bytes(&bytes).unwrap();
    assert_eq!(fs::read(case.root().join("usr/bin/ls")).unwrap(), b"ls");
    assert_eq!(fs::read(case.root().join("usr/bin/cat")).unwrap(), b"cat");
    assert_eq!(fs::read(case.root().join("outside")).unwrap(), b"x");

    // The target exists on the host, but not in the root.
    let bytes = archive(|builder| {
        add(builder, "away", EntryType::Symlink, &outside, b"");
        add_file(builder, "away/outside", b"x");
    });
    let message = failure(Case::new().unpack_bytes(&bytes));
    assert!(message.contains("away/outside"), "{message}");

    let bytes = archive(|builder| {
        add(builder, "a", EntryType::Symlink, "b", b"");
        add(builder, "b", EntryType::Symlink, "a", b"");
        add_file(builder, "a/x", b"x");
    });
    let message = failure(Case::new().unpack_bytes(&bytes));
    assert!(message.contains("a/x"), "{message}");
}

#[test]
fn a_symlink_is_replaced_and_never_written_through() {
    let case = Case::new();
    let outside = case.directory.path().join("outside").to_str().unwrap().to_owned();
    let bytes = archive(|builder| {
        for name in ["file", "fifo", "char", "dir", "link", "hard"] {
            add(builder, name, EntryType::Symlink, &outside, b"");
        }
        add_file(builder, "file", b"x");
        add(builder, "fifo", EntryType::Fifo, "", b"");
        add(builder, "char", EntryType::Char, "", b"");
        add(builder, "dir", EntryType::Directory, "", b"");
        add(builder, "link", EntryType::Symlink, "elsewhere", b"");
        add(builder, "hard", EntryType::Link, "file", b"");
    });
    case.unpack_bytes(&bytes).unwrap();
    let kind = |name: &str| fs::symlink_metadata(case.root().join(name)).unwrap().file_type();
    assert!(kind("file").is_file() && kind("fifo").is_fifo() && kind("char").is_char_device() && kind("dir").is_dir());
    assert_eq!(fs::read_link(case.root().join("link")).unwrap(), Path::new("elsewhere"));
    assert_eq!(fs::metadata(case.root().join("file")).unwrap().nlink(), 2);
}

#[test]
fn a_hard_link_reaches_nothing_outside_the_root() {
    for target in ["../outside", "/etc/passwd", "etc/passwd", "link/passwd"] {
        let case = Case::new();
        let bytes = archive(|builder| {
            add(builder, "link", EntryType::Symlink, "/etc", b"");
            add(builder, "stolen", EntryType::Link, target, b"");
        });
        let message = failure(case.unpack_bytes(&bytes));
        assert!(message.contains("stolen"), "{message}");
        assert!(!case.root().join("stolen").exists());
    }
}

#[test]
fn a_hard_link_to_a_symlink_is_another_name_of_the_symlink() {
    let case = Case::new();
    let bytes = archive(|builder| {
        add(builder, "link", EntryType::Symlink, "/etc/passwd", b"");
        add(builder, "hard", EntryType::Link, "link", b"");
        add(builder, "hard", EntryType::Link, "hard", b"");
    });
    case.unpack_bytes(&bytes).unwrap();
    assert_eq!(fs::read_link(case.root().join("hard")).unwrap(), Path::new("/etc/passwd"));
}

#[test]
fn a_later_entry_replaces_an_earlier_one_but_no_directory_with_files_in_it() {
    let case = Case::new();
    let bytes = archive(|builder| {
        add_file(builder, "a", b"first");
        add(builder, "b", EntryType::Link, "a", b"");
        add_file(builder, "a", b"second");
        add(builder, "c/", EntryType::Directory, "", b"");
        add_file(builder, "c", b"file for directory");
        add_file(builder, "d", b"");
        add_file(builder, "d/e", b"");
    });
    let message = failure(case.unpack_bytes(&bytes));
    assert!(message.contains("d/e"), "{message}");
    assert_eq!(fs::read(case.root().join("a")).unwrap(), b"second");
    assert_eq!(fs::read(case.root().join("b")).unwrap(), b"first");
    assert_eq!(fs::read(case.root().join("c")).unwrap(), b"file for directory");

    let bytes = archive(|builder| {
        add_file(builder, "c/d", b"");
        add_file(builder, "c", b"");
    });
    let message = failure(Case::new().unpack_bytes(&bytes));
    assert!(message.contains("replace a directory that is not empty"), "{message}");
}

#[test]
fn a_cached_directory_is_not_used_after_it_was_replaced() {
    let case = Case::new();
    let bytes = archive(|builder| {
        add(builder, "usr/", EntryType::Directory, "", b"");
        add(builder, "bin", EntryType::Symlink, "usr", b"");
        add_file(builder, "bin/a", b"");
        add(builder, "bin/", EntryType::Directory, "", b"");
        add_file(builder, "bin/b", b"");
    });
    case.unpack_bytes(&bytes).unwrap();
    assert!(case.root().join("usr/a").exists() && case.root().join("bin/b").exists());
    assert!(!case.root().join("usr/b").exists());
}

#[test]
fn implied_directories_belong_to_root_and_are_from_1970_so_that_two_unpackings_are_equal() {
    let case = Case::new();
    case.unpack_bytes(&archive(|builder| add_file(builder, "a/b/c", b""))).unwrap();
    for implied in ["", "a", "a/b"] {
        let meta = fs::metadata(case.root().join(implied)).unwrap();
        assert_eq!((meta.mode() & 0o7777, meta.uid(), meta.mtime(), meta.mtime_nsec()), (0o755, 0, 0, 0));
    }
    assert_eq!(fs::metadata(case.root().join("a/b/c")).unwrap().mtime(), 7);
}

#[test]
fn deep_nesting_is_unpacked_or_refused_without_a_crash() {
    let case = Case::new();
    let name = "d/".repeat(2000) + "file";
    case.unpack_bytes(&pax(&[("path", name.as_bytes())], |builder| add_file(builder, "x", b"deep"))).unwrap();
    assert_eq!(fs::read(case.root().join(&name)).unwrap(), b"deep");
    let name = "d/".repeat(100_000) + "file";
    let message = failure(Case::new().unpack_bytes(&pax(&[("path", name.as_bytes())], |b| add_file(b, "x", b""))));
    assert!(message.to_lowercase().contains("name too long"), "{}", &message[message.len() - 200..]);
}

#[test]
fn invalid_entries_are_refused_with_their_names() {
    let refused = |records: &[(&str, &[u8])], kind: EntryType, expected: &str| {
        let message =
            failure(Case::new().unpack_bytes(&pax(records, |builder| add(builder, "the-entry", kind, "", b""))));
        assert!(message.contains("the-entry") && message.contains(expected), "{message}");
    };
    refused(&[("uid", b"4294967295")], EntryType::Regular, "no file can have");
    refused(&[("gid", b"99999999999")], EntryType::Regular, "does not fit in 32 bits");
    refused(&[("mtime", b"yesterday")], EntryType::Regular, "is no time");
    refused(&[("size", b"99999999999999999999")], EntryType::Regular, "too large");
    refused(&[("size", b"1000000")], EntryType::Regular, "cut off in its content");
    refused(&[("SCHILY.xattr.trusted.overlay.opaque", b"y")], EntryType::Directory, "overlayfs");
    refused(&[("SCHILY.xattr.nonsense", b"y")], EntryType::Regular, "set the attribute nonsense");
    refused(&[("SCHILY.devmajor", b"0"), ("SCHILY.devminor", b"0")], EntryType::Char, "deleted file");
    refused(&[("SCHILY.devmajor", b"4096")], EntryType::Char, "device number is too large");
    refused(&[("GNU.sparse.map", b"0,5"), ("GNU.sparse.size", b"9")], EntryType::Regular, "does not match");
    refused(&[("GNU.sparse.map", b""), ("GNU.sparse.size", b"9")], EntryType::Regular, "odd number");
    refused(&[("GNU.sparse.major", b"2"), ("GNU.sparse.size", b"9")], EntryType::Regular, "not known");
    refused(&[("GNU.sparse.major", b"1"), ("GNU.sparse.size", b"9")], EntryType::Regular, "sparse map is cut off");
    refused(&[], EntryType::new(b'M'), "volume");
    refused(&[], EntryType::new(b'?'), "type `?`");
    refused(&[("path", b"the-entry\0/etc")], EntryType::Regular, "NUL");
    refused(&[("path", &[b"the-entry/", &[b'n'; 256][..]].concat())], EntryType::Regular, "name too long");
}

#[test]
fn the_root_can_only_be_a_directory() {
    for kind in [EntryType::Regular, EntryType::Symlink, EntryType::Fifo, EntryType::Link] {
        let message = failure(Case::new().unpack_bytes(&archive(|builder| add(builder, ".", kind, "x", b""))));
        assert!(message.contains("the root"), "{message}");
    }
}

#[test]
fn times_out_of_range_are_clamped() {
    let case = Case::new();
    let records: [(&str, &[u8]); 1] = [("mtime", b"-99999999999.5")];
    case.unpack_bytes(&pax(&records, |builder| add_file(builder, "a", b""))).unwrap();
    assert_eq!(fs::metadata(case.root().join("a")).unwrap().mtime(), i64::from(i32::MIN));
    let case = Case::new();
    let records: [(&str, &[u8]); 1] = [("mtime", b"123456789012345678901234567890")];
    case.unpack_bytes(&pax(&records, |builder| add_file(builder, "a", b""))).unwrap();
    assert_eq!(fs::metadata(case.root().join("a")).unwrap().mtime(), i64::from(u32::MAX));
}

#[test]
fn global_headers_apply_to_all_later_members_and_local_ones_override_them() {
    let case = Case::new();
    let bytes = archive(|builder| {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::XGlobalHeader);
        let records = b"11 mtime=5\n12 uid=1234\n";
        header.set_size(records.len() as u64);
        header.set_cksum();
        builder.append(&header, &records[..]).unwrap();
        add_file(builder, "a", b"");
        builder.append_pax_extensions([("uid", &b"99"[..])]).unwrap();
        add_file(builder, "b", b"");
    });
    case.unpack_bytes(&bytes).unwrap_or_else(|error| panic!("{error}"));
    let meta = |name: &str| fs::metadata(case.root().join(name)).unwrap();
    assert_eq!((meta("a").uid(), meta("a").mtime(), meta("b").uid(), meta("b").mtime()), (1234, 5, 99, 5));
}

#[test]
fn bytes_after_the_end_mark_are_ignored() {
    let case = Case::new();
    let mut bytes = archive(|builder| add_file(builder, "a", b"a"));
    bytes.extend_from_slice(&archive(|builder| add_file(builder, "b", b"b")));
    bytes.extend_from_slice(b"garbage");
    case.unpack_bytes(&bytes).unwrap();
    assert!(case.root().join("a").exists() && !case.root().join("b").exists());
}

#[test]
fn a_name_may_have_any_bytes() {
    let case = Case::new();
    let name = [b"dir/\xff\n\\", &[b'n'; 252][..]].concat();
    case.unpack_bytes(&pax(&[("path", &name)], |builder| add_file(builder, "x", b"y"))).unwrap();
    assert_eq!(fs::read(case.root().join(OsStr::from_bytes(&name))).unwrap(), b"y");
}
