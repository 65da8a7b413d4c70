//! The default profile beside those of Debian 12 for docker and podman: the differences, and their reasons.

use std::collections::{BTreeMap, BTreeSet};

use oci_spec::runtime::LinuxSeccompAction;

use crate::seccomp::Profile;

/// The needs of calls: `always` for none, `conditions` on their arguments, a capability, machines, or a kernel.
type Gates = BTreeMap<String, BTreeSet<String>>;

/// A gate, the names that only the default profile has in it and those that only the other one has, and the reason.
type Difference = (&'static str, &'static str, &'static str, &'static str);

/// docker.io 20.10.24: names by their needs.
const DOCKER: &str = "\
    always: _llseek _newselect accept accept4 access adjtimex alarm bind brk capget capset chdir chmod chown chown32 \
    clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep \
    clock_nanosleep_time64 close close_range connect copy_file_range creat dup dup2 dup3 epoll_create epoll_create1 \
    epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 execve execveat exit \
    exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat fchown \
    fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat fstat64 \
    fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futex futex_time64 futex_waitv futimesat get_robust_list \
    get_thread_area getcpu getcwd getdents getdents64 getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups \
    getgroups32 getitimer getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid getresgid32 \
    getresuid getresuid32 getrlimit getrusage getsid getsockname getsockopt gettid gettimeofday getuid getuid32 \
    getxattr inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel io_destroy io_getevents \
    io_pgetevents io_pgetevents_time64 io_setup io_submit io_uring_enter io_uring_register io_uring_setup ioctl \
    ioprio_get ioprio_set ipc kill landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown lchown32 \
    lgetxattr link linkat listen listxattr llistxattr lremovexattr lseek lsetxattr lstat lstat64 madvise membarrier \
    memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat mlock mlock2 mlockall mmap mmap2 mprotect \
    mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 \
    mq_unlink mremap msgctl msgget msgrcv msgsnd msync munlock munlockall munmap nanosleep newfstatat open openat \
    openat2 pause pidfd_open pidfd_send_signal pipe pipe2 poll ppoll ppoll_time64 prctl pread64 preadv preadv2 \
    prlimit64 process_mrelease pselect6 pselect6_time64 pwrite64 pwritev pwritev2 read readahead readlink readlinkat \
    readv recv recvfrom recvmmsg recvmmsg_time64 recvmsg remap_file_pages removexattr rename renameat renameat2 \
    restart_syscall rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend \
    rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min \
    sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval \
    sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield \
    seccomp select semctl semget semop semtimedop semtimedop_time64 send sendfile sendfile64 sendmmsg sendmsg sendto \
    set_robust_list set_thread_area set_tid_address setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 \
    setgroups setgroups32 setitimer setpgid setpriority setregid setregid32 setresgid setresgid32 setresuid \
    setresuid32 setreuid setreuid32 setrlimit setsid setsockopt setuid setuid32 setxattr shmat shmctl shmdt shmget \
    shutdown sigaltstack signalfd signalfd4 sigprocmask sigreturn socket socketcall socketpair splice stat stat64 \
    statfs statfs64 statx symlink symlinkat sync sync_file_range syncfs sysinfo tee tgkill time timer_create \
    timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create \
    timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64 times tkill truncate truncate64 ugetrlimit \
    umask uname unlink unlinkat utime utimensat utimensat_time64 utimes vfork vmsplice wait4 waitid waitpid write \
    writev\n\
    conditions: clone personality\n\
    4.8: ptrace\n\
    CAP_DAC_READ_SEARCH: open_by_handle_at\n\
    CAP_SYSLOG: syslog\n\
    CAP_SYS_ADMIN: bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie mount mount_setattr \
    move_mount name_to_handle_at open_tree perf_event_open quotactl quotactl_fd setdomainname sethostname setns \
    syslog umount umount2 unshare\n\
    CAP_SYS_BOOT: reboot\n\
    CAP_SYS_CHROOT: chroot\n\
    CAP_SYS_MODULE: delete_module finit_module init_module\n\
    CAP_SYS_NICE: get_mempolicy mbind set_mempolicy\n\
    CAP_SYS_PACCT: acct\n\
    CAP_SYS_PTRACE: kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace\n\
    CAP_SYS_RAWIO: ioperm iopl\n\
    CAP_SYS_TIME: clock_settime settimeofday stime\n\
    CAP_SYS_TTY_CONFIG: vhangup\n\
    amd64 x32: arch_prctl\n\
    amd64 x32 x86: modify_ldt\n\
    arm arm64: arm_fadvise64_64 arm_sync_file_range breakpoint cacheflush set_tls sync_file_range2\n\
";

