//! Keeps the session of a step that has failed, and opens it again.

use std::path::PathBuf;
use std::time::SystemTime;

use super::dispatcher::Dispatcher;
use super::failed_session::{Kept, PendingFailedSession};
use super::failure::{Cause, Failure};
use super::step_context::{CHANGES, StepContext, session, unusable};
use crate::cache::key;
use crate::error::error_chain_with_hint;
use crate::event::Event;
use crate::model::StepId;
use crate::plan::LayerStack;
use crate::session::append_exact;
use crate::snapshot::{ImageProgress, write_image};
use crate::store::{FailedSessionDraft, FailedStep, StoreError};
use crate::warning::Warning;

impl StepContext<'_, '_> {
    /// Keeps the session as it is now, where it was the step's process that failed. To be called before anything else
    /// runs in it.
    pub fn keep(&self, failure: &Failure) -> Option<Kept> {
        if failure.cause != Cause::Step || self.context.interrupt.is_set() {
            return None;
        }
        match self.images() {
            Ok(kept) => Some(kept),
            // Whoever is in such a hurry has no use for it.
            Err(_) if self.context.interrupt.is_set() => None,
            Err(error) => {
                let step = self.context.build.step(self.id).name.as_str();
                self.events.warn(Some(step), &Warning::FailedNotKept { why: error.reason });
                None
            }
        }
    }

    fn images(&self) -> Result<Kept, Failure> {
        let step = self.context.build.step(self.id);
        let room = self.rooms.running(step.container)?;
        let session = session(&room)?;
        let directory = self.context.lease.temp_file(&format!("failed{}", self.id.0))?;
        let half = FailedSessionDraft::begin(directory).map_err(unusable("make a folder in the store"))?;
        let write = |from: &std::path::Path, to: PathBuf| {
            let mut progress = |ImageProgress { bytes, percent }| {
                self.events.send(Event::SnapshotProgress { step: step.name.clone(), bytes, percent });
            };
            write_image(from, &to, CHANGES, self.context.interrupt.descriptor(), &mut progress)?;
            append_exact(from, &to).map_err(unusable("note the times of the changes"))
        };
        let changes = session.changes();
        if let Some(changes) = changes {
            write(changes, half.changes())?;
        }
        let mut tmpfs = Vec::new();
        let left = session.nonempty_tmpfs()?;
        for (target, place) in session.tmpfs().filter(|(target, _)| left.iter().any(|left| left == target)) {
            write(place, half.tmpfs(tmpfs.len()))?;
            tmpfs.push(target.to_owned());
        }
        Ok(Kept { half, changes: changes.is_some(), tmpfs })
    }
}

impl Dispatcher<'_, '_> {
    pub(super) fn has_failed(&mut self, step: StepId, failure: &Failure, kept: Option<Kept>) {
        if failure.cause == Cause::Step {
            self.failed.push(step);
        }
        self.kept.extend(kept.map(|kept| PendingFailedSession { step, reason: failure.reason.clone(), kept }));
    }

    /// Puts what was kept where `runner shell` finds it, now that all is written that will be.
    pub(super) fn keep_failed(&mut self) {
        for failed in std::mem::take(&mut self.kept) {
            let name = self.context.build.step(failed.step).name.clone();
            if let Err(error) = self.put_failed(failed) {
                let why = error_chain_with_hint(&error, error.hint());
                self.events.warn(Some(&name), &Warning::FailedNotKept { why });
            }
        }
    }

    fn put_failed(&self, failed: PendingFailedSession) -> Result<(), StoreError> {
        let PendingFailedSession { step: id, reason, kept: Kept { half, changes, tmpfs } } = failed;
        let build = self.context.build;
        let LayerStack { base, snapshots } = LayerStack::of(build, self.plan, id);
        let layer = |snapshot: &StepId| self.totals.layers.iter().find(|(step, _)| step == snapshot);
        let layers: Vec<String> =
            snapshots.iter().filter_map(|snapshot| Some(layer(snapshot)?.1.to_string())).collect();
        if layers.len() < snapshots.len() {
            // One of them could not be written, which is told already.
            return Ok(());
        }
        let step = build.step(id);
        let known = FailedStep {
            manifest: build.project.clone(),
            step: step.name.clone(),
            container: build.container(step.container).name.clone(),
            reason,
            time: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            base: base.map(|base| build.container(base).name.clone()),
            layers,
            changes,
            tmpfs,
            fields: key::of_step(build, id),
        };
        self.context.store.keep_failed(self.context.build_id, id.0, half, &known)
    }
}
