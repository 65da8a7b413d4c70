//! Tests of the estimates and of the timings that are stored.

use std::io::{self, Write};
use std::path::Path;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::event::{BuildStatus, StepStage, StepStatus};
use crate::model::StepId;
use crate::plan::fixture::{any_build, build};
use crate::report::{self, Mode, ReportOutputs};
use crate::store::Timing;

fn build_started() -> Event {
    Event::BuildStarted { name: "test".into(), steps: 1 }
}

fn started(step: &str) -> Event {
    Event::StepStarted { step: step.into(), container: "c0".into(), attempt: 1, reasons: Vec::new() }
}

fn ended(step: &str, status: StepStatus, duration_ms: u64) -> Event {
    let (step, container, log, reason) = (step.into(), "c0".into(), None, None);
    Event::StepFinished {
        step,
        container,
        status,
        exit_code: None,
        duration_ms,
        test: false,
        log,
        reason,
        failure: None,
    }
}

fn ran(step: &str, duration_ms: u64) -> Event {
    ended(step, StepStatus::Ran, duration_ms)
}

fn stage(steps: &[usize], stage: StepStage) -> Event {
    Event::StageReached { steps: steps.iter().copied().map(StepId).collect(), stage }
}

fn printed() -> Event {
    Event::Warning { step: None, message: "x".into() }
}

fn build_finished() -> Event {
    let (ran, cached, failed, stopped, skipped, duration_ms) = (0, 0, 0, 0, 0, 0);
    let (status, continues) = (BuildStatus::Done, Vec::new());
    Event::BuildFinished { status, ran, cached, failed, stopped, skipped, tests: None, duration_ms, continues }
}

fn timings(steps: &[(&str, u64, u64)]) -> Timings {
    steps
        .iter()
        .map(|(step, next_ms, end_ms)| ((*step).to_owned(), Timing { next_ms: *next_ms, end_ms: *end_ms }))
        .collect()
}

fn progress(build: &Build, jobs: usize) -> Progress {
    Progress::new(build, &Plan::new(build, &[]), jobs)
}

/// Returns the estimates between these events: when, the remaining time, and the number of untimed steps.
fn estimates(progress: &mut Progress, before: &Timings, events: &[(u64, Event)]) -> Vec<(u64, u64, usize)> {
    let begin = Instant::now();
    let mut estimates = Vec::new();
    for (ms, event) in events {
        let at = begin + Duration::from_millis(*ms);
        while let Some(due) = progress.due().filter(|due| *due <= at) {
            if let Some(Event::BuildEstimated { left_ms, untimed }) = progress.estimate(due, before) {
                estimates.push(((due - begin).as_millis() as u64, left_ms, untimed));
            }
        }
        progress.add(at, event);
    }
    estimates
}

#[test]
fn an_estimate_comes_every_second_but_not_in_the_first_one_and_not_after_the_end() {
    let mut progress = progress(&build(&[("a", 0, &[])]), 1);
    let before = timings(&[("a", 10_000, 10_000)]);
    let events = [
        (0, printed()),
        (5_000, build_started()),
        (5_000, started("a")),
        (5_999, printed()),
        (8_500, ran("a", 3_500)),
        (8_600, build_finished()),
        (20_000, printed()),
    ];
    assert_eq!(estimates(&mut progress, &before, &events), [(6_000, 9_000, 0), (7_000, 8_000, 0), (8_000, 7_000, 0)]);
}

#[test]
fn a_build_none_of_whose_planned_steps_was_timed_has_no_estimate() {
    let two = build(&[("a", 0, &[]), ("b", 1, &[])]);
    let mut only_a = Progress::new(&two, &Plan::new(&two, &[StepId(0)]), 1);
    let before = timings(&[("b", 10, 10), ("gone", 10, 10)]);
    assert_eq!(estimates(&mut only_a, &before, &[(0, build_started()), (0, started("a")), (9_000, printed())]), []);
    assert_eq!(only_a.due(), None);
}