/// golang-github-containers-common 0.50.1, for podman: likewise, where it allows calls.
const PODMAN: &str = "\
    always: _llseek _newselect accept accept4 access adjtimex alarm bind brk capget capset chdir chmod chown chown32 \
    clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep \
    clock_nanosleep_time64 clone clone3 close close_range connect copy_file_range creat dup dup2 dup3 epoll_create \
    epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 execve \
    execveat exit exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark fchdir fchmod \
    fchmodat fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock fork fremovexattr fsconfig \
    fsetxattr fsmount fsopen fspick fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futex \
    futex_time64 futimesat get_mempolicy get_robust_list get_thread_area getcpu getcwd getdents getdents64 getegid \
    getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getitimer getpeername getpgid getpgrp getpid \
    getppid getpriority getrandom getresgid getresgid32 getresuid getresuid32 getrlimit getrusage getsid getsockname \
    getsockopt gettid gettimeofday getuid getuid32 getxattr inotify_add_watch inotify_init inotify_init1 \
    inotify_rm_watch io_cancel io_destroy io_getevents io_setup io_submit ioctl ioprio_get ioprio_set ipc keyctl \
    kill landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown lchown32 lgetxattr link linkat \
    listen listxattr llistxattr lremovexattr lseek lsetxattr lstat lstat64 madvise mbind membarrier memfd_create \
    memfd_secret mincore mkdir mkdirat mknod mknodat mlock mlock2 mlockall mmap mmap2 mount mount_setattr move_mount \
    mprotect mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 \
    mq_unlink mremap msgctl msgget msgrcv msgsnd msync munlock munlockall munmap name_to_handle_at nanosleep \
    newfstatat open open_tree openat openat2 pause pidfd_getfd pidfd_open pidfd_send_signal pipe pipe2 pivot_root \
    pkey_alloc pkey_free pkey_mprotect poll ppoll ppoll_time64 prctl pread64 preadv preadv2 prlimit64 \
    process_mrelease process_vm_readv process_vm_writev pselect6 pselect6_time64 ptrace pwrite64 pwritev pwritev2 \
    read readahead readdir readlink readlinkat readv reboot recv recvfrom recvmmsg recvmmsg_time64 recvmsg \
    remap_file_pages removexattr rename renameat renameat2 restart_syscall rmdir rseq rt_sigaction rt_sigpending \
    rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 \
    rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr sched_getparam \
    sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr \
    sched_setparam sched_setscheduler sched_yield seccomp select semctl semget semop semtimedop semtimedop_time64 \
    send sendfile sendfile64 sendmmsg sendmsg sendto set_mempolicy set_robust_list set_thread_area set_tid_address \
    setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setitimer setns setpgid \
    setpriority setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setrlimit setsid \
    setsockopt setuid setuid32 setxattr shmat shmctl shmdt shmget shutdown sigaction sigaltstack signal signalfd \
    signalfd4 sigpending sigprocmask sigreturn sigsuspend socketcall socketpair splice stat stat64 statfs statfs64 \
    statx symlink symlinkat sync sync_file_range syncfs syscall sysinfo syslog tee tgkill time timer_create \
    timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd timerfd_create \
    timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64 times tkill truncate truncate64 ugetrlimit \
    umask umount umount2 uname unlink unlinkat unshare utime utimensat utimensat_time64 utimes vfork wait4 waitid \
    waitpid write writev\n\
    conditions: personality socket\n\
    CAP_AUDIT_WRITE: socket\n\
    CAP_DAC_READ_SEARCH: open_by_handle_at\n\
    CAP_SYS_ADMIN: bpf fanotify_init lookup_dcookie perf_event_open quotactl setdomainname sethostname setns\n\
    CAP_SYS_CHROOT: chroot\n\
    CAP_SYS_MODULE: delete_module finit_module init_module query_module\n\
    CAP_SYS_PACCT: acct\n\
    CAP_SYS_PTRACE: kcmp process_madvise\n\
    CAP_SYS_RAWIO: ioperm iopl\n\
    CAP_SYS_TIME: clock_settime clock_settime64 settimeofday stime\n\
    CAP_SYS_TTY_CONFIG: vhangup\n\
    amd64 x32: arch_prctl\n\
    amd64 x32 x86: modify_ldt\n\
    arm arm64: arm_fadvise64_64 arm_sync_file_range breakpoint cacheflush set_tls sync_file_range2\n\
";

