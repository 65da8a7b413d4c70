//! Sends and receives the packets on a step's status socket, while it starts and when it ends; the same for all runtimes.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType, socketpair,
};

use super::wire::{self, STATUS_LENGTH, kind};
use super::{Outcome, ProcessEnd};

/// The longest text of a reason, so that a packet fits into the socket's buffer.
const MAX_TEXT: usize = 8 << 10;

/// The index of the byte that says whether memory ran out.
const OUT_OF_MEMORY: usize = 2;

/// The index of the byte that says whether a limit on processes refused one.
const PROCESSES_REFUSED: usize = 3;

/// The content of a packet.
#[derive(Debug)]
pub enum Status {
    /// The master's side of the step's terminal, see pty(7).
    Terminal(OwnedFd),
    /// The mount namespace of a step that has ended.
    Mounts(OwnedFd),
    /// The step has ended.
    Ended(ProcessEnd),
    /// The step has ended, and by then its container had lost a mount, which has this index in the step's mounts.
    EndedWithout(Outcome, u64),
    /// The embedded runtime could not start the step.
    Failed(StartFailure),
}

/// The stage at which the embedded runtime could not start a step, and the reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StartFailure {
    /// See [`wire::stage`].
    pub stage: u8,
    /// See errno(3).
    pub errno: i32,
    /// A number whose meaning depends on the stage.
    pub detail: u64,
}

/// Makes the two ends of a status socket.
///
/// # Errors
/// Those of socketpair(2).
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// Sends the master's side of a step's terminal.
///
/// # Errors
/// `EPIPE` when runner has ended.
pub fn send_terminal(socket: BorrowedFd<'_>, terminal: BorrowedFd<'_>) -> io::Result<()> {
    send_packet(socket, &wire::status(kind::TERMINAL, 0, 0, 0), &[terminal])
}

/// Sends the mount namespace of a step that has ended.
///
/// # Errors
/// `EPIPE` when runner has ended.
pub fn send_mounts(socket: BorrowedFd<'_>, namespace: BorrowedFd<'_>) -> io::Result<()> {
    send_packet(socket, &wire::status(kind::MOUNTS, 0, 0, 0), &[namespace])
}

/// Sends how a step ended.
///
/// # Errors
/// `EPIPE` when runner has ended.
pub fn send_ended(socket: BorrowedFd<'_>, ended: &ProcessEnd) -> io::Result<()> {
    let lost = ended.lost.as_deref().unwrap_or_default();
    let (kind, value, text) = match &ended.outcome {
        Outcome::Exited { code } => (kind::EXITED, *code, lost),
        Outcome::Signaled { signal } => (kind::SIGNALED, *signal, lost),
        Outcome::NotStarted { why, code } => (kind::FAILED_IN_WORDS, *code, why.as_str()),
    };
    let mut packet = wire::status(kind, 0, value, 0).to_vec();
    packet[OUT_OF_MEMORY] = u8::from(ended.out_of_memory);
    packet[PROCESSES_REFUSED] = u8::from(ended.processes_refused);
    packet.extend(&text.as_bytes()[..text.len().min(MAX_TEXT)]);
    send_packet(socket, &packet, &[])
}

/// Sends a packet and descriptors beside it.
///
/// # Errors
/// `EPIPE` when the other side has ended, `EMSGSIZE` where the packet is too long for the socket.
pub fn send_packet(socket: BorrowedFd<'_>, packet: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(wire::REQUEST_DESCRIPTORS + 1))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !beside.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::other("too many descriptors for one packet"));
    }
    rustix::net::sendmsg(socket, &[IoSlice::new(packet)], &mut beside, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives runner's message to a step, if one has arrived: returns whether the step must end by SIGTERM; none where runner has
/// closed its end.
///
/// # Errors
/// Those of recvmsg(2).
pub fn receive_end(socket: BorrowedFd<'_>) -> io::Result<Option<bool>> {
    let mut packet = [0; wire::END.len()];
    match rustix::net::recv(socket, &mut packet[..], RecvFlags::DONTWAIT) {
        Ok((0, _)) | Err(Errno::CONNRESET) => Ok(None),
        Ok(_) => Ok(Some(packet == wire::END)),
        Err(Errno::AGAIN | Errno::INTR) => Ok(Some(false)),
        Err(error) => Err(error.into()),
    }
}

/// Receives the next packet; none when the other side has closed.
///
/// # Errors
/// Where the packet is no status.
pub fn receive(socket: BorrowedFd<'_>) -> io::Result<Option<Status>> {
    let mut packet = [0; STATUS_LENGTH + MAX_TEXT];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    let length = loop {
        let mut parts = [IoSliceMut::new(&mut packet)];
        match rustix::net::recvmsg(socket.as_fd(), &mut parts, &mut beside, RecvFlags::CMSG_CLOEXEC) {
            Ok(message) => break message.bytes,
            // The kernel reports once that the other side has closed without reading all; the packets that it sent before follow.
            Err(Errno::INTR | Errno::CONNRESET) => {}
            Err(error) => return Err(error.into()),
        }
    };
    let descriptor = beside.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut rights) => rights.next(),
        _ => None,
    });
    if length == 0 {
        return Ok(None);
    }
    parse(&packet[..length], descriptor).map(Some).ok_or_else(|| io::Error::other("a status message is damaged"))
}

