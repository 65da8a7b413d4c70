//! Sends and receives the messages between runner and a session's helper: length, JSON, and descriptors beside it.

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

/// The longest message that is accepted; none comes near it, because a manifest has at most 4 MiB.
const MAX_BYTES: usize = 64 << 20;

/// The size of the prefix of each message: its length in bytes, little-endian.
const PREFIX: usize = 4;

/// The most descriptors beside one message: stdin, stdout, stderr and the status socket.
const MAX_DESCRIPTORS: usize = 4;

/// A helper's reply to the request to open a container.
#[derive(Debug, Serialize, Deserialize)]
pub enum OpenReply {
    /// The container accepts requests. Its groups have these limits, where all its steps are in the same groups.
    Ready(Vec<SetLimit>),
    /// The container could not be made, for this reason.
    Failed(String),
}

/// A request to start a process, with the descriptors of stdin, stdout, stderr and a status socket beside it.
///
/// The helper sends a [`Status`](super::status::Status) on the status socket. An [`END`](super::wire::END) from runner on that
/// socket ends the step by SIGTERM; if runner closes its end of the socket, the helper kills the step.
#[derive(Debug, Serialize, Deserialize)]
pub struct StartRequest {
    /// The process to start.
    pub process: Process,
}

/// Sends a message.
///
/// # Errors
/// `EPIPE` when the other side has ended.
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

/// Receives the one descriptor that another program sends beside a message of its own.
///
/// # Errors
/// Where the message has none.
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
/// Where the bytes are no such message.
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
        let (received, descriptors) = reader.join().unwrap();
        assert_eq!((received.len(), descriptors.len()), (text.len(), 2));
    }

    #[test]
    fn a_closed_socket_ends_the_messages_and_half_a_message_is_an_error() {
        let (here, there) = UnixStream::pair().unwrap();
        drop(here);
        assert!(receive::<String>(&there).unwrap().is_none());
        let (mut here, there) = UnixStream::pair().unwrap();
        here.write_all(&[9, 0]).unwrap();
        drop(here);
        assert!(receive::<String>(&there).is_err());
    }
}
