//! Receives a container's terminal from a runtime on a socket: `--console-socket` of runc(8).

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;

use crate::runtime::protocol::receive_descriptor;

/// A socket that waits for one terminal.
#[derive(Debug)]
pub struct Console(UnixListener);

impl Console {
    /// The socket's name in the bundle.
    pub const NAME: &str = "console";

    /// Makes the socket in a bundle.
    ///
    /// # Errors
    /// Those of bind(2).
    pub fn listen(bundle: &Path) -> io::Result<Self> {
        // By way of a descriptor, because the path of a socket has 107 bytes at most.
        let directory = File::open(bundle)?;
        let listener = UnixListener::bind(format!("/proc/self/fd/{}/{}", directory.as_raw_fd(), Self::NAME))?;
        listener.set_nonblocking(true)?;
        Ok(Self(listener))
    }

    /// Receives the master's side of the terminal, see pty(7). The runtime has sent it once `create` has succeeded.
    ///
    /// # Errors
    /// Where the runtime has not sent one.
    pub fn accept(self) -> io::Result<OwnedFd> {
        let (socket, _) = self.0.accept()?;
        socket.set_nonblocking(true)?;
        receive_descriptor(&socket)
    }
}
