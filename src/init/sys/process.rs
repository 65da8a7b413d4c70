//! System calls for processes: clone3(2), waitid(2), signals, poll(2), execve(2).

use core::mem::size_of_val;

use super::call::{ECHILD, EINVAL, Errno, Result, again, checked, fault, fd, text};
use super::number;

/// Ends this process; by a fault if a seccomp profile refuses exit_group(2) itself.
pub fn exit(code: i32) -> ! {
    let _ = checked(number::EXIT_GROUP, [fd(code)]);
    fault()
}

const SIG_SETMASK: usize = 2;
const SET_BYTES: usize = 8;

/// Resets every signal to its default action, and unblocks all.
pub fn default_signals() {
    const SIGNALS: usize = 64;
    let default = [0u64; 4];
    for signal in 1..=SIGNALS {
        // SIGKILL and SIGSTOP have no other action, and the kernel refuses to set one.
        let _ = checked(number::RT_SIGACTION, [signal, (&raw const default) as usize, 0, SET_BYTES]);
    }
    let none = 0u64;
    let _ = checked(number::RT_SIGPROCMASK, [SIG_SETMASK, (&raw const none) as usize, 0, SET_BYTES]);
}

const CLONE_NEWNS: u64 = 0x0002_0000;
const CLONE_NEWUTS: u64 = 0x0400_0000;
const CLONE_NEWIPC: u64 = 0x0800_0000;
const CLONE_NEWPID: u64 = 0x2000_0000;
const CLONE_PIDFD: u64 = 0x1000;
pub const SIGCHLD: u64 = 17;

/// The side of a clone on which the caller is.
pub enum Fork {
    Child,
    /// The parent; with the number and a descriptor of the child.
    Parent(u32, i32),
}

/// Clones this process into a PID, mount, IPC and UTS namespace of its own: a changed host name ends with the step.
pub fn fork_apart() -> Result<Fork> {
    clone(CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS)
}

/// Clones this process, in its own namespaces.
pub fn fork() -> Result<Fork> {
    clone(0)
}

fn clone(namespaces: u64) -> Result<Fork> {
    let mut descriptor = -1i32;
    let mut arguments = [0u64; 8];
    arguments[0] = namespaces | CLONE_PIDFD;
    arguments[1] = (&raw mut descriptor) as u64;
    arguments[4] = SIGCHLD;
    match checked(number::CLONE3, [(&raw mut arguments) as usize, size_of_val(&arguments)])? {
        0 => Ok(Fork::Child),
        pid => Ok(Fork::Parent(pid as u32, descriptor)),
    }
}

/// Clones this process by clone(2), because seccomp profiles that refuse clone3(2) check the flags of clone(2). Returns the number
/// of the child, and none in the child.
pub fn fork_plainly() -> Result<Option<u32>> {
    checked(number::CLONE, [SIGCHLD as usize, 0, 0, 0, 0]).map(|pid| Some(pid as u32).filter(|pid| *pid != 0))
}

/// Returns whether this process is the first one of its PID namespace.
pub fn is_first() -> bool {
    checked(number::GETPID, []) == Ok(1)
}

/// Moves this process into a mount namespace, or its later children into a PID namespace, see setns(2).
pub fn enter(namespace: i32) -> Result<()> {
    checked(number::SETNS, [fd(namespace), 0]).map(drop)
}

/// How a child ended.
pub enum Ended {
    Exited(i32),
    Signaled(i32),
}

impl Ended {
    /// Reads a siginfo_t: si_signo, si_errno, si_code, padding, si_pid, si_uid, si_status.
    fn of(information: &[i32; 32]) -> Self {
        const CLD_EXITED: i32 = 1;
        let [_, _, code, _, _, _, status, ..] = *information;
        if code == CLD_EXITED { Self::Exited(status) } else { Self::Signaled(status) }
    }
}

const P_ALL: usize = 0;
const WNOHANG: usize = 1;
const WEXITED: usize = 4;

/// Waits for the end of a child.
pub fn reap(descriptor: i32) -> Result<Ended> {
    const P_PIDFD: usize = 3;
    let mut information = [0i32; 32];
    again(number::WAITID, [P_PIDFD, fd(descriptor), (&raw mut information) as usize, WEXITED, 0])?;
    Ok(Ended::of(&information))
}

/// Waits for the end of the child with this number.
pub fn wait(number: u32) -> Result<()> {
    const P_PID: usize = 1;
    again(number::WAITID, [P_PID, number as usize, 0, WEXITED, 0]).map(drop)
}

/// Returns the number of a child that has ended, without reaping it.
pub fn ended_child() -> Option<u32> {
    const WNOWAIT: usize = 0x0100_0000;
    const SI_PID: usize = 4;
    let mut information = [0i32; 32];
    let flags = WEXITED | WNOHANG | WNOWAIT;
    again(number::WAITID, [P_ALL, 0, (&raw mut information) as usize, flags, 0]).ok()?;
    Some(information[SI_PID] as u32).filter(|number| *number != 0)
}

/// Waits until a child has ended, without reaping it.
pub fn wait_for_any() -> Result<()> {
    const WNOWAIT: usize = 0x0100_0000;
    again(number::WAITID, [P_ALL, 0, 0, WEXITED | WNOWAIT, 0]).map(drop)
}

