//! Checkpoints: the changes of a session since its last snapshot, stored between two steps and restored in a later
//! build.
//!
//! The next step waits until the changes are copied to the store's disk. The image is written from the copy, while
//! other steps run, and only as long as the snapshot after the checkpoint is not in the store.

use std::fs::DirBuilder;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use rustix::process::setpriority_process;

use super::checkpoints::Due;
use super::context::Context;
use super::failure::Failure;
use super::segment_table::CheckpointPlan;
use super::step_context::{CHANGES, StepContext, measured, session, unusable};
use crate::cache::key::Parents;
use crate::event::milliseconds;
use crate::event::{CheckpointStage, Event};
use crate::fs::copy_tree::{copy_tree, now_and_then};
use crate::fs::remove_tree::remove_tree;
use crate::model::{Checkpointing, StepId};
use crate::session::{RestoreProgress, RestoreReport, append_exact};
use crate::snapshot::{ImageProgress, write_image};
use crate::store::{CacheRecord, RecordedLayer};
use crate::threads::{On, share};
use crate::warning::{NoCheckpoint, Warning};

/// The nice value of a thread that uses only free processors, see nice(2).
const LOWEST_PRIORITY: i32 = 19;

/// The changes of a session, for a checkpoint.
pub enum Changes {
    /// A copy of them, from which the image is to be written.
    Copy(PathBuf),
    /// An incomplete copy, which took too long.
    Abandoned(PathBuf),
    /// An image of them.
    Image(PathBuf),
}

impl StepContext<'_, '_> {
    /// Copies the changes of the session since the last snapshot, if a checkpoint is due after the step that has just
    /// ended. The build's results do not depend on it.
    pub fn checkpoint(&self, plan: &CheckpointPlan, took: Duration) -> Option<Changes> {
        let most = match self.sessions.checkpoints.due(plan.of.segment, self.checkpointing(), took) {
            Due::No => return None,
            Due::Whole => None,
            Due::Within(most) => Some(most),
        };
        let changes = self.changes(plan, most).unwrap_or_else(|failure| {
            self.report_missing(plan, NoCheckpoint::Failed { why: failure.reason });
            None
        });
        match &changes {
            Some(Changes::Copy(_) | Changes::Image(_)) => self.sessions.checkpoints.copied(plan.of.segment),
            Some(Changes::Abandoned(_)) => self.report_missing(plan, NoCheckpoint::Dear),
            None => {}
        }
        changes
    }

    fn checkpointing(&self) -> Checkpointing {
        self.context.build.container(self.context.build.step(self.id).container).checkpoint
    }

    /// Copies the changes, in at most `most`.
    fn changes(&self, plan: &CheckpointPlan, most: Option<Duration>) -> Result<Option<Changes>, Failure> {
        let Context { build, lease, interrupt, .. } = self.context;
        let step = build.step(self.id);
        // Between two steps nothing runs in the session: the changes remain the same until the next step begins, unless
        // a step has sent a descriptor to another container, as it could before a snapshot. Freezing the directory
        // would not wait for a copy, but would break hard links: overlayfs copies files from below up name by name.
        let slot = self.sessions.shared(step.container)?;
        let session = session(&slot)?;
        let left = session.nonempty_tmpfs()?;
        if !left.is_empty() {
            self.report_missing(plan, NoCheckpoint::TmpfsLeft { targets: left });
            return Ok(None);
        }
        if session.may_change_network() {
            self.report_missing(plan, NoCheckpoint::Network);
            return Ok(None);
        }
        let Some(changes) = session.changes() else { return Ok(None) };
        let copy = lease.temp_file(&format!("{}.changes", step.name))?;
        let end = most.and_then(|most| Instant::now().checked_add(most));
        let mut is_late = false;
        let mut show = now_and_then(|bytes| {
            self.report(CheckpointStage::Copied, bytes, None);
            Ok(())
        });
        let mut report = |bytes| {
            is_late = end.is_some_and(|end| end < Instant::now());
            if is_late || interrupt.is_set() { Err(io::ErrorKind::Interrupted.into()) } else { show(bytes) }
        };
        let copied = DirBuilder::new().mode(0o700).create(&copy).and_then(|()| copy_tree(changes, &copy, &mut report));
        match copied {
            Ok(()) => Ok(Some(Changes::Copy(copy))),
            _ if interrupt.is_set() => Ok(None),
            _ if is_late => Ok(Some(Changes::Abandoned(copy))),
            // The store's filesystem has less space, or stores fewer attributes.
            Err(error) => {
                remove_tree(&copy).map_err(unusable("remove a copy of the changes"))?;
                if most.is_some() {
                    return Err(unusable("copy the changes")(error));
                }
                // The next step waits for the image.
                self.image_of(changes, interrupt.descriptor()).map(|image| Some(Changes::Image(image)))
            }
        }
    }

