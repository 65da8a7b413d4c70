//! Finds out from the last lines of a step that its seccomp profile refused a call, or that it lacks a capability, and names the
//! fix. Pure.

use std::path::Path;

use oci_spec::runtime::{Capability, LinuxSeccomp, LinuxSeccompAction, LinuxSyscall};

use super::needs::{self, Subject};
use super::{Architecture, Kernel, Profile, number};

/// ENOSYS in the words of the C library, in lower case: some languages begin so.
const NOT_IMPLEMENTED: &str = "function not implemented";

/// The same for EPERM.
const REFUSED: &str = "operation not permitted";

/// The same for EACCES, and mount(8) for EPERM.
const DENIED: &str = "permission denied";

/// The most calls that a hint names.
const MAX_NAMES: usize = 8;

/// The last lines that are searched.
const LINES: usize = 20;

/// The permissions of a container's step.
#[derive(Debug, Clone, Copy)]
pub struct Permissions<'a> {
    /// The container's name.
    pub container: &'a str,
    /// The capabilities that its processes may have at most.
    pub capabilities: &'a [Capability],
    /// The capabilities of a container that neither adds nor drops any.
    pub default: &'a [Capability],
    /// Whether the step runs as root: no other user has any capability.
    pub is_root: bool,
    /// None where it is unconfined.
    pub profile: Option<&'a Profile>,
    /// The file of the profile; none for the default one.
    pub file: Option<&'a Path>,
    /// The architecture of the host.
    pub machine: Architecture,
    /// The kernel of the host.
    pub kernel: Kernel,
}

/// Returns a hint for a step of that container that SIGSYS ended: names the calls for which the profile ends a process.
pub fn killed(permissions: &Permissions<'_>) -> Option<String> {
    use LinuxSeccompAction::{ScmpActKill, ScmpActKillProcess, ScmpActKillThread, ScmpActTrap};
    let kills = |action| matches!(action, ScmpActKill | ScmpActKillProcess | ScmpActKillThread | ScmpActTrap);
    let filter = permissions.filter(permissions.capabilities)?;
    let rules = filter.syscalls().as_deref().unwrap_or_default();
    let names: Vec<&str> =
        rules.iter().filter(|rule| kills(rule.action())).flat_map(|rule| rule.names()).map(String::as_str).collect();
    let calls = match &names[..] {
        _ if kills(filter.default_action()) => "a system call that it does not list".to_owned(),
        [] => "a system call of another architecture".to_owned(),
        few if few.len() <= MAX_NAMES => format!("one of the system calls {}", few.join(", ")),
        many => format!("one of {} system calls", many.len()),
    };
    let profile = permissions.profile_name()?;
    let fix = if permissions.file.is_some() { "allow it in that file" } else { "write `seccomp: unconfined` there" };
    Some(format!(
        "{profile} ends a process (SIGSYS) that makes {calls}; the kernel's log (`dmesg`) has its number; if the step needs \
         it, {fix}"
    ))
}

