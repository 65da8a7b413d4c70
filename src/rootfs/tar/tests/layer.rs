//! Layers of images: they remove files below, and neither their own nor any outside.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, symlink};
use std::sync::atomic::AtomicBool;

use tar::EntryType;

use super::super::unpack_layer;
use super::{Case, add, archive};
use crate::digest::Digest;
use crate::rootfs::{Bounds, RootfsError, UnpackRoom};

/// Unpacks a layer with these empty files and directories (names that end in `/`) onto the case's root.
fn layer(case: &Case, names: &[&str]) -> Result<Digest, RootfsError> {
    let bytes = archive(|builder| {
        for name in names {
            let kind = if name.ends_with('/') { EntryType::Directory } else { EntryType::Regular };
            add(builder, name, kind, "", b"");
        }
    });
    fs::write(case.archive(), &bytes).unwrap();
    let (file, root) = (File::open(case.archive()).unwrap(), File::open(case.root()).unwrap());
    let digest = unpack_layer(
        &case.archive(),
        file.as_fd(),
        root.as_fd(),
        false,
        &Bounds::new(&AtomicBool::new(false), UnpackRoom::ALL),
    )?;
    assert_eq!(digest, Digest::of_bytes(&bytes));
    Ok(digest)
}

/// Makes files below a case's root.
fn below(case: &Case, names: &[&str]) {
    for name in names {
        let path = case.root().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "below").unwrap();
    }
}

/// Returns the files and directories below the case's root.
fn files(case: &Case) -> Vec<String> {
    let mut all = Vec::new();
    let mut remaining = vec![case.root()];
    while let Some(directory) = remaining.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            all.push(path.strip_prefix(case.root()).unwrap().display().to_string());
            if path.is_dir() && !path.is_symlink() {
                remaining.push(path);
            }
        }
    }
    all.sort();
    all
}

#[test]
fn whiteouts_remove_what_is_below_and_nothing_of_the_layer_itself() {
    let case = Case::new();
    below(&case, &["a/file", "a/other", "b/deep/file", "b/gone", "c", "d/x", "e/sub/f"]);
    let names = [
        "a/.wh.file",
        "b/own",
        "b/.wh..wh..opq",
        "b/deep/new",
        "c/",
        ".wh.d",
        "d/new",
        "e/sub/own",
        "e/.wh.sub",
        ".wh.missing",
        "none/.wh..wh..opq",
        ".wh..wh.plnk",
    ];
    layer(&case, &names).unwrap();
    let expected = ["a", "a/other", "b", "b/deep", "b/deep/new", "b/own", "c", "d", "d/new", "e", "e/sub", "e/sub/own"];
    assert_eq!(files(&case), expected);
}

#[test]
fn a_file_replaces_a_directory_below_and_a_directory_keeps_what_is_in_it() {
    let case = Case::new();
    below(&case, &["directory/full/x", "stays/file"]);
    layer(&case, &["directory", "stays/"]).unwrap();
    assert_eq!(files(&case), ["directory", "stays", "stays/file"]);
}

#[test]
fn a_directory_without_an_entry_keeps_its_time() {
    let case = Case::new();
    below(&case, &["usr/data/file"]);
    symlink("usr/data", case.root().join("link")).unwrap();
    let time = |name: &str| fs::metadata(case.root().join(name)).unwrap().mtime();
    let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1000);
    for name in ["usr/data", "usr", ""] {
        File::open(case.root().join(name)).unwrap().set_modified(old).unwrap();
    }
    layer(&case, &["link/new", "usr/data/.wh.file", "usr/added"]).unwrap();
    assert_eq!(files(&case), ["link", "usr", "usr/added", "usr/data", "usr/data/new"]);
    assert_eq!(["usr/data", "usr", ""].map(time), [1000; 3]);
}

#[test]
fn no_whiteout_leads_out_of_the_root() {
    for name in [".wh.", ".wh...", "a/.wh..", "../.wh.outside", "a/../../.wh.outside"] {
        let case = Case::new();
        assert!(layer(&case, &[name]).is_err(), "{name}");
        assert_eq!(fs::read(case.root().parent().unwrap().join("outside")).unwrap(), b"outside");
    }
    let case = Case::new();
    below(&case, &["etc/passwd"]);
    symlink("/", case.root().join("link")).unwrap();
    symlink("../../..", case.root().join("up")).unwrap();
    layer(&case, &["link/etc/.wh.passwd", "up/.wh.outside", "up/etc/.wh..wh..opq"]).unwrap();
    assert_eq!(fs::read(case.root().parent().unwrap().join("outside")).unwrap(), b"outside");
    assert_eq!(files(&case), ["etc", "link", "up"]);
}

#[test]
fn a_layer_may_lack_the_end_mark_and_nothing_else() {
    let case = Case::new();
    let whole = archive(|builder| add(builder, "file", EntryType::Regular, "", b"content"));
    let unpacked = |length: usize| {
        fs::write(case.archive(), &whole[..length]).unwrap();
        let (file, root) = (File::open(case.archive()).unwrap(), File::open(case.root()).unwrap());
        unpack_layer(
            &case.archive(),
            file.as_fd(),
            root.as_fd(),
            false,
            &Bounds::new(&AtomicBool::new(false), UnpackRoom::ALL),
        )
    };
    for length in [whole.len(), 1024, 512 + 7, 512 + 100] {
        assert_eq!(unpacked(length).unwrap(), Digest::of_bytes(&whole[..length]), "{length}");
        assert_eq!(fs::read(case.root().join("file")).unwrap(), b"content");
    }
    for length in [512 + 6, 512, 1024 + 100] {
        assert!(unpacked(length).is_err(), "{length}");
    }
}
