//! The job of a step that begins: what its thread does from its start to its report.

use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::time::Instant;

use super::attempt::Meanwhile;
use super::drive::Run;
use super::ended::{Done, Report};
use super::parts::CheckpointPlan;
use super::step::Snapshotted;
use crate::build::{Action, SnapshotMode, StepId};
use crate::event::Event;
use crate::key::Reason;
use crate::threads::Crew;

/// Runs a step to its end.
pub(super) type StepJob<'s> = Box<dyn FnOnce(Meanwhile<'_>) -> Report + Send + 's>;

/// Runs a step on another thread.
pub(super) fn hand<'s>(crew: &Crew<'s, '_>, job: StepJob<'s>, sender: Sender<Report>) {
    crew.hand(move |_| {
        let _ = sender.send(job(&|| None));
    });
}

impl<'a, 'e> Run<'a, 'e> {
    /// The job of a step that begins now.
    pub(super) fn begin<'s>(
        &self,
        crew: &Crew<'s, '_>,
        id: StepId,
        reasons: Vec<Reason>,
        checkpoint: Option<CheckpointPlan>,
        sender: Sender<Report>,
    ) -> StepJob<'s>
    where
        'a: 's,
        'e: 's,
    {
        let Self { context, events, edge, hurry, is_stopping, .. } = *self;
        let keep_failed = self.options.keep_failed;
        let (name, container) = self.names(id);
        let work = self.work(id);
        let others = crew.clone();
        Box::new(move |meanwhile| {
            let started = Instant::now();
            events.send(Event::StepStarted { step: name, container, attempt: 1, reasons });
            let mut stored = None;
            let (result, log, took, kept) = match &context.build.step(id).action {
                Action::Snapshot(snapshot) => {
                    work.shows_restoring();
                    let frozen = || {
                        // A full image is what its container goes on above, so nothing can run before it is written.
                        if snapshot.mode == SnapshotMode::Layer {
                            let _ = sender.send(Report::Frozen { step: id });
                        }
                    };
                    let written = edge.guard(|| work.snapshot(snapshot, frozen));
                    let result = written.and_then(|Snapshotted { written, failure }| match failure {
                        None => Ok(Some(written)),
                        Some(failure) => {
                            stored = Some(written);
                            Err(failure)
                        }
                    });
                    (result, None, started.elapsed(), None)
                }
                _ => {
                    let turns = edge.guard(|| work.take_turns(hurry));
                    let turns = turns.and_then(|turns| edge.guard(|| work.restore_checkpoint()).map(|()| turns));
                    // How long it has waited says nothing of how long it takes.
                    let started = Instant::now();
                    let ran = turns.and_then(|_turns| edge.guard(|| Ok(work.process(meanwhile))));
                    let (result, log) = ran.unwrap_or_else(|failure| (Err(failure), None));
                    let took = started.elapsed();
                    let kept = result
                        .as_ref()
                        .err()
                        .filter(|_| keep_failed)
                        .and_then(|failure| edge.guard(|| Ok(work.keep(failure))).ok().flatten());
                    let checkpoint =
                        checkpoint.filter(|plan| !plan.is_before_snapshot || is_stopping.load(Ordering::Relaxed));
                    if let (Ok(()), Some(plan)) = (&result, checkpoint)
                        && let Ok(Some(changes)) = edge.guard(|| Ok(work.checkpoint(&plan, took)))
                    {
                        others.hand(move |_| {
                            let _ = edge.guard(|| {
                                work.keep_checkpoint(&plan, took, changes);
                                Ok(())
                            });
                        });
                    }
                    (result.map(|()| None), log, took, kept)
                }
            };
            Report::Done(Box::new(Done { step: id, took, result, stored, log, kept }))
        })
    }
}
