//! Fuzzes the databases of packages: any bytes in the place of one give packages, or an error and none.
//!
//! An input is the number of the database in a byte, and its bytes.
#![no_main]

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use runner::packages::read;
use rustix::fs::{Mode, OFlags};
use tempfile::TempDir;

const DATABASES: [&str; 6] = [
    "var/lib/dpkg/status",
    "var/lib/dpkg/status.d/package",
    "lib/apk/db/installed",
    "var/lib/rpm/rpmdb.sqlite",
    "var/lib/rpm/Packages.db",
    "var/lib/rpm/Packages",
];

static ROOTS: LazyLock<Vec<(TempDir, OwnedFd)>> = LazyLock::new(|| {
    let root = |database: &&str| {
        let root = tempfile::tempdir().expect("cannot make a temporary directory");
        let (directory, _) = database.rsplit_once('/').expect("it has a directory");
        fs::create_dir_all(root.path().join(directory)).expect("cannot make a directory");
        let top = rustix::fs::open(root.path(), OFlags::PATH | OFlags::DIRECTORY, Mode::empty());
        (root, top.expect("cannot open a directory"))
    };
    DATABASES.iter().map(root).collect()
});

fuzz_target!(|bytes: &[u8]| {
    let Some((number, bytes)) = bytes.split_first() else { return };
    let index = usize::from(*number) % DATABASES.len();
    let (root, top) = &ROOTS[index];
    fs::write(root.path().join(DATABASES[index]), bytes).expect("cannot write a database");
    let packages = read(top.as_fd());
    assert!(packages.errors.is_empty() || packages.all.is_empty());
    assert!(packages.all.iter().all(|package| !package.name.is_empty() && !package.version.is_empty()));
});
