//! The loop of a run: receives what threads report, asks the scheduler, and performs its actions.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use super::cache_check::CacheCheck;
use super::commit::commit;
use super::context::Context;
use super::edge::{Edge, EndsWithPanic};
use super::failed_session::PendingFailedSession;
use super::failure::Failure;
use super::message::{Action, Message, SkipReason};
use super::options::{KeepOpen, Options};
use super::place::Places;
use super::scheduler::{Limits, Scheduler, Shape};
use super::segment_table::{LayerChains, SegmentTable};
use super::session_pool::SessionPool;
use super::step_context::StepContext;
use super::summary::Summary;
use super::totals::Totals;
use super::worker_message::{StepJob, WorkerMessage, hand};
use crate::cache::CacheChecker;
use crate::event::milliseconds;
use crate::event::{BuildStatus, Event, Events};
use crate::model::{Action as StepAction, ContainerId, Role, Step, StepId};
use crate::plan::{Plan, input_barriers};
use crate::threads::{Crew, On};
use crate::warning::Warning;

/// Threads that record results and close sessions.
const MAX_BACKGROUND: usize = 4;

/// The threads of a run.
#[derive(Clone, Copy)]
struct Crews<'c, 's, 'e> {
    /// For steps and cache checks, whose numbers the scheduler bounds, and for the images of checkpoints.
    steps: &'c Crew<'s, 'e>,
    /// For jobs that wait for nothing.
    background: &'c Crew<'s, 'e>,
}

/// Runs the plan to its end.
pub fn apply<'a>(
    context: Context<'a>,
    plan: &Plan,
    checker: &CacheChecker<'_>,
    options: Options,
    sessions: &SessionPool<'a>,
    events: &Events,
) -> Summary {
    let begun = Instant::now();
    let jobs = options.jobs.max(1);
    events.send(Event::BuildStarted { name: context.build.name.clone(), steps: plan.order().len() });
    let _reporting = context.images.reporter.send_to(events);
    let (sender, receiver) = mpsc::channel();
    let chains = LayerChains::default();
    let (stop_waiting, is_stopping) = (AtomicBool::new(false), AtomicBool::new(false));
    let edge = Edge::default();
    let mut dispatcher = Dispatcher {
        context,
        edge: &edge,
        plan,
        checker,
        chains: &chains,
        sessions,
        events,
        scheduler: Scheduler::new(
            shape(context, plan, checker),
            Limits { jobs, keep_going: options.keep_going, can_store: !context.store.is_read_only() },
        ),
        table: SegmentTable::new(context.build, checker.segments(), &chains),
        stop_waiting: &stop_waiting,
        is_stopping: &is_stopping,
        options,
        totals: Totals::default(),
        failure: None,
        places: Places::default(),
        failed: Vec::new(),
        pending_failed: Vec::new(),
        ran: Vec::new(),
    };
    thread::scope(|scope| {
        let _ends = EndsWithPanic(context.interrupt);
        let (steps, _dismissal) = Crew::new(scope);
        let (background, _background_dismissal) = Crew::bounded(scope, MAX_BACKGROUND);
        dispatcher.run(Crews { steps: &steps, background: &background }, &sender, &receiver);
    });
    dispatcher.keep_failed();
    let continues = dispatcher.continuations();
    let Dispatcher { totals, failed, scheduler, .. } = dispatcher;
    let has_bug = edge.has_panicked() || scheduler.has_bug();
    let status = match (context.interrupt.is_set(), totals.failed) {
        (true, _) => BuildStatus::Interrupted,
        (false, 0) if !has_bug => BuildStatus::Done,
        (false, _) => BuildStatus::Failed,
    };
    let Totals { ran, cached, failed: failures, stopped, skipped, tests, .. } = totals;
    events.send(Event::BuildFinished {
        status,
        ran,
        cached,
        failed: failures,
        stopped,
        skipped,
        tests,
        duration_ms: milliseconds(begun.elapsed()),
        continues,
    });
    let Totals { step_failed, mismatched, wrong_input, mut layers, exports, .. } = totals;
    layers.retain(|(step, _)| context.build.step(*step).role != Role::TestedState);
    Summary { status, step_failed, mismatched, wrong_input, has_bug, failed, layers, exports }
}

fn shape<'s>(context: Context<'s>, plan: &'s Plan, checker: &CacheChecker<'s>) -> Shape<'s> {
    let (build, segments) = (context.build, checker.segments());
    Shape {
        plan,
        segments,
        containers: build.steps.iter().map(|step| step.container).collect(),
        tests: build.steps.iter().map(Step::is_test).collect(),
        parents: (0..segments.all().len()).map(|index| segments.built_on(build, index)).collect(),
        barriers: input_barriers(build, plan, segments),
        is_export: build.steps.iter().map(|step| matches!(step.action, StepAction::Export(_))).collect(),
        sees_output: Box::new(move |step, snapshot| context.paths.shows_output(build.step(step).settings(), snapshot)),
    }
}