/// Returns a hint for a step of that container, from the last lines that it printed.
pub fn hint(permissions: &Permissions<'_>, printed: &str) -> Option<String> {
    let filter = permissions.filter(permissions.capabilities);
    let mut refused_without_name = false;
    for line in printed.lines().rev().take(LINES) {
        let line = line.to_ascii_lowercase();
        let has = |words| line.contains(words);
        if !has(REFUSED) && !has(NOT_IMPLEMENTED) && !has(DENIED) {
            continue;
        }
        let is_call = |call: &str| number(permissions.machine, call).is_some();
        let needs: Vec<(&str, Subject<'_>)> = words(&line)
            .take(if has(REFUSED) || has(NOT_IMPLEMENTED) { usize::MAX } else { 1 })
            .filter_map(|word| Some((word, needs::of_word(word, &line, is_call)?)))
            .collect();
        for (word, need) in &needs {
            let may_lack =
                |wanted: &Capability| !has(NOT_IMPLEMENTED) && (!has(DENIED) || needs::may_be_denied(*wanted));
            let capability = need.capability.filter(may_lack);
            let found = match capability.filter(|wanted| !permissions.has(*wanted)) {
                Some(wanted) => Some(permissions.lacks(word, need.call, wanted)),
                None if has(DENIED) => None,
                None => need.call.and_then(|call| permissions.refuses(filter.as_ref()?, call)),
            };
            if found.is_some() {
                return found;
            }
        }
        refused_without_name |= needs.is_empty() && !has(DENIED);
    }
    let profile = permissions.profile_name().filter(|_| refused_without_name && filter.as_ref().is_some_and(fails))?;
    Some(format!(
        "{profile} may have refused a system call, or the step lacks a capability; `seccomp: unconfined` there shows which"
    ))
}

/// Returns the words that may name a program or a call: not those of paths, but for the program's at the beginning.
fn words(line: &str) -> impl Iterator<Item = &str> {
    let tokens = line.split_whitespace().enumerate();
    let tokens = tokens.filter_map(|(n, token)| match token.rsplit_once('/') {
        None => Some(token),
        Some((_, name)) => Some(name).filter(|name| n == 0 && name.ends_with(':')),
    });
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    tokens.flat_map(move |token| token.split(move |c| !is_part(c))).filter(|word| !word.is_empty())
}

/// Returns whether a filter makes any call fail.
fn fails(filter: &LinuxSeccomp) -> bool {
    let fails = |action| action == LinuxSeccompAction::ScmpActErrno;
    let rules = filter.syscalls().as_deref().unwrap_or_default();
    fails(filter.default_action()) || rules.iter().any(|rule| fails(rule.action()))
}

impl Permissions<'_> {
    fn filter(&self, capabilities: &[Capability]) -> Option<LinuxSeccomp> {
        self.profile?.resolve(capabilities, self.machine, self.kernel).ok()
    }

    fn has(&self, capability: Capability) -> bool {
        self.is_root && needs::is_met(capability, self.capabilities)
    }

    fn profile_name(&self) -> Option<String> {
        self.profile?;
        Some(match self.file {
            Some(file) => format!("the seccomp profile {} of container {}", file.display(), self.container),
            None => format!("the default seccomp profile of container {}", self.container),
        })
    }

    /// Returns the change that allows a call which the profile refuses.
    fn remedy(&self, call: &str) -> String {
        if self.file.is_some() {
            format!("allow `{call}` in that file")
        } else {
            "write `seccomp: unconfined` there".into()
        }
    }

    /// Returns the hint for a step that lacks a capability.
    fn lacks(&self, word: &str, call: Option<&str>, wanted: Capability) -> String {
        let mut fixes = Vec::new();
        if !needs::is_met(wanted, self.capabilities) {
            fixes.push(match self.default.contains(&wanted) {
                true => {
                    format!("leave {wanted} out of `drop` under the `capabilities` of container {}", self.container)
                }
                false => format!("write `capabilities: {{ add: [{wanted}] }}` in container {}", self.container),
            });
        }
        if !self.is_root {
            fixes.push("run the step as root, for no other user has capabilities".to_owned());
        }
        let with = [self.capabilities, &[wanted]].concat();
        let refused = call.filter(|call| self.filter(&with).is_some_and(|filter| !is_open(&filter, call)));
        let also = refused.and_then(|call| {
            fixes.push(self.remedy(call));
            Some(format!(", and {} refuses `{call}`", self.profile_name()?))
        });
        let also = also.unwrap_or_default();
        format!("`{word}` needs the capability {wanted}, which the step does not have{also}; {}", fixes.join(" and "))
    }

    /// Returns the hint for a call that the profile refuses.
    fn refuses(&self, filter: &LinuxSeccomp, call: &str) -> Option<String> {
        if is_open(filter, call) || !fails(filter) {
            return None;
        }
        let or = match self.profile.and_then(|profile| capability(profile, call)) {
            Some(capability) => format!(", or `capabilities: {{ add: [{capability}] }}`"),
            None => String::new(),
        };
        let profile = self.profile_name()?;
        Some(format!("{profile} refuses `{call}`; if the step needs it, {}{or}", self.remedy(call)))
    }
}

/// Returns whether the filter allows the call with any arguments.
fn is_open(filter: &LinuxSeccomp, call: &str) -> bool {
    let rules = filter.syscalls().as_deref().unwrap_or_default();
    let is_about = |rule: &&LinuxSyscall| rule.names().iter().any(|name| name == call);
    let lets_through = |action| matches!(action, LinuxSeccompAction::ScmpActAllow | LinuxSeccompAction::ScmpActLog);
    let mut rules = rules.iter().filter(is_about).peekable();
    match rules.peek() {
        None => lets_through(filter.default_action()),
        Some(_) => rules.any(|rule| lets_through(rule.action()) && rule.args().as_ref().is_none_or(Vec::is_empty)),
    }
}

