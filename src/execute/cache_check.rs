//! Checks a segment against the store, and waits for another runner that builds the same key.

use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::context::Context;
use super::failure::{Cause, Failure};
use super::segment_table::{Checked, LayerChains};
use super::session_pool::SessionPool;
use crate::cache::key::Reason;
use crate::cache::{Below, CacheCheckError, CacheChecker, CacheStatus, SnapshotPath, is_memory};
use crate::digest::Digest;
use crate::error::error_chain_with_hint;
use crate::event::Events;
use crate::fs::copy_into::{CopyError, Source};
use crate::model::StepId;
use crate::store::LayerPin;
use crate::warning::Warning;

/// The time between two looks whether another runner has finished.
const POLL_INTERVAL: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

/// A cache check and its context.
#[derive(Clone, Copy)]
pub struct CacheCheck<'a, 'e> {
    pub context: Context<'a>,
    pub checker: &'e CacheChecker<'e>,
    pub sessions: &'e SessionPool<'a>,
    pub chains: &'e LayerChains,
    pub events: &'e Events,
    pub segment: usize,
    /// Set when it must not wait any longer.
    pub stop_waiting: &'e AtomicBool,
    /// It is checked although files that it reads are not written yet.
    pub is_unsettled: bool,
    /// Called when it begins to wait.
    pub waits: &'e dyn Fn(),
}

/// The result of one look at a segment: its status, its key where it is known, and the pin of its layer.
type Look = (CacheStatus, Option<Digest>, Option<LayerPin>);

impl From<CacheCheckError> for Failure {
    fn from(error: CacheCheckError) -> Self {
        let cause = if error.is_of_input() { Cause::Input } else { Cause::Host };
        Self { cause, ..Self::host(error_chain_with_hint(&error, error.hint())) }
    }
}

impl CacheCheck<'_, '_> {
    /// Checks the segment. Returns when it is fresh, or when this runner must build it.
    pub fn run(self) -> Result<Checked, Failure> {
        let below = self.checker.below(self.segment, |step| self.chains.get(step))?;
        if let Some(until) = self.read_sources()? {
            // Its key is known when the layers of this snapshot are.
            let reasons = vec![Reason::SourceMayChange { step: self.context.build.step(until).name.clone() }];
            let status = CacheStatus::Stale { reasons, draft: None, checkpoints: None, resume: None };
            return Ok(Checked { status, below, building: None, until: Some(until), pin: None });
        }
        let mut has_reported = false;
        loop {
            let Some((status, key, pin)) = self.look(&below)? else { continue };
            let known = below.clone();
            let found = |status| Ok(Checked { status, below: known, building: None, until: None, pin });
            let CacheStatus::Stale { reasons, draft: Some(draft), .. } = &status else { return found(status) };
            let anyway = |reason: &Reason| matches!(reason, Reason::Always { .. } | Reason::NoCache);
            if let Below::Unwritten(snapshot) = below {
                let may_be_fresh = !reasons.iter().any(anyway) && self.checker.may_be_fresh(self.segment, draft);
                let until = may_be_fresh.then_some(snapshot);
                return Ok(Checked { status, below, building: None, until, pin: None });
            }
            let Some(key) = key.filter(|_| !self.context.store.is_read_only()) else { return found(status) };
            if let Some(building) = self.context.store.try_lock_key(&key).map_err(CacheCheckError::from)? {
                // Another runner may have built it since the look.
                let Some((status, _, pin)) = self.look(&below)? else { continue };
                let CacheStatus::Stale { reasons, .. } = &status else {
                    return Ok(Checked { status, below, building: None, until: None, pin });
                };
                // Only with the lock: another runner that saw the damage may have replaced the layer since.
                self.set_aside(reasons)?;
                return Ok(Checked { status, below, building: Some(building), until: None, pin });
            }
            let must_not_wait = self.context.interrupt.is_set() || self.stop_waiting.load(Ordering::Relaxed);
            if must_not_wait || reasons.iter().any(anyway) {
                return found(status);
            }
            if !has_reported {
                has_reported = true;
                (self.waits)();
                self.events.warn(self.last_step(), &Warning::BuiltElsewhere);
            }
            let mut polled = [PollFd::from_borrowed_fd(self.context.interrupt.descriptor(), PollFlags::IN)];
            // The loop looks again, also after an early return.
            let _ = poll(&mut polled, Some(&POLL_INTERVAL));
        }
    }