const NEW: &str = "Linux has got it since";
const WIDER: &str = "Docker has it as a way that does not need all of CAP_SYS_ADMIN";

const FROM_DOCKER: [Difference; 11] = [
    (
        "always",
        "cachestat fchmodat2 futex_requeue futex_wait futex_wake getxattrat listmount listxattrat map_shadow_stack mseal \
         removexattrat setxattrat statmount uretprobe",
        "",
        NEW,
    ),
    ("always", "name_to_handle_at pkey_alloc pkey_free pkey_mprotect", "", "Docker has found them harmless since"),
    ("always", "", "io_uring_enter io_uring_register io_uring_setup", "M7: io_uring was the way of many break-outs"),
    (
        "conditions",
        "socket",
        "",
        "all families but AF_VSOCK and AF_ALG, by the half of the argument that the kernel reads",
    ),
    ("always", "", "socket", "all families but AF_VSOCK and AF_ALG, by the half of the argument that the kernel reads"),
    ("4.8", "process_vm_readv process_vm_writev", "", "what a tracer may do anyway"),
    ("CAP_BPF", "bpf", "", WIDER),
    ("CAP_PERFMON", "perf_event_open", "", WIDER),
    ("CAP_SYS_ADMIN", "lsm_get_self_attr lsm_list_modules lsm_set_self_attr", "name_to_handle_at", NEW),
    ("CAP_SYS_NICE", "set_mempolicy_home_node", "", NEW),
    ("CAP_SYS_TIME", "clock_settime64", "", "clock_settime of 32 bits"),
];