    fn image_of(&self, changes: &Path, interrupt: BorrowedFd<'_>) -> Result<PathBuf, Failure> {
        let Context { build, lease, .. } = self.context;
        let image = lease.temp_file(&format!("{}.checkpoint", build.step(self.id).name))?;
        let mut progress = |ImageProgress { bytes, percent }| self.report(CheckpointStage::Written, bytes, percent);
        write_image(changes, &image, CHANGES, interrupt, &mut progress)?;
        append_exact(changes, &image).map_err(unusable("note the times of the changes"))?;
        Ok(image)
    }

    fn report(&self, stage: CheckpointStage, bytes: u64, percent: Option<u8>) {
        let step = self.context.build.step(self.id).name.clone();
        self.events.send(Event::CheckpointProgress { step, stage, bytes, percent });
    }

    /// Stores a checkpoint, while the next step runs.
    pub fn store_checkpoint(&self, plan: &CheckpointPlan, took: Duration, changes: Changes) {
        let image = match changes {
            Changes::Abandoned(copy) => {
                // Where some of it cannot be removed now, closing the lease removes it.
                let _ = remove_tree(&copy);
                return;
            }
            Changes::Image(image) => {
                self.report(CheckpointStage::Written, 0, None);
                Ok(image)
            }
            Changes::Copy(copy) => {
                self.report(CheckpointStage::Written, 0, None);
                let image = self.image_behind(plan, &copy);
                let removed = remove_tree(&copy).map_err(unusable("remove a copy of the changes"));
                image.and_then(|image| removed.map(|()| image))
            }
        };
        match image.and_then(|image| self.record_checkpoint(plan, took, &image)) {
            Ok(CheckpointOutcome::Stored(size)) => {
                let step = self.context.build.step(self.id).name.clone();
                self.events.send(Event::CheckpointWritten { step, size });
            }
            Ok(CheckpointOutcome::InputsChanged) => self.report_missing(plan, NoCheckpoint::InputsChanged),
            Err(_) if self.context.interrupt.is_set() => {}
            Ok(CheckpointOutcome::Discarded) => self.report(CheckpointStage::Discarded, 0, None),
            Err(_) if self.sessions.checkpoints.are_over(plan.of.segment) => {
                self.report(CheckpointStage::Discarded, 0, None)
            }
            Err(failure) => {
                self.report(CheckpointStage::Discarded, 0, None);
                self.report_missing(plan, NoCheckpoint::Failed { why: failure.reason });
            }
        }
    }

    /// Writes the image of a copy with the lowest priority: steps and the snapshot use the processors first. Stops when
    /// the snapshot is in the store.
    fn image_behind(&self, plan: &CheckpointPlan, copy: &Path) -> Result<PathBuf, Failure> {
        let interrupt = self.context.interrupt.descriptor();
        let until = self.sessions.checkpoints.until_over(plan.of.segment, interrupt);
        let until = until.map_err(unusable("wait for the snapshot after a checkpoint"))?;
        let mut written = share(1, |on| {
            if on == On::ItsOwn {
                // For this thread, and those that it starts. Where that is refused, it only uses more of the
                // processors.
                let _ = setpriority_process(None, LOWEST_PRIORITY);
            }
            self.image_of(copy, until.as_fd())
        });
        written.pop().unwrap_or_else(|| Err(Failure::host("no thread wrote the image of a checkpoint")))
    }

