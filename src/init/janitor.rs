//! The janitor: a process that lets go of the mount namespaces of steps that have ended.
//!
//! When the last hold of a mount namespace closes, the kernel takes its mounts down, and makes whoever closed it wait
//! until no processor can see them any more. Here nobody waits for that: not the next spare, and not the end of a step.

use crate::FEED;
use crate::sys::{self, Fork};

/// The way to the janitor; -1 where there is none.
pub struct Janitor(i32);

impl Janitor {
    /// Returns none: init does its work.
    pub const fn none() -> Self {
        Self(-1)
    }

    /// Starts one. Where no process can be made, init does its work.
    pub fn start() -> Self {
        let Ok([way, end]) = sys::socket_pair() else { return Self::none() };
        match sys::fork() {
            Ok(Fork::Child) => work(end),
            Ok(Fork::Parent(_, process)) => {
                // It ends with this container, and nobody asks how.
                sys::close(process);
                sys::close(end);
                Self(way)
            }
            Err(_) => {
                sys::close(way);
                sys::close(end);
                Self::none()
            }
        }
    }

    /// Gives it the hold of a namespace.
    pub fn take(&self, namespace: i32) {
        if namespace < 0 {
            return;
        }
        if self.0 >= 0 {
            // Where that fails it closes here, which only takes longer.
            let _ = sys::send(self.0, &[1], Some(namespace));
        }
        sys::close(namespace);
    }
}

fn work(end: i32) -> ! {
    // Of init's descriptors it keeps its own alone.
    let alone = sys::duplicate(end, FEED, true).and_then(|()| sys::close_from(FEED + 1));
    if alone.is_err() {
        sys::exit(1);
    }
    for descriptor in 0..FEED {
        sys::close(descriptor);
    }
    let mut byte = [0u8; 1];
    loop {
        match sys::receive(FEED, &mut byte, true) {
            Ok(received) if received.length > 0 => received.close(),
            // Init has ended, and so does everything in the container.
            Ok(_) | Err(_) => sys::exit(0),
        }
    }
}
