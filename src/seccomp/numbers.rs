//! The numbers of system calls by name, on each architecture that a filter can be made for.

use std::collections::HashMap;
use std::sync::OnceLock;

use super::Architecture;

/// The number of the first call of [`COMMON`].
const FIRST_COMMON: u32 = 424;

/// The bit that the number of each x32 call has set, and that of no x86-64 call.
pub(super) const X32_BIT: u32 = 0x4000_0000;

/// The first number of the calls that x32 has in place of [`NOT_X32`].
const FIRST_X32: u32 = 512;

/// The number after the last of these.
const END_X32: u32 = 548;

/// The first number of the calls that arm has for itself.
const FIRST_PRIVATE_ARM: u32 = 0xf0001;

/// More calls than any architecture has.
const MAX_CALLS: usize = 512;

/// Returns the number of a call; none where the architecture has no such call. The bit of x32 is in it.
pub fn number(architecture: Architecture, name: &str) -> Option<u32> {
    table(architecture).get(name).copied()
}

/// Returns whether the number is outside of the row that new calls are added to.
pub(super) fn is_apart(architecture: Architecture, number: u32) -> bool {
    match *apart(architecture) {
        [begin] => number >= begin,
        [begin, end] => (begin..end).contains(&number),
        _ => false,
    }
}

/// Returns the numbers at which the ranges outside of that row begin, and end if they do.
pub(super) fn apart(architecture: Architecture) -> &'static [u32] {
    match architecture {
        Architecture::X32 => &[X32_BIT | FIRST_X32, X32_BIT | END_X32],
        Architecture::Arm => &[FIRST_PRIVATE_ARM],
        Architecture::X86_64 | Architecture::X86 | Architecture::Aarch64 => &[],
    }
}

/// Returns all calls of an architecture.
pub(super) fn table(architecture: Architecture) -> &'static HashMap<&'static str, u32> {
    static TABLES: [OnceLock<HashMap<&'static str, u32>>; Architecture::ALL.len()] =
        [const { OnceLock::new() }; Architecture::ALL.len()];
    TABLES[architecture as usize].get_or_init(|| read(architecture))
}

fn read(architecture: Architecture) -> HashMap<&'static str, u32> {
    let mut numbers = HashMap::with_capacity(MAX_CALLS);
    add(&mut numbers, COMMON, FIRST_COMMON);
    match architecture {
        Architecture::X86_64 => add(&mut numbers, X86_64, 0),
        Architecture::X86 => add(&mut numbers, X86, 0),
        Architecture::X32 => {
            add(&mut numbers, X86_64, 0);
            for name in NOT_X32.split_whitespace() {
                numbers.remove(name);
            }
            add(&mut numbers, X32, FIRST_X32);
            numbers.values_mut().for_each(|number| *number |= X32_BIT);
        }
        Architecture::Aarch64 => add(&mut numbers, AARCH64, 0),
        Architecture::Arm => {
            numbers.remove("memfd_secret");
            add(&mut numbers, ARM, 0);
            add(&mut numbers, PRIVATE_ARM, FIRST_PRIVATE_ARM);
            // It has two names.
            add(&mut numbers, "arm_sync_file_range", 341);
        }
    }
    numbers
}

/// Adds names in the order of their numbers: the first is `next`, and after `@N` it continues with N.
fn add(numbers: &mut HashMap<&'static str, u32>, names: &'static str, mut next: u32) {
    for word in names.split_whitespace() {
        match word.strip_prefix('@').and_then(|number| number.parse().ok()) {
            Some(number) => next = number,
            None => {
                numbers.insert(word, next);
                next += 1;
            }
        }
    }
}

/// Since Linux 5.1 a new call has the same number on every architecture. Up to Linux 6.18.
const COMMON: &str = "\
    pidfd_send_signal io_uring_setup io_uring_enter io_uring_register open_tree move_mount fsopen fsconfig fsmount \
    fspick pidfd_open clone3 close_range openat2 pidfd_getfd faccessat2 process_madvise epoll_pwait2 mount_setattr \
    quotactl_fd landlock_create_ruleset landlock_add_rule landlock_restrict_self memfd_secret process_mrelease \
    futex_waitv set_mempolicy_home_node cachestat fchmodat2 map_shadow_stack futex_wake futex_wait futex_requeue \
    statmount listmount lsm_get_self_attr lsm_set_self_attr lsm_list_modules mseal setxattrat getxattrat listxattrat \
    removexattrat open_tree_attr file_getattr file_setattr \
";

