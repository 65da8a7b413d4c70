//! The end of a build as people read it: every failure, then one line of totals.

use std::io::{self, Write};

use crate::event::{BuildStatus, Event, StepStatus};

use super::colour::Colour;
use super::failure::{Failures, Look};
use super::words;

/// Tells the failures and, of a build's last event, the totals; last of all, how to accept what is not as the lock says.
pub(super) fn tell(event: &Event, failures: &mut Failures, look: Look, out: &mut dyn Write) -> io::Result<()> {
    let Event::BuildFinished { status, ran, cached, failed, skipped, duration_ms, .. } = event else { return Ok(()) };
    failures.tell(look, out)?;
    let (word, colour) = match status {
        BuildStatus::Done => ("done", Colour::Green),
        BuildStatus::Failed => ("failed", Colour::Red),
        BuildStatus::Interrupted => ("interrupted", Colour::Yellow),
    };
    let mut counts = format!("{ran} ran");
    for (count, word) in [(cached, "cached"), (failed, "failed"), (skipped, "skipped")] {
        if *count > 0 {
            counts.push_str(&format!(", {count} {word}"));
        }
    }
    let line = format!("build {word} in {}: {counts}", words::duration(*duration_ms));
    writeln!(out, "{}", look.paint.text(Some(colour), &line))?;
    failures.tell_fix(out)
}

/// What a step's last line says of how it ended, and its colour.
pub(super) fn of_step(
    status: StepStatus,
    exit_code: Option<i32>,
    duration_ms: u64,
    reason: Option<&str>,
) -> (Colour, String) {
    let (colour, exit_code) = match status {
        StepStatus::Ran | StepStatus::Cached => (Colour::Green, None),
        StepStatus::Failed => (Colour::Red, exit_code),
        StepStatus::Skipped => (Colour::Yellow, None),
    };
    (colour, words::ending(status, duration_ms, words::reason(reason, exit_code).as_deref()))
}
