//! Files of the host that runner reads: inputs, root filesystems, images that are compared.

use std::path::PathBuf;

use super::{compare, errno, every, shown};
use crate::cache::CacheCheckError;
use crate::content::{ContentError, OverlayMark};
use crate::difference::DifferenceError;
use crate::digest::Digest;
use crate::fs::copy_into::CopyError;
use crate::image::InstalledError;
use crate::import::ImportError;
use crate::load::LoadError;
use crate::model::StepId;
use crate::packages::{Manager, PackageError, Problem};
use crate::registry::RegistryError;
use crate::rootfs::RootfsError;
use crate::squashfs::WriteError;
use crate::store::StoreError;

#[test]
fn every_error_of_an_input_says_where_why_and_what_to_do() {
    let path = || PathBuf::from("/work/src");
    let errors = every! {
        ContentError::Io { .. } => [
            ContentError::Io { action: "open", path: path(), source: errno(libc::EACCES) },
            ContentError::Io { action: "find", path: path(), source: errno(libc::ENOENT) },
            ContentError::Io { action: "read", path: path(), source: errno(libc::EIO) },
        ],
        ContentError::Changing { .. } => [ContentError::Changing { path: path() }],
        ContentError::MadeUp { .. } => [ContentError::MadeUp { path: path(), filesystem: "proc" }],
        ContentError::Ignore { .. } => [ContentError::Ignore { path: "/work/src/.runnerignore".into(), line: 3, reason: "unclosed character class".into() }],
        ContentError::NotAFile { .. } => [ContentError::NotAFile { path: path() }],
        ContentError::OtherDigest { .. } => [ContentError::OtherDigest {
            path: "/work/base.squashfs".into(),
            expected: Digest::of_bytes(b"meant"),
            found: Digest::of_bytes(b"found"),
        }],
        ContentError::Stopped => [ContentError::Stopped],
        ContentError::OverlayMark { .. } => [
            ContentError::OverlayMark { path: path(), mark: OverlayMark::Whiteout },
            ContentError::OverlayMark { path: path(), mark: OverlayMark::Attribute("trusted.overlay.metacopy") },
        ],
        ContentError::UnknownType { .. } => [ContentError::UnknownType { path: path() }],
    };
    compare("inputs", shown(errors, ContentError::hint));
}

#[test]
fn every_error_of_a_rootfs_says_where_why_and_what_to_do() {
    let archive = || PathBuf::from("/work/base.tar.gz");
    let entry = || "etc/passwd".to_owned();
    let errors = every! {
        RootfsError::Read { .. } => [
            RootfsError::Read { path: archive(), source: errno(libc::ENOENT) },
            RootfsError::Read { path: archive(), source: errno(libc::EIO) },
        ],
        RootfsError::Archive { .. } => [RootfsError::Archive { archive: archive(), problem: "it ends in the middle".into() }],
        RootfsError::Entry { .. } => [RootfsError::Entry { archive: archive(), entry: entry(), problem: "its name is empty".into() }],
        RootfsError::Write { .. } => [
            RootfsError::Write { archive: archive(), entry: entry(), action: "write its content".into(), source: errno(libc::ENOSPC) },
            RootfsError::Write { archive: archive(), entry: entry(), action: "set the owner".into(), source: errno(libc::EPERM) },
        ],
        RootfsError::Place { .. } => [RootfsError::Place { path: "/bin/sh".into(), action: "copy its content".into(), source: errno(libc::ENOSPC) }],
        RootfsError::Program { .. } => [RootfsError::Program { program: "/etc/passwd".into(), problem: "it is not executable".into() }],
        RootfsError::MissingLibrary { .. } => [RootfsError::MissingLibrary {
            program: "/usr/bin/tool".into(),
            object: "/usr/lib/libtool.so.1".into(),
            library: "libc.so.6".into(),
            searched: vec!["/lib".into(), "/usr/lib".into()],
        }],
        RootfsError::TooLarge { .. } => [RootfsError::TooLarge { archive: archive(), bytes: 64 << 20, files: 16_384 }],
        RootfsError::Stopped => [RootfsError::Stopped],
    };
    compare("rootfs", shown(errors, RootfsError::hint));
}

#[test]
fn every_error_of_an_import_says_where_why_and_what_to_do() {
    let path = || PathBuf::from("/work/base.tar");
    let errors = every! {
        ImportError::Content(_) => [ImportError::Content(ContentError::NotAFile { path: path() })],
        ImportError::Rootfs(_) => [
            ImportError::Rootfs(RootfsError::Read { path: path(), source: errno(libc::ENOENT) }),
            ImportError::Rootfs(RootfsError::Write { archive: path(), entry: "etc/passwd".into(), action: "write its content".into(), source: errno(libc::ENOSPC) }),
        ],
        ImportError::Pull(_) => [ImportError::Pull(RegistryError::NotFound { registry: "ghcr.io".into(), name: "ghcr.io/o/n:1".into() })],
        ImportError::Store(_) => [ImportError::Store(StoreError::ReadOnly { path: "/var/cache/runner".into() })],
        ImportError::Image(_) => [ImportError::Image(WriteError::File(errno(libc::ENOSPC)))],
        ImportError::Io(_) => [ImportError::Io(errno(libc::EMFILE))],
        ImportError::Changing { .. } => [ImportError::Changing { path: path() }],
        ImportError::ErofsOfUrl { .. } => [ImportError::ErofsOfUrl { url: "https://example.org/base.img".into() }],
        ImportError::Stopped => [ImportError::Stopped],
    };
    compare("import", shown(errors, ImportError::hint));
}

