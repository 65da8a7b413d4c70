//! The resource limits that runner's caller has set, see getrlimit(2): finds the one that caused a failure, and how to raise it.

use std::fs;
use std::io;
use std::sync::LazyLock;

use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};
use thiserror::Error;

use crate::model::{Limits, size_text};

/// The open files that runner needs at least: it makes a group in each cgroup hierarchy for each container, and must be able to
/// remove them all.
pub const MIN_NOFILE: u64 = 128;

/// Raises the soft limit of open files as far as this process may: the usual 1024 is for programs that use select(2), and
/// containers and layers need some each. Steps have a limit of their own.
///
/// # Errors
/// Where that is too few, or cannot be set.
pub fn raise_nofile() -> Result<(), NofileError> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).map_err(|error| NofileError::Raise(error.into()))?;
    if most < MIN_NOFILE {
        return Err(NofileError::TooFew { most });
    }
    setrlimit(Resource::RLIMIT_NOFILE, most, most).map_err(|error| NofileError::Raise(error.into()))
}

/// The reason why this process cannot have as many open files as runner needs.
#[derive(Debug, Error)]
pub enum NofileError {
    #[error("runner needs {MIN_NOFILE} open files, and its caller limits it to {most}")]
    TooFew { most: u64 },
    #[error("cannot raise the number of open files")]
    Raise(#[source] io::Error),
}

impl NofileError {
    /// Returns the command that raises the limit.
    pub fn hint(&self) -> String {
        "raise that with `ulimit -n 4096`, or `LimitNOFILE=4096` in a systemd unit".to_owned()
    }
}

/// Returns the open files that a process of a step may have where the manifest sets no number.
pub fn default_nofile() -> u64 {
    settable_nofile().map_or(Limits::DEFAULT_NOFILE, |most| most.min(Limits::DEFAULT_NOFILE))
}

/// Returns the greatest limit of open files that this process can set, where it is known: the kernel's own, and without
/// CAP_SYS_RESOURCE its present one. Read once.
pub fn settable_nofile() -> Option<u64> {
    static MOST: LazyLock<Option<u64>> = LazyLock::new(|| {
        let may_raise = caps::has_cap(None, caps::CapSet::Effective, caps::Capability::CAP_SYS_RESOURCE);
        let caller = getrlimit(Resource::RLIMIT_NOFILE).ok().filter(|_| !may_raise.unwrap_or(true));
        let kernel = fs::read_to_string("/proc/sys/fs/nr_open").ok().and_then(|text| text.trim().parse().ok());
        caller.map(|(_, most)| most).into_iter().chain(kernel).min()
    });
    *MOST
}

/// The words of the system and of programs that runner starts about a limit.
struct Symptom {
    resource: Resource,
    name: &'static str,
    /// The option of a shell's ulimit.
    option: char,
    /// The directive in a unit of systemd.
    directive: &'static str,
    /// A sufficient value, for the shell and for systemd.
    enough: [&'static str; 2],
    messages: &'static [&'static str],
    text: fn(u64) -> String,
}

/// The beginning of a hint.
const CALLER: &str = "runner's caller";

const NO_MEMORY: &[&str] =
    &["Cannot allocate memory", "Out of memory", "out of memory", "failed to reserve page summary"];

/// The message of runc when that limit prevents it from writing its state.
const RUNC_WITHOUT_STATE: &str = "unable to store init state";

const SYMPTOMS: [Symptom; 5] = [
    Symptom {
        resource: Resource::RLIMIT_FSIZE,
        name: "size of a file",
        option: 'f',
        directive: "LimitFSIZE",
        enough: ["unlimited", "infinity"],
        messages: &["File too large", "SIGXFSZ", "by signal 25", "File size limit exceeded", RUNC_WITHOUT_STATE],
        text: size_text,
    },
    Symptom {
        resource: Resource::RLIMIT_NOFILE,
        name: "number of open files",
        option: 'n',
        directive: "LimitNOFILE",
        enough: ["4096", "4096"],
        messages: &["Too many open files", "too many open files"],
        text: plain,
    },
    Symptom {
        resource: Resource::RLIMIT_CPU,
        name: "time on a processor",
        option: 't',
        directive: "LimitCPU",
        enough: ["unlimited", "infinity"],
        messages: &["SIGXCPU", "by signal 24", "CPU time limit exceeded"],
        text: seconds,
    },
    Symptom {
        resource: Resource::RLIMIT_AS,
        name: "address space of a process",
        option: 'v',
        directive: "LimitAS",
        enough: ["unlimited", "infinity"],
        messages: NO_MEMORY,
        text: size_text,
    },
    Symptom {
        resource: Resource::RLIMIT_DATA,
        name: "data of a process",
        option: 'd',
        directive: "LimitDATA",
        enough: ["unlimited", "infinity"],
        messages: NO_MEMORY,
        text: size_text,
    },
];

/// Returns the bytes that the arguments and variables of a program may take, which execve(2) derives from the stack's limit.
pub fn longest_arguments() -> u64 {
    const LEAST: u64 = 128 << 10;
    const MOST: u64 = 6 << 20;
    let stack = getrlimit(Resource::RLIMIT_STACK).map_or(MOST, |(soft, _)| soft);
    (stack / 4).clamp(LEAST, MOST)
}

/// The stack that runner needs; a thread other than the first one has twice that much, whatever the limit.
pub const MIN_STACK: u64 = 1 << 20;

/// The stack of a process unless a setting changes it.
const USUAL_STACK: u64 = 8 << 20;

/// Raises a soft limit of the stack that is lower than [`MIN_STACK`]; programs that runner starts inherit it. Returns the hard
/// limit where that is too low.
pub fn raise_stack() -> Option<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_STACK).ok()?;
    if soft >= MIN_STACK {
        return None;
    }
    let raised = hard >= MIN_STACK && setrlimit(Resource::RLIMIT_STACK, hard.min(USUAL_STACK), hard).is_ok();
    (!raised).then_some(hard)
}

