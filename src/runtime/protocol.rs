//! Messages between runner and a session's helper over a socket: length, JSON, and descriptors beside it.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use oci_spec::runtime::Process;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::cgroup::SetLimit;

/// No message comes near this: a manifest is at most 4 MiB.
const MAX_BYTES: usize = 64 << 20;

/// Before each message: its length in bytes, little-endian.
const PREFIX: usize = 4;

/// The most descriptors beside one message: stdin, stdout, stderr and the status socket.
const MAX_DESCRIPTORS: usize = 4;

/// The answer to the first message to a helper, which asks it to open a container.
#[derive(Debug, Serialize, Deserialize)]
pub enum Opened {
    /// The container takes requests; the limits that its groups were given, where all its steps are in the same.
    Ready(Vec<SetLimit>),
    /// There is no container; why.
    Failed(String),
}

/// A request to a session's init: run this, with stdin, stdout, stderr and a status socket beside it.
///
/// A [`Status`](super::status::Status) comes on the status socket. [`END`](super::wire::END) sent to it has the step end by
/// SIGTERM; closing the other end of it kills the step.
#[derive(Debug, Serialize, Deserialize)]
pub struct Start {
    /// What to run.
    pub process: Process,
}

/// Sends a message.
///
/// # Errors
/// `EPIPE` when the other side is gone.
pub fn send(socket: &UnixStream, message: &impl Serialize, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut bytes = vec![0; PREFIX];
    serde_json::to_writer(&mut bytes, message)?;
    let length = u32::try_from(bytes.len() - PREFIX).map_err(io::Error::other)?;
    bytes[..PREFIX].copy_from_slice(&length.to_le_bytes());
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !beside.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::other("too many descriptors for one message"));
    }
    let sent = rustix::net::sendmsg(socket.as_fd(), &[IoSlice::new(&bytes)], &mut beside, SendFlags::NOSIGNAL)?;
    let mut socket = socket;
    socket.write_all(&bytes[sent..])
}

/// Receives what another program sends beside a message of its own: one descriptor.
///
/// # Errors
/// Where there is none.
pub fn receive_descriptor(socket: &UnixStream) -> io::Result<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = [0; 4096];
    rustix::net::recvmsg(socket.as_fd(), &mut [IoSliceMut::new(&mut bytes)], &mut beside, RecvFlags::CMSG_CLOEXEC)?;
    let mut messages = beside.drain();
    let found = messages.find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut rights) => rights.next(),
        _ => None,
    });
    found.ok_or_else(|| io::Error::other("no descriptor came"))
}

/// Receives a message and the descriptors beside it; `None` when the other side has closed.
///
/// # Errors
/// Where what comes is no such message.
pub fn receive<T: DeserializeOwned>(socket: &UnixStream) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut length = [0; PREFIX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::WAITALL;
    let received = loop {
        match rustix::net::recvmsg(socket.as_fd(), &mut [IoSliceMut::new(&mut length)], &mut beside, flags) {
            Ok(message) => break message.bytes,
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::CONNRESET) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    };
    if received == 0 {
        return Ok(None);
    }
    let mut socket = socket;
    socket.read_exact(&mut length[received..])?;
    let mut descriptors = Vec::new();
    for message in beside.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    let length = u32::from_le_bytes(length) as usize;
    if length > MAX_BYTES {
        return Err(io::Error::other(format!("a message of {length} bytes is too long")));
    }
    let mut bytes = vec![0; length];
    socket.read_exact(&mut bytes)?;
    Ok(Some((serde_json::from_slice(&bytes)?, descriptors)))
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn a_message_longer_than_the_sockets_buffer_arrives_whole_with_its_descriptors() {
        let (here, there) = UnixStream::pair().unwrap();
        let text = "x".repeat(3 << 20);
        let reader = std::thread::spawn(move || receive::<String>(&there).unwrap().unwrap());
        let null = File::open("/dev/null").unwrap();
        send(&here, &text, &[null.as_fd(), null.as_fd()]).unwrap();
        let (got, descriptors) = reader.join().unwrap();
        assert_eq!((got.len(), descriptors.len()), (text.len(), 2));
    }

    #[test]
    fn a_closed_socket_is_the_end_and_half_a_message_an_error() {
        let (here, there) = UnixStream::pair().unwrap();
        drop(here);
        assert!(receive::<String>(&there).unwrap().is_none());
        let (mut here, there) = UnixStream::pair().unwrap();
        here.write_all(&[9, 0]).unwrap();
        drop(here);
        assert!(receive::<String>(&there).is_err());
    }
}
