//! Fuzzes every message between runner, its helpers, a session's init and its steps: none causes a panic, and a parser trusts no
//! byte.
#![no_main]

use std::io::Write;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use libfuzzer_sys::fuzz_target;
use runner::runtime::protocol::{self, OpenReply, StartRequest};
use runner::runtime::status::{self, Status};
use runner::runtime::wire::request::Limit;
use runner::runtime::wire::{END, MountEntry, Request, StepSetup, Texts};

/// A longer text than this is cut when it is sent.
const MAX_TEXT: usize = 8 << 10;

fuzz_target!(|bytes: &[u8]| {
    if let Some(request) = Request::parse(bytes) {
        assert_eq!(request_again(&request), bytes);
    }
    if let Some(setup) = StepSetup::parse(bytes) {
        assert_eq!(setup_again(&setup), bytes[1..]);
    }
    packet(bytes);
    stream(bytes);
});

/// Sends the bytes as a packet of a step's status socket, both ways.
fn packet(bytes: &[u8]) {
    let (here, there) = status::pair().expect("cannot make a socket");
    status::send_packet(here.as_fd(), bytes, &[]).expect("cannot send the packet");
    let asked = status::receive_end(there.as_fd()).expect("what runner sends cannot be received");
    // An empty packet is like the end of the socket; of a longer one the beginning counts.
    assert_eq!(asked, bytes.first().map(|first| [*first] == END));
    let (here, there) = status::pair().expect("cannot make a socket");
    status::send_packet(there.as_fd(), bytes, &[]).expect("cannot send the packet");
    let Ok(Some(Status::Ended(ended))) = status::receive(here.as_fd()) else { return };
    // An invalid byte becomes three.
    if bytes.len() * 3 <= MAX_TEXT {
        status::send_ended(there.as_fd(), &ended).expect("an end that was received cannot be sent");
        let received = status::receive(here.as_fd()).expect("an end that was sent cannot be received");
        assert!(matches!(received, Some(Status::Ended(received)) if received == ended));
    }
}

/// Sends the bytes to both sides of a helper's socket, and closes it.
fn stream(bytes: &[u8]) {
    let socket = || {
        let (here, mut there) = UnixStream::pair().expect("cannot make a socket");
        there.write_all(bytes).expect("cannot send the bytes");
        there.shutdown(Shutdown::Both).expect("cannot end there");
        here
    };
    let _ = protocol::receive::<OpenReply>(&socket());
    let _ = protocol::receive::<StartRequest>(&socket());
}

fn request_again(request: &Request<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let Request { uid, gid, umask, flags, rows, columns, oom_score_adj, capabilities, .. } = request;
    for number in [*uid, *gid, *umask, *flags, *rows, *columns, oom_score_adj.cast_unsigned()] {
        bytes.extend(number.to_le_bytes());
    }
    let sets = capabilities;
    for set in [sets.bounding, sets.effective, sets.permitted, sets.inheritable, sets.ambient] {
        bytes.extend(set.to_le_bytes());
    }
    count(&mut bytes, request.group_count());
    bytes.extend(request.groups().flat_map(u32::to_le_bytes));
    count(&mut bytes, request.limits().count());
    for Limit { resource, soft, hard } in request.limits() {
        bytes.extend(resource.to_le_bytes());
        bytes.extend([soft, hard].into_iter().flat_map(u64::to_le_bytes));
    }
    text(&mut bytes, request.cwd);
    for list in [request.candidates, request.argv, request.env] {
        texts(&mut bytes, list);
    }
    bytes
}

/// Returns all but the first byte, of which two bits count.
fn setup_again(setup: &StepSetup<'_>) -> Vec<u8> {
    let mut bytes = setup.bounding.to_le_bytes().to_vec();
    for program in [setup.inherited_filter, setup.own_filter] {
        count(&mut bytes, program.len());
        bytes.extend(program);
    }
    count(&mut bytes, setup.dev_entries);
    count(&mut bytes, setup.mounts().count());
    for mount in setup.mounts() {
        match mount {
            MountEntry::Fresh { over_empty, attributes, kind, target, options } => {
                bytes.push(if over_empty { 4 } else { 1 });
                bytes.extend(attributes.to_le_bytes());
                text(&mut bytes, kind);
                text(&mut bytes, target);
                texts(&mut bytes, options);
            }
            MountEntry::ReadOnly(path) => {
                bytes.push(2);
                text(&mut bytes, path);
            }
            MountEntry::Masked(path) => {
                bytes.push(3);
                text(&mut bytes, path);
            }
            MountEntry::Below(path) => {
                bytes.push(5);
                text(&mut bytes, path);
            }
            MountEntry::Watched(path) => {
                bytes.push(6);
                text(&mut bytes, path);
            }
            MountEntry::Directory(path) => {
                bytes.push(7);
                text(&mut bytes, path);
            }
            MountEntry::Node { mode, major, minor, uid, gid, path } => {
                bytes.push(8);
                for number in [mode, major, minor, uid, gid] {
                    bytes.extend(number.to_le_bytes());
                }
                text(&mut bytes, path);
            }
            MountEntry::Link { target, path } => {
                bytes.push(9);
                text(&mut bytes, target);
                text(&mut bytes, path);
            }
        }
    }
    bytes
}

fn count(bytes: &mut Vec<u8>, count: usize) {
    bytes.extend(u32::try_from(count).expect("more than was read").to_le_bytes());
}

fn text(bytes: &mut Vec<u8>, text: &[u8]) {
    assert_eq!(text.iter().position(|byte| *byte == 0), Some(text.len() - 1));
    count(bytes, text.len());
    bytes.extend(text);
}

fn texts(bytes: &mut Vec<u8>, list: Texts<'_>) {
    count(bytes, list.remaining());
    list.for_each(|one| text(bytes, one));
}