    fn record_checkpoint(
        &self,
        plan: &CheckpointPlan,
        took: Duration,
        image: &Path,
    ) -> Result<CheckpointOutcome, Failure> {
        let Context { build, store, .. } = self.context;
        let segment = self.checker.segments().get(plan.of.segment);
        if self.sessions.checkpoints.are_over(plan.of.segment) {
            return Ok(CheckpointOutcome::Discarded);
        }
        let (digest, size) = measured(image)?;
        let pin = store.put_and_pin(image, &digest)?;
        if self.checker.changed_since(plan.of.segment, &plan.of.draft, &plan.of.below)?.is_some() {
            return Ok(CheckpointOutcome::InputsChanged);
        }
        let name = |id: &StepId| build.step(*id).name.clone();
        let recorded = CacheRecord {
            fields: plan.of.draft.of_checkpoint(plan.steps).with_base(&plan.of.below),
            build: build.name.clone(),
            container: build.container(segment.container).name.clone(),
            steps: segment.steps[..plan.steps].iter().map(name).collect(),
            duration_ms: milliseconds(took),
            time: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            layer: Some(RecordedLayer::on(&Parents::default(), digest, size)),
            exports: Vec::new(),
            tmpfs_left: Vec::new(),
        };
        let before = store.recorded(&recorded.fields.key()).and_then(|before| before.layer);
        store.record_checkpoint(&recorded)?;
        // A build with `--no-cache` has made the same checkpoint again, with other times in its image.
        if let Some(before) = before.filter(|before| before.digest != digest) {
            store.remove_unused_layer(&before.digest)?;
        }
        if self.sessions.checkpoints.pin(plan.of.segment, plan.steps, pin) {
            return Ok(CheckpointOutcome::Stored(size));
        }
        store.remove_checkpoint(&recorded.fields.key())?;
        // `remove_checkpoint` does not remove an image that is in use.
        store.remove_unused_layer(&digest)?;
        Ok(CheckpointOutcome::Discarded)
    }

    /// Notes the reason for which there is no checkpoint after the step. By default only the end of a failed build
    /// reports it.
    fn report_missing(&self, plan: &CheckpointPlan, why: NoCheckpoint) {
        self.sessions.checkpoints.missed(plan.of.segment, why.clone());
        if self.checkpointing() != Checkpointing::WhereCheap {
            self.events.warn(Some(&self.context.build.step(self.id).name), &Warning::NoCheckpoint { why });
        }
    }

    /// Opens the session where it begins with a checkpoint: restoring may take long, and does not count as time of the
    /// step.
    pub fn restore_checkpoint(&self) -> Result<(), Failure> {
        if self.report_restoring() {
            drop(self.sessions.shared(self.context.build.step(self.id).container)?);
        }
        Ok(())
    }

    /// Reports the progress of restoring the checkpoint that the session begins with, and returns whether there is one.
    pub fn report_restoring(&self) -> bool {
        let step = self.context.build.step(self.id);
        let (events, name, interrupted) = (self.events.clone(), step.name.clone(), self.context.interrupt.flag());
        self.sessions.report_restoring(step.container, |after| {
            RestoreReport::to(move |restoring| {
                let step = name.clone();
                events.send(match restoring {
                    RestoreProgress::Bytes(bytes) => {
                        Event::CheckpointProgress { step, stage: CheckpointStage::Restored, bytes, percent: None }
                    }
                    RestoreProgress::Done => Event::CheckpointRestored { step, after: after.clone() },
                });
                if interrupted.load(Ordering::SeqCst) { Err(io::ErrorKind::Interrupted.into()) } else { Ok(()) }
            })
        })
    }
}

/// The result of a checkpoint.
enum CheckpointOutcome {
    /// It is in the store, with that size in bytes.
    Stored(u64),
    /// The snapshot after it is in the store already.
    Discarded,
    /// An input has changed meanwhile.
    InputsChanged,
}