/// x86-64.
const X86_64: &str = "\
    read write open close stat fstat lstat poll lseek mmap mprotect munmap brk rt_sigaction rt_sigprocmask \
    rt_sigreturn ioctl pread64 pwrite64 readv writev access pipe select sched_yield mremap msync mincore madvise \
    shmget shmat shmctl dup dup2 pause nanosleep getitimer alarm setitimer getpid sendfile socket connect accept \
    sendto recvfrom sendmsg recvmsg shutdown bind listen getsockname getpeername socketpair setsockopt getsockopt \
    clone fork vfork execve exit wait4 kill uname semget semop semctl shmdt msgget msgsnd msgrcv msgctl fcntl flock \
    fsync fdatasync truncate ftruncate getdents getcwd chdir fchdir rename mkdir rmdir creat link unlink symlink \
    readlink chmod fchmod chown fchown lchown umask gettimeofday getrlimit getrusage sysinfo times ptrace getuid \
    syslog getgid setuid setgid geteuid getegid setpgid getppid getpgrp setsid setreuid setregid getgroups setgroups \
    setresuid getresuid setresgid getresgid getpgid setfsuid setfsgid getsid capget capset rt_sigpending \
    rt_sigtimedwait rt_sigqueueinfo rt_sigsuspend sigaltstack utime mknod uselib personality ustat statfs fstatfs \
    sysfs getpriority setpriority sched_setparam sched_getparam sched_setscheduler sched_getscheduler \
    sched_get_priority_max sched_get_priority_min sched_rr_get_interval mlock munlock mlockall munlockall vhangup \
    modify_ldt pivot_root _sysctl prctl arch_prctl adjtimex setrlimit chroot sync acct settimeofday mount umount2 \
    swapon swapoff reboot sethostname setdomainname iopl ioperm create_module init_module delete_module \
    get_kernel_syms query_module quotactl nfsservctl getpmsg putpmsg afs_syscall tuxcall security gettid readahead \
    setxattr lsetxattr fsetxattr getxattr lgetxattr fgetxattr listxattr llistxattr flistxattr removexattr lremovexattr \
    fremovexattr tkill time futex sched_setaffinity sched_getaffinity set_thread_area io_setup io_destroy io_getevents \
    io_submit io_cancel get_thread_area lookup_dcookie epoll_create epoll_ctl_old epoll_wait_old remap_file_pages \
    getdents64 set_tid_address restart_syscall semtimedop fadvise64 timer_create timer_settime timer_gettime \
    timer_getoverrun timer_delete clock_settime clock_gettime clock_getres clock_nanosleep exit_group epoll_wait \
    epoll_ctl tgkill utimes vserver mbind set_mempolicy get_mempolicy mq_open mq_unlink mq_timedsend mq_timedreceive \
    mq_notify mq_getsetattr kexec_load waitid add_key request_key keyctl ioprio_set ioprio_get inotify_init \
    inotify_add_watch inotify_rm_watch migrate_pages openat mkdirat mknodat fchownat futimesat newfstatat unlinkat \
    renameat linkat symlinkat readlinkat fchmodat faccessat pselect6 ppoll unshare set_robust_list get_robust_list \
    splice tee sync_file_range vmsplice move_pages utimensat epoll_pwait signalfd timerfd_create eventfd fallocate \
    timerfd_settime timerfd_gettime accept4 signalfd4 eventfd2 epoll_create1 dup3 pipe2 inotify_init1 preadv pwritev \
    rt_tgsigqueueinfo perf_event_open recvmmsg fanotify_init fanotify_mark prlimit64 name_to_handle_at \
    open_by_handle_at clock_adjtime syncfs sendmmsg setns getcpu process_vm_readv process_vm_writev kcmp finit_module \
    sched_setattr sched_getattr renameat2 seccomp getrandom memfd_create kexec_file_load bpf execveat userfaultfd \
    membarrier mlock2 copy_file_range preadv2 pwritev2 pkey_mprotect pkey_alloc pkey_free statx io_pgetevents rseq \
    uretprobe uprobe \
";

