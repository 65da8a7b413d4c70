//! The system calls that make a step, and whether a filter allows them.

use thiserror::Error;

use super::{Architecture, may_allow, may_fake, number};

/// The system calls that a spare makes between its request and the step's program, with the argument that is known and matters,
/// by its number and value; see `src/init/step.rs`.
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
    ("clock_gettime", &[(0, 5)]),
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
    ("symlinkat", &[]),
    ("execve", &[]),
    ("exit_group", &[]),
];

/// The system calls that a session's init makes, and each process that it makes before that one is a step: see
/// `src/init/sys/number.rs`.
pub const SETUP_CALLS: [&str; 56] = [
    "read",
    "write",
    "close",
    "mmap",
    "rt_sigaction",
    "rt_sigprocmask",
    "ioctl",
    "sendmsg",
    "recvmsg",
    "getpid",
    "socketpair",
    "clone",
    "execve",
    "kill",
    "fcntl",
    "getcwd",
    "fchdir",
    "fchown",
    "umask",
    "setsid",
    "setpgid",
    "rt_sigtimedwait",
    "setgroups",
    "setresuid",
    "setresgid",
    "capset",
    "prctl",
    "getdents64",
    "clock_gettime",
    "exit_group",
    "waitid",
    "keyctl",
    "openat",
    "mkdirat",
    "mknodat",
    "fchownat",
    "symlinkat",
    "ppoll",
    "dup3",
    "prlimit64",
    "setns",
    "seccomp",
    "statx",
    "pidfd_send_signal",
    "open_tree",
    "move_mount",
    "fsopen",
    "fsconfig",
    "fsmount",
    "clone3",
    "close_range",
    "openat2",
    "mount_setattr",
    "landlock_create_ruleset",
    "landlock_add_rule",
    "landlock_restrict_self",
];

/// The reason why no step can be made under a filter.
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

/// Refuses a program of [`super::compile`] under which no step starts, or one starts with too many rights: if setresuid(2) is not
/// made, for example, a step of another user remains root.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_calls_of_init_are_those_whose_numbers_it_has() {
        let source = include_str!("../init/sys/number.rs");
        let names = source.lines().filter_map(|line| line.trim().strip_prefix("pub const ")?.split_once(':'));
        let mut named: Vec<String> = names.map(|(name, _)| name.to_lowercase()).collect();
        named.sort_unstable();
        named.dedup();
        let mut listed = SETUP_CALLS.to_vec();
        listed.sort_unstable();
        assert_eq!(named, listed);
        assert!(STEP_CALLS.iter().all(|(name, _)| SETUP_CALLS.contains(name)));
    }
}
