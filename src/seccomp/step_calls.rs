//! The system calls that make a step, and whether a filter lets a step be made at all.

use thiserror::Error;

use super::{Architecture, may_allow, may_fake, number};

/// The system calls that a spare makes between its request and the step's program, with the argument that is known and
/// matters, by its number and value; see `src/init/step.rs`.
pub const STEP_CALLS: [(&str, &[(u8, u64)]); 32] = [
    ("ppoll", &[]),
    ("recvmsg", &[]),
    ("sendmsg", &[]),
    ("dup3", &[]),
    ("close", &[]),
    ("close_range", &[]),
    ("fcntl", &[(1, 2)]),
    ("fcntl", &[(1, 4)]),
    ("openat", &[]),
    ("openat2", &[]),
    ("statx", &[]),
    ("write", &[]),
    ("mmap", &[]),
    ("setsid", &[]),
    ("umask", &[]),
    ("prlimit64", &[]),
    ("prctl", &[(0, 8)]),
    ("prctl", &[(0, 24)]),
    ("prctl", &[(0, 38)]),
    ("prctl", &[(0, 47)]),
    ("setgroups", &[]),
    ("setresgid", &[]),
    ("setresuid", &[]),
    ("capset", &[]),
    ("fchdir", &[]),
    ("getcwd", &[]),
    ("fchown", &[]),
    ("ioctl", &[(1, 0x5441)]),
    ("unlinkat", &[]),
    ("symlinkat", &[]),
    ("execve", &[]),
    ("exit_group", &[]),
];

/// Why no step can be made under a filter.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum StepCallError {
    #[error("it refuses `execve`, which starts a step's program")]
    NoProgram,
    #[error("it answers `{0}`, which sets a step up, with success and does not make it")]
    Faked(&'static str),
}

impl StepCallError {
    /// Returns the fix.
    pub fn hint(&self) -> String {
        match self {
            Self::NoProgram => "add `execve` to the calls that the profile allows".to_owned(),
            Self::Faked(name) => format!("let `{name}` through, or give it an error other than 0"),
        }
    }
}

/// Refuses a program of [`super::compile`] under which no step starts, or one starts with more rights than it is to have:
/// setresuid(2) that is not made, say, would leave a step of another user root.
///
/// # Errors
/// See [`StepCallError`].
pub fn starts_steps(program: &[u64], native: Architecture) -> Result<(), StepCallError> {
    if number(native, "execve").is_some_and(|execve| !may_allow(program, native, execve)) {
        return Err(StepCallError::NoProgram);
    }
    let is_faked = |(name, known): &&(&str, &[(u8, u64)])| {
        number(native, name).is_some_and(|number| may_fake(program, native, number, known))
    };
    match STEP_CALLS.iter().find(is_faked) {
        Some((name, _)) => Err(StepCallError::Faked(name)),
        None => Ok(()),
    }
}
