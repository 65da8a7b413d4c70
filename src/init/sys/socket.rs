//! Sends and receives packets and descriptors over unix(7) sockets.

use core::mem::{size_of, size_of_val};

use super::call::{EBADMSG, EINVAL, ENOBUFS, ENOMEM, ETOOMANYREFS, Result, again, checked, fd};
use super::file::{O_CLOEXEC, close};
use super::number;

/// Makes a pair of `SOCK_SEQPACKET` sockets.
pub fn socket_pair() -> Result<[i32; 2]> {
    const AF_UNIX: usize = 1;
    const SOCK_SEQPACKET: usize = 5;
    let mut pair = [-1i32; 2];
    checked(number::SOCKETPAIR, [AF_UNIX, SOCK_SEQPACKET | O_CLOEXEC, 0, (&raw mut pair) as usize])?;
    Ok(pair)
}

const SOL_SOCKET: i32 = 1;
const SCM_RIGHTS: i32 = 1;
const MAX_DESCRIPTORS: usize = 8;

/// A control message of descriptors, see cmsg(3).
#[repr(C)]
struct Rights {
    length: usize,
    level: i32,
    kind: i32,
    descriptors: [i32; MAX_DESCRIPTORS],
}

const RIGHTS_HEADER: usize = 16;

/// `struct msghdr`, see recvmsg(2).
#[repr(C)]
struct Message {
    name: usize,
    name_length: usize,
    parts: usize,
    part_count: usize,
    control: usize,
    control_length: usize,
    flags: i32,
}

/// Sends a packet with at most as many descriptors as fit in one; never raises SIGPIPE.
pub fn send(socket: i32, bytes: &[u8], descriptors: &[i32]) -> Result<()> {
    const MSG_NOSIGNAL: usize = 0x4000;
    let part = [bytes.as_ptr() as usize, bytes.len()];
    let length = size_of_val(descriptors);
    let mut rights = Rights {
        length: RIGHTS_HEADER + length,
        level: SOL_SOCKET,
        kind: SCM_RIGHTS,
        descriptors: [-1; MAX_DESCRIPTORS],
    };
    let mut message = Message {
        name: 0,
        name_length: 0,
        parts: (&raw const part) as usize,
        part_count: 1,
        control: 0,
        control_length: 0,
        flags: 0,
    };
    if !descriptors.is_empty() {
        rights.descriptors.get_mut(..descriptors.len()).ok_or(EINVAL)?.copy_from_slice(descriptors);
        message.control = (&raw const rights) as usize;
        message.control_length = RIGHTS_HEADER + length.next_multiple_of(8);
    }
    with_retries(number::SENDMSG, [fd(socket), (&raw const message) as usize, MSG_NOSIGNAL]).map(drop)
}

/// Sends or receives, and tries again if the kernel has no memory for that at the moment: otherwise a step would lose its status
/// socket, and end without a reason.
fn with_retries(number: usize, arguments: [usize; 3]) -> Result<usize> {
    const TRIES: u32 = 100;
    for _ in 0..TRIES {
        match again(number, arguments) {
            Err(ENOMEM | ENOBUFS | ETOOMANYREFS) => {}
            result => return result,
        }
    }
    again(number, arguments)
}

/// A received packet: its length, and the descriptors beside it.
pub struct Received {
    pub length: usize,
    pub descriptors: [i32; MAX_DESCRIPTORS],
    pub count: usize,
}

/// Receives a packet; its length is 0 where the other side has closed. A packet that does not fit is an error.
pub fn receive(socket: i32, bytes: &mut [u8], wait: bool) -> Result<Received> {
    const MSG_DONTWAIT: usize = 0x40;
    const MSG_CMSG_CLOEXEC: usize = 0x4000_0000;
    const MSG_TRUNC: i32 = 0x20;
    const MSG_CTRUNC: i32 = 8;
    let part = [bytes.as_mut_ptr() as usize, bytes.len()];
    let mut rights = Rights { length: 0, level: 0, kind: 0, descriptors: [-1; MAX_DESCRIPTORS] };
    let mut message = Message {
        name: 0,
        name_length: 0,
        parts: (&raw const part) as usize,
        part_count: 1,
        control: (&raw mut rights) as usize,
        control_length: size_of::<Rights>(),
        flags: 0,
    };
    let flags = MSG_CMSG_CLOEXEC | if wait { 0 } else { MSG_DONTWAIT };
    let length = with_retries(number::RECVMSG, [fd(socket), (&raw mut message) as usize, flags])?;
    let mut count = 0;
    if message.control_length >= RIGHTS_HEADER && (rights.level, rights.kind) == (SOL_SOCKET, SCM_RIGHTS) {
        count = (rights.length.saturating_sub(RIGHTS_HEADER) / 4).min(MAX_DESCRIPTORS);
    }
    let received = Received { length, descriptors: rights.descriptors, count };
    if message.flags & (MSG_TRUNC | MSG_CTRUNC) != 0 {
        received.close();
        return Err(EBADMSG);
    }
    Ok(received)
}

impl Received {
    /// Closes every received descriptor.
    pub fn close(&self) {
        for descriptor in &self.descriptors[..self.count] {
            close(*descriptor);
        }
    }
}
