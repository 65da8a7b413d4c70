//! Processes: clone3(2), waitid(2), signals, poll(2), execve(2).

use core::mem::size_of_val;

use super::call::{EINVAL, Errno, Result, again, checked, fault, fd, text};
use super::number;

/// Ends this process; by a fault where a seccomp profile refuses exit_group(2) itself.
pub fn exit(code: i32) -> ! {
    let _ = checked(number::EXIT_GROUP, [fd(code)]);
    fault()
}

/// Gives every signal its default action, and blocks none.
pub fn default_signals() {
    const SIGNALS: usize = 64;
    const SET_BYTES: usize = 8;
    let default = [0u64; 4];
    for signal in 1..=SIGNALS {
        // SIGKILL and SIGSTOP have no other action, and the kernel refuses to set one.
        let _ = checked(number::RT_SIGACTION, [signal, (&raw const default) as usize, 0, SET_BYTES]);
    }
    const SIG_SETMASK: usize = 2;
    let none = 0u64;
    let _ = checked(number::RT_SIGPROCMASK, [SIG_SETMASK, (&raw const none) as usize, 0, SET_BYTES]);
}

const CLONE_NEWNS: u64 = 0x0002_0000;
const CLONE_NEWUTS: u64 = 0x0400_0000;
const CLONE_NEWIPC: u64 = 0x0800_0000;
const CLONE_NEWPID: u64 = 0x2000_0000;
const CLONE_PIDFD: u64 = 0x1000;
const SIGCHLD: u64 = 17;

/// Which side of a clone one is on.
pub enum Fork {
    Child,
    /// The number and a descriptor of the child.
    Parent(u32, i32),
}

/// Clones this process into a PID, mount, IPC and UTS namespace of its own: what a step makes of the host name goes with it.
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

/// How a child ended.
pub enum Ended {
    Exited(i32),
    Signaled(i32),
}

/// Waits for the end of a child.
pub fn reap(descriptor: i32) -> Result<Ended> {
    const P_PIDFD: usize = 3;
    const WEXITED: usize = 4;
    const CLD_EXITED: i32 = 1;
    // siginfo_t: si_signo, si_errno, si_code, padding, si_pid, si_uid, si_status.
    let mut information = [0i32; 32];
    again(number::WAITID, [P_PIDFD, fd(descriptor), (&raw mut information) as usize, WEXITED, 0])?;
    Ok(if information[2] == CLD_EXITED { Ended::Exited(information[6]) } else { Ended::Signaled(information[6]) })
}

/// Opens the mount namespace of a process, see ioctl_pidfd(2).
pub fn mount_namespace(descriptor: i32) -> Result<i32> {
    const PIDFD_GET_MNT_NAMESPACE: usize = 0xff03;
    checked(number::IOCTL, [fd(descriptor), PIDFD_GET_MNT_NAMESPACE, 0]).map(|namespace| namespace as i32)
}

/// Sends SIGKILL.
pub fn kill(descriptor: i32) {
    const SIGKILL: usize = 9;
    let _ = checked(number::PIDFD_SEND_SIGNAL, [fd(descriptor), SIGKILL, 0, 0]);
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

/// Waits until something happens.
pub fn poll(all: &mut [Poll]) -> Result<()> {
    again(number::PPOLL, [all.as_mut_ptr() as usize, all.len(), 0, 0, 0]).map(drop)
}

/// Executes a program; comes back only when that fails. The arrays end with a null pointer.
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
