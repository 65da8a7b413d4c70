//! Whether what a step printed last says that its seccomp profile refused a call, and what to do then. Pure.

use oci_spec::runtime::{Capability, LinuxSeccomp, LinuxSeccompAction, LinuxSyscall};

use super::{Architecture, Profile, number};

/// What the C library calls EPERM and ENOSYS, in small letters: some languages begin them so.
const REFUSED: [&str; 2] = ["operation not permitted", "function not implemented"];

/// As many of the last lines are looked at.
const LINES: usize = 20;

/// Words by which programs and libraries name a call, where it is not its name.
const OTHER_WORDS: [(&str, &str); 14] = [
    ("bwrap", "unshare"),
    ("dmesg", "syslog"),
    ("insmod", "init_module"),
    ("io_uring", "io_uring_setup"),
    ("keyring", "keyctl"),
    ("kexec", "kexec_load"),
    ("modprobe", "init_module"),
    ("namespace", "unshare"),
    ("namespaces", "unshare"),
    ("nsenter", "setns"),
    ("perf", "perf_event_open"),
    ("swapoff", "swapoff"),
    ("umount", "umount2"),
    ("vsock", "socket"),
];

/// A hint for a step of that container, from the last lines that it printed.
pub fn hint(
    profile: &Profile,
    filter: &LinuxSeccomp,
    machine: Architecture,
    printed: &str,
    container: &str,
) -> Option<String> {
    let fails = |action| action == LinuxSeccompAction::ScmpActErrno;
    let rules = filter.syscalls().as_deref().unwrap_or_default();
    if !fails(filter.default_action()) && !rules.iter().any(|rule| fails(rule.action())) {
        return None;
    }
    let mut refused_without_name = false;
    for line in printed.lines().rev().take(LINES) {
        let line = line.to_ascii_lowercase();
        if !REFUSED.iter().any(|words| line.contains(words)) {
            continue;
        }
        let calls: Vec<&str> = line
            .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .map(|word| OTHER_WORDS.iter().find(|(other, _)| *other == word).map_or(word, |(_, call)| call))
            .filter(|word| number(machine, word).is_some())
            .collect();
        if let Some(call) = calls.iter().find(|call| !is_open(filter, rules, call)) {
            let or = match capability(profile, call) {
                Some(capability) => format!(", or give it the capability {capability}"),
                None => String::new(),
            };
            return Some(format!(
                "the seccomp profile of the container refuses `{call}`; if the step needs it, write `seccomp: unconfined` \
                 in container {container}{or}"
            ));
        }
        refused_without_name |= calls.is_empty();
    }
    refused_without_name.then(|| {
        format!(
            "the seccomp profile of the container may have refused a system call; `seccomp: unconfined` in container \
             {container} shows whether it did"
        )
    })
}

/// Whether the filter lets the call through whatever its arguments are.
fn is_open(filter: &LinuxSeccomp, rules: &[LinuxSyscall], call: &str) -> bool {
    let is_about = |rule: &&LinuxSyscall| rule.names().iter().any(|name| name == call);
    let lets_through = |action| matches!(action, LinuxSeccompAction::ScmpActAllow | LinuxSeccompAction::ScmpActLog);
    let mut rules = rules.iter().filter(is_about).peekable();
    match rules.peek() {
        None => lets_through(filter.default_action()),
        Some(_) => rules.any(|rule| lets_through(rule.action()) && rule.args().as_ref().is_none_or(Vec::is_empty)),
    }
}

/// The capability with which the profile lets the call through.
fn capability(profile: &Profile, call: &str) -> Option<Capability> {
    let opens = |rule: &&super::profile::Rule| {
        rule.action == LinuxSeccompAction::ScmpActAllow && rule.names.iter().any(|name| name == call)
    };
    profile.rules.iter().filter(opens).find_map(|rule| match rule.includes.capabilities[..] {
        [capability] => Some(capability),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::{Architecture, Profile, hint};
    use crate::seccomp::Kernel;

    const KERNEL: Kernel = Kernel { version: 6, revision: 1 };

    fn told(printed: &str) -> Option<String> {
        let filter = Profile::standard().resolve(&[], Architecture::X86_64, KERNEL).unwrap();
        hint(Profile::standard(), &filter, Architecture::X86_64, printed, "base")
    }

    #[test]
    fn a_call_that_is_refused_is_named_with_what_opens_it() {
        let unconfined = "if the step needs it, write `seccomp: unconfined` in container base";
        for (printed, call, or) in [
            ("unshare: unshare failed: Operation not permitted\n", "unshare", ", or give it the capability SYS_ADMIN"),
            (
                "x\nbwrap: No permissions to create new namespace: Operation not permitted\ny\n",
                "unshare",
                ", or give it the capability SYS_ADMIN",
            ),
            ("add_key: Operation not permitted", "add_key", ""),
            ("OSError: [Errno 38] Function not implemented: io_uring_setup", "io_uring_setup", ""),
            ("mount: /mnt: mount failed: Operation not permitted.", "mount", ", or give it the capability SYS_ADMIN"),
            (
                "perf_event_open(...) failed: operation not permitted",
                "perf_event_open",
                ", or give it the capability PERFMON",
            ),
            ("socket(AF_VSOCK): Operation not permitted", "socket", ""),
        ] {
            let expected = format!("the seccomp profile of the container refuses `{call}`; {unconfined}{or}");
            assert_eq!(told(printed), Some(expected), "{printed}");
        }
    }

    #[test]
    fn a_refusal_without_a_call_is_told_with_less_certainty() {
        let expected = "the seccomp profile of the container may have refused a system call; `seccomp: unconfined` in \
                        container base shows whether it did";
        assert_eq!(told("error: Operation not permitted\n").as_deref(), Some(expected));
    }

    #[test]
    fn what_the_profile_lets_through_is_not_told_to_be_refused_by_it() {
        for printed in [
            "",
            "unshare: invalid option",
            "chown: changing ownership of '/x': Operation not permitted",
            "mknod: /x: Operation not permitted",
        ] {
            assert_eq!(told(printed), None, "{printed}");
        }
        let old = "mount: Operation not permitted\n".to_owned() + &"line\n".repeat(20);
        assert_eq!(told(&old), None);
    }

    #[test]
    fn a_profile_that_refuses_nothing_like_that_is_not_to_blame() {
        let told = |profile: &str, printed| {
            let profile = Profile::parse(profile.as_bytes()).unwrap();
            let filter = profile.resolve(&[], Architecture::X86_64, KERNEL).unwrap();
            hint(&profile, &filter, Architecture::X86_64, printed, "base")
        };
        let open = r#"{"defaultAction": "SCMP_ACT_ALLOW"}"#;
        assert_eq!(told(open, "mount: Operation not permitted"), None);
        let refuses =
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]}"#;
        assert_eq!(told(refuses, "mount: Operation not permitted"), None);
        assert!(told(refuses, "mkdir: Operation not permitted").unwrap().contains("refuses `mkdir`"));
    }
}
