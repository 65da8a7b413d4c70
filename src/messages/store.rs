//! The store, and the lock that a build must match.

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::{compare, errno, every, shown};
use crate::digest::{Digest, DigestError};
use crate::lock::LockError;
use crate::store::StoreError;

fn io(action: &'static str, path: &str, number: i32) -> StoreError {
    StoreError::Io { action, path: path.into(), source: errno(number) }
}

fn publish(source: StoreError) -> StoreError {
    StoreError::Publish { path: "/work/out/base.squashfs".into(), source: Box::new(source) }
}

#[test]
fn every_error_of_the_store_says_where_why_and_what_to_do() {
    let store = || PathBuf::from("/var/cache/runner");
    let errors = every! {
        StoreError::Io { .. } => [
            io("create the store", "/etc/passwd", libc::EEXIST),
            io("create the store", "/srv/store", libc::EACCES),
            io("put the layer", "/srv/store/layers/sha256/aa.squashfs", libc::ENOSPC),
            io("write", "/srv/store/keys/aa", libc::EROFS),
            io("lock", "/srv/store/leases/aa", libc::EOPNOTSUPP),
            io("read the layer", "/srv/store/layers/sha256/aa.squashfs", libc::EIO),
        ],
        StoreError::Format { .. } => [StoreError::Format { path: store(), found: "9".into() }],
        StoreError::NotUtf8 { .. } => [
            StoreError::NotUtf8 { path: PathBuf::from(std::ffi::OsStr::from_bytes(b"/srv/st\xf6re")) },
        ],
        StoreError::Link { .. } => [
            StoreError::Link { path: "/work/store".into(), target: "/srv/store".into() },
        ],
        StoreError::NotAStore { .. } => [StoreError::NotAStore { path: "/etc".into() }],
        StoreError::Owner { .. } => [
            StoreError::Owner { path: store(), owner: 1000, user: 0 },
            StoreError::Owner { path: store(), owner: 0, user: 1000 },
            StoreError::Owner { path: store(), owner: 1001, user: 1000 },
        ],
        StoreError::LockFile { .. } => [StoreError::LockFile { path: "/work/runner.lock".into(), why: "expected `=`".into() }],
        StoreError::ReadOnly { .. } => [StoreError::ReadOnly { path: store() }],
        StoreError::Name { .. } => [StoreError::Name { name: "../x".into() }],
        StoreError::Foreign { .. } => [StoreError::Foreign { path: "/work/out/my sdk".into(), file: "notes.txt".into() }],
        StoreError::Publish { .. } => [
            publish(io("create the directory", "/work/out", libc::EACCES)),
            publish(io("write", "/work/out/.base.squashfs.runner", libc::ENOSPC)),
        ],
    };
    compare("store", shown(errors, StoreError::hint));
}

#[test]
fn every_error_of_a_lock_says_where_why_and_what_to_do() {
    let path = || PathBuf::from("/work/runner.lock");
    let errors = every! {
        LockError::Missing { .. } => [LockError::Missing { path: path() }],
        LockError::Io { .. } => [
            LockError::Io { action: "read", path: path(), source: errno(libc::EACCES) },
            LockError::Io { action: "write", path: path(), source: errno(libc::EROFS) },
        ],
        LockError::NoSection { .. } => [
            LockError::NoSection { path: path(), wanted: "build.yaml --set suite=trixie".into(), there: vec!["build.yaml".into(), "../sdk.yaml".into()] },
            LockError::NoSection { path: path(), wanted: "build.yaml".into(), there: Vec::new() },
        ],
        LockError::WithoutSections { .. } => [LockError::WithoutSections { path: path() }],
        LockError::Newer { .. } => [LockError::Newer { path: path(), version: 3, known: 2 }],
        LockError::Malformed { .. } => [LockError::Malformed { path: path(), problem: "missing field `version`".into() }],
    };
    let is_digest = |text: &str| -> Result<Digest, DigestError> { text.parse() };
    let no_digest = vec![is_digest("sha256:12").unwrap_err()];
    compare("lock", shown(errors, LockError::hint).chain(shown(no_digest, |_| None)));
}
