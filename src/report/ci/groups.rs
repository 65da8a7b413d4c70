//! Plain lines in foldable groups: one for each step, although steps run at the same time.
//!
//! One step at a time is open: its lines are written as they come. The lines of the other steps wait until it
//! finishes; then the finished steps are written whole, and the oldest remaining step is opened.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::SystemTime;

use crate::event::{Event, Stamped, StepStatus};

use super::super::failure::NextSteps;
use super::super::plain::Plain;
use super::super::sanitize::sanitize;
use super::super::{ReportContext, Reporter, words};
use super::{Ci, syntax};

/// The bytes of a step's lines that may wait; the step's log has all of them.
const MAX_WAITING: usize = 1 << 20;

/// Writes a CI job's log.
#[derive(Debug)]
pub(in crate::report) struct Groups {
    ci: Ci,
    plain: Plain,
    context: Option<Arc<ReportContext>>,
    /// The steps in the order in which they began. The group of the first one is open.
    steps: Vec<Step>,
}

#[derive(Debug)]
struct Step {
    name: String,
    title: String,
    /// The lines that are not yet written.
    lines: Vec<u8>,
    /// Some lines were dropped.
    clipped: bool,
    /// The annotation to write after the group; `Some` once the step has finished.
    annotation: Option<String>,
}

impl Groups {
    pub(in crate::report) fn new(
        ci: Ci,
        colour: bool,
        context: Option<Arc<ReportContext>>,
        next_steps: Option<NextSteps>,
    ) -> Self {
        Self { ci, plain: Plain::new(colour, next_steps), context, steps: Vec::new() }
    }

    /// Returns the plain lines of an event.
    fn lines(&mut self, stamped: &Stamped) -> io::Result<Vec<u8>> {
        let mut lines = Vec::new();
        self.plain.event(stamped, &mut lines)?;
        Ok(match syntax::harmless(self.ci, &String::from_utf8_lossy(&lines)) {
            std::borrow::Cow::Borrowed(_) => lines,
            std::borrow::Cow::Owned(text) => text.into_bytes(),
        })
    }

    fn annotation(&self, event: &Event) -> String {
        let Event::StepFinished { step, status: StepStatus::Failed, exit_code, reason, failure, .. } = event else {
            return String::new();
        };
        let place = self.context.as_deref().and_then(|context| Some((&*context.manifest, *context.lines.get(step)?)));
        let why = words::reason_and_hint(reason.as_deref(), *exit_code, failure.as_deref()).unwrap_or_default();
        let why = why.lines().map(sanitize).collect::<Vec<_>>().join("\n");
        let verb = if words::is_stopped(failure.as_deref()) { "stopped" } else { "failed" };
        syntax::error(self.ci, place, &format!("step {} {verb}", sanitize(step)), &why)
    }

    /// Writes the lines of the open step, and opens the next one if it has finished.
    fn advance(&mut self, time: SystemTime, out: &mut dyn Write) -> io::Result<()> {
        let seconds = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        while let Some(first) = self.steps.first_mut() {
            out.write_all(&std::mem::take(&mut first.lines))?;
            if first.annotation.is_none() {
                return Ok(());
            }
            let first = self.steps.remove(0);
            out.write_all(syntax::end(self.ci, &first.name, seconds).as_bytes())?;
            out.write_all(first.annotation.unwrap_or_default().as_bytes())?;
            // Finished steps come first: otherwise each would wait for the step before it.
            self.steps.sort_by_key(|step| step.annotation.is_none());
            if let Some(next) = self.steps.first() {
                self.open(next, seconds, out)?;
            }
        }
        Ok(())
    }

    fn open(&self, step: &Step, seconds: u64, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(syntax::begin(self.ci, &step.name, &step.title, seconds).as_bytes())?;
        if step.clipped {
            writeln!(out, "(earlier lines are in the log)")?;
        }
        Ok(())
    }
}

impl Step {
    fn add(&mut self, lines: &[u8], is_open: bool) {
        self.lines.extend_from_slice(lines);
        if !is_open && self.lines.len() > MAX_WAITING {
            // Half of it at once, so that a fast printer does not move a megabyte for each line.
            let from = self.lines.len() - MAX_WAITING / 2;
            let end = self.lines[from..].iter().position(|byte| *byte == b'\n').map_or(from, |at| from + at + 1);
            self.lines.drain(..end);
            self.clipped = true;
        }
    }
}

