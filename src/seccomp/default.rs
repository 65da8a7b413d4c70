//! The default profile: a table of the calls that steps may make, with the rules of Docker's present default profile.
//!
//! All other calls fail with EPERM. The table lacks names that only architectures have which runner does not know; families of
//! sockets are checked more closely than by Docker, see `FAMILIES`.

use oci_spec::runtime::{Arch, Capability, LinuxSeccompAction, LinuxSeccompOperator};

use super::profile::{Architectures, Argument, Condition, Kernel, Profile, Rule};

/// The calls that every step may make, with any arguments.
const ALWAYS: [(&str, &str); 11] = [
    (
        "names of files",
        "access chdir chmod chown chown32 creat faccessat faccessat2 fchmodat fchmodat2 fchownat fstatat64 getcwd lchown \
         lchown32 link linkat lstat lstat64 mkdir mkdirat mknod mknodat name_to_handle_at newfstatat open openat openat2 \
         readlink readlinkat rename renameat renameat2 rmdir stat stat64 statfs statfs64 statx symlink symlinkat truncate \
         truncate64 umask unlink unlinkat utime utimes utimensat utimensat_time64 futimesat",
    ),
    ("mounts, to look at", "listmount statmount"),
    (
        "open files",
        "close close_range copy_file_range dup dup2 dup3 fadvise64 fadvise64_64 fallocate fchdir fchmod fchown fchown32 \
         fcntl fcntl64 fdatasync flock fstat fstat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 getdents getdents64 \
         ioctl lseek _llseek pipe pipe2 pread64 preadv preadv2 pwrite64 pwritev pwritev2 read readahead readv sendfile \
         sendfile64 splice sync sync_file_range syncfs tee vmsplice write writev",
    ),
    (
        "attributes of files",
        "fgetxattr flistxattr fremovexattr fsetxattr getxattr getxattrat lgetxattr listxattr listxattrat llistxattr \
         lremovexattr lsetxattr removexattr removexattrat setxattr setxattrat",
    ),
    (
        "waiting for events",
        "epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd \
         eventfd2 fanotify_mark inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel io_destroy \
         io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit _newselect pause poll ppoll ppoll_time64 \
         pselect6 pselect6_time64 select signalfd signalfd4",
    ),
    (
        "memory",
        "brk cachestat madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mlock mlock2 mlockall mmap \
         mmap2 mprotect mremap mseal msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect \
         remap_file_pages",
    ),
    (
        "processes, and who they are",
        "capget capset execve execveat exit exit_group fork getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups \
         getgroups32 getpgid getpgrp getpid getppid getresgid getresgid32 getresuid getresuid32 getsid gettid getuid \
         getuid32 landlock_add_rule landlock_create_ruleset landlock_restrict_self pidfd_open prctl process_mrelease \
         seccomp setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setpgid setregid \
         setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setsid setuid setuid32 vfork wait4 \
         waitid waitpid",
    ),
    (
        "threads, signals and scheduling",
        "futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake getcpu getpriority get_robust_list \
         get_thread_area ioprio_get ioprio_set kill pidfd_send_signal restart_syscall rseq rt_sigaction rt_sigpending \
         rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 \
         rt_tgsigqueueinfo sched_getaffinity sched_getattr sched_getparam sched_get_priority_max sched_get_priority_min \
         sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr \
         sched_setparam sched_setscheduler sched_yield setpriority set_robust_list set_thread_area set_tid_address \
         sigaltstack sigprocmask sigreturn tgkill tkill uretprobe",
    ),
    (
        "time",
        "adjtimex alarm clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 \
         clock_nanosleep clock_nanosleep_time64 getitimer gettimeofday nanosleep setitimer time timer_create \
         timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create \
         timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64 times",
    ),
    (
        "sockets and other ways between processes",
        "accept accept4 bind connect getpeername getsockname getsockopt ipc listen mq_getsetattr mq_notify mq_open \
         mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink msgctl msgget msgrcv msgsnd \
         recv recvfrom recvmmsg recvmmsg_time64 recvmsg semctl semget semop semtimedop semtimedop_time64 send sendmmsg \
         sendmsg sendto setsockopt shmat shmctl shmdt shmget shutdown socketcall socketpair",
    ),
    ("the machine and limits", "getrandom getrlimit getrusage prlimit64 setrlimit sysinfo ugetrlimit uname"),
];

