//! The system calls of a session's init, made without libc: all `unsafe` of this program is here.
#![expect(unsafe_code, reason = "system calls and the entry point of a program without libc")]

mod builtins;
mod call;
mod file;
mod landlock;
mod memory;
mod mount;
mod number;
mod privilege;
mod process;
mod socket;
mod terminal;

pub use call::{EACCES, EAGAIN, EBADMSG, EEXIST, EINVAL, ENOENT, ENOMEM, ENOSYS, ENOTDIR, Errno, Result};
pub use file::*;
pub use landlock::*;
pub use memory::*;
pub use mount::*;
pub use privilege::*;
pub use process::*;
pub use socket::*;
pub use terminal::*;
