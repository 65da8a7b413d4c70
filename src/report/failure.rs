//! The failed steps of a build: gathered from events, and written at the build's end.

use std::collections::{HashMap, VecDeque};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::diagnostic::{Problem, Style, render_one};
use crate::event::{Continuation, Event, Place, StepFailure, StepStatus};

use super::colour::{Colour, Paint};
use super::sanitize::sanitize;
use super::words;

/// The number of a step's last lines that a failure shows.
const TAIL_LINES: usize = 20;

/// The bytes of a line that are remembered: a step that prints without line ends must not fill the memory.
const LINE_BYTES: usize = 4096;

/// The commands that a failure suggests, quoted for a shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextSteps {
    /// Opens a shell in a step; the step's name is appended.
    pub shell: String,
    /// The names that both a step and a container have: `step:` is written before them.
    pub ambiguous: Vec<String>,
    /// Runs the same build again.
    pub again: String,
    /// Writes the lock file.
    pub lock: String,
}

/// The colours and the width in which failures are shown.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    pub(super) paint: Paint,
    /// The width of the terminal, if there is one.
    pub(super) columns: Option<usize>,
}

/// Reads events and remembers the failed steps.
#[derive(Debug, Default)]
pub(super) struct Failures {
    next_steps: Option<NextSteps>,
    /// The last lines of each running step, by the step's name.
    tails: HashMap<String, VecDeque<String>>,
    failures: Vec<Failure>,
    /// The steps from which the next build continues.
    continues: Vec<Continuation>,
    /// A failure that was written is a mismatch with the lock file.
    mismatched: bool,
}

#[derive(Debug)]
struct Failure {
    step: String,
    reason: Option<String>,
    tail: VecDeque<String>,
    log: Option<PathBuf>,
    details: Option<StepFailure>,
}

impl Failures {
    pub(super) fn new(next_steps: Option<NextSteps>) -> Self {
        Self { next_steps, ..Self::default() }
    }

    pub(super) fn event(&mut self, event: &Event) {
        match event {
            // A new attempt: the output of the attempt before explains nothing of this one.
            Event::StepStarted { step, .. } => {
                self.tails.remove(step);
            }
            Event::StepOutput { step, line, .. } => {
                // A step may print very fast: no name is copied for a line, and lines are sanitized only when they are
                // shown.
                let tail = match self.tails.get_mut(step) {
                    Some(tail) => tail,
                    None => self.tails.entry(step.clone()).or_default(),
                };
                let mut last =
                    if tail.len() == TAIL_LINES { tail.pop_front().unwrap_or_default() } else { String::new() };
                last.clear();
                push_clipped(&mut last, line);
                tail.push_back(last);
            }
            Event::StepFinished { step, status, exit_code, log, reason, failure, .. } => {
                let tail = self.tails.remove(step).unwrap_or_default();
                if *status == StepStatus::Failed {
                    let reason = words::reason(reason.as_deref(), *exit_code);
                    let details = failure.as_deref().cloned();
                    self.failures.push(Failure { step: step.clone(), reason, tail, log: log.clone(), details });
                }
            }
            Event::BuildFinished { continues, .. } => self.continues.clone_from(continues),
            _ => {}
        }
    }

    /// Writes all failures, and forgets them, so that each is written once.
    pub(super) fn write(&mut self, look: Look, out: &mut dyn Write) -> io::Result<()> {
        let failures = std::mem::take(&mut self.failures);
        for failure in &failures {
            failure.write(self.next_steps.as_ref(), look, out)?;
        }
        match &self.next_steps {
            Some(next_steps) if !failures.is_empty() => {
                self.mismatched |= failures.iter().any(Failure::is_mismatch);
                writeln!(out)?;
                // After a mismatch alone, the same build would end the same way.
                if failures.iter().all(Failure::is_mismatch) {
                    return Ok(());
                }
                writeln!(out, "to build again: {}", sanitize(&next_steps.again))?;
                let continues = std::mem::take(&mut self.continues);
                for continuation in &continues {
                    writeln!(out, "  {}", sanitize(&words::continuation(continuation, continues.len() > 1)))?;
                }
                writeln!(out)
            }
            _ => Ok(()),
        }
    }

    /// Writes the fix of a mismatch, as the last line of all.
    pub(super) fn write_fix(&mut self, out: &mut dyn Write) -> io::Result<()> {
        match &self.next_steps {
            Some(next_steps) if std::mem::take(&mut self.mismatched) => {
                writeln!(out, "to accept the change, update the lock file: {}", sanitize(&next_steps.lock))
            }
            _ => Ok(()),
        }
    }
}

