//! The capability that the kernel requires where a system call fails with EPERM, by the call and by the words of programs.

use oci_spec::runtime::Capability;

/// Calls that fail without a capability, with any filter.
const OF_CALLS: [(Capability, &str); 22] = [
    (Capability::Bpf, "bpf"),
    (Capability::Chown, "chown fchown fchownat lchown"),
    (Capability::DacReadSearch, "open_by_handle_at"),
    (Capability::Fowner, "chmod fchmod fchmodat fchmodat2 futimesat utime utimensat utimes"),
    (Capability::IpcLock, "mlock mlock2 mlockall"),
    (Capability::Kill, "kill pidfd_send_signal rt_sigqueueinfo tgkill tkill"),
    (Capability::Mknod, "mknod mknodat"),
    (Capability::Perfmon, "perf_event_open"),
    (
        Capability::SysAdmin,
        "fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie mount mount_setattr move_mount pivot_root quotactl \
         quotactl_fd setdomainname sethostname setns swapoff swapon umount umount2",
    ),
    (Capability::SysBoot, "kexec_file_load kexec_load reboot"),
    (Capability::SysChroot, "chroot"),
    (Capability::SysModule, "delete_module finit_module init_module"),
    (Capability::SysNice, "ioprio_set sched_setattr sched_setparam sched_setscheduler setpriority"),
    (Capability::SysPacct, "acct"),
    (Capability::SysPtrace, "kcmp pidfd_getfd process_vm_readv process_vm_writev ptrace"),
    (Capability::SysRawio, "ioperm iopl"),
    (Capability::SysTime, "adjtimex clock_adjtime clock_settime clock_settime64 settimeofday stime"),
    (Capability::SysTtyConfig, "vhangup"),
    (Capability::Syslog, "syslog"),
    (Capability::Setpcap, "capset"),
    (Capability::Setgid, "setgid setgroups setregid setresgid"),
    (Capability::Setuid, "setresuid setreuid setuid"),
];

/// The words by which programs and libraries name a call, where they differ from its name.
const OTHER_WORDS: [(&str, &str); 25] = [
    ("bwrap", "unshare"),
    ("capsh", "capset"),
    ("chgrp", "chown"),
    ("chrt", "sched_setscheduler"),
    ("date", "clock_settime"),
    ("dmesg", "syslog"),
    ("groups", "setgroups"),
    ("hostname", "sethostname"),
    ("hwclock", "settimeofday"),
    ("insmod", "init_module"),
    ("io_uring", "io_uring_setup"),
    ("ionice", "ioprio_set"),
    ("keyring", "keyctl"),
    ("kexec", "kexec_load"),
    ("modprobe", "init_module"),
    ("namespace", "unshare"),
    ("namespaces", "unshare"),
    ("nice", "setpriority"),
    ("nsenter", "setns"),
    ("ownership", "chown"),
    ("perf", "perf_event_open"),
    ("renice", "setpriority"),
    ("rmmod", "delete_module"),
    ("touch", "utimensat"),
    ("vsock", "socket"),
];

/// Programs that need a capability for calls that every step may make.
const BESIDE_CALLS: [(Capability, &str); 4] = [
    (Capability::LinuxImmutable, "chattr"),
    (Capability::NetAdmin, "brctl ifconfig ip6tables iptables nft nf_tables rtnetlink"),
    (Capability::NetRaw, "arping ping ping6 sock_raw tcpdump traceroute"),
    (Capability::Setfcap, "setcap"),
];

/// Capabilities that CAP_SYS_ADMIN replaces.
const UNDER_SYS_ADMIN: [Capability; 3] = [Capability::Bpf, Capability::Perfmon, Capability::Syslog];

/// The subject of a word in a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Subject<'a> {
    /// The system call, where a filter may refuse it.
    pub(super) call: Option<&'a str>,
    /// The capability without which the kernel refuses it.
    pub(super) capability: Option<Capability>,
}

/// Returns the subject of a word in lower case, if it names a system call or a program. `is_call` returns whether it is the name
/// of a call.
pub(super) fn of_word<'a>(word: &'a str, line: &str, is_call: impl Fn(&str) -> bool) -> Option<Subject<'a>> {
    let has = |names: &str, name: &str| names.split_whitespace().any(|other| other == name);
    if let Some((capability, _)) = BESIDE_CALLS.iter().find(|(_, words)| has(words, word)) {
        return Some(Subject { call: None, capability: Some(*capability) });
    }
    if word == "socket" && !line.contains("vsock") && !line.contains("af_alg") {
        return Some(Subject { call: None, capability: Some(Capability::NetRaw) });
    }
    let call = OTHER_WORDS.iter().find(|(other, _)| *other == word).map_or(word, |(_, call)| call);
    let capability = OF_CALLS.iter().find(|(_, calls)| has(calls, call)).map(|(capability, _)| *capability);
    is_call(call).then_some(Subject { call: Some(call), capability })
}

/// Returns whether the kernel returns EACCES where the capability is missing, or a program prints it: for a file or a process of
/// another user, the kernel returns EPERM alone.
pub(super) fn may_be_denied(capability: Capability) -> bool {
    !matches!(capability, Capability::Chown | Capability::Fowner | Capability::Kill | Capability::Setpcap)
}

/// Returns whether a step with these capabilities has the one that the kernel requires.
pub(super) fn is_met(capability: Capability, present: &[Capability]) -> bool {
    present.contains(&capability) || UNDER_SYS_ADMIN.contains(&capability) && present.contains(&Capability::SysAdmin)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seccomp::{Architecture, number};

    #[test]
    fn every_call_of_the_tables_is_a_call() {
        let calls = OF_CALLS.iter().flat_map(|(_, names)| names.split_whitespace());
        for call in calls.chain(OTHER_WORDS.iter().map(|(_, call)| *call)) {
            assert!(Architecture::ALL.iter().any(|machine| number(*machine, call).is_some()), "{call}");
        }
    }

    #[test]
    fn a_word_names_a_call_and_its_capability_or_a_capability_alone() {
        let need = |word, line| of_word(word, line, |call| number(Architecture::X86_64, call).is_some());
        let of = |call, capability| Some(Subject { call, capability });
        assert_eq!(need("dmesg", ""), of(Some("syslog"), Some(Capability::Syslog)));
        assert_eq!(need("ping", ""), of(None, Some(Capability::NetRaw)));
        assert_eq!(need("socket", "socket: x"), of(None, Some(Capability::NetRaw)));
        assert_eq!(need("socket", "socket(af_vsock)"), of(Some("socket"), None));
        assert_eq!((need("add_key", ""), need("nothing", "")), (of(Some("add_key"), None), None));
    }
}
