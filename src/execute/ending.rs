//! How a process comes to its end that takes too long, or whose build is interrupted: asked, waited for, killed.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use super::interrupt::{Grace, Interrupt};
use super::patience::{Killed, Patience};
use crate::runtime::container::{KILL_AGAIN, RunningStep};
use crate::warning::Warning;

/// As long after SIGTERM nobody is told that a process still runs: most end sooner.
const QUIET: Duration = Duration::from_secs(1);

/// How far the end of a process has come.
enum Stage<'a> {
    /// It may run.
    Runs { until: Option<Instant> },
    /// It was asked to end.
    Asked { until: Instant, tell_at: Option<Instant>, _grace: Grace<'a> },
    /// It was killed. What something inside freezes again and again is killed again and again.
    Killed { again_at: Instant },
}

/// The end of a process, as far as it has come.
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
    /// Of a process that has just been started.
    pub fn new(running: &'a RunningStep, patience: Patience<'a>, interrupt: &'a Interrupt) -> Self {
        let stage = Stage::Runs { until: patience.timeout.map(|timeout| Instant::now() + timeout) };
        Self { running, patience, interrupt, stage, timed_out: false, interrupted: false, killed: None }
    }

    /// Returns the descriptor to wait for beside the process: of the wish that would change its stage, if there is one.
    pub fn awaited(&self) -> Option<BorrowedFd<'a>> {
        match &self.stage {
            Stage::Runs { .. } => Some(self.interrupt.descriptor()),
            Stage::Asked { .. } if self.interrupted => Some(self.interrupt.end_of_grace()),
            Stage::Asked { .. } => Some(self.interrupt.descriptor()),
            Stage::Killed { .. } => None,
        }
    }

    /// When it is to advance at the latest.
    pub fn due(&self) -> Option<Instant> {
        match &self.stage {
            Stage::Runs { until } => *until,
            Stage::Asked { until, tell_at, .. } => Some(tell_at.map_or(*until, |tell_at| tell_at.min(*until))),
            Stage::Killed { again_at } => Some(*again_at),
        }
    }

    /// Does what is due. `is_wished` says whether what is awaited has come.
    pub fn advance(&mut self, is_wished: bool) {
        let now = Instant::now();
        match &mut self.stage {
            Stage::Runs { until } => {
                self.interrupted = is_wished;
                self.timed_out = !is_wished && until.is_some_and(|until| now >= until);
                if self.interrupted || self.timed_out {
                    self.ask(now);
                }
            }
            Stage::Asked { until, tell_at, .. } => {
                if is_wished && self.interrupted {
                    return self.kill(now, Killed::AtOnce);
                }
                // Whoever interrupts a build while a step is in its grace has the same patience with it.
                self.interrupted |= is_wished;
                if now >= *until {
                    return self.kill(now, Killed::After(self.patience.grace));
                }
                if tell_at.is_some_and(|tell_at| now >= tell_at) {
                    *tell_at = None;
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
        // Before the process can show that it was asked: whoever sees that may interrupt the build once more.
        let grace = self.interrupt.grace();
        self.running.ask_to_end();
        let until = now + self.patience.grace;
        self.stage = Stage::Asked { until, tell_at: Some(now + QUIET), _grace: grace };
    }

    fn kill(&mut self, now: Instant, killed: Killed) {
        self.running.kill();
        self.killed = Some(killed);
        self.stage = Stage::Killed { again_at: now + KILL_AGAIN };
    }
}