impl Failure {
    /// Returns whether the layer differs from the one in the lock file.
    fn is_mismatch(&self) -> bool {
        self.details.as_ref().is_some_and(|details| details.mismatched)
    }

    fn write(&self, next_steps: Option<&NextSteps>, look: Look, out: &mut dyn Write) -> io::Result<()> {
        let Self { step, reason, tail, log, details } = self;
        let mut reason = reason.iter().flat_map(|reason| reason.lines());
        let first = reason.next().map(|line| format!(": {}", sanitize(line))).unwrap_or_default();
        let verb = if words::is_stopped(details.as_ref()) { "stopped" } else { "failed" };
        let message = format!("step {} {verb}{first}", sanitize(step));
        let command = details.as_ref().map(|details| details.command.as_str());
        writeln!(out)?;
        match details.as_ref().and_then(|details| details.place.as_ref()) {
            Some(place) => out.write_all(at(place, message, command, look).as_bytes())?,
            None => {
                writeln!(out, "{}", look.paint.text(Some(Colour::Red), &message))?;
                if let Some(command) = command {
                    writeln!(out, "  command: {}", sanitize(command))?;
                }
            }
        }
        for line in reason {
            writeln!(out, "  {}", sanitize(line))?;
        }
        for line in tail {
            writeln!(out, "{}", format!("  | {}", sanitize(line)).trim_end())?;
        }
        // The fix of a mismatch is the last line.
        let is_last = next_steps.is_some() && self.is_mismatch();
        if let Some(hint) = details.as_ref().and_then(|details| details.hint.as_ref()).filter(|_| !is_last) {
            writeln!(out, "  help: {}", sanitize(hint))?;
        }
        if let Some(note) = details.as_ref().and_then(words::half_written) {
            writeln!(out, "  note: {}", sanitize(&note))?;
        }
        if let Some(log) = log {
            writeln!(out, "  log: {}", sanitize(&log.to_string_lossy()))?;
        }
        match next_steps {
            Some(next_steps) if details.as_ref().is_some_and(|details| details.kept) => {
                let kind = if next_steps.ambiguous.contains(step) { "step:" } else { "" };
                writeln!(
                    out,
                    "  to open a shell in the failed session: {} {kind}{}",
                    sanitize(&next_steps.shell),
                    sanitize(step)
                )
            }
            _ => Ok(()),
        }
    }
}

/// Returns the message with the lines of the manifest below it.
fn at(place: &Place, message: String, command: Option<&str>, look: Look) -> String {
    let above = "\n".repeat(place.first_line.saturating_sub(1));
    let (start, end) = (above.len() + place.name.start, above.len() + place.name.end);
    let problem = Problem::new(start..end, message).label(sanitize(command.unwrap_or_default()).into_owned());
    let path = Path::new(&place.manifest);
    let directory = std::env::current_dir().unwrap_or_default();
    let name = path.strip_prefix(directory).unwrap_or(path).to_string_lossy();
    let style = Style { color: look.paint.0, width: look.columns.unwrap_or(Style::default().width) };
    render_one(&problem, &name, &(above + &place.lines), style)
}