/// A run, on the thread that decides.
pub(super) struct Dispatcher<'a, 'e> {
    pub(super) context: Context<'a>,
    /// Has the panics of threads reported.
    pub(super) edge: &'e Edge,
    pub(super) plan: &'e Plan,
    pub(super) checker: &'e CacheChecker<'e>,
    pub(super) chains: &'e LayerChains,
    pub(super) sessions: &'e SessionPool<'a>,
    pub(super) events: &'e Events,
    pub(super) scheduler: Scheduler<'e>,
    pub(super) table: SegmentTable<'e>,
    /// Has threads that wait for another runner wait no longer.
    pub(super) stop_waiting: &'e AtomicBool,
    /// For threads: nothing more begins.
    pub(super) is_stopping: &'e AtomicBool,
    pub(super) options: Options,
    pub(super) totals: Totals,
    /// The failure of the cache check that is being handled.
    pub(super) failure: Option<Failure>,
    pub(super) places: Places,
    /// Steps that failed by themselves.
    pub(super) failed: Vec<StepId>,
    /// Those of them whose sessions are to be stored.
    pub(super) pending_failed: Vec<PendingFailedSession>,
    /// Steps that ran and ended well, and how long each took.
    pub(super) ran: Vec<(StepId, Duration)>,
}

impl<'a, 'e> Dispatcher<'a, 'e> {
    fn run<'s>(&mut self, crews: Crews<'_, 's, '_>, sender: &Sender<WorkerMessage>, receiver: &Receiver<WorkerMessage>)
    where
        'a: 's,
        'e: 's,
    {
        let mut actions = self.scheduler.start();
        loop {
            let job = self.perform(actions, crews, sender);
            self.show_state_to_threads();
            // An interrupt or a panic can have come while the last message was handled.
            if let Some(reason) = self.reason_to_stop() {
                if let Some((_, job)) = job {
                    hand(crews.steps, job, sender.clone());
                }
                actions = self.scheduler.handle(Message::Stop { reason });
                continue;
            }
            let message = match job {
                // A report from another thread would take two wake-ups, as much as many a step.
                Some((step, job)) if self.is_alone(step) => Some(job()),
                Some((_, job)) => {
                    hand(crews.steps, job, sender.clone());
                    receiver.recv().ok()
                }
                None if self.scheduler.is_finished() => return,
                None => receiver.recv().ok(),
            };
            // The sender above lives as long as this loop, so there is always a message to come.
            let Some(message) = message else { return };
            actions = self.handle(message);
        }
    }

    fn reason_to_stop(&self) -> Option<SkipReason> {
        if self.scheduler.is_stopped() {
            None
        } else if self.context.interrupt.is_set() {
            Some(SkipReason::Interrupted)
        } else {
            self.edge.has_panicked().then_some(SkipReason::Bug)
        }
    }

    fn show_state_to_threads(&self) {
        self.stop_waiting.store(self.scheduler.must_not_wait(), Ordering::Relaxed);
        self.is_stopping.store(self.scheduler.is_stopped(), Ordering::Relaxed);
    }

    /// Whether a step that begins now is all that there is to do until its end. A snapshot reports before it has ended.
    fn is_alone(&self, step: StepId) -> bool {
        !matches!(self.context.build.step(step).action, StepAction::Snapshot(_)) && self.scheduler.is_alone()
    }

    /// Performs the actions. Returns the last step that begins, which may run on this thread.
    fn perform<'s>(
        &mut self,
        actions: Vec<Action>,
        crews: Crews<'_, 's, '_>,
        sender: &Sender<WorkerMessage>,
    ) -> Option<(StepId, StepJob<'s>)>
    where
        'a: 's,
        'e: 's,
    {
        let mut last: Option<(StepId, StepJob<'s>)> = None;
        for action in actions {
            match action {
                Action::Check { segment } => self.check(segment, crews.steps, sender.clone()),
                Action::Run { step } => {
                    let reasons = self.table.reasons(step);
                    let open = open_steps(&self.scheduler, self.checker, step);
                    let checkpoint = self.table.checkpoint(step, open);
                    let job = self.job(crews.steps, step, reasons, checkpoint, sender.clone());
                    if let Some((_, before)) = last.replace((step, job)) {
                        hand(crews.steps, before, sender.clone());
                    }
                }
                Action::Take { step } => self.take(step, crews.steps, sender.clone()),
                Action::ReportCached { step } => self.report_cached(step),
                Action::Skip { step, reason } => self.report_skipped(step, reason),
                Action::Fail { step } => self.report_unchecked(step),
                Action::CannotStore { step } => self.report_read_only(step),
                Action::Link { segment } => self.table.link(segment, self.checker),
                Action::Commit { segment } => self.commit(segment, crews.background, sender.clone()),
                Action::Abandon { segment } => self.table.abandon(segment),
                Action::CloseSession { container } => self.close_session(container, crews.background),
            }
        }
        last
    }

    fn check<'s>(&self, segment: usize, crew: &Crew<'s, '_>, sender: Sender<WorkerMessage>)
    where
        'a: 's,
        'e: 's,
    {
        let Self { context, edge, checker, sessions, chains, events, stop_waiting, .. } = *self;
        let is_unsettled = self.scheduler.has_unsettled_inputs(segment);
        crew.hand(move |on| {
            // On the dispatcher's thread nobody can end its wait for another runner.
            static AT_ONCE: AtomicBool = AtomicBool::new(true);
            let stop_waiting = if on == On::Callers { &AT_ONCE } else { stop_waiting };
            let waits = || drop(sender.send(WorkerMessage::CheckWaits { segment }));
            let check = CacheCheck {
                context,
                checker,
                sessions,
                chains,
                events,
                segment,
                stop_waiting,
                is_unsettled,
                waits: &waits,
            };
            let result = Box::new(edge.guard(|| check.run()));
            let _ = sender.send(WorkerMessage::Checked { segment, result });
        });
    }

    fn take<'s>(&mut self, step: StepId, crew: &Crew<'s, '_>, sender: Sender<WorkerMessage>)
    where
        'a: 's,
        'e: 's,
    {
        let segments = self.checker.segments();
        let (work, edge) = (self.step_context(step), self.edge);
        if matches!(self.context.build.step(step).action, StepAction::Export(_)) {
            let fresh = self.table.fresh(step).zip(segments.of_step(step));
            crew.hand(move |_| {
                let take = || match fresh {
                    Some((recorded, segment)) => work.take_export(&recorded, segment),
                    None => Err(Failure::host("the record of the export is gone")),
                };
                let _ = sender.send(WorkerMessage::Taken { step, result: edge.guard(take) });
            });
            return;
        }
        let fresh = self.table.take_fresh(step);
        let before = segments.of_step(step).and_then(|index| segments.before(index));
        crew.hand(move |_| {
            let take = || match fresh {
                Some((recorded, pin)) => work.take_from_store(&recorded, before, pin),
                None => Err(Failure::host("the record of the snapshot is gone")),
            };
            let _ = sender.send(WorkerMessage::Taken { step, result: edge.guard(take) });
        });
    }

    fn commit<'s>(&mut self, segment: usize, crew: &Crew<'s, '_>, sender: Sender<WorkerMessage>)
    where
        'a: 's,
        'e: 's,
    {
        let to_commit = self.table.take_commit(segment);
        let Self { checker, context, sessions, events, edge, .. } = *self;
        crew.hand(move |_| {
            let locks =
                edge.guard(|| Ok(commit(checker, context, sessions, events, to_commit))).unwrap_or_else(|failure| {
                    events.warn(None, &Warning::NotChecked { why: failure.reason });
                    Vec::new()
                });
            let _ = sender.send(WorkerMessage::Committed { segment, locks });
        });
    }

    /// Closes a session whose last step is over, while others run.
    fn close_session<'s>(&self, id: ContainerId, crew: &Crew<'s, '_>)
    where
        'a: 's,
        'e: 's,
    {
        let stays_open = match self.options.keep_open {
            KeepOpen::None => false,
            KeepOpen::Container(container) => container == id,
            KeepOpen::Failed => self.failed.iter().any(|step| self.context.build.step(*step).container == id),
        };
        if stays_open {
            return;
        }
        let (sessions, events, edge) = (self.sessions, self.events, self.edge);
        let container = self.context.build.container(id).name.clone();
        crew.hand(move |_| {
            if let Err(failure) = edge.guard(|| Ok(sessions.close(id)?)) {
                events.warn(None, &Warning::Session { container, why: failure.reason });
            }
        });
    }

    pub(super) fn step_context(&self, id: StepId) -> StepContext<'a, 'e> {
        let Self { context, checker, sessions, events, .. } = *self;
        StepContext { context, checker, sessions, events, id }
    }

    pub(super) fn names(&self, id: StepId) -> (String, String) {
        let step = self.context.build.step(id);
        (step.name.clone(), self.context.build.container(step.container).name.clone())
    }
}

/// How many steps of a step's segment have not ended, itself among them.
fn open_steps(scheduler: &Scheduler<'_>, checker: &CacheChecker<'_>, step: StepId) -> usize {
    checker.segments().of_step(step).map_or(0, |segment| scheduler.open_steps(segment))
}