/// Returns the limit of the caller that leaves a process the least memory, and how to raise it; none without a limit.
pub fn memory_hint() -> Option<String> {
    let limit = |resource| getrlimit(resource).ok().map(|(soft, _)| soft);
    memory_hint_of(&limit)
}

fn memory_hint_of(limit: &dyn Fn(Resource) -> Option<rlim_t>) -> Option<String> {
    let of_memory = SYMPTOMS.iter().filter(|symptom| symptom.messages == NO_MEMORY);
    let limits = of_memory.filter_map(|symptom| Some((limit(symptom.resource)?, symptom)));
    let finite = limits.filter(|(most, _)| *most != nix::libc::RLIM_INFINITY);
    finite.min_by_key(|(most, _)| *most).map(|(most, symptom)| symptom.hint(most))
}

/// With less memory than this a process may get no more threads, each of which takes 2 MiB of it at once and more later.
const MEMORY_OF_MANY_THREADS: u64 = 1 << 30;

/// Returns the limit of memory where it is so low that it may have refused a thread: pthread_create(3) reports only that it
/// cannot be made now.
pub fn thread_hint() -> Option<String> {
    let least =
        [Resource::RLIMIT_AS, Resource::RLIMIT_DATA].into_iter().filter_map(|resource| getrlimit(resource).ok());
    least.map(|(soft, _)| soft).min().filter(|soft| *soft < MEMORY_OF_MANY_THREADS).and_then(|_| memory_hint())
}

/// Returns the seconds of a processor's time that this process may use, and makes the kernel warn a second before the end, by
/// SIGXCPU: where the caller set one limit alone, the kernel would end the process by SIGKILL, without a reason.
pub fn warned_cpu_time() -> Option<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_CPU).ok()?;
    if hard != nix::libc::RLIM_INFINITY && soft >= hard && hard > 1 {
        setrlimit(Resource::RLIMIT_CPU, hard - 1, hard).ok()?;
    }
    Some(soft).filter(|soft| *soft != nix::libc::RLIM_INFINITY)
}

