//! Checkpoints: what a session has changed since its last snapshot, stored between two steps and restored in a later build.
//!
//! The next step waits until the changes are copied to the store's disk. Their image is written from the copy, while other
//! steps run.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use super::parts::CheckpointPlan;
use super::step::{CHANGES, Work, measured, session, unusable};
use super::{Context, Failure, milliseconds};
use crate::build::StepId;
use crate::event::{CheckpointStage, Event};
use crate::fs::copy_tree::copy_tree;
use crate::fs::remove_tree::remove_tree;
use crate::session::{RestoreReport, Restoring, append_exact};
use crate::snapshot::{ImageProgress, write_image};
use crate::store::{Recorded, RecordedLayer};
use crate::warning::{NoCheckpoint, Warning};

/// The changes of a session, for a checkpoint.
pub enum Changes {
    /// A copy of it, of which an image is to be written.
    Copy(PathBuf),
    /// An image of it.
    Image(PathBuf),
}

impl Work<'_, '_> {
    /// Copies what has changed in the session since the last snapshot, if the step that has just ended was a slow one. Nothing
    /// of the build depends on it.
    pub fn checkpoint(&self, took: Duration) -> Option<Changes> {
        let container = self.context.build.container(self.context.build.step(self.id).container);
        if container.checkpoint.is_none_or(|slow| took < slow) {
            return None;
        }
        self.changes().unwrap_or_else(|failure| {
            self.tell_no_checkpoint(NoCheckpoint::Failed { why: failure.reason });
            None
        })
    }

    fn changes(&self) -> Result<Option<Changes>, Failure> {
        let Context { build, lease, interrupt, .. } = self.context;
        let step = build.step(self.id);
        // Between two steps nothing runs in the session: what has changed is the same until the next one begins. To freeze
        // it would not wait for a copy, but would break hard links: what is below is copied up name by name.
        let room = self.rooms.running(step.container)?;
        let session = session(&room)?;
        let left = session.tmpfs_left()?;
        if !left.is_empty() {
            self.tell_no_checkpoint(NoCheckpoint::TmpfsLeft { targets: left });
            return Ok(None);
        }
        let Some(changes) = session.changes() else { return Ok(None) };
        let copy = lease.temp_file(&format!("{}.changes", step.name))?;
        let mut report = |bytes| {
            self.report(CheckpointStage::Copied, bytes, None);
            if interrupt.is_set() { Err(io::ErrorKind::Interrupted.into()) } else { Ok(()) }
        };
        let copied = DirBuilder::new().mode(0o700).create(&copy).and_then(|()| copy_tree(changes, &copy, &mut report));
        match copied {
            Ok(()) => Ok(Some(Changes::Copy(copy))),
            _ if interrupt.is_set() => Ok(None),
            // The store's filesystem has less room, or holds fewer attributes: the next step waits for the image.
            Err(_) => {
                remove_tree(&copy).map_err(unusable("remove a copy of the changes"))?;
                self.image_of(changes).map(|image| Some(Changes::Image(image)))
            }
        }
    }

    fn image_of(&self, changes: &Path) -> Result<PathBuf, Failure> {
        let Context { build, lease, interrupt, .. } = self.context;
        let image = lease.temp_file(&format!("{}.checkpoint", build.step(self.id).name))?;
        let mut progress = |ImageProgress { bytes, percent }| self.report(CheckpointStage::Written, bytes, percent);
        write_image(changes, &image, CHANGES, interrupt.descriptor(), &mut progress)?;
        append_exact(changes, &image).map_err(unusable("note the times of the changes"))?;
        Ok(image)
    }

    fn report(&self, stage: CheckpointStage, bytes: u64, percent: Option<u8>) {
        let step = self.context.build.step(self.id).name.clone();
        self.events.send(Event::CheckpointProgress { step, stage, bytes, percent });
    }

