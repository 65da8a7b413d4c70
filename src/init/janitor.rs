//! The janitor: a process that lets go of the mount namespaces of steps that have ended.
//!
//! When the last hold of a mount namespace closes, the kernel takes its mounts down, and makes whoever closed it wait
//! until no processor can see them any more. Here nobody waits for that: not the next spare, and not the end of a step but of
//! one that has left files in memory.

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

    /// Gives it the hold of a namespace, or of a mount that is attached nowhere.
    pub fn take(&self, hold: i32) {
        if hold < 0 {
            return;
        }
        if self.0 >= 0 {
            // Where that fails it closes here, which only takes longer.
            let _ = sys::send(self.0, &[LATER], &[hold]);
        }
        sys::close(hold);
    }

    /// Returns when the mounts of all that was given are taken down, and the memory of their files is free.
    pub fn wait(&self) {
        // Where it does not answer it has ended, and what it held with it.
        if self.0 >= 0 && sys::send(self.0, &[ANSWER], &[]).is_ok() {
            let _ = sys::receive(self.0, &mut [0u8; 1], true);
        }
    }
}

/// A message with a hold to close.
const LATER: u8 = 1;
/// A message that asks for an answer, which is the same byte.
const ANSWER: u8 = 2;

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
            Ok(received) if received.length > 0 => {
                received.close();
                if byte[0] == ANSWER {
                    let _ = sys::send(FEED, &byte, &[]);
                }
            }
            // Init has ended, and so does everything in the container.
            Ok(_) | Err(_) => sys::exit(0),
        }
    }
}