    /// Reads the files that the segment takes from snapshots, as far as the store does not know their contents. Returns a snapshot whose
    /// layers are not all written yet, if there is one.
    fn read_sources(&self) -> Result<Option<StepId>, Failure> {
        for source in self.checker.snapshot_paths(self.segment) {
            let Some(parents) = self.chains.get(source.step) else {
                if self.is_unsettled {
                    // Nobody can know its key before its first steps run.
                    continue;
                }
                return Ok(Some(source.step));
            };
            self.checker.note_snapshot(source.step, parents);
            if !self.checker.is_read(&source) {
                self.read_source(&source)?;
            }
        }
        Ok(None)
    }

    fn read_source(&self, source: &SnapshotPath) -> Result<(), Failure> {
        let root = self.sessions.snapshot_root(source.step)?;
        let file = match Source::in_root(root.root(), &source.path, "") {
            // The step that takes it reports that.
            Err(CopyError::NoSource { .. } | CopyError::BelowAFile { .. }) => None,
            found => {
                let failed = |error: CopyError| Failure::host(error_chain_with_hint(&error, error.hint()));
                let file = found.map_err(failed)?.file().try_clone_to_owned();
                Some(file.map_err(|error| Failure::host(format!("cannot open {}: {error}", source.path.display())))?)
            }
        };
        Ok(self.checker.read(source, file.as_ref())?)
    }

    /// Looks at the segment once; none where its layer was removed during the look.
    fn look(&self, below: &Below) -> Result<Option<Look>, Failure> {
        let container = self.checker.segments().get(self.segment).container;
        let is_open = self.sessions.is_open(container);
        let mut status = self.checker.check(self.segment, below, is_open)?;
        let mounts = &self.context.build.container(container).mounts;
        if let CacheStatus::Stale { resume, .. } = &mut status
            && is_open
            && mounts.iter().any(|mount| is_memory(&mount.kind))
        {
            // The tmpfs mounts were empty when the checkpoint was made.
            *resume = None;
        }
        let mut pin = None;
        let layer = match &status {
            CacheStatus::Fresh(recorded) => recorded.layer.as_ref(),
            CacheStatus::Stale { resume, .. } => resume.as_ref().map(|resume| &resume.layer),
        };
        if let CacheStatus::Fresh(recorded) = &status {
            for export in &recorded.exports {
                let pin = self.context.store.pin_export(&export.digest).map_err(CacheCheckError::from)?;
                if pin.is_none() {
                    return Ok(None);
                }
                self.sessions.add_pin(pin);
            }
        }
        if let Some(layer) = layer {
            pin = self.context.store.pin_layer(&layer.digest).map_err(CacheCheckError::from)?;
            if pin.is_none() {
                return Ok(None);
            }
        }
        let key = match (&status, below) {
            (CacheStatus::Stale { draft: Some(draft), .. }, Below::Known(below)) => Some(draft.with_base(below).key()),
            _ => None,
        };
        Ok(Some((status, key, pin)))
    }

    fn set_aside(&self, reasons: &[Reason]) -> Result<(), Failure> {
        for reason in reasons {
            let Reason::Damaged { digest } = reason else { continue };
            let Ok(layer) = digest.parse() else { continue };
            self.context.store.set_layer_aside(&layer).map_err(CacheCheckError::from)?;
            self.events.warn(self.last_step(), &Warning::Damaged { digest: digest.clone() });
        }
        Ok(())
    }

    fn last_step(&self) -> Option<&str> {
        let step = self.checker.segments().get(self.segment).steps.last()?;
        Some(&self.context.build.step(*step).name)
    }
}