    /// Stores a checkpoint, while the next step runs.
    pub fn keep_checkpoint(&self, plan: &CheckpointPlan, took: Duration, changes: Changes) {
        self.report(CheckpointStage::Written, 0, None);
        let kept = match changes {
            Changes::Image(image) => self.record_checkpoint(plan, took, &image),
            Changes::Copy(copy) => {
                let image = self.image_of(&copy);
                let removed = remove_tree(&copy).map_err(unusable("remove a copy of the changes"));
                image
                    .and_then(|image| removed.map(|()| image))
                    .and_then(|image| self.record_checkpoint(plan, took, &image))
            }
        };
        match kept {
            Ok(Kept::Stored(size)) => {
                let step = self.context.build.step(self.id).name.clone();
                self.events.send(Event::CheckpointWritten { step, size });
            }
            Ok(Kept::Discarded) => self.report(CheckpointStage::Discarded, 0, None),
            Ok(Kept::InputsChanged) => self.tell_no_checkpoint(NoCheckpoint::InputsChanged),
            Err(_) if self.context.interrupt.is_set() => {}
            Err(failure) => self.tell_no_checkpoint(NoCheckpoint::Failed { why: failure.reason }),
        }
    }

    fn record_checkpoint(&self, plan: &CheckpointPlan, took: Duration, image: &Path) -> Result<Kept, Failure> {
        let Context { build, store, .. } = self.context;
        let segment = self.judge.segments().get(plan.segment);
        if self.rooms.are_checkpoints_over(plan.segment) {
            return Ok(Kept::Discarded);
        }
        let (digest, size) = measured(image)?;
        let held = store.put_and_hold(image, &digest)?;
        if self.judge.changed_since(plan.segment, &plan.draft, &plan.below)?.is_some() {
            return Ok(Kept::InputsChanged);
        }
        let name = |id: &StepId| build.step(*id).name.clone();
        let recorded = Recorded {
            fields: plan.draft.of_checkpoint(plan.steps).on(&plan.below),
            build: build.name.clone(),
            container: build.container(segment.container).name.clone(),
            steps: segment.steps[..plan.steps].iter().map(name).collect(),
            duration_ms: milliseconds(took),
            time: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            layer: Some(RecordedLayer { digest, size, below: Vec::new() }),
            tmpfs_left: Vec::new(),
        };
        store.record_checkpoint(&recorded)?;
        if self.rooms.keep_checkpoint(plan.segment, held) {
            return Ok(Kept::Stored(size));
        }
        store.remove_checkpoint(&recorded.fields.key())?;
        // Whoever found it in use has left the image.
        store.remove_unused_layer(&digest)?;
        Ok(Kept::Discarded)
    }

    fn tell_no_checkpoint(&self, why: NoCheckpoint) {
        self.events.warn(Some(&self.context.build.step(self.id).name), &Warning::NoCheckpoint { why });
    }

    /// Opens the session where it begins with a checkpoint, which may take long and is no part of the step.
    pub fn restore_checkpoint(&self) -> Result<(), Failure> {
        if self.shows_restoring() {
            drop(self.rooms.running(self.context.build.step(self.id).container)?);
        }
        Ok(())
    }

    /// Has it shown how far the checkpoint is restored that the session begins with; whether there is one.
    pub fn shows_restoring(&self) -> bool {
        let step = self.context.build.step(self.id);
        let (events, name, interrupted) = (self.events.clone(), step.name.clone(), self.context.interrupt.flag());
        self.rooms.report_restoring(step.container, |after| {
            RestoreReport::to(move |restoring| {
                let step = name.clone();
                events.send(match restoring {
                    Restoring::Bytes(bytes) => {
                        Event::CheckpointProgress { step, stage: CheckpointStage::Restored, bytes, percent: None }
                    }
                    Restoring::Done => Event::CheckpointRestored { step, after: after.clone() },
                });
                if interrupted.load(Ordering::SeqCst) { Err(io::ErrorKind::Interrupted.into()) } else { Ok(()) }
            })
        })
    }
}

/// The result of a checkpoint.
enum Kept {
    /// It is in the store, and takes so many bytes.
    Stored(u64),
    /// The snapshot after it is in the store already.
    Discarded,
    /// An input is another by now.
    InputsChanged,
}
