//! Tells a step to end: SIGTERM to each of its processes, as the embedded runtime's init does it (`src/init/ending.rs`).
//!
//! A step of an external runtime has cgroups of its own, which name its processes, and hold them still while they are told:
//! so none is missed that is being cloned, and none is told that another one starts to clean up.

use std::fs;

use nix::sys::signal::{Signal, kill};
use rustix::process::pidfd_send_signal;

use super::child::Child;
use super::groups::StepGroups;
use crate::runtime::disposition::is_ended_by_sigterm;

/// As many looks in a row find a first process that caught SIGTERM and would be ended by it now, until it is taken for one
/// that has sent the signal to itself, which the kernel keeps from it.
const LOOKS_AT_FIRST: u32 = 5;

/// A step that has been told to end.
#[derive(Debug)]
pub struct Told {
    /// Its first process is stopped, and is killed when all else of the step has ended.
    is_first_stopped: bool,
    looks: u32,
}

impl Told {
    /// Tells a step whose container's first process is `first`.
    pub fn tell(first: &Child, groups: &StepGroups) -> Self {
        let is_first_stopped = would_end(first);
        if is_first_stopped {
            stop(first);
        }
        groups.while_still(|| {
            let others = groups.processes();
            for process in others.into_iter().filter(|process| !is_first_stopped || *process != first.pid) {
                // What is stopped takes the signal when it continues.
                for signal in [Signal::SIGTERM, Signal::SIGCONT] {
                    let _ = kill(process, signal);
                }
            }
        });
        Self { is_first_stopped, looks: 0 }
    }

    /// Stops a first process that the kernel has kept its own SIGTERM from, and kills a stopped one once nothing else is left.
    /// To be called again and again.
    pub fn look(&mut self, first: &Child, groups: &StepGroups) {
        if !self.is_first_stopped {
            self.looks = if would_end(first) { self.looks + 1 } else { 0 };
            self.is_first_stopped = self.looks == LOOKS_AT_FIRST;
            if self.is_first_stopped {
                stop(first);
            }
        } else if groups.processes().iter().all(|process| *process == first.pid) {
            let _ = pidfd_send_signal(&first.descriptor, rustix::process::Signal::KILL);
        }
    }
}

fn would_end(first: &Child) -> bool {
    fs::read(format!("/proc/{}/status", first.pid)).is_ok_and(|status| is_ended_by_sigterm(&status))
}

/// In place of SIGTERM, which would have ended it: so a shell starts nothing more.
fn stop(first: &Child) {
    let _ = pidfd_send_signal(&first.descriptor, rustix::process::Signal::STOP);
}
