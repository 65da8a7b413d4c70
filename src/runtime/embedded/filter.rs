//! The seccomp filter of a container's steps: compiled once for a set of rules, and when a step can load it.

use std::io;
use std::sync::{Mutex, PoisonError};

use oci_spec::runtime::{LinuxSeccomp, Spec};

use crate::seccomp::{Action, Architecture, compile, number, verdict};

/// The system calls that a spare makes between its request and the step's program, with the first two arguments that
/// matter; see `src/init/step.rs`.
const CALLS_OF_A_SPARE: [(&str, u64, u64); 32] = [
    ("ppoll", 0, 0),
    ("recvmsg", 0, 0),
    ("sendmsg", 0, 0),
    ("dup3", 0, 0),
    ("close", 0, 0),
    ("close_range", 0, 0),
    ("fcntl", 0, 2),
    ("fcntl", 0, 4),
    ("openat", 0, 0),
    ("openat2", 0, 0),
    ("statx", 0, 0),
    ("write", 0, 0),
    ("mmap", 0, 0),
    ("setsid", 0, 0),
    ("umask", 0, 0),
    ("prlimit64", 0, 0),
    ("prctl", 8, 0),
    ("prctl", 24, 0),
    ("prctl", 38, 0),
    ("prctl", 47, 0),
    ("setgroups", 0, 0),
    ("setresgid", 0, 0),
    ("setresuid", 0, 0),
    ("capset", 0, 0),
    ("fchdir", 0, 0),
    ("getcwd", 0, 0),
    ("fchown", 0, 0),
    ("ioctl", 0, 0x5441),
    ("unlinkat", 0, 0),
    ("symlinkat", 0, 0),
    ("execve", 0, 0),
    ("exit_group", 0, 0),
];

/// A filter in the form that the kernel takes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Eight bytes an instruction; none for a container without a filter.
    pub program: Vec<u8>,
    /// Whether it permits everything that makes a step of a spare: then the spare loads it before a request comes.
    pub first: bool,
}

/// Filters that were compiled before: most containers of a build have the same rules.
static COMPILED: Mutex<Vec<(LinuxSeccomp, Filter)>> = Mutex::new(Vec::new());

/// The filter that config.json asks for.
///
/// # Errors
/// Where its rules are more than the kernel takes, or for another machine.
pub fn of(spec: &Spec) -> io::Result<Filter> {
    let rules = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref());
    rules.map_or_else(|| Ok(Filter::default()), compiled)
}

/// The filter of these rules, which is compiled once; who asks meanwhile waits for it.
///
/// # Errors
/// As [`of`].
pub fn compiled(rules: &LinuxSeccomp) -> io::Result<Filter> {
    let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, filter)) = compiled.iter().find(|(known, _)| known == rules) {
        return Ok(filter.clone());
    }
    let program = compile(rules).map_err(io::Error::other)?;
    let native = Architecture::native().ok_or_else(|| io::Error::other("no seccomp filter for this machine"))?;
    if !permits_call(&program, native, "execve", 0, 0) {
        let why = "the seccomp profile refuses `execve`, which starts a step's program: add it to the profile";
        return Err(io::Error::other(why));
    }
    let filter = Filter {
        first: permits(&program, native),
        program: program.iter().flat_map(|instruction| instruction.to_le_bytes()).collect(),
    };
    compiled.push((rules.clone(), filter.clone()));
    Ok(filter)
}

fn permits(program: &[u64], native: Architecture) -> bool {
    CALLS_OF_A_SPARE.iter().all(|(name, first, second)| permits_call(program, native, name, *first, *second))
}

fn permits_call(program: &[u64], native: Architecture, name: &str, first: u64, second: u64) -> bool {
    // A call that this architecture does not have is never made.
    number(native, name)
        .is_none_or(|number| verdict(program, native, number, &[first, second, 0, 0, 0, 0]) == Action::Allow)
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::{LinuxBuilder, SpecBuilder};

    use super::*;
    use crate::seccomp::{Kernel, Profile};

    fn filter(profile: &Profile) -> Filter {
        let native = Architecture::native().unwrap();
        let kernel = Kernel::of_release("6.1.0").unwrap();
        let rules = profile.resolve(&[], native, kernel).unwrap();
        let linux = LinuxBuilder::default().seccomp(rules).build().unwrap();
        of(&SpecBuilder::default().linux(linux).build().unwrap()).unwrap()
    }

    #[test]
    fn the_default_is_loaded_before_a_request_comes() {
        let filter = filter(Profile::standard());
        assert!(filter.first && filter.program.len() > 800 && filter.program.len().is_multiple_of(8));
    }

    #[test]
    fn a_profile_that_refuses_what_makes_a_step_is_loaded_last() {
        for (call, first) in [("setresuid", false), ("prctl", false), ("keyctl", true)] {
            let text = format!(
                r#"{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{{"names":["{call}"],"action":"SCMP_ACT_ERRNO"}}]}}"#
            );
            assert_eq!(filter(&Profile::parse(text.as_bytes()).unwrap()).first, first, "{call}");
        }
    }

    #[test]
    fn a_profile_that_lets_no_program_start_is_refused() {
        let profile = Profile::parse(br#"{"defaultAction":"SCMP_ACT_ERRNO"}"#).unwrap();
        let native = Architecture::native().unwrap();
        let rules = profile.resolve(&[], native, Kernel::of_release("6.1.0").unwrap()).unwrap();
        let linux = LinuxBuilder::default().seccomp(rules).build().unwrap();
        let error = of(&SpecBuilder::default().linux(linux).build().unwrap()).unwrap_err();
        assert!(error.to_string().contains("refuses `execve`"), "{error}");
    }

    #[test]
    fn a_container_without_rules_has_no_filter() {
        let linux = LinuxBuilder::default().build().unwrap();
        assert_eq!(of(&SpecBuilder::default().linux(linux).build().unwrap()).unwrap(), Filter::default());
    }
}
