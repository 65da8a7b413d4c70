//! A run of one plan: its cache checker, its events, and the reporter that shows them.

use std::io::Write;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread::JoinHandle;

use super::analysis::Analysis;
use super::command_error::{CommandError, check_error, thread_error};
use super::long_reads::LongReads;
use crate::cache::{self, CacheChecker};
use crate::error::{Exit, error_chain_with_hint};
use crate::estimate::EstimatedEvents;
use crate::event::{BuildStatus, Events};
use crate::execute::{self, Context, Options, SessionPool, Summary};
use crate::report::{self, Mode, ReportOutputs, Shown};
use crate::threads;
use crate::warning::Warning;

/// A plan with its cache checker. Nothing is shown yet.
pub struct CheckedPlan<'p, 'c> {
    context: Context<'c>,
    analysis: &'p Analysis<'p>,
    long_reads: LongReads,
    /// The cache checker.
    pub checker: CacheChecker<'p>,
}

/// A plan that runs, shown by a reporter on a thread of its own.
pub struct PlanRun<'p, 'c> {
    context: Context<'c>,
    analysis: &'p Analysis<'p>,
    reporter: JoinHandle<Shown>,
    /// The cache checker.
    pub checker: CacheChecker<'p>,
    /// The events, which the reporter shows until their last sender is dropped.
    pub events: Events,
}

impl<'p, 'c: 'p> CheckedPlan<'p, 'c> {
    /// Makes the cache checker of a plan. Of the options, those that follow from the context are set here.
    pub fn new(context: Context<'c>, analysis: &'p Analysis<'p>, options: cache::Options) -> Self {
        let long_reads = LongReads::default();
        let options = cache::Options {
            stop: context.interrupt.flag(),
            runtime: context.workspace.runtime().clone(),
            long_read: long_reads.reporter(),
            opened: Arc::clone(context.paths.opened()),
            images: Arc::clone(&context.images.found),
            ..options
        };
        let checker = analysis.checker(Some(context.store), options);
        Self { context, analysis, long_reads, checker }
    }

    /// Refuses files of rootfs sources that have other digests than the manifest names, before a step runs.
    ///
    /// # Errors
    /// With [`Exit::Usage`] for another digest; with [`Exit::Interrupted`] where the files were not read to their ends.
    pub fn refuse_other_files(&self) -> Result<(), CommandError> {
        let refused = self.checker.refuse_other_files();
        refused.map_err(|error| unless_interrupted(self.context, check_error(error).into()))
    }

    /// Starts the reporter, which also shows estimates of the remaining time with so many steps at once.
    ///
    /// # Errors
    /// If the host grants no thread.
    pub fn show(
        self,
        jobs: NonZeroUsize,
        mode: Mode,
        out: impl Write + Send + 'static,
        outputs: ReportOutputs,
    ) -> Result<PlanRun<'p, 'c>, CommandError> {
        let Self { context, analysis, long_reads, checker } = self;
        let (events, receiver) = Events::channel();
        let events = events.masking(context.workspace.secrets());
        long_reads.send_to(&events);
        let estimated =
            EstimatedEvents::new(receiver, context.build, &analysis.plan, jobs.get(), context.store.clone());
        let reporter =
            threads::start("report", move || estimated.report(|events| report::run(events, mode, out, outputs)))
                .map_err(|error| thread_error("start the thread that reports the build", error))?;
        Ok(PlanRun { context, analysis, reporter, checker, events })
    }
}

impl<'c> PlanRun<'_, 'c> {
    /// Runs the steps of the plan.
    pub fn run(&self, sessions: &SessionPool<'c>, options: Options) -> Summary {
        execute::apply(self.context, &self.analysis.plan, &self.checker, options, sessions, &self.events)
    }

    /// Closes the cache checker, then the events, and waits for the reporter, which shows the remaining ones. Returns the errors
    /// of the reporter; a reporter that panicked has printed its message.
    pub fn close(self, unsaved: Unsaved) -> Option<Shown> {
        let Self { reporter, checker, events, .. } = self;
        if let Err(error) = checker.close()
            && unsaved == Unsaved::Warn
        {
            events.warn(None, &Warning::NotLearnt { why: error_chain_with_hint(&error, error.hint()) });
        }
        drop(events);
        reporter.join().ok()
    }
}

/// The reaction to digests of host files that cannot be stored for the next build, which then reads the files again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsaved {
    /// Warns of it.
    Warn,
    /// Ignores it.
    Ignore,
}

/// Returns the exit code of an interruption if there was one, which may have caused the error; else the error.
pub fn unless_interrupted(context: Context<'_>, error: CommandError) -> CommandError {
    if context.interrupt.is_set() { Exit::Interrupted.into() } else { error }
}

/// Returns the exit code of a run as the error of a command, unless the run succeeded.
pub fn result_of(summary: &Summary) -> Result<(), CommandError> {
    match summary.status {
        _ if summary.has_bug => Err(Exit::Internal.into()),
        BuildStatus::Done => Ok(()),
        BuildStatus::Interrupted => Err(Exit::Interrupted.into()),
        BuildStatus::Failed if summary.mismatched => Err(Exit::Mismatch.into()),
        BuildStatus::Failed if summary.step_failed => Err(Exit::StepFailed.into()),
        BuildStatus::Failed if summary.wrong_input => Err(Exit::Usage.into()),
        BuildStatus::Failed => Err(Exit::Host.into()),
    }
}
