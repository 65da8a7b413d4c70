//! Scripted events with fixed times, for the tests of the reporters.

use std::time::{Duration, SystemTime};

use crate::event::{BuildStatus, Event, Stamped, StepFailure, StepStatus, Stream};

use super::Mode;

/// Returns the event with a time so many milliseconds after the build's beginning.
pub(super) fn stamp(milliseconds: u64, event: Event) -> Stamped {
    Stamped::new(SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_000 + milliseconds), event)
}

fn stamps(events: Vec<Event>) -> Vec<Stamped> {
    events.into_iter().zip(0..).map(|(event, at)| stamp(at * 250, event)).collect()
}

pub(super) fn started(step: &str, container: &str, attempt: u32) -> Event {
    Event::StepStarted { step: step.into(), container: container.into(), attempt, reasons: Vec::new() }
}

pub(super) fn output(step: &str, stream: Stream, line: &str) -> Event {
    Event::StepOutput { step: step.into(), stream, line: line.into() }
}

pub(super) fn finished(step: &str, container: &str, status: StepStatus, duration_ms: u64) -> Event {
    let (exit_code, reason) = match status {
        StepStatus::Ran => (Some(0), None),
        StepStatus::Failed => (Some(2), None),
        StepStatus::Cached | StepStatus::Skipped => (None, None),
    };
    let log = exit_code.map(|_| format!("/store/logs/1/{step}.log").into());
    Event::StepFinished {
        step: step.into(),
        container: container.into(),
        status,
        exit_code,
        duration_ms,
        test: false,
        log,
        reason,
        failure: None,
    }
}

/// Returns a build of two steps that succeed, one of them a snapshot, and one from the cache.
pub(super) fn passing() -> Vec<Stamped> {
    stamps(vec![
        Event::BuildStarted { name: "sdk".into(), steps: 3 },
        finished("tools", "base", StepStatus::Cached, 0),
        started("packages", "base", 1),
        output("packages", Stream::Stdout, "10%\r100%"),
        output("packages", Stream::Stderr, "\u{1b}[33mslow\u{1b}[0m mirror"),
        output("packages", Stream::Stdout, ""),
        Event::Warning { step: None, message: "no room\nleft".into() },
        finished("packages", "base", StepStatus::Ran, 12_345),
        started("base-layer", "base", 1),
        Event::SnapshotWritten {
            step: "base-layer".into(),
            digest: format!("sha256:{}", "0123456789abcdef".repeat(4)),
            size: 1_572_864,
            path: "/work/out/base.squashfs".into(),
            cached: false,
        },
        finished("base-layer", "base", StepStatus::Ran, 700),
        Event::BuildFinished {
            status: BuildStatus::Done,
            ran: 2,
            cached: 1,
            failed: 0,
            stopped: 0,
            skipped: 0,
            tests: None,
            duration_ms: 13_100,
            continues: Vec::new(),
        },
    ])
}

/// Returns a build of a step that fails and one that is skipped because of it.
pub(super) fn failing() -> Vec<Stamped> {
    let mut skipped = finished("image", "sdk", StepStatus::Skipped, 0);
    if let Event::StepFinished { reason, .. } = &mut skipped {
        *reason = Some("hello failed".into());
    }
    stamps(vec![
        Event::BuildStarted { name: "sdk".into(), steps: 3 },
        started("hello", "sdk", 1),
        output("hello", Stream::Stderr, "hello.c:1: error"),
        finished("hello", "sdk", StepStatus::Failed, 90),
        skipped,
        Event::BuildFinished {
            status: BuildStatus::Failed,
            ran: 0,
            cached: 0,
            failed: 1,
            stopped: 0,
            skipped: 1,
            tests: None,
            duration_ms: 1250,
            continues: Vec::new(),
        },
    ])
}

/// Returns a build in which a step failed, and that was interrupted while another step ran.
pub(super) fn interrupted() -> Vec<Stamped> {
    let mut stopped = finished("slow", "sdk", StepStatus::Failed, 1_500);
    if let Event::StepFinished { reason, failure, exit_code, .. } = &mut stopped {
        *exit_code = Some(143);
        *reason = Some("interrupted".into());
        *failure = Some(Box::new(StepFailure {
            command: "sleep 9".into(),
            place: None,
            kept: false,
            hint: None,
            mismatched: false,
            stopped: true,
            half_written: Vec::new(),
        }));
    }
    stamps(vec![
        Event::BuildStarted { name: "sdk".into(), steps: 2 },
        started("hello", "sdk", 1),
        started("slow", "sdk", 1),
        finished("hello", "sdk", StepStatus::Failed, 90),
        stopped,
        Event::BuildFinished {
            status: BuildStatus::Interrupted,
            ran: 0,
            cached: 0,
            failed: 2,
            stopped: 1,
            skipped: 0,
            tests: None,
            duration_ms: 1_600,
            continues: Vec::new(),
        },
    ])
}

/// Returns the text that the events print.
pub(super) fn show(events: Vec<Stamped>, mode: Mode) -> String {
    let (sender, receiver) = std::sync::mpsc::channel();
    for stamped in events {
        sender.send(stamped).unwrap();
    }
    drop(sender);
    let mut out = Vec::new();
    super::run(receiver, mode, &mut out, super::ReportOutputs::default()).display.unwrap();
    String::from_utf8(out).unwrap()
}
