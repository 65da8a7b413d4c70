//! Tells a step to end: SIGTERM to each of its processes, as the embedded runtime's init does it (`src/init/ending.rs`).
//!
//! A step of an external runtime has cgroups of its own, which name its processes, and hold them still while they are told:
//! so none is missed that is being cloned, and none is told that another one starts to clean up.

use std::fs;

use nix::sys::signal::kill;
use rustix::process::{Signal, pidfd_send_signal};

use super::child::Child;
use super::groups::StepGroups;
use crate::runtime::disposition::{drops_sigterm, is_ended_by_sigterm};

/// As many looks in a row find a first process that caught SIGTERM and would be ended by it now, until it is taken for one
/// that has sent the signal to itself, which the kernel keeps from it.
const LOOKS_AT_FIRST: u32 = 5;

/// How the first process of a step takes SIGTERM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum First {
    /// The kernel keeps it from it: it is stopped, and is killed when all else of the step has ended.
    Stopped,
    /// It has been sent it before the others, and takes it by waiting for it.
    Waits,
    /// It is told with the others.
    Other {
        /// So many looks in a row have found it to be ended by the signal.
        looks: u32,
    },
}

/// A step that has been told to end.
#[derive(Debug)]
pub struct Told {
    first: First,
}

impl Told {
    /// Tells a step whose container's first process is `first`; `is_behind` where that is runner's own program, which is to
    /// know before it sees the others end.
    pub fn tell(first: &Child, is_behind: bool, groups: &StepGroups) -> Self {
        if is_behind && is_alone(first, groups) {
            // It has started nothing yet, and might not be that program yet, so that the kernel keeps the signal from it.
            send(first, Signal::KILL);
        }
        let told = if is_behind || would_end(first) {
            send(first, Signal::TERM);
            if !is_behind && status(first).is_some_and(|status| drops_sigterm(&status)) {
                // In place of SIGTERM, which would have ended it: so a shell starts nothing more.
                send(first, Signal::STOP);
                First::Stopped
            } else {
                send(first, Signal::CONT);
                First::Waits
            }
        } else {
            First::Other { looks: 0 }
        };
        let with_first = matches!(told, First::Other { .. });
        groups.while_still(|| {
            let others = groups.processes();
            for process in others.into_iter().filter(|process| with_first || *process != first.pid) {
                // What is stopped takes the signal when it continues.
                for signal in [nix::sys::signal::SIGTERM, nix::sys::signal::SIGCONT] {
                    let _ = kill(process, signal);
                }
            }
        });
        Self { first: told }
    }

    /// Stops a first process that the kernel has kept its own SIGTERM from, and kills a stopped one once nothing else is left.
    /// To be called again and again.
    pub fn look(&mut self, first: &Child, groups: &StepGroups) {
        match &mut self.first {
            First::Stopped if is_alone(first, groups) => send(first, Signal::KILL),
            First::Stopped | First::Waits => {}
            First::Other { looks } => {
                *looks = if would_end(first) { *looks + 1 } else { 0 };
                if *looks == LOOKS_AT_FIRST {
                    send(first, Signal::STOP);
                    self.first = First::Stopped;
                }
            }
        }
    }
}

fn is_alone(first: &Child, groups: &StepGroups) -> bool {
    groups.processes().iter().all(|process| *process == first.pid)
}

fn would_end(first: &Child) -> bool {
    status(first).is_some_and(|status| is_ended_by_sigterm(&status))
}

fn status(first: &Child) -> Option<Vec<u8>> {
    fs::read(format!("/proc/{}/status", first.pid)).ok()
}

fn send(first: &Child, signal: Signal) {
    let _ = pidfd_send_signal(&first.descriptor, signal);
}