/// x86 of 32 bits.
const X86: &str = "\
    restart_syscall exit fork read write open close waitpid creat link unlink execve chdir time mknod chmod lchown \
    break oldstat lseek getpid mount umount setuid getuid stime ptrace alarm oldfstat pause utime stty gtty access \
    nice ftime sync kill rename mkdir rmdir dup pipe times prof brk setgid getgid signal geteuid getegid acct umount2 \
    lock ioctl fcntl mpx setpgid ulimit oldolduname umask chroot ustat dup2 getppid getpgrp setsid sigaction sgetmask \
    ssetmask setreuid setregid sigsuspend sigpending sethostname setrlimit getrlimit getrusage gettimeofday \
    settimeofday getgroups setgroups select symlink oldlstat readlink uselib swapon reboot readdir mmap munmap \
    truncate ftruncate fchmod fchown getpriority setpriority profil statfs fstatfs ioperm socketcall syslog setitimer \
    getitimer stat lstat fstat olduname iopl vhangup idle vm86old wait4 swapoff sysinfo ipc fsync sigreturn clone \
    setdomainname uname modify_ldt adjtimex mprotect sigprocmask create_module init_module delete_module \
    get_kernel_syms quotactl getpgid fchdir bdflush sysfs personality afs_syscall setfsuid setfsgid _llseek getdents \
    _newselect flock msync readv writev getsid fdatasync _sysctl mlock munlock mlockall munlockall sched_setparam \
    sched_getparam sched_setscheduler sched_getscheduler sched_yield sched_get_priority_max sched_get_priority_min \
    sched_rr_get_interval nanosleep mremap setresuid getresuid vm86 query_module poll nfsservctl setresgid getresgid \
    prctl rt_sigreturn rt_sigaction rt_sigprocmask rt_sigpending rt_sigtimedwait rt_sigqueueinfo rt_sigsuspend pread64 \
    pwrite64 chown getcwd capget capset sigaltstack sendfile getpmsg putpmsg vfork ugetrlimit mmap2 truncate64 \
    ftruncate64 stat64 lstat64 fstat64 lchown32 getuid32 getgid32 geteuid32 getegid32 setreuid32 setregid32 \
    getgroups32 setgroups32 fchown32 setresuid32 getresuid32 setresgid32 getresgid32 chown32 setuid32 setgid32 \
    setfsuid32 setfsgid32 pivot_root mincore madvise getdents64 fcntl64 @224 gettid readahead setxattr lsetxattr \
    fsetxattr getxattr lgetxattr fgetxattr listxattr llistxattr flistxattr removexattr lremovexattr fremovexattr tkill \
    sendfile64 futex sched_setaffinity sched_getaffinity set_thread_area get_thread_area io_setup io_destroy \
    io_getevents io_submit io_cancel fadvise64 @252 exit_group lookup_dcookie epoll_create epoll_ctl epoll_wait \
    remap_file_pages set_tid_address timer_create timer_settime timer_gettime timer_getoverrun timer_delete \
    clock_settime clock_gettime clock_getres clock_nanosleep statfs64 fstatfs64 tgkill utimes fadvise64_64 vserver \
    mbind get_mempolicy set_mempolicy mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify mq_getsetattr \
    kexec_load waitid @286 add_key request_key keyctl ioprio_set ioprio_get inotify_init inotify_add_watch \
    inotify_rm_watch migrate_pages openat mkdirat mknodat fchownat futimesat fstatat64 unlinkat renameat linkat \
    symlinkat readlinkat fchmodat faccessat pselect6 ppoll unshare set_robust_list get_robust_list splice \
    sync_file_range tee vmsplice move_pages getcpu epoll_pwait utimensat signalfd timerfd_create eventfd fallocate \
    timerfd_settime timerfd_gettime signalfd4 eventfd2 epoll_create1 dup3 pipe2 inotify_init1 preadv pwritev \
    rt_tgsigqueueinfo perf_event_open recvmmsg fanotify_init fanotify_mark prlimit64 name_to_handle_at \
    open_by_handle_at clock_adjtime syncfs sendmmsg setns process_vm_readv process_vm_writev kcmp finit_module \
    sched_setattr sched_getattr renameat2 seccomp getrandom memfd_create bpf execveat socket socketpair bind connect \
    listen accept4 getsockopt setsockopt getsockname getpeername sendto sendmsg recvfrom recvmsg shutdown userfaultfd \
    membarrier mlock2 copy_file_range preadv2 pwritev2 pkey_mprotect pkey_alloc pkey_free statx arch_prctl \
    io_pgetevents rseq @393 semget semctl shmget shmctl shmat shmdt msgget msgsnd msgrcv msgctl clock_gettime64 \
    clock_settime64 clock_adjtime64 clock_getres_time64 clock_nanosleep_time64 timer_gettime64 timer_settime64 \
    timerfd_gettime64 timerfd_settime64 utimensat_time64 pselect6_time64 ppoll_time64 @416 io_pgetevents_time64 \
    recvmmsg_time64 mq_timedsend_time64 mq_timedreceive_time64 semtimedop_time64 rt_sigtimedwait_time64 futex_time64 \
    sched_rr_get_interval_time64 \
";

