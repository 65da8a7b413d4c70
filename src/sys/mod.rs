//! The few system calls that no library wraps safely: all `unsafe` of the crate is in this directory.
#![expect(unsafe_code, reason = "raw system calls and their argument structs live here and nowhere else")]

mod device_program;
mod loop_device;

use std::fs::File;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::sync::OnceLock;

use rustix::fs::{Dir, Mode, OFlags, openat};

pub use device_program::attach_device_program;
pub use loop_device::{configure_loop_device, detach_loop_device, free_loop_device, loop_backing};

/// The two processes after [`fork_into`].
pub enum Fork {
    /// The new process.
    Child,
    /// The old one, with a descriptor of the new one, see pidfd_open(2).
    Parent(OwnedFd),
}

/// Clones this process into new namespaces, `CLONE_NEW*` flags as in clone(2), and into a v2 cgroup if one is given; needs
/// Linux 5.7.
///
/// The child continues with a copy of all memory, as after fork(2). `proc` is open on a proc(5) of this process' PID namespace.
///
/// # Errors
/// Those of clone3(2); [`io::ErrorKind::Other`] when this process has more than one thread: the child could then find locks of
/// threads that it does not have; those of reading `proc`.
pub fn fork_into(namespaces: u64, group: Option<BorrowedFd<'_>>, proc: BorrowedFd<'_>) -> io::Result<Fork> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let tasks = Dir::new(openat(proc, "self/task", flags, Mode::empty())?)?;
    let threads =
        tasks.filter(|task| task.as_ref().is_ok_and(|task| !task.file_name().to_bytes().starts_with(b"."))).count();
    if threads > 1 {
        return Err(io::Error::other(format!("this process has {threads} threads, and only one may fork")));
    }
    clone_single(namespaces, group)
}

/// See clone3(2).
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

fn clone_single(namespaces: u64, group: Option<BorrowedFd<'_>>) -> io::Result<Fork> {
    let mut pidfd: RawFd = -1;
    // SAFETY: clone_args is plain data; all zero is a valid value of it.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = namespaces | libc::CLONE_PIDFD as u64;
    if let Some(group) = group {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = u64::try_from(group.as_raw_fd()).map_err(io::Error::other)?;
    }
    arguments.pidfd = (&raw mut pidfd) as u64;
    arguments.exit_signal = libc::SIGCHLD as u64;
    // SAFETY: no stack is given, so the child runs on a copy of this one, as after fork; the caller has one thread.
    match unsafe { libc::syscall(libc::SYS_clone3, &raw mut arguments, size_of::<libc::clone_args>()) } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Fork::Child),
        // SAFETY: the kernel has just put a descriptor there that no other owner has.
        _ => Ok(Fork::Parent(unsafe { OwnedFd::from_raw_fd(pidfd) })),
    }
}

/// Ends this process at once, without running anything that its parent registered for its own end.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit(2) takes any code and does not return.
    unsafe { libc::_exit(code) }
}

/// The message of a process that aborts, and its exit code then.
static LAST_WORDS: OnceLock<(String, i32)> = OnceLock::new();

/// Makes abort(3), which ends a process that gets no memory, write these words to standard error and exit with that code. A later
/// call changes nothing.
///
/// # Errors
/// None in practice.
pub fn abort_in_words(words: String, code: i32) -> io::Result<()> {
    extern "C" fn say(_: libc::c_int) {
        let Some((words, code)) = LAST_WORDS.get() else { return };
        // SAFETY: both may be called in a handler of a signal, see signal-safety(7), and the words stay where they are.
        unsafe {
            libc::write(libc::STDERR_FILENO, words.as_ptr().cast(), words.len());
            libc::_exit(*code)
        }
    }
    LAST_WORDS.get_or_init(|| (words, code));
    // SAFETY: the handler takes no lock and no memory, and does not return where there are words.
    unsafe { nix::sys::signal::signal(nix::sys::signal::Signal::SIGABRT, nix::sys::signal::SigHandler::Handler(say)) }?;
    Ok(())
}

/// Takes ownership of standard input, and puts /dev/null in its place.
///
/// # Errors
/// Where there is no /dev/null, or this process can open no more descriptors.
pub fn take_stdin() -> io::Result<OwnedFd> {
    let taken = io::stdin().as_fd().try_clone_to_owned()?;
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    Ok(taken)
}