#[test]
fn a_step_that_takes_longer_than_before_counts_as_about_to_end() {
    let mut progress = progress(&build(&[("a", 0, &[]), ("b", 0, &[0])]), 1);
    let before = timings(&[("a", 1_500, 1_500), ("b", 700, 700)]);
    let events = [(0, build_started()), (0, started("a")), (2_000, printed())];
    assert_eq!(estimates(&mut progress, &before, &events), [(1_000, 1_200, 0), (2_000, 700, 0)]);
}

#[test]
fn a_step_that_is_tried_again_counts_from_its_first_try() {
    let mut progress = progress(&build(&[("a", 0, &[])]), 1);
    let before = timings(&[("a", 10_000, 10_000)]);
    let events = [(0, build_started()), (0, started("a")), (1_900, started("a")), (2_000, printed())];
    assert_eq!(estimates(&mut progress, &before, &events)[1], (2_000, 8_000, 0));
}

#[test]
fn a_step_that_was_never_timed_is_counted_until_it_ends() {
    let mut progress = progress(&build(&[("a", 0, &[]), ("b", 1, &[]), ("c", 2, &[])]), 3);
    let before = timings(&[("a", 10_000, 10_000)]);
    let events = [
        (0, build_started()),
        (0, started("a")),
        (0, started("b")),
        (1_500, ran("b", 1_500)),
        (2_500, ended("c", StepStatus::Skipped, 0)),
        (3_000, printed()),
    ];
    assert_eq!(estimates(&mut progress, &before, &events), [(1_000, 9_000, 2), (2_000, 8_000, 1), (3_000, 7_000, 0)]);
}

#[test]
fn steps_that_the_store_has_take_no_time_once_that_is_known() {
    let mut progress = progress(&build(&[("a", 0, &[]), ("b", 0, &[0]), ("c", 1, &[]), ("d", 1, &[2])]), 1);
    let before = timings(&[("a", 5_000, 5_000), ("b", 3_000, 3_000), ("c", 100, 100), ("d", 20, 20)]);
    let events = [
        (0, build_started()),
        (1_500, stage(&[0, 1], StepStage::Cached)),
        (2_500, ended("c", StepStatus::Cached, 0)),
        (3_500, ended("d", StepStatus::Failed, 0)),
        (4_000, printed()),
    ];
    let left = [(1_000, 8_120, 0), (2_000, 120, 0), (3_000, 20, 0), (4_000, 0, 0)];
    assert_eq!(estimates(&mut progress, &before, &events), left);
}

#[test]
fn a_frozen_snapshot_is_written_while_the_next_step_runs_unless_that_waits_for_the_image() {
    let before = timings(&[("snapshot", 500, 9_000), ("b", 6_000, 6_000)]);
    for (awaited, left) in [(Vec::new(), 7_000), (vec![(1_600, stage(&[0], StepStage::Awaited))], 7_000 + 6_000)] {
        let mut progress = progress(&build(&[("snapshot", 0, &[]), ("b", 0, &[0])]), 1);
        let mut events = vec![(0, build_started()), (0, started("snapshot")), (1_500, stage(&[0], StepStage::Frozen))];
        events.extend(awaited);
        events.push((2_000, printed()));
        // Not frozen yet, the snapshot counts as about to be.
        assert_eq!(estimates(&mut progress, &before, &events), [(1_000, 8_000, 0), (2_000, left, 0)]);
    }
}

