//! Passes the requests of steps on to the caller's SSH agent: they may list keys and sign, and nothing else.
//!
//! Runner listens on a socket of its own. So a step of any user can use the agent, which answers its own user alone; no step
//! reaches the agent's socket, on which it could add, remove or lock keys; and no descriptor passes between them.
//!
//! A message is four bytes of length, big-endian, and so many bytes, of which the first is the type
//! (draft-ietf-sshm-ssh-agent). Each request has one answer.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with};

use crate::{poison, threads};

/// The longest message, as of OpenSSH's agent.
const MAX_BYTES: u32 = 256 << 10;

/// Connections at once; ssh(1) has one.
const MAX_CONNECTIONS: usize = 64;

/// The longest wait for an agent that takes no connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The time until the next connection is accepted after one could not be.
const PAUSE: Duration = Duration::from_millis(20);

const REQUEST_IDENTITIES: u8 = 11;
const SIGN_REQUEST: u8 = 13;
const EXTENSION: u8 = 27;

/// The extension with which a client says which host a key is used for: agents require it for keys that are bound to hosts.
const SESSION_BIND: &[u8] = b"session-bind@openssh.com";

/// The answer to a refused request: `SSH_AGENT_FAILURE`.
const FAILURE: [u8; 5] = [0, 0, 0, 1, 5];

/// A socket that passes requests on. Dropping it closes all connections.
#[derive(Debug)]
pub struct AgentSocket {
    listener: Arc<UnixListener>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared(Mutex<Connections>);

#[derive(Debug, Default)]
struct Connections {
    is_closed: bool,
    /// The streams of each open connection, by its number: that of the step and that of the agent.
    open: Vec<(u64, [UnixStream; 2])>,
    next: u64,
    threads: Vec<JoinHandle<()>>,
}

impl AgentSocket {
    /// Listens on a new socket at `place`, for the agent whose socket is open as `agent`.
    ///
    /// # Errors
    /// Where the socket cannot be made, or the host grants no thread.
    pub fn listen(place: &Path, agent: OwnedFd) -> io::Result<Self> {
        // The name of a socket has at most 107 bytes: a descriptor of its directory is short.
        let (Some(directory), Some(name)) = (place.parent(), place.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let directory = rustix::fs::open(directory, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let listener = Arc::new(UnixListener::bind(path_of(&directory).join(name))?);
        let shared = Arc::new(Shared::default());
        let (listening, connections) = (Arc::clone(&listener), Arc::clone(&shared));
        let thread = threads::start("ssh-agent", move || accept(&listening, &connections, &agent))?;
        Ok(Self { listener, shared, thread: Some(thread) })
    }
}

impl Drop for AgentSocket {
    fn drop(&mut self) {
        // This wakes the thread that accepts connections.
        let _ = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
        let threads = {
            let mut connections = self.shared.lock();
            connections.is_closed = true;
            for stream in connections.open.iter().flat_map(|(_, streams)| streams) {
                let _ = stream.shutdown(Shutdown::Both);
            }
            std::mem::take(&mut connections.threads)
        };
        for thread in self.thread.take().into_iter().chain(threads) {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Connections> {
        poison::lock(&self.0)
    }
}

/// Connects to the socket of an agent, which may be stopped.
///
/// # Errors
/// Those of connect(2); [`io::ErrorKind::WouldBlock`] where the agent does not take the connection in time.
pub fn connect(socket: &Path) -> io::Result<UnixStream> {
    let stream = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    set_socket_timeout(&stream, Timeout::Send, Some(CONNECT_TIMEOUT))?;
    rustix::net::connect(&stream, &SocketAddrUnix::new(socket)?)?;
    // A user may have to confirm the use of a key.
    set_socket_timeout(&stream, Timeout::Send, None)?;
    Ok(stream.into())
}

fn path_of(file: impl AsFd) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_fd().as_raw_fd()).into()
}

fn accept(listener: &UnixListener, shared: &Arc<Shared>, agent: &OwnedFd) {
    loop {
        match listener.accept() {
            // A step that opens too many, or whose agent has ended, sees a closed connection.
            Ok((step, _)) => drop(begin(step, shared, agent)),
            Err(_) if shared.lock().is_closed => return,
            // The end of the listener, just before that is noted.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => return,
            // A client that gave up, or too many open files for now.
            Err(_) => thread::sleep(PAUSE),
        }
    }
}

/// Passes the requests of a new connection on, on a thread of its own.
fn begin(step: UnixStream, shared: &Arc<Shared>, agent: &OwnedFd) -> io::Result<()> {
    if shared.lock().open.len() >= MAX_CONNECTIONS {
        return Ok(());
    }
    let upstream = connect(&path_of(agent))?;
    let mut connections = shared.lock();
    if connections.is_closed {
        return Ok(());
    }
    let number = connections.next;
    connections.next += 1;
    connections.open.push((number, [step.try_clone()?, upstream.try_clone()?]));
    // The threads of closed connections have ended, or are about to.
    connections.threads.retain(|thread| !thread.is_finished());
    let of_thread = Arc::clone(shared);
    let begun = threads::start("ssh-agent", move || {
        // A broken connection ends with both of its streams.
        let _ = pass_on(&step, &upstream);
        let _ = step.shutdown(Shutdown::Both);
        of_thread.lock().open.retain(|(other, _)| *other != number);
    });
    match begun {
        Ok(thread) => connections.threads.push(thread),
        Err(_) => connections.open.retain(|(other, _)| *other != number),
    }
    Ok(())
}

/// Passes requests on until the step closes the connection.
fn pass_on(mut step: impl Read + Write, mut agent: impl Read + Write) -> io::Result<()> {
    while let Some(request) = read_message(&mut step)? {
        let answer = if is_allowed(&request[4..]) {
            agent.write_all(&request)?;
            read_message(&mut agent)?.ok_or(io::ErrorKind::UnexpectedEof)?
        } else {
            FAILURE.to_vec()
        };
        step.write_all(&answer)?;
    }
    Ok(())
}

/// Whether a step may make the request with this content.
fn is_allowed(content: &[u8]) -> bool {
    match content.split_first() {
        Some((&(REQUEST_IDENTITIES | SIGN_REQUEST), _)) => true,
        Some((&EXTENSION, rest)) => {
            let length = u32::try_from(SESSION_BIND.len()).unwrap_or(u32::MAX).to_be_bytes();
            rest.strip_prefix(&length).is_some_and(|name| name.starts_with(SESSION_BIND))
        }
        _ => false,
    }
}

/// Reads a message with its length; none at the end of the stream.
fn read_message(stream: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut message = vec![0; 4];
    match stream.read_exact(&mut message) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let length = u32::from_be_bytes([message[0], message[1], message[2], message[3]]);
    if length == 0 || length > MAX_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a message of the SSH agent has a wrong length"));
    }
    // Memory for the bytes that arrive, and not for those that are announced.
    stream.take(length.into()).read_to_end(&mut message)?;
    if message.len() as u64 != u64::from(length) + 4 {
        Err(io::ErrorKind::UnexpectedEof.into())
    } else {
        Ok(Some(message))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(content: &[u8]) -> Vec<u8> {
        [&u32::try_from(content.len()).unwrap().to_be_bytes(), content].concat()
    }

    fn extension(name: &str) -> Vec<u8> {
        [&[EXTENSION], &message(name.as_bytes())[..], b"rest"].concat()
    }

    /// Answers each request with its content, after the letter `a`.
    fn agent(directory: &Path) -> OwnedFd {
        let place = directory.join("agent");
        let listener = UnixListener::bind(&place).unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                std::thread::spawn(move || {
                    while let Ok(Some(request)) = read_message(&mut stream) {
                        stream.write_all(&message(&[b"a", &request[4..]].concat())).unwrap();
                    }
                });
            }
        });
        rustix::fs::open(&place, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap()
    }

