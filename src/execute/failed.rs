//! Stores the session of a step that has failed, for `runner shell`.

use std::path::PathBuf;
use std::time::SystemTime;

use super::dispatcher::Dispatcher;
use super::failed_session::{FailedSessionImages, PendingFailedSession};
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
    /// Writes images of the session as it is now, where the step's process has failed. To be called before any other
    /// process runs in it.
    pub fn write_failed_session(&self, failure: &Failure) -> Option<FailedSessionImages> {
        if failure.cause != Cause::Step || self.context.interrupt.is_set() {
            return None;
        }
        match self.images() {
            Ok(images) => Some(images),
            // An interrupted build does not store it.
            Err(_) if self.context.interrupt.is_set() => None,
            Err(error) => {
                let step = self.context.build.step(self.id).name.as_str();
                self.events.warn(Some(step), &Warning::FailedNotKept { why: error.reason });
                None
            }
        }
    }

    fn images(&self) -> Result<FailedSessionImages, Failure> {
        let step = self.context.build.step(self.id);
        let slot = self.sessions.shared(step.container)?;
        let session = session(&slot)?;
        let directory = self.context.lease.temp_file(&format!("failed{}", self.id.0))?;
        let draft = FailedSessionDraft::begin(directory).map_err(unusable("make a directory in the store"))?;
        let write = |from: &std::path::Path, to: PathBuf| {
            let mut progress = |ImageProgress { bytes, percent }| {
                self.events.send(Event::SnapshotProgress { step: step.name.clone(), bytes, percent });
            };
            write_image(from, &to, CHANGES, self.context.interrupt.descriptor(), &mut progress)?;
            append_exact(from, &to).map_err(unusable("note the times of the changes"))
        };
        let changes = session.changes();
        if let Some(changes) = changes {
            write(changes, draft.changes())?;
        }
        let mut tmpfs = Vec::new();
        let used = session.nonempty_tmpfs()?;
        for (target, place) in session.tmpfs().filter(|(target, _)| used.iter().any(|used| used == target)) {
            write(place, draft.tmpfs(tmpfs.len()))?;
            tmpfs.push(target.to_owned());
        }
        Ok(FailedSessionImages { draft, changes: changes.is_some(), tmpfs })
    }
}

impl Dispatcher<'_, '_> {
    pub(super) fn has_failed(&mut self, step: StepId, failure: &Failure, images: Option<FailedSessionImages>) {
        if failure.cause == Cause::Step {
            self.failed.push(step);
        }
        self.pending_failed.extend(images.map(|images| PendingFailedSession {
            step,
            reason: failure.reason.clone(),
            images,
        }));
    }

    /// Stores the images of failed sessions for `runner shell`, after all layers have been written.
    pub(super) fn keep_failed(&mut self) {
        for failed in std::mem::take(&mut self.pending_failed) {
            let name = self.context.build.step(failed.step).name.clone();
            if let Err(error) = self.put_failed(failed) {
                let why = error_chain_with_hint(&error, error.hint());
                self.events.warn(Some(&name), &Warning::FailedNotKept { why });
            }
        }
    }

    fn put_failed(&self, failed: PendingFailedSession) -> Result<(), StoreError> {
        let PendingFailedSession { step: id, reason, images: FailedSessionImages { draft, changes, tmpfs } } = failed;
        let build = self.context.build;
        let LayerStack { base, snapshots } = LayerStack::of(build, self.plan, id);
        let layer = |snapshot: &StepId| self.totals.layers.iter().find(|(step, _)| step == snapshot);
        let layers: Vec<String> =
            snapshots.iter().filter_map(|snapshot| Some(layer(snapshot)?.1.to_string())).collect();
        if layers.len() < snapshots.len() {
            // One of them could not be written, which has been reported already.
            return Ok(());
        }
        let step = build.step(id);
        let facts = FailedStep {
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
        self.context.store.store_failed_session(self.context.build_id, id.0, draft, &facts)
    }
}