/// Returns the capability with which the profile allows the call.
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
    use super::*;

    const DEFAULT: [Capability; 5] =
        [Capability::Chown, Capability::Fowner, Capability::Mknod, Capability::SysChroot, Capability::Kill];

    fn permissions() -> Permissions<'static> {
        Permissions {
            container: "base",
            capabilities: &DEFAULT,
            default: &DEFAULT,
            is_root: true,
            profile: Some(Profile::standard()),
            file: None,
            machine: Architecture::X86_64,
            kernel: Kernel { version: 6, revision: 1 },
        }
    }

    fn hinted(printed: &str) -> Option<String> {
        hint(&permissions(), printed)
    }

    #[test]
    fn a_call_that_the_profile_refuses_is_named_with_the_fix() {
        for (printed, call, or) in [
            (
                "unshare: unshare failed: Operation not permitted\n",
                "unshare",
                ", or `capabilities: { add: [SYS_ADMIN] }`",
            ),
            (
                "x\nbwrap: No permissions to create new namespace: Operation not permitted\ny\n",
                "unshare",
                ", or `capabilities: { add: [SYS_ADMIN] }`",
            ),
            ("add_key: Operation not permitted", "add_key", ""),
            ("OSError: [Errno 38] Function not implemented: io_uring_setup", "io_uring_setup", ""),
            ("socket(AF_VSOCK): Operation not permitted", "socket", ""),
        ] {
            let expected = format!(
                "the default seccomp profile of container base refuses `{call}`; if the step needs it, write `seccomp: \
                 unconfined` there{or}"
            );
            assert_eq!(hinted(printed), Some(expected), "{printed}");
        }
    }

    #[test]
    fn a_missing_capability_is_named_and_not_the_profile() {
        for (printed, word, capability) in [
            ("ping: socktype: SOCK_RAW\nping: socket: Operation not permitted", "ping", "NET_RAW"),
            ("ping: permission denied (are you root?)", "ping", "NET_RAW"),
            ("dmesg: read kernel buffer failed: Operation not permitted", "dmesg", "SYSLOG"),
            ("mount: /mnt: mount failed: Operation not permitted.", "mount", "SYS_ADMIN"),
            ("mount: /mnt: permission denied.", "mount", "SYS_ADMIN"),
            ("/usr/bin/chattr: Operation not permitted while setting flags on /x", "chattr", "LINUX_IMMUTABLE"),
            ("chrt: failed to set pid 0's policy: Operation not permitted", "chrt", "SYS_NICE"),
            ("nice: cannot set niceness: Permission denied", "nice", "SYS_NICE"),
            ("RTNETLINK answers: Operation not permitted", "rtnetlink", "NET_ADMIN"),
            ("date: cannot set date: Operation not permitted", "date", "SYS_TIME"),
            ("perf_event_open(...) failed: operation not permitted", "perf_event_open", "PERFMON"),
        ] {
            let expected = format!(
                "`{word}` needs the capability {capability}, which the step does not have; write `capabilities: {{ add: \
                 [{capability}] }}` in container base"
            );
            assert_eq!(hinted(printed).as_ref(), Some(&expected), "{printed}");
            let unconfined = Permissions { profile: None, ..permissions() };
            assert_eq!(hint(&unconfined, printed), Some(expected), "{printed}, unconfined");
        }
    }

    #[test]
    fn a_capability_that_the_container_drops_is_named_with_its_list() {
        let dropped = Permissions { capabilities: &[], ..permissions() };
        for (printed, word, capability) in [
            ("chown: changing ownership of '/x': Operation not permitted", "chown", "CHOWN"),
            ("chgrp: changing group of '/x': Operation not permitted", "chgrp", "CHOWN"),
            ("tar: x: Cannot change ownership to uid 7, gid 7: Operation not permitted", "ownership", "CHOWN"),
            ("chmod: changing permissions of '/x': Operation not permitted", "chmod", "FOWNER"),
            ("touch: setting times of '/x': Operation not permitted", "touch", "FOWNER"),
            ("sh: 1: kill: Operation not permitted", "kill", "KILL"),
            ("mknod: /x: Operation not permitted", "mknod", "MKNOD"),
            ("chroot: cannot change root directory to '/x': Operation not permitted", "chroot", "SYS_CHROOT"),
        ] {
            let expected = format!(
                "`{word}` needs the capability {capability}, which the step does not have; leave {capability} out of `drop` \
                 under the `capabilities` of container base"
            );
            assert_eq!(hint(&dropped, printed), Some(expected), "{printed}");
        }
        for printed in ["touch: cannot touch '/x': Permission denied", "chown: cannot access '/x': Permission denied"] {
            assert_eq!(hint(&dropped, printed), None, "{printed}");
        }
    }

    #[test]
    fn a_call_that_needs_a_capability_and_another_profile_gets_both_fixes() {
        let pivot = "pivot_root: failed to change root from `.' to `old': Operation not permitted";
        let expected = "`pivot_root` needs the capability SYS_ADMIN, which the step does not have, and the default seccomp \
                        profile of container base refuses `pivot_root`; write `capabilities: { add: [SYS_ADMIN] }` in \
                        container base and write `seccomp: unconfined` there";
        assert_eq!(hinted(pivot).as_deref(), Some(expected));
        let admin = Permissions { capabilities: &[Capability::SysAdmin], ..permissions() };
        let hinted = hint(&admin, pivot).unwrap();
        assert!(
            hinted.contains("profile of container base refuses `pivot_root`") && !hinted.contains("capabilit"),
            "{hinted}"
        );
        assert_eq!(hint(&admin, "dmesg: read kernel buffer failed: Operation not permitted"), None);
    }

    #[test]
    fn a_step_of_another_user_has_no_capability_though_its_container_has_it() {
        let user = Permissions { is_root: false, ..permissions() };
        let expected = "`chown` needs the capability CHOWN, which the step does not have; run the step as root, for no other \
                        user has capabilities";
        assert_eq!(
            hint(&user, "chown: changing ownership of '/x': Operation not permitted").as_deref(),
            Some(expected)
        );
        let hinted = hint(&user, "ping: socket: Operation not permitted").unwrap();
        assert!(hinted.contains("{ add: [NET_RAW] }` in container base and run the step as root"), "{hinted}");
    }

    #[test]
    fn a_refusal_without_a_known_call_gets_a_hint_with_less_certainty() {
        let expected = "the default seccomp profile of container base may have refused a system call, or the step lacks a \
                        capability; `seccomp: unconfined` there shows which";
        assert_eq!(hinted("error: Operation not permitted\n").as_deref(), Some(expected));
    }

    #[test]
    fn a_call_that_neither_refuses_has_no_hint() {
        for printed in [
            "",
            "unshare: invalid option",
            "chown: changing ownership of '/x': Operation not permitted",
            "mknod: /x: Operation not permitted",
            "chmod: changing permissions of '/mount/dmesg': Operation not permitted",
            "ls: cannot open directory 'mount': Permission denied",
            "sh: 1: ping: Permission denied",
            "/usr/bin/mount/x: Permission denied",
        ] {
            assert_eq!(hinted(printed), None, "{printed}");
        }
        let old = "mount: Operation not permitted\n".to_owned() + &"line\n".repeat(20);
        assert_eq!(hinted(&old), None);
    }

    #[test]
    fn a_profile_that_ends_processes_is_named_with_the_calls_for_which_it_does() {
        let hinted = |text: &str| {
            let profile = Profile::parse(text.as_bytes()).unwrap();
            let file = Some(Path::new("/work/own.json"));
            killed(&Permissions { profile: Some(&profile), file, ..permissions() }).unwrap()
        };
        let rule = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_KILL"}]}"#;
        let expected = "the seccomp profile /work/own.json of container base ends a process (SIGSYS) that makes one of the \
                        system calls mkdir, mkdirat; the kernel's log (`dmesg`) has its number; if the step needs it, allow it \
                        in that file";
        assert_eq!(hinted(rule), expected);
        assert!(hinted(r#"{"defaultAction": "SCMP_ACT_TRAP"}"#).contains("makes a system call that it does not list;"));
        let default = killed(&permissions()).unwrap();
        assert!(default.contains("of another architecture") && default.ends_with("write `seccomp: unconfined` there"));
        assert_eq!(killed(&Permissions { profile: None, ..permissions() }), None);
    }

    #[test]
    fn a_profile_of_a_file_is_named_only_for_calls_that_it_refuses() {
        let hinted = |profile: &str, printed| {
            let profile = Profile::parse(profile.as_bytes()).unwrap();
            let file = Some(Path::new("/work/own.json"));
            hint(&Permissions { profile: Some(&profile), file, ..permissions() }, printed)
        };
        let open = r#"{"defaultAction": "SCMP_ACT_ALLOW"}"#;
        assert_eq!(hinted(open, "add_key: Operation not permitted"), None);
        let refuses =
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]}"#;
        assert_eq!(hinted(refuses, "add_key: Operation not permitted"), None);
        assert_eq!(
            hinted(refuses, "mkdir: cannot create directory 'x': Operation not permitted").unwrap(),
            "the seccomp profile /work/own.json of container base refuses `mkdir`; if the step needs it, allow `mkdir` in \
             that file"
        );
    }
}