/// Gives every signal its default action and blocks none: a program that execve(2) starts would inherit the signals that runner
/// or its caller ignores (SIGPIPE and SIGXFSZ, and SIGHUP under nohup(1)).
///
/// # Errors
/// Those of sigprocmask(2): nothing in practice.
pub fn default_signals() -> io::Result<()> {
    const SIGNALS: usize = 64;
    const SET_BYTES: usize = 8;
    // All zero is SIG_DFL, with no flags and an empty mask, whichever order the kernel has the fields in.
    let default = [0_u64; 4];
    for signal in 1..=SIGNALS {
        // The C library refuses to change the signals that it uses itself, one of which posix_spawn(3) leaves ignored. SIGKILL
        // and SIGSTOP have no other action, and the kernel refuses to set one.
        // SAFETY: the default action runs no code of this process, and the struct outlives the call.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), 0, SET_BYTES) };
    }
    Ok(nix::sys::signal::SigSet::empty().thread_set_mask()?)
}

/// Makes a program begin with every signal at its default action.
pub fn start_with_default_signals(command: &mut std::process::Command) {
    use std::os::unix::process::CommandExt;
    // SAFETY: between fork and execve only system calls are made, and nothing is allocated.
    unsafe { command.pre_exec(default_signals) };
}

/// Returns whether this process ignores a signal, as its caller started it: nohup(1) for SIGHUP, and a shell without job control
/// for the SIGINT of background commands.
///
/// # Errors
/// `EINVAL` where there is no such signal.
pub fn is_ignored(signal: libc::c_int) -> io::Result<bool> {
    // SAFETY: sigaction is plain data; all zero is a valid value of it.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: nothing is set, and the struct outlives the call.
    let result = unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut action) };
    if result == 0 { Ok(action.sa_sigaction == libc::SIG_IGN) } else { Err(io::Error::last_os_error()) }
}

/// Gives SIGCHLD its default action: if a caller ignores it, the kernel discards the exit status of all children, and no process
/// can wait for them, see wait(2).
///
/// # Errors
/// None in practice.
pub fn keep_ends_of_children() -> io::Result<()> {
    // SAFETY: the default action runs no code of this process.
    unsafe { nix::sys::signal::signal(nix::sys::signal::Signal::SIGCHLD, nix::sys::signal::SigHandler::SigDfl) }?;
    Ok(())
}

/// Ignores SIGXFSZ: a write beyond the caller's limit of file sizes then fails with `EFBIG`, which can be reported, and does
/// not end this process.
///
/// # Errors
/// None in practice.
pub fn refuse_writes_beyond_a_limit() -> io::Result<()> {
    // SAFETY: no code of this process is set to run.
    unsafe { nix::sys::signal::signal(nix::sys::signal::Signal::SIGXFSZ, nix::sys::signal::SigHandler::SigIgn) }?;
    Ok(())
}

/// Makes a child end with SIGKILL when the thread that starts it ends, see PR_SET_PDEATHSIG of prctl(2).
pub fn end_with_this_thread(command: &mut std::process::Command) {
    use std::os::unix::process::CommandExt;
    let parent = nix::unistd::getpid();
    let set = move || {
        nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
        // The parent may have ended before this was set.
        if nix::unistd::getppid() == parent { Ok(()) } else { Err(io::Error::other("the parent has ended")) }
    };
    // SAFETY: between fork and execve only system calls are made; no lock is taken and no memory is allocated on the
    // way that does not fail.
    unsafe { command.pre_exec(set) };
}

