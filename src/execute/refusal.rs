//! Explains the failure of a step whose container's seccomp profile may have refused a call, or which lacks a
//! capability.

use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use crate::fs::regular;
use crate::model::{Build, DEFAULT_CAPABILITIES, Step};
use crate::runtime::spec;
use crate::seccomp::{Architecture, Permissions, hint, killed};

/// The bytes that are read from the end of a log.
const TAIL: u64 = 4096;

/// The exit code after SIGSYS, with which a seccomp profile ends a process.
const BAD_CALL: i32 = 128 + libc::SIGSYS;

/// Returns the fix, where the end of the step's log reports a refused call, or its process was ended for one.
pub(super) fn hint_of(build: &Build, step: &Step, exit_code: i32, log: Option<&Path>) -> Option<String> {
    let container = build.container(step.settings());
    let permissions = Permissions {
        container: &container.name,
        capabilities: &container.capabilities,
        default: &DEFAULT_CAPABILITIES,
        is_root: step.user.as_ref().unwrap_or(&container.user).is_root(),
        profile: container.seccomp.profile(),
        file: container.seccomp.file(),
        machine: Architecture::native()?,
        kernel: spec::kernel().ok()?,
    };
    if exit_code == BAD_CALL { killed(&permissions) } else { hint(&permissions, &tail(log?).ok()?) }
}

fn tail(log: &Path) -> io::Result<String> {
    let mut file = regular::open(log)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