/// arm64, which numbers its calls as all architectures without a past do.
const AARCH64: &str = "\
    io_setup io_destroy io_submit io_cancel io_getevents setxattr lsetxattr fsetxattr getxattr lgetxattr fgetxattr \
    listxattr llistxattr flistxattr removexattr lremovexattr fremovexattr getcwd lookup_dcookie eventfd2 epoll_create1 \
    epoll_ctl epoll_pwait dup dup3 fcntl inotify_init1 inotify_add_watch inotify_rm_watch ioctl ioprio_set ioprio_get \
    flock mknodat mkdirat unlinkat symlinkat linkat renameat umount2 mount pivot_root nfsservctl statfs fstatfs \
    truncate ftruncate fallocate faccessat chdir fchdir chroot fchmod fchmodat fchownat fchown openat close vhangup \
    pipe2 quotactl getdents64 lseek read write readv writev pread64 pwrite64 preadv pwritev sendfile pselect6 ppoll \
    signalfd4 vmsplice splice tee readlinkat newfstatat fstat sync fsync fdatasync sync_file_range timerfd_create \
    timerfd_settime timerfd_gettime utimensat acct capget capset personality exit exit_group waitid set_tid_address \
    unshare futex set_robust_list get_robust_list nanosleep getitimer setitimer kexec_load init_module delete_module \
    timer_create timer_gettime timer_getoverrun timer_settime timer_delete clock_settime clock_gettime clock_getres \
    clock_nanosleep syslog ptrace sched_setparam sched_setscheduler sched_getscheduler sched_getparam \
    sched_setaffinity sched_getaffinity sched_yield sched_get_priority_max sched_get_priority_min \
    sched_rr_get_interval restart_syscall kill tkill tgkill sigaltstack rt_sigsuspend rt_sigaction rt_sigprocmask \
    rt_sigpending rt_sigtimedwait rt_sigqueueinfo rt_sigreturn setpriority getpriority reboot setregid setgid setreuid \
    setuid setresuid getresuid setresgid getresgid setfsuid setfsgid times setpgid getpgid getsid setsid getgroups \
    setgroups uname sethostname setdomainname getrlimit setrlimit getrusage umask prctl getcpu gettimeofday \
    settimeofday adjtimex getpid getppid getuid geteuid getgid getegid gettid sysinfo mq_open mq_unlink mq_timedsend \
    mq_timedreceive mq_notify mq_getsetattr msgget msgctl msgrcv msgsnd semget semctl semtimedop semop shmget shmctl \
    shmat shmdt socket socketpair bind listen accept connect getsockname getpeername sendto recvfrom setsockopt \
    getsockopt shutdown sendmsg recvmsg readahead brk munmap mremap add_key request_key keyctl clone execve mmap \
    fadvise64 swapon swapoff mprotect msync mlock munlock mlockall munlockall mincore madvise remap_file_pages mbind \
    get_mempolicy set_mempolicy migrate_pages move_pages rt_tgsigqueueinfo perf_event_open accept4 recvmmsg @260 wait4 \
    prlimit64 fanotify_init fanotify_mark name_to_handle_at open_by_handle_at clock_adjtime syncfs setns sendmmsg \
    process_vm_readv process_vm_writev kcmp finit_module sched_setattr sched_getattr renameat2 seccomp getrandom \
    memfd_create bpf execveat userfaultfd membarrier mlock2 copy_file_range preadv2 pwritev2 pkey_mprotect pkey_alloc \
    pkey_free statx io_pgetevents rseq kexec_file_load \
";