fn push_clipped(text: &mut String, line: &str) {
    if line.len() <= LINE_BYTES {
        text.push_str(line);
        return;
    }
    // The visible text may be at the end of the line, behind a carriage return or a long sequence.
    let line = sanitize(line);
    let end = line.floor_char_boundary(LINE_BYTES.min(line.len()));
    text.push_str(&line[..end]);
    if end < line.len() {
        text.push('…');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{BuildStatus, Stream};
    use crate::written_through::WrittenThrough;

    fn output(line: String) -> Event {
        Event::StepOutput { step: "a".into(), stream: Stream::Stdout, line }
    }

    fn failed() -> Event {
        Event::StepFinished {
            step: "a".into(),
            container: "c".into(),
            status: StepStatus::Failed,
            exit_code: Some(1),
            duration_ms: 0,
            test: false,
            log: Some("/store/a.log".into()),
            reason: None,
            failure: None,
        }
    }

    const LOOK: Look = Look { paint: Paint(false), columns: None };

    fn written_with(next_steps: Option<NextSteps>, events: &[Event]) -> String {
        let mut failures = Failures::new(next_steps);
        events.iter().for_each(|event| failures.event(event));
        let mut out = Vec::new();
        failures.write(LOOK, &mut out).unwrap();
        failures.write(LOOK, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn written(events: &[Event]) -> String {
        written_with(None, events)
    }

    #[test]
    fn a_failure_shows_its_lines_of_the_manifest_and_the_next_steps() {
        let place = Place {
            manifest: "/no/such/directory/build.yaml".into(),
            line: 12,
            column: 11,
            first_line: 11,
            lines: "steps:\n  - name: a\n    run: make\n".into(),
            name: 17..18,
        };
        let details = StepFailure {
            command: "make".into(),
            place: Some(place),
            kept: true,
            hint: Some("use tape".into()),
            mismatched: false,
            stopped: false,
            half_written: vec![WrittenThrough { target: "/src".into(), what: "/work/src".into() }],
        };
        let mut event = failed();
        if let Event::StepFinished { failure, reason, .. } = &mut event {
            (*failure, *reason) = (Some(Box::new(details)), Some("killed\nby hand".into()));
        }
        let next_steps = |ambiguous: &[&str]| {
            let ambiguous = ambiguous.iter().map(ToString::to_string).collect();
            Some(NextSteps {
                shell: "runner shell".into(),
                ambiguous,
                again: "runner apply -j 1".into(),
                lock: "runner lock".into(),
            })
        };
        let end = Event::BuildFinished {
            status: BuildStatus::Failed,
            ran: 2,
            cached: 0,
            failed: 1,
            stopped: 0,
            skipped: 0,
            tests: None,
            duration_ms: 1,
            continues: vec![Continuation {
                container: "c".into(),
                step: "configure".into(),
                again: 2,
                again_ms: 7_000,
                why: Some("files are left in /tmp, which is in no layer".into()),
            }],
        };
        let events = [output("boom".into()), event, end];
        let expected = "
  × step a failed: killed
    ╭─[/no/such/directory/build.yaml:12:11]
 11 │ steps:
 12 │   - name: a
    ·           ┬
    ·           ╰── make
 13 │     run: make
    ╰────
  by hand
  | boom
  help: use tape
  note: it may have left half-written files in /src (/work/src)
  log: /store/a.log
  to open a shell in the failed session: runner shell a

to build again: runner apply -j 1
  runs again from step configure on (2 steps, 7.00s): files are left in /tmp, which is in no layer

";
        assert_eq!(written_with(next_steps(&[]), &events), expected);
        assert_eq!(written_with(next_steps(&["b", "a"]), &events), expected.replace("shell a", "shell step:a"));
    }

    #[test]
    fn the_command_that_accepts_a_mismatch_is_the_last_line_and_is_written_once() {
        let mismatch = StepFailure {
            command: "snapshot".into(),
            place: None,
            kept: false,
            hint: Some("write it".into()),
            mismatched: true,
            stopped: false,
            half_written: Vec::new(),
        };
        let of = |details: StepFailure| {
            let mut event = failed();
            if let Event::StepFinished { failure, .. } = &mut event {
                *failure = Some(Box::new(details));
            }
            event
        };
        let next_steps =
            NextSteps { shell: "s".into(), ambiguous: Vec::new(), again: "apply".into(), lock: "lock".into() };
        let written = |events: &[Event]| {
            let (mut failures, mut out) = (Failures::new(Some(next_steps.clone())), Vec::new());
            events.iter().for_each(|event| failures.event(event));
            failures.write(LOOK, &mut out).unwrap();
            failures.write_fix(&mut out).unwrap();
            failures.write_fix(&mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        let fix = "to accept the change, update the lock file: lock\n";
        let alone = written(&[of(mismatch.clone())]);
        assert!(alone.ends_with(&format!("a.log\n\n{fix}")) && !alone.contains("apply"), "{alone}");
        let both = written(&[of(mismatch.clone()), of(StepFailure { mismatched: false, ..mismatch })]);
        assert!(both.ends_with(&format!("\nto build again: apply\n\n{fix}")), "{both}");
        assert_eq!(both.matches("help: write it").count(), 1, "{both}");
    }

    #[test]
    fn the_last_twenty_lines_are_shown_once() {
        let mut events: Vec<Event> = (1..=25).map(|i| output(format!("line {i}"))).collect();
        events.push(failed());
        let lines: String = (6..=25).map(|i| format!("  | line {i}\n")).collect();
        assert_eq!(written(&events), format!("\nstep a failed: exit code 1\n{lines}  log: /store/a.log\n"));
    }

    #[test]
    fn only_the_output_of_the_last_attempt_is_shown() {
        let start = |attempt| Event::StepStarted { step: "a".into(), container: "c".into(), attempt, reasons: vec![] };
        let events = [start(1), output("first".into()), start(2), output("second".into()), failed()];
        assert_eq!(written(&events), "\nstep a failed: exit code 1\n  | second\n  log: /store/a.log\n");
    }

    #[test]
    fn an_endless_line_is_clipped_at_a_character() {
        let mut line = String::new();
        push_clipped(&mut line, &("é".repeat(LINE_BYTES)));
        assert!(line.len() <= LINE_BYTES + '…'.len_utf8() && line.ends_with("é…"));
    }
}