/// Returns the message that runner has used up the time on a processor that its caller gives it.
pub fn cpu_time_exceeded(seconds: u64) -> String {
    let symptom = SYMPTOMS.iter().find(|symptom| symptom.resource == Resource::RLIMIT_CPU);
    format!("runner has used up its time: {}", symptom.map_or_else(String::new, |symptom| symptom.hint(seconds)))
}

/// Returns the limit of the caller that caused a failure, by its words, and how to raise it.
pub fn hint(failure: &str) -> Option<String> {
    let limit = |resource| getrlimit(resource).ok().map(|(soft, _)| soft);
    hint_of(failure, &limit)
}

fn hint_of(failure: &str, limit: &dyn Fn(Resource) -> Option<rlim_t>) -> Option<String> {
    if failure.contains(CALLER) {
        // An error inside another one has named the limit already.
        return None;
    }
    // SIGXCPU has no effect on a step, which is the first process of a PID namespace; the hard limit ends it by SIGKILL.
    let is_killed = failure.contains("killed by signal 9 (SIGKILL)") && !failure.contains("out of memory");
    let is_meant = |symptom: &&Symptom| {
        let messages = symptom.messages.iter().any(|messages| failure.contains(messages));
        messages || is_killed && symptom.resource == Resource::RLIMIT_CPU
    };
    SYMPTOMS.iter().filter(is_meant).find_map(|symptom| {
        let most = limit(symptom.resource).filter(|most| *most != nix::libc::RLIM_INFINITY)?;
        if symptom.enough[0].parse().is_ok_and(|enough: u64| most >= enough) {
            return None;
        }
        Some(symptom.hint(most))
    })
}

impl Symptom {
    fn hint(&self, most: u64) -> String {
        let Self { name, option, directive, enough: [shell, unit], text, .. } = self;
        format!(
            "{CALLER} limits the {name} to {}; raise that with `ulimit -{option} {shell}`, or `{directive}={unit}` in a systemd \
             unit",
            text(most)
        )
    }
}

fn plain(number: u64) -> String {
    number.to_string()
}

fn seconds(number: u64) -> String {
    format!("{number}s")
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAILURES: [&str; 8] = [
        "cannot write the image: cannot write to its file: File too large (os error 27)",
        "killed by signal 25 (SIGXFSZ)",
        "cannot read the store: Too many open files (os error 24)",
        "the step was killed by signal 24, and said nothing",
        "cannot write the image: cannot compress a block: Out of memory (os error 12)",
        "exit code 1",
        "killed by signal 9 (SIGKILL)",
        "out of memory: the container may use 2MiB (`memory` under limits); killed by signal 9 (SIGKILL)",
    ];

    #[test]
    fn a_failure_that_a_limit_of_the_caller_explains_names_it_and_the_command_that_raises_it() {
        let limit = |resource| Some(if resource == Resource::RLIMIT_AS { 100 << 20 } else { 20 });
        let lines = FAILURES.map(|failure| format!("{failure}: {:?}", hint_of(failure, &limit)));
        crate::messages::compare("resource-limits", lines);
    }

    #[test]
    fn the_lower_of_two_limits_of_memory_is_named() {
        let limits = |space, data| {
            move |resource| match resource {
                Resource::RLIMIT_AS => Some(space),
                Resource::RLIMIT_DATA => Some(data),
                _ => Some(1),
            }
        };
        let infinite = nix::libc::RLIM_INFINITY;
        assert!(memory_hint_of(&limits(1 << 20, infinite)).unwrap().contains("`ulimit -v unlimited`"));
        assert!(memory_hint_of(&limits(2 << 20, 1 << 20)).unwrap().contains("`ulimit -d unlimited`"));
        assert_eq!(memory_hint_of(&limits(infinite, infinite)), None);
    }

    #[test]
    fn without_a_limit_or_in_an_error_with_the_hint_no_hint_is_added() {
        let unlimited = |_| Some(nix::libc::RLIM_INFINITY);
        assert!(FAILURES.iter().all(|failure| hint_of(failure, &unlimited).is_none()));
        let hint = hint_of(FAILURES[1], &|_| Some(20)).unwrap();
        assert_eq!(hint_of(&format!("{}; {hint}", FAILURES[1]), &|_| Some(20)), None);
    }
}