fn parse(packet: &[u8], descriptor: Option<OwnedFd>) -> Option<Status> {
    let (head, text) = packet.split_at_checked(STATUS_LENGTH)?;
    let (kind, stage) = (head[0], head[1]);
    let (out_of_memory, processes_refused) = (head[OUT_OF_MEMORY] != 0, head[PROCESSES_REFUSED] != 0);
    let value = i32::from_le_bytes(head[4..8].try_into().ok()?);
    let detail = u64::from_le_bytes(head[8..16].try_into().ok()?);
    let text = String::from_utf8_lossy(text).into_owned();
    let outcome = match kind {
        kind::TERMINAL => return descriptor.map(Status::Terminal),
        kind::MOUNTS => return descriptor.map(Status::Mounts),
        kind::FAILED => return Some(Status::Failed(StartFailure { stage, errno: value, detail })),
        kind::EXITED => Outcome::Exited { code: value },
        kind::SIGNALED => Outcome::Signaled { signal: value },
        kind::FAILED_IN_WORDS => {
            let outcome = Outcome::NotStarted { why: text, code: value };
            return Some(Status::Ended(ProcessEnd { outcome, out_of_memory, processes_refused, lost: None }));
        }
        _ => return None,
    };
    if stage == wire::stage::LOST_MOUNT {
        return Some(Status::EndedWithout(outcome, detail));
    }
    let lost = Some(text).filter(|text| !text.is_empty());
    Some(Status::Ended(ProcessEnd { outcome, out_of_memory, processes_refused, lost }))
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_kind_of_end_is_received_as_it_was_sent() {
        let outcomes = [
            Outcome::Exited { code: 255 },
            Outcome::Signaled { signal: 9 },
            Outcome::NotStarted { why: "it cannot".into(), code: 125 },
        ];
        for outcome in outcomes {
            for (out_of_memory, processes_refused) in [(false, false), (true, false), (false, true)] {
                let (here, there) = pair().unwrap();
                let outcome = outcome.clone();
                let ended = ProcessEnd { outcome, out_of_memory, processes_refused, lost: None };
                send_ended(there.as_fd(), &ended).unwrap();
                let Some(Status::Ended(received)) = receive(here.as_fd()).unwrap() else { panic!("no end came") };
                assert_eq!(received, ended);
            }
        }
    }

    #[test]
    fn an_end_with_a_lost_mount_is_received_with_the_index_of_the_mount() {
        let (here, there) = pair().unwrap();
        let packet = wire::status(kind::EXITED, wire::stage::LOST_MOUNT, 7, 3);
        send_packet(there.as_fd(), &packet, &[]).unwrap();
        let received = receive(here.as_fd()).unwrap();
        assert!(matches!(received, Some(Status::EndedWithout(Outcome::Exited { code: 7 }, 3))), "{received:?}");
    }

    #[test]
    fn a_lost_limit_is_received_as_text() {
        let (here, there) = pair().unwrap();
        let lost = Some("it was 7 and is max".to_owned());
        let ended = ProcessEnd { lost, ..Outcome::Exited { code: 0 }.into() };
        send_ended(there.as_fd(), &ended).unwrap();
        assert!(matches!(receive(here.as_fd()).unwrap(), Some(Status::Ended(received)) if received == ended));
    }

    #[test]
    fn a_terminal_needs_its_descriptor_and_a_closed_socket_ends_the_packets() {
        let (here, there) = pair().unwrap();
        let null = File::open("/dev/null").unwrap();
        send_terminal(there.as_fd(), null.as_fd()).unwrap();
        assert!(matches!(receive(here.as_fd()).unwrap(), Some(Status::Terminal(_))));
        send_packet(there.as_fd(), &wire::status(kind::TERMINAL, 0, 0, 0), &[]).unwrap();
        assert!(receive(here.as_fd()).is_err());
        drop(there);
        assert!(receive(here.as_fd()).unwrap().is_none());
    }

    #[test]
    fn the_end_of_a_step_is_received_even_if_the_request_to_end_was_not_read() {
        let (here, there) = pair().unwrap();
        assert_eq!(receive_end(there.as_fd()).unwrap(), Some(false));
        send_packet(here.as_fd(), &wire::END, &[]).unwrap();
        assert_eq!(receive_end(there.as_fd()).unwrap(), Some(true));
        send_packet(here.as_fd(), &wire::END, &[]).unwrap();
        send_ended(there.as_fd(), &Outcome::Exited { code: 7 }.into()).unwrap();
        drop(there);
        let received = receive(here.as_fd()).unwrap();
        assert!(
            matches!(&received, Some(Status::Ended(ended)) if ended.outcome == Outcome::Exited { code: 7 }),
            "{received:?}"
        );
        assert!(receive(here.as_fd()).unwrap().is_none());
        let (here, there) = pair().unwrap();
        drop(here);
        assert_eq!(receive_end(there.as_fd()).unwrap(), None);
    }

    #[test]
    fn a_reason_longer_than_a_packet_is_shortened() {
        let (here, there) = pair().unwrap();
        let why = "é".repeat(MAX_TEXT);
        send_ended(there.as_fd(), &Outcome::NotStarted { why, code: 125 }.into()).unwrap();
        assert!(matches!(receive(here.as_fd()).unwrap(), Some(Status::Ended(_))));
    }

    proptest! {
        #[test]
        fn no_packet_makes_the_parser_panic(packet in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = parse(&packet, None);
        }
    }
}
