//! Tests of the databases: whole roots, and databases that rpm, sqlite and Berkeley DB have written.
//!
//! `rpm/testdata` has one set of packages in several databases: two that rpm 4.18 has installed (`hello-a`, `tiny`) and hand-made
//! ones with headers of up to 50,000 bytes, of which every seventh was removed again. `rpmdb.sqlite` was begun by rpm and
//! continued with sqlite3; `db5.3_load` has written `Packages`, in both byte orders.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use super::rpm::header;
use super::*;

const SQLITE: &[u8] = include_bytes!("rpm/testdata/rpmdb.sqlite.zst");
const BERKELEY: &[u8] = include_bytes!("rpm/testdata/Packages.zst");
const BIG_ENDIAN: &[u8] = include_bytes!("rpm/testdata/Packages-big-endian.zst");

fn decompressed(bytes: &[u8]) -> Vec<u8> {
    zstd::decode_all(bytes).unwrap()
}

fn open(path: &Path) -> OwnedFd {
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

/// Returns a root with these files.
fn root(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (path, bytes) in files {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    root
}

fn read_root(root: &tempfile::TempDir) -> Packages {
    read(std::os::fd::AsFd::as_fd(&open(root.path())))
}

fn names(packages: &Packages) -> Vec<String> {
    packages
        .all
        .iter()
        .map(|package| format!("{} {} {}", package.manager.name(), package.name, package.version))
        .collect()
}

fn errors(packages: &Packages) -> Vec<String> {
    packages.errors.iter().map(|error| crate::error::error_chain(error)).collect()
}

/// Makes a database as rpm's ndb does.
fn ndb(headers: &[Vec<u8>]) -> Vec<u8> {
    let mut file = vec![0; 4096];
    let put = |file: &mut Vec<u8>, at: usize, words: &[u32]| {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        file[at..at + bytes.len()].copy_from_slice(&bytes);
    };
    put(&mut file, 0, &[u32::from_le_bytes(*b"RpmP"), 0, 1, 1, 9]);
    for slot in 2..256 {
        put(&mut file, slot * 16, &[u32::from_le_bytes(*b"Slot"), 0, 0, 0]);
    }
    for (n, header) in headers.iter().enumerate() {
        let (number, block) = (u32::try_from(n + 1).unwrap(), u32::try_from(file.len() / 16).unwrap());
        put(&mut file, (n + 2) * 16, &[u32::from_le_bytes(*b"Slot"), number, block, 1]);
        let start = file.len();
        file.resize(start + 16, 0);
        put(&mut file, start, &[u32::from_le_bytes(*b"BlbS"), number, 1, u32::try_from(header.len()).unwrap()]);
        file.extend(header);
        file.resize(file.len().next_multiple_of(16) + 16, 0);
    }
    file
}

#[test]
fn the_databases_of_all_managers_in_one_root_are_read() {
    let status = "Package: base\nStatus: install ok installed\nVersion: 1\n\nPackage: more\nVersion: 2\n";
    let root = root(&[
        ("var/lib/dpkg/status", status.as_bytes()),
        ("var/lib/dpkg/status.d/tzdata", b"Package: tzdata\nVersion: 2026a\n"),
        ("var/lib/dpkg/status.d/base", b"Package: base\nVersion: 1\n"),
        ("var/lib/dpkg/status.d/tzdata.md5sums", b"Package: no\nVersion: 1\n"),
        ("usr/lib/apk/db/installed", b"P:musl\nV:1.2\n\n"),
        ("usr/lib/sysimage/rpm/Packages.db", &ndb(&[header::tests::header("bash", "5.2", None, 1)])),
    ]);
    symlink("usr/lib", root.path().join("lib")).unwrap();
    symlink("../../usr/lib/sysimage/rpm", root.path().join("var/lib/rpm")).unwrap();
    let packages = read_root(&root);
    assert_eq!(errors(&packages), [""; 0]);
    assert_eq!(packages.managers, [Manager::Dpkg, Manager::Apk, Manager::Rpm]);
    let expected = ["dpkg base 1", "dpkg more 2", "dpkg tzdata 2026a", "apk musl 1.2", "rpm bash 5.2-1.fc40"];
    assert_eq!(names(&packages), expected);
}

#[test]
fn a_root_without_databases_has_no_packages() {
    let packages = read_root(&root(&[("etc/passwd", b"")]));
    assert!(packages.all.is_empty() && packages.managers.is_empty() && packages.errors.is_empty());
}

#[test]
fn each_of_rpms_databases_has_the_same_packages() {
    let mut all = Vec::new();
    for (name, bytes) in [("rpmdb.sqlite", SQLITE), ("Packages", BERKELEY), ("Packages", BIG_ENDIAN)] {
        let path = format!("var/lib/rpm/{name}");
        let packages = read_root(&root(&[(path.as_str(), decompressed(bytes).as_slice())]));
        assert_eq!(errors(&packages), [""; 0], "{path}");
        all.push(packages.all);
    }
    assert_eq!(all[0].len(), 216);
    let expected = Package {
        manager: Manager::Rpm,
        name: "hello-a".into(),
        version: "3:2.1-1.fc40".into(),
        architecture: "x86_64".into(),
        size: Some(23),
    };
    assert_eq!(all[0][0], expected);
    assert!(all[0].iter().any(|package| package.name == "pkg-225" && package.size == Some(50_225)));
    assert!(all[0] == all[1] && all[0] == all[2]);
}

#[test]
fn a_write_ahead_log_that_is_not_applied_is_refused() {
    let database = decompressed(SQLITE);
    let packages = read_root(&root(&[("var/lib/rpm/rpmdb.sqlite", &database), ("var/lib/rpm/rpmdb.sqlite-wal", b"")]));
    assert_eq!(packages.all.len(), 216);
    let packages = read_root(&root(&[("var/lib/rpm/rpmdb.sqlite", &database), ("var/lib/rpm/rpmdb.sqlite-wal", b"x")]));
    assert_eq!(packages.all, []);
    assert!(errors(&packages)[0].contains("write-ahead log"), "{:?}", packages.errors);
}

#[test]
fn links_are_followed_inside_the_root_alone_and_only_files_are_read() {
    let outside = root(&[("status", b"Package: outside\nVersion: 1\n")]);
    let inside = root(&[("var/lib/dpkg/x", b"")]);
    let path = inside.path().join("var/lib/dpkg/status");
    symlink(outside.path().join("status"), &path).unwrap();
    let packages = read_root(&inside);
    assert!(packages.all.is_empty() && packages.managers.is_empty(), "{packages:?}");
    fs::remove_file(&path).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    assert!(errors(&read_root(&inside))[0].contains("it is a FIFO"));
    fs::remove_file(&path).unwrap();
    fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
    let expected = "cannot read the packages of dpkg: /var/lib/dpkg/status: it is over 64 MiB";
    assert_eq!(errors(&read_root(&inside)), [expected]);
}

#[test]
fn no_damage_of_a_database_panics_or_takes_long() {
    let headers = [header::tests::header("bash", "5.2", None, 1), header::tests::header("zlib", "1", Some(1), 2)];
    let databases = [
        ("rpmdb.sqlite", decompressed(SQLITE)),
        ("Packages", decompressed(BERKELEY)),
        ("Packages", decompressed(BIG_ENDIAN)),
        ("Packages.db", ndb(&headers)),
    ];
    for (name, whole) in databases {
        let path = format!("var/lib/rpm/{name}");
        let root = root(&[(path.as_str(), &whole)]);
        let file = root.path().join(&path);
        // The headers of the file and of the first pages, and some bytes everywhere.
        let step = whole.len() / 60 + 1;
        for at in (0..120).step_by(2).chain((120..whole.len()).step_by(step)) {
            for value in [0xff, whole[at] ^ 1] {
                let mut damaged = whole.clone();
                damaged[at] = value;
                fs::write(&file, &damaged).unwrap();
                let packages = read_root(&root);
                assert!(packages.errors.is_empty() || packages.all.is_empty(), "{name} {at}");
            }
        }
        for length in [0, 1, 15, 16, 99, 100, 511, 512, 4095, 4096, whole.len() / 2, whole.len() - 1] {
            fs::write(&file, &whole[..length.min(whole.len())]).unwrap();
            let _ = read_root(&root);
        }
    }
}

#[test]
fn pages_that_refer_to_each_other_in_a_circle_are_refused() {
    // An interior page of which each child is the page itself.
    let mut database = decompressed(SQLITE);
    let page = &mut database[100..];
    page[0] = 5;
    page[3..5].copy_from_slice(&1_u16.to_be_bytes());
    page[8..12].copy_from_slice(&1_u32.to_be_bytes());
    page[12..14].copy_from_slice(&2000_u16.to_be_bytes());
    database[2000..2004].copy_from_slice(&1_u32.to_be_bytes());
    let packages = read_root(&root(&[("var/lib/rpm/rpmdb.sqlite", &database)]));
    assert!(errors(&packages)[0].contains("in a circle"), "{packages:?}");
}
