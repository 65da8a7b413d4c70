//! Why a step failed, where its container's seccomp profile may have refused it a call, or it lacks a capability.

use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use crate::fs::regular;
use crate::model::{Build, DEFAULT_CAPABILITIES, Step};
use crate::runtime::spec;
use crate::seccomp::{Architecture, Permissions, hint, killed};

/// As much of the end of a log is read.
const TAIL: u64 = 4096;

/// The exit code after SIGSYS, by which a seccomp profile ends a process.
const BAD_CALL: i32 = 128 + libc::SIGSYS;

/// Returns what to do, where the end of the step's log says that a call was refused, or its process was ended for one.
pub(super) fn hint_of(build: &Build, step: &Step, exit_code: i32, log: Option<&Path>) -> Option<String> {
    let container = build.container(step.container);
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