/// Marks every descriptor but the standard ones to be closed by execve(2), see close_range(2); needs Linux 5.11.
///
/// # Errors
/// Those of close_range(2).
pub fn close_all_on_exec() -> io::Result<()> {
    // SAFETY: descriptors are only marked, none is closed.
    let result = unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A change of a mount, see mount_setattr(2).
#[derive(Debug, Clone, Copy)]
pub struct MountChange {
    /// `MOUNT_ATTR_*` to set.
    pub set: u64,
    /// `MOUNT_ATTR_*` to clear.
    pub clear: u64,
    /// `MS_PRIVATE`, `MS_SLAVE`, `MS_SHARED`, or 0 for no change.
    pub propagation: u64,
}

/// Changes a mount and, on request, all below it; needs Linux 5.12.
///
/// # Errors
/// Those of mount_setattr(2).
pub fn change_mount(mount: BorrowedFd<'_>, change: MountChange, recursive: bool) -> io::Result<()> {
    let MountChange { set, clear, propagation } = change;
    if set == 0 && clear == 0 && propagation == 0 {
        return Ok(());
    }
    let attributes = libc::mount_attr { attr_set: set, attr_clr: clear, propagation, userns_fd: 0 };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is an empty C string and the struct outlives the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Brings up the loopback interface of the network namespace that this process is in, see netdevice(7).
///
/// # Errors
/// Those of the ioctl: `EPERM` without CAP_NET_ADMIN.
pub fn bring_loopback_up() -> io::Result<()> {
    // Any socket works for this ioctl; this kind is in every kernel.
    let socket = UnixDatagram::unbound()?;
    // SAFETY: ifreq is plain data; all zero is a valid value of it.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(*b"lo") {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    // SAFETY: the struct has the kernel's layout and outlives the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Asks the kernel whether it takes filters that end a process or make a call fail, see seccomp(2).
///
/// # Errors
/// `ENOSYS`, `EINVAL` or `EOPNOTSUPP` where it does not; else the reason why it cannot be asked.
pub fn seccomp_filters() -> io::Result<()> {
    for action in [libc::SECCOMP_RET_ERRNO, libc::SECCOMP_RET_KILL_PROCESS] {
        // SAFETY: the kernel reads one number there, which outlives the call.
        let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0, &raw const action) };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// The version of Landlock that lets files be renamed between directories; from this one on steps are confined.
pub const LEAST_LANDLOCK: i64 = 2;

/// Returns the version of Landlock that this kernel has, see landlock_create_ruleset(2).
///
/// # Errors
/// `ENOSYS` or `EOPNOTSUPP` where it has none or has not enabled it.
pub fn landlock_version() -> io::Result<i64> {
    const VERSION: libc::c_uint = 1;
    // SAFETY: no memory is read or written.
    match unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0_usize, VERSION) } {
        version if version >= 0 => Ok(version),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Leaves real-time scheduling, SCHED_FIFO and SCHED_RR of sched(7), for this thread and all that it starts.
///
/// # Errors
/// Those of sched_setscheduler(2).
pub fn leave_real_time() -> io::Result<()> {
    // SAFETY: 0 is the calling thread.
    let policy = unsafe { libc::sched_getscheduler(0) };
    if !matches!(policy & !libc::SCHED_RESET_ON_FORK, libc::SCHED_FIFO | libc::SCHED_RR) {
        return Ok(());
    }
    // SAFETY: sched_param is plain data, and all zero is what this policy wants.
    let parameters: libc::sched_param = unsafe { std::mem::zeroed() };
    // SAFETY: as above; the struct outlives the call.
    let result = unsafe { libc::sched_setscheduler(0, libc::SCHED_OTHER, &raw const parameters) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Leaves the personality that the caller has chosen, see personality(2): another kernel release or machine in uname(2),
/// addresses that are not random. Programs that this thread starts have the ordinary one too.
///
/// # Errors
/// The error of personality(2), as in a container whose seccomp profile refuses it.
pub fn ordinary_personality() -> io::Result<()> {
    const ASK: libc::c_ulong = 0xffff_ffff;
    // SAFETY: this call only queries.
    if unsafe { libc::personality(ASK) } == 0 {
        return Ok(());
    }
    // SAFETY: it changes how later calls of this thread behave, as intended, and no memory.
    if unsafe { libc::personality(0) } < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Makes a program begin in the cgroups whose `cgroup.procs` these files are.
pub fn join_cgroups(command: &mut std::process::Command, files: Vec<File>) {
    use std::os::unix::process::CommandExt;
    let join = move || {
        // 0 is the process that writes.
        files.iter().try_for_each(|file| rustix::io::write(file, b"0").map(drop).map_err(io::Error::from))
    };
    // SAFETY: between fork and execve only write(2) is called, and nothing is allocated.
    unsafe { command.pre_exec(join) };
}

/// Limits the pools that the allocator of the GNU C library makes for threads, see `M_ARENA_MAX` in mallopt(3). Each pool has
/// freed memory of its own, which the others cannot use. Other C libraries have no such pools.
pub fn limit_allocation_pools(pools: i32) {
    #[cfg(target_env = "gnu")]
    // SAFETY: it changes the number of pools that are made later, and no memory.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, pools);
    }
    #[cfg(not(target_env = "gnu"))]
    let _ = pools;
}

/// Takes a lease on a file, see fcntl(2): other processes then wait when they open it to write, or also when they open it to
/// read. No signal asks for it back.
///
/// # Errors
/// `EAGAIN` where it is open elsewhere.
pub fn take_lease(file: &File, against_readers: bool) -> io::Result<()> {
    const F_SETSIG: libc::c_int = 10;
    let kind = if against_readers { libc::F_WRLCK } else { libc::F_RDLCK };
    // SAFETY: both commands take numbers; SIGURG is ignored where no handler is set.
    let result = unsafe {
        libc::fcntl(file.as_raw_fd(), F_SETSIG, libc::SIGURG);
        libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, kind)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