/// arm of 32 bits.
const ARM: &str = "\
    restart_syscall exit fork read write open close @8 creat link unlink execve chdir @14 mknod chmod lchown @19 lseek \
    getpid mount @23 setuid getuid @26 ptrace @29 pause @33 access nice @36 sync kill rename mkdir rmdir dup pipe \
    times @45 brk setgid getgid @49 geteuid getegid acct umount2 @54 ioctl fcntl @57 setpgid @60 umask chroot ustat \
    dup2 getppid getpgrp setsid sigaction @70 setreuid setregid sigsuspend sigpending sethostname setrlimit @77 \
    getrusage gettimeofday settimeofday getgroups setgroups @83 symlink @85 readlink uselib swapon reboot @91 munmap \
    truncate ftruncate fchmod fchown getpriority setpriority @99 statfs fstatfs @103 syslog setitimer getitimer stat \
    lstat fstat @111 vhangup @114 wait4 swapoff sysinfo @118 fsync sigreturn clone setdomainname uname @124 adjtimex \
    mprotect sigprocmask @128 init_module delete_module @131 quotactl getpgid fchdir bdflush sysfs personality @138 \
    setfsuid setfsgid _llseek getdents _newselect flock msync readv writev getsid fdatasync _sysctl mlock munlock \
    mlockall munlockall sched_setparam sched_getparam sched_setscheduler sched_getscheduler sched_yield \
    sched_get_priority_max sched_get_priority_min sched_rr_get_interval nanosleep mremap setresuid getresuid @168 poll \
    nfsservctl setresgid getresgid prctl rt_sigreturn rt_sigaction rt_sigprocmask rt_sigpending rt_sigtimedwait \
    rt_sigqueueinfo rt_sigsuspend pread64 pwrite64 chown getcwd capget capset sigaltstack sendfile @190 vfork \
    ugetrlimit mmap2 truncate64 ftruncate64 stat64 lstat64 fstat64 lchown32 getuid32 getgid32 geteuid32 getegid32 \
    setreuid32 setregid32 getgroups32 setgroups32 fchown32 setresuid32 getresuid32 setresgid32 getresgid32 chown32 \
    setuid32 setgid32 setfsuid32 setfsgid32 getdents64 pivot_root mincore madvise fcntl64 @224 gettid readahead \
    setxattr lsetxattr fsetxattr getxattr lgetxattr fgetxattr listxattr llistxattr flistxattr removexattr lremovexattr \
    fremovexattr tkill sendfile64 futex sched_setaffinity sched_getaffinity io_setup io_destroy io_getevents io_submit \
    io_cancel exit_group lookup_dcookie epoll_create epoll_ctl epoll_wait remap_file_pages @256 set_tid_address \
    timer_create timer_settime timer_gettime timer_getoverrun timer_delete clock_settime clock_gettime clock_getres \
    clock_nanosleep statfs64 fstatfs64 tgkill utimes arm_fadvise64_64 pciconfig_iobase pciconfig_read pciconfig_write \
    mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify mq_getsetattr waitid socket bind connect listen accept \
    getsockname getpeername socketpair send sendto recv recvfrom shutdown setsockopt getsockopt sendmsg recvmsg semop \
    semget semctl msgsnd msgrcv msgget msgctl shmat shmdt shmget shmctl add_key request_key keyctl semtimedop vserver \
    ioprio_set ioprio_get inotify_init inotify_add_watch inotify_rm_watch mbind get_mempolicy set_mempolicy openat \
    mkdirat mknodat fchownat futimesat fstatat64 unlinkat renameat linkat symlinkat readlinkat fchmodat faccessat \
    pselect6 ppoll unshare set_robust_list get_robust_list splice sync_file_range2 tee vmsplice move_pages getcpu \
    epoll_pwait kexec_load utimensat signalfd timerfd_create eventfd fallocate timerfd_settime timerfd_gettime \
    signalfd4 eventfd2 epoll_create1 dup3 pipe2 inotify_init1 preadv pwritev rt_tgsigqueueinfo perf_event_open \
    recvmmsg accept4 fanotify_init fanotify_mark prlimit64 name_to_handle_at open_by_handle_at clock_adjtime syncfs \
    sendmmsg setns process_vm_readv process_vm_writev kcmp finit_module sched_setattr sched_getattr renameat2 seccomp \
    getrandom memfd_create bpf execveat userfaultfd membarrier mlock2 copy_file_range preadv2 pwritev2 pkey_mprotect \
    pkey_alloc pkey_free statx rseq io_pgetevents migrate_pages kexec_file_load @403 clock_gettime64 clock_settime64 \
    clock_adjtime64 clock_getres_time64 clock_nanosleep_time64 timer_gettime64 timer_settime64 timerfd_gettime64 \
    timerfd_settime64 utimensat_time64 pselect6_time64 ppoll_time64 @416 io_pgetevents_time64 recvmmsg_time64 \
    mq_timedsend_time64 mq_timedreceive_time64 semtimedop_time64 rt_sigtimedwait_time64 futex_time64 \
    sched_rr_get_interval_time64 \
";

