//! The janitor: a process that closes the mount namespaces of steps that have ended.
//!
//! When the last descriptor of a mount namespace closes, the kernel unmounts its mounts, and makes the process that closed it
//! wait until no processor can see them any more. With a janitor, neither the next preforked process nor the end of a step waits
//! for that; only the end of a step that has left files in memory does.

use crate::REPORT;
use crate::sys::{self, Fork};

/// The socket to the janitor; -1 where there is none.
pub struct Janitor(i32);

impl Janitor {
    /// Returns no janitor: init closes the descriptors itself.
    pub const fn none() -> Self {
        Self(-1)
    }

    /// Starts a janitor. Where no process can be made, init closes the descriptors itself.
    pub fn start() -> Self {
        let Ok([socket, end]) = sys::socket_pair() else { return Self::none() };
        match sys::fork() {
            Ok(Fork::Child) => work(end),
            Ok(Fork::Parent(_, process)) => {
                // The janitor ends with this container; its exit status does not matter.
                sys::close(process);
                sys::close(end);
                Self(socket)
            }
            Err(_) => {
                sys::close(socket);
                sys::close(end);
                Self::none()
            }
        }
    }

    /// Passes the descriptor of a namespace, or of a detached mount, to the janitor, which closes it.
    pub fn take(&self, descriptor: i32) {
        if descriptor < 0 {
            return;
        }
        if self.0 >= 0 {
            // If that fails, the descriptor closes here, which only takes longer.
            let _ = sys::send(self.0, &[CLOSE], &[descriptor]);
        }
        sys::close(descriptor);
    }

    /// Waits until the janitor has closed all descriptors, so that their mounts are unmounted and the memory of their files is free.
    pub fn wait(&self) {
        // A janitor that does not reply has ended, and its descriptors are closed.
        if self.0 >= 0 && sys::send(self.0, &[REPLY], &[]).is_ok() {
            let _ = sys::receive(self.0, &mut [0u8; 1], true);
        }
    }
}

/// A message with a descriptor to close.
const CLOSE: u8 = 1;
/// A message that requests a reply, which is the same byte.
const REPLY: u8 = 2;

fn work(end: i32) -> ! {
    // Of init's descriptors, only the janitor's own one stays open.
    let alone = sys::duplicate(end, REPORT, true).and_then(|()| sys::close_from(REPORT + 1));
    if alone.is_err() {
        sys::exit(1);
    }
    for descriptor in 0..REPORT {
        sys::close(descriptor);
    }
    let mut byte = [0u8; 1];
    loop {
        match sys::receive(REPORT, &mut byte, true) {
            Ok(received) if received.length > 0 => {
                received.close();
                if byte[0] == REPLY {
                    let _ = sys::send(REPORT, &byte, &[]);
                }
            }
            // Init has ended, and with it all processes of the container end.
            Ok(_) | Err(_) => sys::exit(0),
        }
    }
}
