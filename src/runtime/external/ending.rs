//! Requests a step to end: sends SIGTERM to each of its processes, as the embedded runtime's init does (`src/init/ending.rs`).
//!
//! A step of an external runtime has cgroups of its own, which list its processes, and freeze them while the signal is sent. So
//! no process that is being cloned is missed, and none gets the signal that another one starts to clean up.

use std::fs;

use nix::sys::signal::kill;
use rustix::process::{Signal, pidfd_send_signal};

use super::child::Child;
use super::groups::StepGroups;
use crate::runtime::disposition::{drops_sigterm, is_ended_by_sigterm};

/// The number of checks in a row that find that a first process, which caught SIGTERM before, has the default action now. It has
/// then probably sent the signal to itself, and the kernel does not deliver that.
const CHECKS_OF_FIRST: u32 = 5;

/// The way in which the first process of a step reacts to SIGTERM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FirstProcess {
    /// The kernel does not deliver the signal: the process is stopped, and is killed when all others of the step have ended.
    Stopped,
    /// The process got the signal before the others, and receives it by waiting for it.
    Waits,
    /// The process gets the signal with the others.
    Other {
        /// The number of checks in a row that found the default action.
        checks: u32,
    },
}

/// The termination of a step that runner has requested to end.
#[derive(Debug)]
pub struct Termination {
    first: FirstProcess,
}

impl Termination {
    /// Sends the signal to a step whose container's first process is `first`; `has_reaper` where that is init's program, which must
    /// get the signal before it sees the others end.
    pub fn begin(first: &Child, has_reaper: bool, groups: &StepGroups) -> Self {
        if has_reaper && is_alone(first, groups) {
            // It has started nothing yet, and might not run that program yet: then the kernel would not deliver the signal.
            send(first, Signal::KILL);
        }
        let reaction = if has_reaper || would_end(first) {
            send(first, Signal::TERM);
            if !has_reaper && status(first).is_some_and(|status| drops_sigterm(&status)) {
                // In place of SIGTERM, which would have ended it: so a shell starts no more commands.
                send(first, Signal::STOP);
                FirstProcess::Stopped
            } else {
                send(first, Signal::CONT);
                FirstProcess::Waits
            }
        } else {
            FirstProcess::Other { checks: 0 }
        };
        let with_first = matches!(reaction, FirstProcess::Other { .. });
        groups.while_frozen(|| {
            let others = groups.processes();
            for process in others.into_iter().filter(|process| with_first || *process != first.pid) {
                // A stopped process receives the signal when it continues.
                for signal in [nix::sys::signal::SIGTERM, nix::sys::signal::SIGCONT] {
                    let _ = kill(process, signal);
                }
            }
        });
        Self { first: reaction }
    }

    /// Stops a first process whose own SIGTERM the kernel did not deliver, and kills a stopped one once no other process remains.
    /// The caller repeats this until the step has ended.
    pub fn advance(&mut self, first: &Child, groups: &StepGroups) {
        match &mut self.first {
            FirstProcess::Stopped if is_alone(first, groups) => send(first, Signal::KILL),
            FirstProcess::Stopped | FirstProcess::Waits => {}
            FirstProcess::Other { checks } => {
                *checks = if would_end(first) { *checks + 1 } else { 0 };
                if *checks == CHECKS_OF_FIRST {
                    send(first, Signal::STOP);
                    self.first = FirstProcess::Stopped;
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
