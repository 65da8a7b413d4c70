//! The job of a step, from its start to its report.

use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::time::Instant;

use super::dispatcher::Dispatcher;
use super::export::Exported;
use super::segment_table::CheckpointPlan;
use super::step::Snapshotted;
use super::worker_message::{StepDone, StepJob, WorkerMessage};
use crate::cache::key::Reason;
use crate::event::Event;
use crate::model::{Action, SnapshotMode, StepId};
use crate::threads::Crew;

impl<'a, 'e> Dispatcher<'a, 'e> {
    /// Returns the job of a step that begins now.
    pub(super) fn job<'s>(
        &self,
        crew: &Crew<'s, '_>,
        id: StepId,
        reasons: Vec<Reason>,
        checkpoint: Option<CheckpointPlan>,
        sender: Sender<WorkerMessage>,
    ) -> StepJob<'s>
    where
        'a: 's,
        'e: 's,
    {
        let Self { context, events, edge, stop_waiting, is_stopping, .. } = *self;
        let keep_failed = self.options.keep_failed;
        let (name, container) = self.names(id);
        let step_context = self.step_context(id);
        let others = crew.clone();
        Box::new(move || {
            let started = Instant::now();
            events.send(Event::StepStarted { step: name, container, attempt: 1, reasons });
            let (mut stored, mut exported) = (None, None);
            let (result, log, took, images) = match &context.build.step(id).action {
                Action::Snapshot(snapshot) => {
                    step_context.report_restoring();
                    let frozen = || {
                        // A container continues on its full image, so nothing can run before that is written.
                        if snapshot.mode == SnapshotMode::Layer {
                            let _ = sender.send(WorkerMessage::Frozen { step: id });
                        }
                    };
                    let written = edge.guard(|| step_context.snapshot(snapshot, frozen));
                    let result = written.and_then(|Snapshotted { written, failure }| match failure {
                        None => Ok(Some(written)),
                        Some(failure) => {
                            stored = Some(written);
                            Err(failure)
                        }
                    });
                    (result, None, started.elapsed(), None)
                }
                Action::Export(export) => {
                    step_context.report_restoring();
                    let written = edge.guard(|| step_context.export(export));
                    let result = written.and_then(|Exported { recorded, failure }| {
                        exported = Some(recorded);
                        failure.map_or(Ok(None), Err)
                    });
                    (result, None, started.elapsed(), None)
                }
                Action::Run(_) | Action::Exec(_) | Action::Copy(_) => {
                    let turns = edge.guard(|| step_context.take_turns(stop_waiting));
                    let turns =
                        turns.and_then(|turns| edge.guard(|| step_context.restore_checkpoint()).map(|()| turns));
                    // The time of waiting does not count as the step's duration.
                    let started = Instant::now();
                    let ran = turns.and_then(|_turns| edge.guard(|| Ok(step_context.process())));
                    let (result, log) = ran.unwrap_or_else(|failure| (Err(failure), None));
                    let took = started.elapsed();
                    let images = result.as_ref().err().filter(|_| keep_failed).and_then(|failure| {
                        edge.guard(|| Ok(step_context.write_failed_session(failure))).ok().flatten()
                    });
                    let checkpoint =
                        checkpoint.filter(|plan| !plan.is_before_snapshot || is_stopping.load(Ordering::Relaxed));
                    if let (Ok(()), Some(plan)) = (&result, checkpoint)
                        && let Ok(Some(changes)) = edge.guard(|| Ok(step_context.checkpoint(&plan, took)))
                    {
                        others.hand(move |_| {
                            let _ = edge.guard(|| {
                                step_context.store_checkpoint(&plan, took, changes);
                                Ok(())
                            });
                        });
                    }
                    (result.map(|()| None), log, took, images)
                }
            };
            WorkerMessage::Done(Box::new(StepDone { step: id, took, result, stored, exported, log, images }))
        })
    }
}