/// The calls of x86-64 that x32 lacks, or has under another number.
const NOT_X32: &str = "\
    rt_sigaction rt_sigreturn ioctl readv writev recvfrom sendmsg recvmsg setsockopt getsockopt execve ptrace \
    rt_sigpending rt_sigtimedwait rt_sigqueueinfo sigaltstack uselib _sysctl create_module get_kernel_syms \
    query_module nfsservctl set_thread_area io_setup io_submit get_thread_area epoll_ctl_old epoll_wait_old \
    timer_create vserver mq_notify kexec_load waitid set_robust_list get_robust_list vmsplice move_pages preadv \
    pwritev rt_tgsigqueueinfo recvmmsg sendmmsg process_vm_readv process_vm_writev execveat preadv2 pwritev2 uprobe \
";

/// The calls that x32 has for itself, from [`FIRST_X32`].
const X32: &str = "\
    rt_sigaction rt_sigreturn ioctl readv writev recvfrom sendmsg recvmsg execve ptrace rt_sigpending rt_sigtimedwait \
    rt_sigqueueinfo sigaltstack timer_create mq_notify kexec_load waitid set_robust_list get_robust_list vmsplice \
    move_pages preadv pwritev rt_tgsigqueueinfo recvmmsg sendmmsg process_vm_readv process_vm_writev setsockopt \
    getsockopt io_setup io_submit execveat preadv2 pwritev2 \
";

/// The calls that arm has for itself, from [`FIRST_PRIVATE_ARM`].
const PRIVATE_ARM: &str = "breakpoint cacheflush usr26 usr32 set_tls get_tls";

#[cfg(test)]
mod tests {
    use super::{X32_BIT, number, table};
    use crate::seccomp::Architecture;

    #[test]
    fn each_call_has_the_number_of_its_architecture() {
        let of = |name| Architecture::ALL.map(|architecture| number(architecture, name));
        let x32 = |number: u32| Some(number | X32_BIT);
        assert_eq!(of("read"), [Some(0), Some(3), x32(0), Some(63), Some(3)]);
        assert_eq!(of("execve"), [Some(59), Some(11), x32(520), Some(221), Some(11)]);
        assert_eq!(of("clone3"), [Some(435), Some(435), x32(435), Some(435), Some(435)]);
        assert_eq!(of("socketcall"), [None, Some(102), None, None, None]);
        assert_eq!(of("pwritev2"), [Some(328), Some(379), x32(547), Some(287), Some(393)]);
        assert_eq!(of("memfd_secret"), [Some(447), Some(447), x32(447), Some(447), None]);
        assert_eq!(of("file_setattr"), [Some(469), Some(469), x32(469), Some(469), Some(469)]);
        assert_eq!(of("set_tls"), [None, None, None, None, Some(0xf0005)]);
        assert_eq!(of("no_such_call"), [None; 5]);
    }

    #[test]
    fn the_numbers_of_this_machine_are_those_of_its_c_library() {
        let Some(native) = Architecture::native() else { return };
        let known = [
            ("read", libc::SYS_read),
            ("mount", libc::SYS_mount),
            ("unshare", libc::SYS_unshare),
            ("keyctl", libc::SYS_keyctl),
            ("perf_event_open", libc::SYS_perf_event_open),
            ("bpf", libc::SYS_bpf),
            ("userfaultfd", libc::SYS_userfaultfd),
            ("statx", libc::SYS_statx),
            ("rseq", libc::SYS_rseq),
            ("pidfd_send_signal", libc::SYS_pidfd_send_signal),
            ("openat2", libc::SYS_openat2),
            ("futex_waitv", libc::SYS_futex_waitv),
        ];
        for (name, number_there) in known {
            assert_eq!(number(native, name).map(i64::from), Some(number_there), "{name}");
        }
    }

    #[test]
    fn no_two_calls_of_an_architecture_have_one_number() {
        for architecture in Architecture::ALL {
            let mut numbers: Vec<u32> = table(architecture)
                .iter()
                .filter(|(name, _)| **name != "arm_sync_file_range")
                .map(|(_, n)| *n)
                .collect();
            let count = numbers.len();
            numbers.sort_unstable();
            numbers.dedup();
            assert_eq!(numbers.len(), count, "{architecture:?}");
        }
    }
}