#[test]
fn every_error_of_a_cache_check_says_where_why_and_what_to_do() {
    let path = PathBuf::from("/dev/kvm");
    let errors = every! {
        CacheCheckError::Content(_) => [CacheCheckError::Content(ContentError::Changing { path: "/work/src".into() })],
        CacheCheckError::Device { .. } => [CacheCheckError::Device { path, source: errno(libc::ENOENT) }],
        CacheCheckError::Rootfs(_) => [CacheCheckError::Rootfs(RootfsError::Read { path: "/work/base.tar".into(), source: errno(libc::ENOENT) })],
        CacheCheckError::Store(_) => [CacheCheckError::Store(StoreError::NotAStore { path: "/etc".into() })],
        CacheCheckError::NoMksquashfs => [CacheCheckError::NoMksquashfs],
        CacheCheckError::UnknownSource(_) => [CacheCheckError::UnknownSource(StepId(0))],
        CacheCheckError::NoMkfsErofs => [CacheCheckError::NoMkfsErofs],
        CacheCheckError::Program { .. } => [CacheCheckError::Program { path: "/usr/bin/crun".into(), source: errno(libc::EACCES) }],
    };
    compare("judgement", shown(errors, CacheCheckError::hint));
}

#[test]
fn every_error_of_a_comparison_says_where_why_and_what_to_do() {
    let path = || PathBuf::from("out/base.squashfs");
    let errors = every! {
        DifferenceError::NotAnImage { .. } => [DifferenceError::NotAnImage { path: path() }],
        DifferenceError::Mount { .. } => [
            DifferenceError::Mount { path: path(), source: errno(libc::EACCES) },
            DifferenceError::Mount { path: path(), source: errno(libc::ENOMEM) },
        ],
        DifferenceError::MountPoint { .. } => [DifferenceError::MountPoint { path: "root/proc".into() }],
        DifferenceError::TooMuch { .. } => [DifferenceError::TooMuch { path: "out/base.squashfs/var/disk".into() }],
        DifferenceError::Read { .. } => [DifferenceError::Read { action: "open", path: path(), source: errno(libc::ENOENT) }],
    };
    compare("comparison", shown(errors, DifferenceError::hint));
}

#[test]
fn every_problem_of_a_database_of_packages_says_where_and_why() {
    let damaged = |manager, path: &str, problem| PackageError::Damaged { manager, path: path.into(), problem };
    let rpm = |problem| damaged(Manager::Rpm, "/var/lib/rpm/rpmdb.sqlite", problem);
    let errors = every! {
        PackageError::Read { .. } => [PackageError::Read {
            manager: Manager::Dpkg,
            path: "/var/lib/dpkg/status".into(),
            source: errno(libc::EIO),
        }],
        PackageError::Damaged { .. } => [
            damaged(Manager::Dpkg, "/var/lib/dpkg/status", Problem::TooManyPackages),
            damaged(Manager::Apk, "/lib/apk/db/installed", Problem::LongField),
            damaged(Manager::Apk, "/lib/apk/db/installed", Problem::NoName),
            rpm(Problem::NotADatabase),
            rpm(Problem::OutOfBounds),
            rpm(Problem::TooMuch),
            rpm(Problem::NoTable),
            rpm(Problem::DamagedHeader),
            rpm(Problem::WriteAheadLog),
            rpm(Problem::Unreadable),
        ],
    };
    compare("packages", shown(errors, |_| None));
    let image = || "/var/cache/runner/layers/sha256/00.squashfs".into();
    let errors = every! {
        InstalledError::Image(_) => [
            InstalledError::Image(DifferenceError::Mount { path: image(), source: errno(libc::EACCES) }),
        ],
        InstalledError::Database(_) => [
            InstalledError::Database(damaged(Manager::Dpkg, "/var/lib/dpkg/status", Problem::NoName)),
        ],
        InstalledError::TooMany => [InstalledError::TooMany],
    };
    compare("installed", shown(errors, InstalledError::hint));
}

#[test]
fn every_error_of_loading_a_manifest_says_where_why_and_what_to_do() {
    let path = || PathBuf::from("build.yaml");
    let errors = every! {
        LoadError::Read { .. } => [
            LoadError::Read { path: path(), source: errno(libc::ENOENT) },
            LoadError::Read { path: path(), source: errno(libc::EACCES) },
        ],
        // Shown with its problems, which are in tests/manifest/refusals.
        LoadError::Refused { .. } => [LoadError::Refused { path: path(), text: String::new(), problems: Vec::new() }],
    };
    compare("manifest", shown(errors, LoadError::hint));
}

#[test]
fn every_error_of_a_copy_says_where_why_and_what_to_do() {
    let path = || PathBuf::from("/opt/sdk/lib");
    let root = || "sdk-layer".to_owned();
    let errors = every! {
        CopyError::NoSource { .. } => [CopyError::NoSource { path: path(), existing: "/opt".into(), root: root() }],
        CopyError::BelowAFile { .. } => [CopyError::BelowAFile { path: path(), file: "/opt/sdk".into(), root: root() }],
        CopyError::NotADirectory { .. } => [CopyError::NotADirectory { path: path() }],
        CopyError::IsADirectory { .. } => [CopyError::IsADirectory { path: path() }],
        CopyError::Link { .. } => [CopyError::Link { path: path(), leads_to: "../lib64".into() }],
        CopyError::InMount { .. } => [CopyError::InMount { path: path(), mount: "/opt/sdk".into() }],
        CopyError::Io { .. } => [CopyError::Io { path: path(), source: errno(libc::EIO) }],
        CopyError::Source { .. } => [
            CopyError::Source { path: path(), source: errno(libc::EACCES) },
            CopyError::Source { path: path(), source: errno(libc::EOPNOTSUPP) },
        ],
        CopyError::Stopped(_) => [CopyError::Stopped(errno(libc::EINTR))],
    };
    compare("copies", shown(errors, CopyError::hint));
}