/// Reaps all children that have ended, and passes the number and the end of each to `reaped`. Returns whether any child remains.
pub fn reap_all(mut reaped: impl FnMut(u32, Ended)) -> bool {
    const SI_PID: usize = 4;
    loop {
        let mut information = [0i32; 32];
        match again(number::WAITID, [P_ALL, 0, (&raw mut information) as usize, WEXITED | WNOHANG, 0]) {
            Ok(_) if information[SI_PID] != 0 => reaped(information[SI_PID] as u32, Ended::of(&information)),
            other => return other != Err(ECHILD),
        }
    }
}

/// The namespaces of a process that init opens, see ioctl_pidfd(2).
#[derive(Clone, Copy)]
pub enum Namespace {
    Mount = 0xff03,
    Pid = 0xff05,
}

/// Opens a namespace of a process; needs Linux 6.11.
pub fn namespace(descriptor: i32, kind: Namespace) -> Result<i32> {
    checked(number::IOCTL, [fd(descriptor), kind as usize, 0]).map(|namespace| namespace as i32)
}

pub const SIGKILL: usize = 9;
pub const SIGTERM: usize = 15;
pub const SIGCONT: usize = 18;
pub const SIGSTOP: usize = 19;

/// Sends SIGKILL.
pub fn kill(descriptor: i32) {
    signal(descriptor, SIGKILL);
}

/// Sends a signal to a process.
pub fn signal(descriptor: i32, signal: usize) {
    let _ = checked(number::PIDFD_SEND_SIGNAL, [fd(descriptor), signal, 0, 0]);
}

/// Sends a signal to every process of this PID namespace and those below it, except this process and the first one, all at once:
/// it misses no process that is being cloned meanwhile, see kill(2).
pub fn signal_all(signal: usize) {
    let _ = checked(number::KILL, [fd(-1), signal]);
}

/// Sends a signal to a process of this PID namespace.
pub fn signal_number(number: u32, signal: usize) {
    let _ = checked(number::KILL, [number as usize, signal]);
}

/// Blocks every signal that can be blocked, so that [`await_signal`] receives it.
pub fn block_signals() -> Result<()> {
    let all = u64::MAX;
    checked(number::RT_SIGPROCMASK, [SIG_SETMASK, (&raw const all) as usize, 0, SET_BYTES]).map(drop)
}

/// A received signal.
pub struct Signal {
    pub number: usize,
    /// Whether it was sent by kill(2) or a similar call from outside of this PID namespace.
    pub is_from_outside: bool,
}

/// Waits for the next signal, and receives it.
pub fn await_signal() -> Result<Signal> {
    const SI_CODE: usize = 2;
    const SI_PID: usize = 4;
    const SI_USER: i32 = 0;
    let all = u64::MAX;
    let mut information = [0i32; 32];
    let arguments = [(&raw const all) as usize, (&raw mut information) as usize, 0, SET_BYTES];
    let number = again(number::RT_SIGTIMEDWAIT, arguments)?;
    Ok(Signal { number, is_from_outside: information[SI_CODE] == SI_USER && information[SI_PID] == 0 })
}

/// Waits for one signal, which must be blocked, for at most so many milliseconds.
pub fn await_one(signal: usize, milliseconds: i64) -> Result<()> {
    let set = 1u64 << (signal - 1);
    let most = [milliseconds / 1000, milliseconds % 1000 * 1_000_000];
    let arguments = [(&raw const set) as usize, 0, (&raw const most) as usize, SET_BYTES];
    again(number::RT_SIGTIMEDWAIT, arguments).map(drop)
}

/// Makes this process the leader of a new process group.
pub fn new_group() {
    let _ = checked(number::SETPGID, [0, 0]);
}

/// `struct pollfd`, see poll(2).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Poll {
    pub descriptor: i32,
    pub events: i16,
    pub happened: i16,
}

pub const POLLIN: i16 = 1;
pub const POLLRDHUP: i16 = 0x2000;

/// Waits until an event happens.
pub fn poll(all: &mut [Poll]) -> Result<()> {
    again(number::PPOLL, [all.as_mut_ptr() as usize, all.len(), 0, 0, 0]).map(drop)
}

/// Waits until an event happens, for at most so many milliseconds. Returns whether one did.
pub fn poll_for(all: &mut [Poll], milliseconds: i64) -> Result<bool> {
    let mut time = [milliseconds / 1000, milliseconds % 1000 * 1_000_000];
    let happened = again(number::PPOLL, [all.as_mut_ptr() as usize, all.len(), (&raw mut time) as usize, 0, 0])?;
    Ok(happened > 0)
}

/// Executes a program; returns only when that fails. The arrays end with a null pointer.
pub fn execute(path: &[u8], argv: &[usize], env: &[usize]) -> Errno {
    if argv.last() != Some(&0) || env.last() != Some(&0) {
        return EINVAL;
    }
    let Ok(path) = text(path) else { return EINVAL };
    match checked(number::EXECVE, [path, argv.as_ptr() as usize, env.as_ptr() as usize]) {
        Err(error) => error,
        Ok(_) => EINVAL,
    }
}
