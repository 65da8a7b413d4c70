//! System calls for users, capabilities, limits, keyrings and seccomp.

use super::call::{EINVAL, Result, checked};
use super::number;

pub fn set_groups(groups: &[u32]) -> Result<()> {
    checked(number::SETGROUPS, [groups.len(), groups.as_ptr() as usize]).map(drop)
}

pub fn set_gid(gid: u32) -> Result<()> {
    checked(number::SETRESGID, [gid as usize; 3]).map(drop)
}

pub fn set_uid(uid: u32) -> Result<()> {
    checked(number::SETRESUID, [uid as usize; 3]).map(drop)
}

/// Sets the effective, permitted and inheritable capabilities, see capset(2).
pub fn set_capabilities(effective: u64, permitted: u64, inheritable: u64) -> Result<()> {
    const VERSION_3: u32 = 0x2008_0522;
    let header = [VERSION_3, 0];
    let half = |set: u64, high: bool| if high { (set >> 32) as u32 } else { set as u32 };
    let mut data = [0u32; 6];
    for (three, high) in data.chunks_exact_mut(3).zip([false, true]) {
        three.copy_from_slice(&[half(effective, high), half(permitted, high), half(inheritable, high)]);
    }
    checked(number::CAPSET, [(&raw const header) as usize, (&raw const data) as usize]).map(drop)
}

/// Operations of prctl(2).
pub mod operation {
    pub const SET_DUMPABLE: usize = 4;
    pub const SET_KEEPCAPS: usize = 8;
    pub const CAPBSET_DROP: usize = 24;
    pub const SET_CHILD_SUBREAPER: usize = 36;
    pub const SET_NO_NEW_PRIVS: usize = 38;
    pub const CAP_AMBIENT: usize = 47;
    pub const CAP_AMBIENT_RAISE: usize = 2;
    pub const CAP_AMBIENT_CLEAR_ALL: usize = 4;
}

pub fn prctl(operation: usize, first: usize, second: usize) -> Result<()> {
    checked(number::PRCTL, [operation, first, second, 0, 0]).map(drop)
}

/// Sets a limit of this process, if `limit` is one, and returns the previous hard limit.
pub fn limit(resource: u32, limit: Option<(u64, u64)>) -> Result<u64> {
    let new = limit.map(|(soft, hard)| [soft, hard]);
    let mut old = [0u64; 2];
    let address = new.as_ref().map_or(0, |new| new.as_ptr() as usize);
    checked(number::PRLIMIT64, [0, resource as usize, address, (&raw mut old) as usize])?;
    Ok(old[1])
}

pub fn umask(mask: u32) {
    let _ = checked(number::UMASK, [mask as usize]);
}

pub fn new_session() -> Result<()> {
    checked(number::SETSID, []).map(drop)
}

/// Joins a new session keyring, see keyctl(2).
pub fn new_keyring() -> Result<()> {
    const JOIN_SESSION_KEYRING: usize = 1;
    checked(number::KEYCTL, [JOIN_SESSION_KEYRING, 0]).map(drop)
}

/// Loads a seccomp filter, eight bytes an instruction.
pub fn load_filter(program: &[u8]) -> Result<()> {
    const SET_MODE_FILTER: usize = 1;
    #[repr(C)]
    struct Program {
        length: u16,
        instructions: *const u8,
    }
    let length = u16::try_from(program.len() / 8).map_err(|_| EINVAL)?;
    let program = Program { length, instructions: program.as_ptr() };
    checked(number::SECCOMP, [SET_MODE_FILTER, 0, (&raw const program) as usize]).map(drop)
}