const FROM_PODMAN: [Difference; 19] = [
    (
        "always",
        "cachestat fchmodat2 futex_requeue futex_wait futex_waitv futex_wake getxattrat listmount listxattrat \
         map_shadow_stack mseal removexattrat setxattrat statmount uretprobe",
        "",
        NEW,
    ),
    ("always", "io_pgetevents io_pgetevents_time64 vmsplice", "", "Docker has always had them"),
    ("always", "", "keyctl", "H4: the keyrings of the host's root"),
    (
        "always",
        "",
        "clone clone3 fsconfig fsmount fsopen fspick mount mount_setattr move_mount open_tree pivot_root setns umount \
         umount2 unshare",
        "M7: namespaces and mounts are for CAP_SYS_ADMIN",
    ),
    ("always", "", "get_mempolicy mbind set_mempolicy", "for CAP_SYS_NICE, as with Docker"),
    ("always", "", "pidfd_getfd process_vm_readv process_vm_writev ptrace", "for CAP_SYS_PTRACE, or from 4.8 on"),
    ("always", "", "reboot syslog", "for CAP_SYS_BOOT and CAP_SYSLOG"),
    ("always", "", "readdir sigaction signal sigpending sigsuspend syscall timerfd", "no program of today makes them"),
    ("conditions", "clone", "", "without a namespace, for all"),
    ("4.8", "process_vm_readv process_vm_writev ptrace", "", "what a tracer may do anyway"),
    ("CAP_AUDIT_WRITE", "", "socket", "Docker looks at the family alone"),
    ("CAP_BPF", "bpf", "", WIDER),
    ("CAP_PERFMON", "perf_event_open", "", WIDER),
    (
        "CAP_SYS_ADMIN",
        "clone clone3 fsconfig fsmount fsopen fspick lsm_get_self_attr lsm_list_modules lsm_set_self_attr mount \
         mount_setattr move_mount open_tree quotactl_fd syslog umount umount2 unshare",
        "",
        "they need it, or are new",
    ),
    ("CAP_SYS_MODULE", "", "query_module", "Linux has it no more"),
    ("CAP_SYS_NICE", "get_mempolicy mbind set_mempolicy set_mempolicy_home_node", "", "they need it"),
    ("CAP_SYS_PTRACE", "pidfd_getfd process_vm_readv process_vm_writev ptrace", "", "they need it"),
    ("CAP_SYS_BOOT", "reboot", "", "it needs it"),
    ("CAP_SYSLOG", "syslog", "", "it needs it"),
];

fn words(text: &str) -> impl Iterator<Item = String> {
    text.split_whitespace().map(str::to_owned)
}

fn written(text: &str) -> Gates {
    let lines = text.lines().filter_map(|line| line.split_once(": "));
    lines.map(|(gate, names)| (gate.to_owned(), words(names).collect())).collect()
}

fn ours() -> Gates {
    let mut gates = Gates::new();
    for rule in Profile::standard().rules.iter().filter(|rule| rule.action == LinuxSeccompAction::ScmpActAllow) {
        let needs = &rule.includes;
        let gate = if !rule.arguments.is_empty() {
            "conditions".to_owned()
        } else if let Some(capability) = needs.capabilities.first() {
            format!("CAP_{capability}")
        } else if let Some(kernel) = needs.kernel {
            format!("{}.{}", kernel.version, kernel.revision)
        } else if !needs.architectures.is_empty() {
            needs.architectures.join(" ")
        } else {
            "always".to_owned()
        };
        gates.entry(gate).or_default().extend(rule.names.iter().cloned());
    }
    gates
}

/// Returns the differences of two profiles, as gates with a sign before each name.
fn differences(ours: &Gates, theirs: &Gates) -> BTreeSet<String> {
    let flat = |gates: &Gates| -> BTreeSet<String> {
        gates.iter().flat_map(|(gate, names)| names.iter().map(move |name| format!("{gate} {name}"))).collect()
    };
    let (ours, theirs) = (flat(ours), flat(theirs));
    let more = ours.difference(&theirs).map(|name| format!("+ {name}"));
    more.chain(theirs.difference(&ours).map(|name| format!("- {name}"))).collect()
}

fn listed(differences: &[Difference]) -> BTreeSet<String> {
    let each = |(gate, more, less, _): &Difference| {
        let sign = |sign: &'static str, names| words(names).map(move |name| format!("{sign} {gate} {name}"));
        sign("+", *more).chain(sign("-", *less)).collect::<Vec<_>>()
    };
    differences.iter().flat_map(each).collect()
}

#[test]
fn all_differences_from_dockers_profile_of_debian_are_intended() {
    assert_eq!(differences(&ours(), &written(DOCKER)), listed(&FROM_DOCKER));
}

#[test]
fn all_differences_from_podmans_profile_of_debian_are_intended() {
    assert_eq!(differences(&ours(), &written(PODMAN)), listed(&FROM_PODMAN));
}
