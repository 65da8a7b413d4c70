//! Exports of roots to the host.

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::ExitStatus;

use super::{compare, errno, every, shown};
use crate::export::ExportError;
use crate::snapshot::ImageError;

#[test]
fn every_error_of_an_export_says_where_why_and_what_to_do() {
    let path = || PathBuf::from("/opt/sdk/bin");
    let errors = every! {
        ExportError::Missing { .. } => [
            ExportError::Missing { path: path(), missing: "/opt/sdk".into(), existing: "/opt".into() },
            ExportError::Missing { path: path(), missing: "/opt".into(), existing: "/".into() },
        ],
        ExportError::Kind { .. } => [ExportError::Kind { path: "/run/pipe".into() }],
        ExportError::Read { .. } => [ExportError::Read { path: path(), source: errno(libc::EIO) }],
        ExportError::NoDirectory { .. } => [ExportError::NoDirectory { path: "/bin/sh".into(), format: "tar" }],
        ExportError::Write { .. } => [
            ExportError::Write { source: errno(libc::ENOSPC) },
            ExportError::Write { source: std::io::Error::other("/a: its name begins with `.wh.`") },
        ],
        ExportError::Interrupted => [ExportError::Interrupted],
        ExportError::NoMkfsErofs => [ExportError::NoMkfsErofs],
        ExportError::MkfsErofs(_) => [ExportError::MkfsErofs(errno(libc::EACCES))],
        ExportError::MkfsErofsFailed { .. } => [
            ExportError::MkfsErofsFailed { status: ExitStatus::from_raw(1 << 8), said: "<E> erofs: failed to write".into() },
            ExportError::MkfsErofsFailed { status: ExitStatus::from_raw(9), said: String::new() },
        ],
        ExportError::Image(_) => [ExportError::Image(ImageError::NoProgram)],
    };
    compare("export", shown(errors, ExportError::hint));
}
