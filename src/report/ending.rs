//! The end of a build as people read it: every failure, then one line of totals.

use std::io::{self, Write};

use crate::event::{BuildStatus, Event, StepFailure, StepStatus};

use super::colour::Colour;
use super::failure::{Failures, Look};
use super::words::{self, Counts};

/// Writes the failures and the totals of a build at its last event, and then the command that accepts a mismatch with
/// the lock file.
pub(super) fn write(event: &Event, failures: &mut Failures, look: Look, out: &mut dyn Write) -> io::Result<()> {
    let Event::BuildFinished { status, ran, cached, failed, stopped, skipped, tests, duration_ms, .. } = event else {
        return Ok(());
    };
    failures.write(look, out)?;
    let (word, colour) = match status {
        BuildStatus::Done => ("done", Colour::Green),
        BuildStatus::Failed => ("failed", Colour::Red),
        BuildStatus::Interrupted => ("interrupted", Colour::Yellow),
    };
    let counts = Counts { ran: *ran, cached: *cached, failed: *failed, stopped: *stopped, skipped: *skipped };
    let mut counts = words::counts(counts);
    if *ran == 0 {
        counts.insert(0, "0 ran".to_owned());
    }
    let mut counts = counts.join(", ");
    if let Some(tests) = tests {
        counts.push_str(&format!("; {}", words::tests(*tests)));
    }
    let line = format!("build {word} in {}: {counts}", words::duration(*duration_ms));
    writeln!(out, "{}", look.paint.text(Some(colour), &line))?;
    failures.write_fix(out)
}

/// Returns the text of a step's last line and its colour.
pub(super) fn step_line(
    status: StepStatus,
    exit_code: Option<i32>,
    duration_ms: u64,
    reason: Option<&str>,
    failure: Option<&StepFailure>,
) -> (Colour, String) {
    let is_stopped = words::is_stopped(failure);
    let (colour, exit_code) = match status {
        StepStatus::Ran | StepStatus::Cached => (Colour::Green, None),
        StepStatus::Failed if is_stopped => (Colour::Yellow, None),
        StepStatus::Failed => (Colour::Red, exit_code),
        StepStatus::Skipped => (Colour::Yellow, None),
    };
    (colour, words::ending(status, is_stopped, duration_ms, words::reason(reason, exit_code).as_deref()))
}