/// The calls that only steps with a capability may make.
const WITH: [(Capability, &str); 14] = [
    (Capability::Bpf, "bpf"),
    (Capability::DacReadSearch, "open_by_handle_at"),
    (Capability::Perfmon, "perf_event_open"),
    (
        Capability::SysAdmin,
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr \
         lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl \
         quotactl_fd setdomainname sethostname setns syslog umount umount2 unshare",
    ),
    (Capability::SysBoot, "reboot"),
    (Capability::SysChroot, "chroot"),
    (Capability::SysModule, "delete_module finit_module init_module"),
    (Capability::SysNice, "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
    (Capability::SysPacct, "acct"),
    (Capability::SysPtrace, "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace"),
    (Capability::SysRawio, "ioperm iopl"),
    (Capability::SysTime, "clock_settime clock_settime64 settimeofday stime"),
    (Capability::SysTtyConfig, "vhangup"),
    (Capability::Syslog, "syslog"),
];

/// The calls that only programs of some machines make.
const ON: [(&[&str], &str); 3] = [
    (&["amd64", "x32"], "arch_prctl"),
    (&["amd64", "x32", "x86"], "modify_ldt"),
    (&["arm", "arm64"], "arm_fadvise64_64 arm_sync_file_range breakpoint cacheflush set_tls sync_file_range2"),
];

/// Tracing was a way around filters before this kernel.
const TRACING: (Kernel, &str) = (Kernel { version: 4, revision: 8 }, "process_vm_readv process_vm_writev ptrace");

/// The execution domains that are allowed: Linux, with short inode numbers or as of 2.6, and the query alone.
const PERSONALITIES: [u64; 5] = [0, 0x8, 0x20000, 0x20008, 0xffff_ffff];

/// The address families of sockets, as masks and the remaining bits of the family: all below 64 but 38 (AF_ALG, the kernel's
/// ciphers) and 40 (AF_VSOCK, the machine that runs this one). The masks ignore the upper half as the kernel does: compared
/// whole, AF_VSOCK with a bit of the upper half set is greater than all families.
const FAMILIES: [(u64, u64); 8] = [
    (0xffff_ffe0, 0),
    (0xffff_fffc, 32),
    (0xffff_fffe, 36),
    (0xffff_ffff, 39),
    (0xffff_ffff, 41),
    (0xffff_fffe, 42),
    (0xffff_fffc, 44),
    (0xffff_fff0, 48),
];

/// All flags of clone(2) that make a namespace, but for that of time, which clone(2) cannot make.
const NAMESPACES: u64 = 0x7e02_0000;

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

fn allow(names: &str) -> Rule {
    Rule {
        includes: Condition::default(),
        excludes: Condition::default(),
        names: names.split_whitespace().map(str::to_owned).collect(),
        action: LinuxSeccompAction::ScmpActAllow,
        errno: None,
        arguments: Vec::new(),
    }
}

/// Returns a rule that allows a call whose first argument compares so.
fn allow_if(name: &str, op: LinuxSeccompOperator, value: u64, value_two: Option<u64>) -> Rule {
    Rule { arguments: vec![Argument { index: 0, op, value, value_two }], ..allow(name) }
}

pub(super) fn profile() -> Profile {
    use LinuxSeccompOperator::{ScmpCmpEq, ScmpCmpMaskedEq};
    let with = |capability| Condition { capabilities: vec![capability], ..Condition::default() };
    let mut rules: Vec<Rule> = ALWAYS.iter().map(|(_, names)| allow(names)).collect();
    rules.extend(WITH.iter().map(|(capability, names)| Rule { includes: with(*capability), ..allow(names) }));
    rules.extend(ON.iter().map(|(machines, names)| {
        let architectures = machines.iter().map(ToString::to_string).collect();
        Rule { includes: Condition { architectures, ..Condition::default() }, ..allow(names) }
    }));
    let (kernel, names) = TRACING;
    rules.push(Rule { includes: Condition { kernel: Some(kernel), ..Condition::default() }, ..allow(names) });
    rules.extend(PERSONALITIES.map(|persona| allow_if("personality", ScmpCmpEq, persona, None)));
    rules.extend(FAMILIES.map(|(mask, rest)| allow_if("socket", ScmpCmpMaskedEq, mask, Some(rest))));
    let without_admin = || with(Capability::SysAdmin);
    rules.push(Rule { excludes: without_admin(), ..allow_if("clone", ScmpCmpMaskedEq, NAMESPACES, Some(0)) });
    // Its flags are in memory, where no filter can look: the C library takes clone(2) then.
    let (action, errno) = (LinuxSeccompAction::ScmpActErrno, Some(ENOSYS));
    rules.push(Rule { excludes: without_admin(), action, errno, ..allow("clone3") });
    Profile {
        default: LinuxSeccompAction::ScmpActErrno,
        default_errno: Some(EPERM),
        architectures: Architectures::ByMachine(vec![
            (Arch::ScmpArchX86_64, vec![Arch::ScmpArchX86, Arch::ScmpArchX32]),
            (Arch::ScmpArchAarch64, vec![Arch::ScmpArchArm]),
        ]),
        rules,
    }
}
