//! Ends a process that takes too long, or whose build is interrupted: asks it to end, waits, and kills it.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use super::interrupt::{Grace, Interrupt};
use super::patience::{Killed, Patience};
use crate::runtime::container::{KILL_AGAIN, RunningStep};
use crate::warning::Warning;

/// The time after SIGTERM before a warning that a process still runs: most end sooner.
const QUIET_TIME: Duration = Duration::from_secs(1);

/// A stage of ending a process.
enum Stage<'a> {
    /// It may run.
    Runs { until: Option<Instant> },
    /// It was asked to end.
    Asked { until: Instant, warn_at: Option<Instant>, _grace: Grace<'a> },
    /// It was killed. It is killed again and again, because a process inside may freeze it again and again.
    Killed { again_at: Instant },
}

/// The progress of ending a process.
pub(super) struct Ending<'a> {
    running: &'a RunningStep,
    patience: Patience<'a>,
    interrupt: &'a Interrupt,
    stage: Stage<'a>,
    pub timed_out: bool,
    pub interrupted: bool,
    pub killed: Option<Killed>,
}

impl<'a> Ending<'a> {
    /// Begins with a process that has just been started.
    pub fn new(running: &'a RunningStep, patience: Patience<'a>, interrupt: &'a Interrupt) -> Self {
        let stage = Stage::Runs { until: patience.timeout.map(|timeout| Instant::now() + timeout) };
        Self { running, patience, interrupt, stage, timed_out: false, interrupted: false, killed: None }
    }

    /// Returns the descriptor to wait for beside the process: that of the request that would change its stage, if there
    /// is one.
    pub fn awaited(&self) -> Option<BorrowedFd<'a>> {
        match &self.stage {
            Stage::Runs { .. } => Some(self.interrupt.descriptor()),
            Stage::Asked { .. } if self.interrupted => Some(self.interrupt.end_of_grace()),
            Stage::Asked { .. } => Some(self.interrupt.descriptor()),
            Stage::Killed { .. } => None,
        }
    }

    /// Returns the latest time to advance.
    pub fn due(&self) -> Option<Instant> {
        match &self.stage {
            Stage::Runs { until } => *until,
            Stage::Asked { until, warn_at, .. } => Some(warn_at.map_or(*until, |warn_at| warn_at.min(*until))),
            Stage::Killed { again_at } => Some(*again_at),
        }
    }

    /// Does the actions that are due. `is_requested`: the awaited request has come.
    pub fn advance(&mut self, is_requested: bool) {
        let now = Instant::now();
        match &mut self.stage {
            Stage::Runs { until } => {
                self.interrupted = is_requested;
                self.timed_out = !is_requested && until.is_some_and(|until| now >= until);
                if self.interrupted || self.timed_out {
                    self.ask(now);
                }
            }
            Stage::Asked { until, warn_at, .. } => {
                if is_requested && self.interrupted {
                    return self.kill(now, Killed::AtOnce);
                }
                // An interrupt during a step's grace does not shorten the grace.
                self.interrupted |= is_requested;
                if now >= *until {
                    return self.kill(now, Killed::After(self.patience.grace));
                }
                if warn_at.is_some_and(|warn_at| now >= warn_at) {
                    *warn_at = None;
                    let (left, is_interrupted) = (*until - now, self.interrupted);
                    (self.patience.warn)(&Warning::StillRuns { left, is_interrupted });
                }
            }
            Stage::Killed { again_at } => {
                if now >= *again_at {
                    self.running.thaw_or_kill();
                    *again_at = now + KILL_AGAIN;
                }
            }
        }
    }

    fn ask(&mut self, now: Instant) {
        if self.patience.grace.is_zero() {
            return self.kill(now, Killed::After(Duration::ZERO));
        }
        // Before the process can show that it was asked to end: a user who sees that may interrupt the build once more.
        let grace = self.interrupt.grace();
        self.running.ask_to_end();
        let until = now + self.patience.grace;
        self.stage = Stage::Asked { until, warn_at: Some(now + QUIET_TIME), _grace: grace };
    }

    fn kill(&mut self, now: Instant, killed: Killed) {
        self.running.kill();
        self.killed = Some(killed);
        self.stage = Stage::Killed { again_at: now + KILL_AGAIN };
    }
}