    #[test]
    fn keys_are_listed_and_used_and_any_other_request_fails() {
        let directory = tempfile::tempdir().unwrap();
        let long = directory.path().join("long".repeat(40));
        std::fs::create_dir(&long).unwrap();
        let socket = AgentSocket::listen(&long.join("socket"), agent(directory.path())).unwrap();
        let open = rustix::fs::open(long.join("socket"), OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let mut step = connect(&path_of(&open)).unwrap();
        let mut ask = |content: &[u8]| {
            step.write_all(&message(content)).unwrap();
            read_message(&mut step).unwrap().unwrap()
        };
        for allowed in [vec![11], [&[13][..], &[7; 9000]].concat(), extension("session-bind@openssh.com")] {
            assert_eq!(ask(&allowed), message(&[b"a", &allowed[..]].concat()));
        }
        for refused in (0..=255).filter(|kind| ![11, 13, 27].contains(kind)) {
            assert_eq!(ask(&[refused, 0, 0]), FAILURE, "{refused}");
        }
        for refused in ["query", "session-bind@openssh.co", ""] {
            assert_eq!(ask(&extension(refused)), FAILURE, "{refused}");
        }
        assert_eq!(ask(&[27]), FAILURE);
        // A connection that waits for nothing does not hold the end up.
        let idle = connect(&path_of(&open)).unwrap();
        drop(socket);
        assert_eq!((&idle).read(&mut [0]).unwrap_or(0), 0);
        assert_eq!(connect(&path_of(&open)).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn a_message_of_a_wrong_length_ends_the_connection() {
        for wrong in [&[0, 0, 0, 0][..], &[0, 4, 0, 1, 11], &[255; 4], &[0, 0, 0, 9, 11]] {
            assert!(read_message(&mut &wrong[..]).is_err(), "{wrong:?}");
        }
        assert_eq!(read_message(&mut &[0, 0][..]).unwrap(), None);
    }

    proptest! {
        #[test]
        fn any_bytes_of_a_step_reach_the_agent_as_allowed_messages_alone(bytes: Vec<u8>) {
            struct Agent(Vec<u8>);
            impl Read for Agent {
                fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                    Ok(0)
                }
            }
            impl Write for Agent {
                fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                    self.0.extend(bytes);
                    Ok(bytes.len())
                }
                fn flush(&mut self) -> io::Result<()> {
                    Ok(())
                }
            }
            let mut agent = Agent(Vec::new());
            let _ = pass_on(io::Cursor::new(bytes), &mut agent);
            prop_assert!(agent.0.is_empty() || is_allowed(&agent.0[4..]));
        }
    }
}