#[test]
fn a_step_that_ran_is_timed_and_of_a_snapshot_also_the_time_until_it_was_frozen() {
    let mut progress = progress(&build(&[("a", 0, &[]), ("b", 1, &[]), ("c", 2, &[]), ("snapshot", 0, &[0])]), 4);
    let events = [
        (0, build_started()),
        (0, started("a")),
        (0, started("b")),
        // A frozen snapshot whose time is no longer than the time that its end has.
        (0, started("c")),
        (80, stage(&[2], StepStage::Frozen)),
        (100, ran("a", 90)),
        (100, ended("b", StepStatus::Failed, 100)),
        (100, ran("c", 70)),
        (200, started("snapshot")),
        (250, stage(&[3], StepStage::Frozen)),
        (900, ran("snapshot", 700)),
    ];
    estimates(&mut progress, &Timings::new(), &events);
    assert_eq!(*progress.took(), timings(&[("a", 90, 90), ("c", 70, 70), ("snapshot", 50, 700)]));
}

proptest! {
    #[test]
    fn in_a_build_that_goes_as_before_the_estimates_fall_by_as_much_as_time_goes_by(
        (build, targets) in any_build(), times in prop::collection::vec(1..5_000u64, 40), jobs in 1..9usize,
    ) {
        let plan = Plan::new(&build, &targets);
        let mut progress = Progress::new(&build, &plan, jobs);
        let before: Timings = build.steps.iter().zip(&times)
            .map(|(step, ms)| (step.name.clone(), Timing { next_ms: *ms, end_ms: *ms })).collect();
        let (mut events, mut now) = (vec![(0, build_started())], 0);
        let (mut running, mut begun, mut over) = (Vec::new(), vec![false; 40], vec![false; 40]);
        loop {
            let may_begin = |step: &&StepId, begun: &[bool]| {
                !begun[step.0] && plan.needs(**step).iter().all(|needed| over[needed.0])
            };
            while running.len() < jobs
                && let Some(step) = plan.order().iter().find(|step| may_begin(step, &begun))
            {
                begun[step.0] = true;
                running.push((now + times[step.0], *step));
                events.push((now, started(&build.step(*step).name)));
            }
            let Some(next) = running.iter().copied().min() else { break };
            running.retain(|step| *step != next);
            (now, over[next.1.0]) = (next.0, true);
            events.push((now, ran(&build.step(next.1).name, times[next.1.0])));
        }
        let estimates = estimates(&mut progress, &before, &events);
        prop_assert_eq!(estimates.len() as u64, now / 1_000);
        for (second, (at, left, untimed)) in estimates.into_iter().enumerate() {
            prop_assert_eq!((at, at + left, untimed), (1_000 * (second as u64 + 1), now, 0));
        }
    }
}

/// The timings of a build whose only step took 7 s.
fn known() -> Timings {
    timings(&[("a", 7_000, 7_000)])
}

const PROJECT: &str = "/work/build.yaml";

/// A stage behind a queue, and its store.
struct Staged {
    _directory: tempfile::TempDir,
    store: Store,
    events: EstimatedEvents,
    sender: Sender<Stamped>,
    begin: Instant,
}

impl Staged {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let build = build(&[("a", 0, &[])]);
        // The queue of a build is bounded; a test fills this one before anybody reads.
        let (sender, receiver) = channel();
        let events = EstimatedEvents::new(receiver, &build, &Plan::new(&build, &[]), 1, store.clone());
        // So late that the time that the test takes is of no account.
        let begin = Instant::now() + Duration::from_secs(10_000);
        Self { _directory: directory, store, events, sender, begin }
    }

    fn send(&self, ms: u64, event: Event) {
        let mut stamped = Stamped::new(SystemTime::UNIX_EPOCH + Duration::from_millis(ms), event);
        stamped.at = self.begin + Duration::from_millis(ms);
        self.sender.send(stamped).unwrap();
    }

    fn next(&mut self) -> Event {
        self.events.try_next().unwrap().event
    }

    fn stored(&self) -> Timings {
        self.store.timings("test", Path::new(PROJECT))
    }
}

