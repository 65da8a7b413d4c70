//! The thread that judges a segment, and waits for another runner that is building it.

use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::parts::{Chains, Judged};
use super::{Cause, Context, Failure, Rooms};
use crate::digest::Digest;
use crate::error::told_with_hint;
use crate::event::Events;
use crate::freshness::{Below, Judge, JudgeError, Verdict, is_memory};
use crate::key::Reason;
use crate::store::Held;
use crate::warning::Warning;

/// How often it is looked whether another runner is done.
const PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

/// What a judging thread works with.
#[derive(Clone, Copy)]
pub struct Judging<'a, 'e> {
    pub context: Context<'a>,
    pub judge: &'e Judge<'e>,
    pub rooms: &'e Rooms<'a>,
    pub chains: &'e Chains,
    pub events: &'e Events,
    pub segment: usize,
    /// It is not to wait any longer.
    pub hurry: &'e AtomicBool,
}

/// What one look at a segment finds.
type Look = (Verdict, Option<Digest>, Option<Held>);

impl From<JudgeError> for Failure {
    fn from(error: JudgeError) -> Self {
        let cause = if error.is_of_input() { Cause::Input } else { Cause::Host };
        Self { cause, ..Self::host(told_with_hint(&error, error.hint())) }
    }
}

impl Judging<'_, '_> {
    /// Judges it; comes back when it is fresh, or is this runner's to build.
    pub fn run(self) -> Result<Judged, Failure> {
        let below = self.judge.below(self.segment, |step| self.chains.get(step))?;
        let mut told = false;
        loop {
            let Some((verdict, key, held)) = self.look(&below)? else { continue };
            let known = below.clone();
            let found = |verdict| Ok(Judged { verdict, below: known, building: None, wait_for: None, held });
            let Verdict::Stale { reasons, draft: Some(draft), .. } = &verdict else { return found(verdict) };
            let anyway = |reason: &Reason| matches!(reason, Reason::Always { .. } | Reason::NoCache);
            if let Below::Unwritten(snapshot) = below {
                let may_be_fresh = !reasons.iter().any(anyway) && self.judge.may_be_fresh(self.segment, draft);
                let wait_for = may_be_fresh.then_some(snapshot);
                return Ok(Judged { verdict, below, building: None, wait_for, held: None });
            }
            let Some(key) = key.filter(|_| !self.context.store.is_read_only()) else { return found(verdict) };
            if let Some(building) = self.context.store.try_building(&key).map_err(JudgeError::from)? {
                // Another one may have built it between the look and now.
                let Some((verdict, _, held)) = self.look(&below)? else { continue };
                let Verdict::Stale { reasons, .. } = &verdict else {
                    return Ok(Judged { verdict, below, building: None, wait_for: None, held });
                };
                // Only now: whoever else saw the damage may have put a good one there since.
                self.set_aside(reasons)?;
                return Ok(Judged { verdict, below, building: Some(building), wait_for: None, held });
            }
            let hurry = self.context.interrupt.is_set() || self.hurry.load(Ordering::Relaxed);
            if hurry || reasons.iter().any(anyway) {
                return found(verdict);
            }
            if !told {
                told = true;
                self.tell_waiting();
            }
            let mut polled = [PollFd::from_borrowed_fd(self.context.interrupt.descriptor(), PollFlags::IN)];
            // Woken early or not, it looks again.
            let _ = poll(&mut polled, Some(&PAUSE));
        }
    }

    /// The verdict, the key where it is known, and the hold on the layer of what is fresh; nothing where that was
    /// removed since it was looked at.
    fn look(&self, below: &Below) -> Result<Option<Look>, Failure> {
        let container = self.judge.segments().get(self.segment).container;
        let is_open = self.rooms.is_open(container);
        let mut verdict = self.judge.judge(self.segment, below, is_open)?;
        let mounts = &self.context.build.container(container).mounts;
        if let Verdict::Stale { resume, .. } = &mut verdict
            && is_open
            && mounts.iter().any(|mount| is_memory(&mount.kind))
        {
            // A checkpoint was taken with nothing in them.
            *resume = None;
        }
        let mut held = None;
        let layer = match &verdict {
            Verdict::Fresh(recorded) => recorded.layer.as_ref(),
            Verdict::Stale { resume, .. } => resume.as_ref().map(|resume| &resume.layer),
        };
        if let Some(layer) = layer {
            held = self.context.store.hold_layer(&layer.digest).map_err(JudgeError::from)?;
            if held.is_none() {
                return Ok(None);
            }
        }
        let key = match (&verdict, below) {
            (Verdict::Stale { draft: Some(draft), .. }, Below::Known(below)) => Some(draft.on(below).key()),
            _ => None,
        };
        Ok(Some((verdict, key, held)))
    }

    fn set_aside(&self, reasons: &[Reason]) -> Result<(), Failure> {
        for reason in reasons {
            let Reason::Damaged { digest } = reason else { continue };
            let Ok(layer) = digest.parse() else { continue };
            self.context.store.set_layer_aside(&layer).map_err(JudgeError::from)?;
            self.events.warn(self.last_step(), &Warning::Damaged { digest: digest.clone() });
        }
        Ok(())
    }

    fn tell_waiting(&self) {
        self.events.warn(self.last_step(), &Warning::BuiltElsewhere);
    }

    fn last_step(&self) -> Option<&str> {
        let step = self.judge.segments().get(self.segment).steps.last()?;
        Some(&self.context.build.step(*step).name)
    }
}
