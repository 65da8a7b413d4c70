//! The socket on which a runtime hands over a container's terminal: `--console-socket` of runc(8).

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
    /// Its name in the bundle.
    pub const NAME: &str = "console";

    /// Makes it in that folder.
    ///
    /// # Errors
    /// What bind(2) says.
    pub fn listen(bundle: &Path) -> io::Result<Self> {
        // Through a descriptor: the path of a socket has 107 bytes at most.
        let folder = File::open(bundle)?;
        let listener = UnixListener::bind(format!("/proc/self/fd/{}/{}", folder.as_raw_fd(), Self::NAME))?;
        listener.set_nonblocking(true)?;
        Ok(Self(listener))
    }

    /// The master's side of the terminal, see pty(7), once `create` has ended well: by then it has been sent.
    ///
    /// # Errors
    /// Where the runtime has not sent one.
    pub fn accept(self) -> io::Result<OwnedFd> {
        let (socket, _) = self.0.accept()?;
        socket.set_nonblocking(true)?;
        receive_descriptor(&socket)
    }
}