#[test]
fn an_estimate_goes_before_the_event_for_which_it_was_due_and_stages_reach_no_reporter() {
    let mut staged = Staged::new();
    staged.store.set_timings("test", Path::new(PROJECT), &known()).unwrap();
    let events = [(0, build_started()), (0, started("a")), (900, stage(&[], StepStage::Cached)), (1_500, printed())];
    for (ms, event) in events.clone() {
        staged.send(ms, event);
    }
    assert_eq!([staged.next(), staged.next()], [events[0].1.clone(), events[1].1.clone()]);
    let estimate = staged.events.try_next().unwrap();
    assert_eq!(estimate.event, Event::BuildEstimated { left_ms: 5_500, untimed: 0 });
    assert_eq!(estimate.time, SystemTime::UNIX_EPOCH + Duration::from_millis(1_500));
    assert_eq!(staged.events.next_until(None).unwrap().event, printed());
    assert!(matches!(staged.events.try_next(), Err(TryRecvError::Empty)));
    assert!(matches!(staged.events.next_until(Some(Instant::now())), Err(RecvTimeoutError::Timeout)));
}

#[test]
fn an_estimate_that_is_due_comes_without_an_event() {
    for waits in [false, true] {
        let mut staged = Staged::new();
        staged.store.set_timings("test", Path::new(PROJECT), &known()).unwrap();
        staged.begin = Instant::now().checked_sub(Duration::from_secs(100)).unwrap();
        staged.send(0, build_started());
        assert_eq!(staged.next(), build_started());
        let estimate = if waits { staged.events.next_until(None).unwrap().event } else { staged.next() };
        assert_eq!(estimate, Event::BuildEstimated { left_ms: 7_000, untimed: 0 });
        assert!(matches!(staged.events.try_next(), Err(TryRecvError::Empty)));
    }
}

#[test]
fn the_timings_are_read_when_the_first_estimate_is_due() {
    let mut staged = Staged::new();
    staged.send(0, build_started());
    staged.send(999, printed());
    assert_eq!([staged.next(), staged.next()], [build_started(), printed()]);
    staged.store.set_timings("test", Path::new(PROJECT), &known()).unwrap();
    staged.send(1_000, printed());
    assert_eq!(staged.next(), Event::BuildEstimated { left_ms: 7_000, untimed: 0 });
}

#[test]
fn the_timings_are_stored_before_the_last_event_is_shown_and_those_of_former_steps_removed() {
    let mut staged = Staged::new();
    let before = timings(&[("a", 1, 1), ("gone", 2, 2)]);
    staged.store.set_timings("test", Path::new(PROJECT), &before).unwrap();
    for event in [build_started(), started("a"), ran("a", 7_000), build_finished()] {
        staged.send(0, event);
    }
    (0..3).for_each(|_| drop(staged.next()));
    assert_eq!(staged.stored(), before);
    assert_eq!(staged.next(), build_finished());
    assert_eq!(staged.stored(), known());
}

#[test]
fn no_file_is_written_where_no_step_ran() {
    let mut staged = Staged::new();
    for event in [build_started(), ended("a", StepStatus::Cached, 0), build_finished()] {
        staged.send(0, event);
    }
    (0..3).for_each(|_| drop(staged.next()));
    assert_eq!(std::fs::read_dir(staged.store.root().join("timings")).unwrap().count(), 0);
}

#[test]
fn the_timings_are_stored_though_nothing_can_be_shown() {
    struct Gone;
    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    for panics in [false, true] {
        let staged = Staged::new();
        for event in [build_started(), started("a"), ran("a", 7_000), build_finished()] {
            staged.send(0, event);
        }
        let Staged { store, events, sender, _directory, .. } = staged;
        drop(sender);
        let reported = catch_unwind(AssertUnwindSafe(|| {
            events.report(|events| {
                assert!(!panics, "the reporter panics");
                report::run(events, Mode::Plain { colour: false }, Gone, ReportOutputs::default()).display
            })
        }));
        assert_eq!(reported.is_err(), panics);
        assert!(reported.is_ok_and(|shown| shown.unwrap_err().kind() == io::ErrorKind::BrokenPipe) || panics);
        assert_eq!(store.timings("test", Path::new(PROJECT)), known());
    }
}