impl Reporter for Groups {
    fn event(&mut self, stamped: &Stamped, out: &mut dyn Write) -> io::Result<()> {
        let lines = self.lines(stamped)?;
        let seconds = stamped.time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let step = match &stamped.event {
            Event::StepStarted { step, container, attempt: 1, .. } => {
                let title = format!("{} ({})", sanitize(step), sanitize(container));
                let step = Step { name: step.clone(), title, lines, clipped: false, annotation: None };
                if self.steps.is_empty() {
                    self.open(&step, seconds, out)?;
                }
                self.steps.push(step);
                return self.advance(stamped.time, out);
            }
            Event::StepStarted { step, .. }
            | Event::StepWaits { step, .. }
            | Event::StepHasTurn { step, .. }
            | Event::StepOutput { step, .. }
            | Event::StepFinished { step, .. }
            | Event::SnapshotProgress { step, .. }
            | Event::SnapshotWritten { step, .. }
            | Event::ExportWritten { step, .. }
            | Event::PushProgress { step, .. }
            | Event::ImagePushed { step, .. }
            | Event::CheckpointProgress { step, .. }
            | Event::CheckpointWritten { step, .. }
            | Event::CheckpointRestored { step, .. }
            | Event::Warning { step: Some(step), .. } => step,
            Event::BuildStarted { .. }
            | Event::StepLineGrows { .. }
            | Event::StageReached { .. }
            | Event::ImportStarted { .. }
            | Event::ImportProgress { .. }
            | Event::RequestWaits { .. }
            | Event::ImportFinished { .. }
            | Event::BuildEstimated { .. }
            | Event::Warning { step: None, .. }
            | Event::BuildFinished { .. } => return out.write_all(&lines),
        };
        let annotation = matches!(stamped.event, Event::StepFinished { .. }).then(|| self.annotation(&stamped.event));
        // A step that did not begin, from the cache or skipped, has a line and no group.
        let Some(at) = self.steps.iter().position(|known| known.name == *step) else { return out.write_all(&lines) };
        self.steps[at].add(&lines, at == 0);
        self.steps[at].annotation = annotation;
        if at == 0 { self.advance(stamped.time, out) } else { Ok(()) }
    }

    fn end(&mut self, out: &mut dyn Write) -> io::Result<()> {
        for step in std::mem::take(&mut self.steps) {
            out.write_all(&step.lines)?;
        }
        let mut end = Vec::new();
        self.plain.end(&mut end)?;
        out.write_all(syntax::harmless(self.ci, &String::from_utf8_lossy(&end)).as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::script::{finished, output, stamp, started};
    use super::*;
    use crate::event::Stream;

    fn show(ci: Ci, events: Vec<Event>) -> String {
        let mut groups = Groups::new(ci, false, None, None);
        let mut out = Vec::new();
        for event in events {
            groups.event(&stamp(0, event), &mut out).unwrap();
        }
        groups.end(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn output_of(step: &str, line: &str) -> Event {
        output(step, Stream::Stdout, line)
    }

    #[test]
    fn parallel_steps_have_a_group_each_and_no_group_is_inside_another() {
        let events = vec![
            started("a", "c", 1),
            started("b", "d", 1),
            started("e", "d", 1),
            output_of("b", "of b"),
            output_of("a", "::error::of a"),
            output_of("e", "of e"),
            finished("e", "d", StepStatus::Failed, 10),
            finished("z", "d", StepStatus::Skipped, 0),
            finished("a", "c", StepStatus::Ran, 20),
            output_of("b", "more of b"),
            finished("b", "d", StepStatus::Ran, 30),
        ];
        assert_eq!(
            show(Ci::GitHub, events),
            "\
::group::a (c)
a * started in c
a | ::error::of a
z * skipped
a * done in 0.02s
::endgroup::
::group::e (d)
e * started in d
e | of e
e * failed after 0.01s: exit code 2
::endgroup::
::error title=step e failed::exit code 2
::group::b (d)
b * started in d
b | of b
b | more of b
b * done in 0.03s
::endgroup::

step e failed: exit code 2
  | of e
  log: /store/logs/1/e.log
"
        );
    }

    #[test]
    fn gitlab_has_sections_with_their_times() {
        let text = show(Ci::GitLab, vec![started("a", "c", 1), finished("a", "c", StepStatus::Ran, 20)]);
        assert_eq!(
            text,
            "\u{1b}[0Ksection_start:1700000000:a\r\u{1b}[0Ka (c)\na * started in c\na * done in 0.02s\n\
             \u{1b}[0Ksection_end:1700000000:a\r\u{1b}[0K\n"
        );
    }

    #[test]
    fn waiting_lines_are_bounded_and_a_note_replaces_dropped_ones() {
        let mut events = vec![started("a", "c", 1), started("b", "c", 1)];
        events.extend((0..40_000).map(|number| output_of("b", &format!("{number} {}", "x".repeat(100)))));
        events.extend([finished("a", "c", StepStatus::Ran, 1), finished("b", "c", StepStatus::Ran, 1)]);
        let text = show(Ci::GitHub, events);
        assert!(text.len() < MAX_WAITING + 1000, "{}", text.len());
        assert!(text.contains("::group::b (c)\n(earlier lines are in the log)\nb | "), "{}", &text[..300]);
        assert!(text.contains("b | 39999 "));
    }
}
