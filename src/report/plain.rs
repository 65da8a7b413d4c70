//! Plain lines, each led by its step's name: for logs, for pipes, and for people without a terminal.
//!
//! ```text
//! packages   * started in base
//! packages   | Reading package lists...
//! packages   * done in 12.3s
//! ```
//!
//! The step's output follows `|`, and runner's words about the step follow `*`.

use std::collections::HashMap;
use std::io::{self, Write};

use crate::cache::key::Reason;
use crate::event::{Event, Stamped};

use super::colour::{Colour, Paint};
use super::failure::{Failures, Look, NextSteps};
use super::sanitize::sanitize;
use super::{Reporter, ending, imports, words};

/// Shows a build in plain lines. The name column grows with the names; earlier lines do not change.
#[derive(Debug)]
pub(super) struct Plain {
    paint: Paint,
    width: usize,
    lead: Lead,
    failures: Failures,
    /// The reasons that were last shown, by container.
    shown_reasons: HashMap<String, Vec<Reason>>,
}

/// The beginning of the last line: most lines begin as the line before.
#[derive(Debug, Default)]
struct Lead {
    step: String,
    mark: char,
    text: String,
}

impl Plain {
    pub(super) fn new(colour: bool, next_steps: Option<NextSteps>) -> Self {
        let (lead, failures, shown_reasons) = (Lead::default(), Failures::new(next_steps), HashMap::new());
        Self { paint: Paint(colour), width: 0, lead, failures, shown_reasons }
    }

    /// Writes each line of the text, led by the step's name.
    fn lines(
        &mut self,
        out: &mut dyn Write,
        step: &str,
        mark: char,
        colour: Option<Colour>,
        text: &str,
    ) -> io::Result<()> {
        if self.lead.mark != mark || self.lead.step != step {
            let name = sanitize(step);
            self.width = self.width.max(name.chars().count());
            let lead = format!("{name:<width$} {mark}", width = self.width);
            let text = self.paint.text(Some(Colour::Faint), &lead).into_owned();
            self.lead = Lead { step: step.to_owned(), mark, text };
        }
        for line in text.split('\n') {
            out.write_all(self.lead.text.as_bytes())?;
            if !text.is_empty() {
                out.write_all(b" ")?;
                out.write_all(self.paint.text(colour, &sanitize(line)).as_bytes())?;
            }
            out.write_all(b"\n")?;
        }
        Ok(())
    }

    /// Returns why a step runs instead of being taken from the store, once for all steps of a container with the same
    /// reasons.
    fn why(&mut self, container: &str, reasons: &[Reason]) -> String {
        let Some(why) = words::why(reasons) else { return String::new() };
        if self.shown_reasons.get(container).is_some_and(|shown| shown == reasons) {
            return String::new();
        }
        self.shown_reasons.insert(container.to_owned(), reasons.to_vec());
        format!(": {why}")
    }

    fn warning(&mut self, out: &mut dyn Write, step: Option<&str>, message: &str) -> io::Result<()> {
        let message = format!("warning: {message}");
        match step {
            Some(step) => self.lines(out, step, '*', Some(Colour::Yellow), &message),
            None => message
                .lines()
                .try_for_each(|line| writeln!(out, "{}", self.paint.text(Some(Colour::Yellow), &sanitize(line)))),
        }
    }
}

impl Reporter for Plain {
    fn event(&mut self, Stamped { event, .. }: &Stamped, out: &mut dyn Write) -> io::Result<()> {
        self.failures.event(event);
        match event {
            Event::BuildStarted { name, steps } => {
                writeln!(out, "{}: {steps} {}", sanitize(name), if *steps == 1 { "step" } else { "steps" })
            }
            Event::StepStarted { step, container, attempt, reasons } => {
                let again = if *attempt > 1 { format!(" (try {attempt})") } else { String::new() };
                let why = self.why(container, reasons);
                self.lines(out, step, '*', None, &format!("started in {container}{again}{why}"))
            }
            Event::StepOutput { step, line, .. } => self.lines(out, step, '|', None, line),
            Event::StepWaits { step, cache } => self.lines(out, step, '*', None, &words::waits(cache)),
            Event::StepFinished { step, status, exit_code, duration_ms, reason, failure, .. } => {
                let (colour, text) =
                    ending::step_line(*status, *exit_code, *duration_ms, reason.as_deref(), failure.as_deref());
                self.lines(out, step, '*', Some(colour), &text)
            }
            // A line for each of these would say little and fill the log.
            Event::SnapshotProgress { .. }
            | Event::ImportProgress { .. }
            | Event::PushProgress { .. }
            | Event::CheckpointProgress { .. }
            | Event::StageReached { .. }
            | Event::BuildEstimated { .. }
            | Event::StepHasTurn { .. }
            | Event::StepLineGrows { .. } => Ok(()),
            Event::ImportStarted { .. } | Event::RequestWaits { .. } | Event::ImportFinished { .. } => {
                match imports::line(event) {
                    Some(line) => writeln!(out, "{}", sanitize(&line)),
                    None => Ok(()),
                }
            }
            Event::CheckpointWritten { step, size } => {
                self.lines(out, step, '*', None, &words::checkpoint_written(*size))
            }
            Event::CheckpointRestored { step, after } => {
                self.lines(out, step, '*', None, &words::checkpoint_restored(after))
            }
            // The file may have been written now or by an earlier build, or have had the same bytes before.
            Event::SnapshotWritten { step, digest, size, path, .. } => {
                let image = format!("image: {} ({}, {digest})", path.display(), words::size(*size));
                self.lines(out, step, '*', None, &image)
            }
            Event::ExportWritten { step, digest, size, path, cached, changed } => {
                let verb = if *changed || !*cached { "wrote" } else { "has" };
                let written = format!("{verb} {} ({}, {digest})", path.display(), words::size(*size));
                self.lines(out, step, '*', None, &written)
            }
            Event::ImagePushed { step, image, sent, changed, .. } => {
                self.lines(out, step, '*', None, &words::pushed(image, *sent, *changed))
            }
            Event::Warning { step, message } => self.warning(out, step.as_deref(), message),
            Event::BuildFinished { .. } => {
                ending::write(event, &mut self.failures, Look { paint: self.paint, columns: None }, out)
            }
        }
    }

    fn end(&mut self, out: &mut dyn Write) -> io::Result<()> {
        self.failures.write(Look { paint: self.paint, columns: None }, out)?;
        self.failures.write_fix(out)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Mode;
    use super::super::script::{failing, finished, interrupted, output, passing, show, stamp, started};
    use super::*;
    use crate::event::{StepStatus, Stream};

    const PLAIN: Mode = Mode::Plain { colour: false };

    #[test]
    fn a_build_that_succeeds_is_shown_line_by_line() {
        assert_eq!(
            show(passing(), PLAIN),
            "\
sdk: 3 steps
tools * cached
packages * started in base
packages | 100%
packages | slow mirror
packages |
warning: no room
left
packages * done in 12.3s
base-layer * started in base
base-layer * image: /work/out/base.squashfs (1.5 MiB, sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef)
base-layer * done in 0.70s
build done in 13.1s: 2 ran, 1 cached
"
        );
    }

    #[test]
    fn failures_are_shown_at_the_end_and_the_totals_last() {
        assert_eq!(
            show(failing(), PLAIN),
            "\
sdk: 3 steps
hello * started in sdk
hello | hello.c:1: error
hello * failed after 0.09s: exit code 2
image * skipped: hello failed

step hello failed: exit code 2
  | hello.c:1: error
  log: /store/logs/1/hello.log
build failed in 1.25s: 0 ran, 1 failed, 1 skipped
"
        );
    }

    #[test]
    fn a_step_that_the_interruption_stopped_is_shown_and_counted_as_stopped() {
        assert_eq!(
            show(interrupted(), PLAIN),
            "\
sdk: 2 steps
hello * started in sdk
slow  * started in sdk
hello * failed after 0.09s: exit code 2
slow  * stopped after 1.50s: interrupted

step hello failed: exit code 2
  log: /store/logs/1/hello.log

step slow stopped: interrupted
  command: sleep 9
  log: /store/logs/1/slow.log
build interrupted in 1.60s: 0 ran, 1 failed, 1 stopped
"
        );
    }

    #[test]
    fn shorter_names_are_aligned_to_the_longest_so_far() {
        let events = vec![
            stamp(0, started("base-layer", "base", 1)),
            stamp(1, started("cc", "sdk", 2)),
            stamp(2, output("cc", Stream::Stderr, "x")),
            stamp(3, finished("cc", "sdk", StepStatus::Ran, 5)),
        ];
        assert_eq!(
            show(events, PLAIN),
            "base-layer * started in base\ncc         * started in sdk (try 2)\ncc         | x\ncc         * done in 0.01s\n"
        );
    }

    #[test]
    fn failures_are_shown_even_if_the_build_does_not_finish() {
        let mut events = failing();
        events.pop();
        let text = show(events, PLAIN);
        assert!(text.ends_with("  log: /store/logs/1/hello.log\n"), "{text}");
    }

    #[test]
    fn only_runners_own_words_are_coloured_and_only_on_request() {
        let text = show(passing(), Mode::Plain { colour: true });
        assert!(text.contains("\u{1b}[2mpackages |\u{1b}[0m slow mirror\n"), "{text}");
        assert!(text.contains("\u{1b}[32mdone in 12.3s\u{1b}[0m\n"), "{text}");
    }

    #[test]
    fn each_line_of_a_long_reason_is_led_by_the_steps_name() {
        let mut event = finished("a", "c", StepStatus::Failed, 0);
        if let Event::StepFinished { reason, .. } = &mut event {
            *reason = Some("one\ntwo\u{1b}[2J".into());
        }
        let text = show(vec![stamp(0, event)], PLAIN);
        assert_eq!(
            text,
            "a * failed after 0.00s: one\na * two\n\nstep a failed: one\n  two\n  log: /store/logs/1/a.log\n"
        );
    }

    proptest! {
        #[test]
        fn no_output_of_a_step_reaches_the_terminal_as_an_escape_sequence(bytes: Vec<u8>, tail in "[\u{1b}\u{9b}\\[\\]0-9;a-zA-Z\r]*") {
            let line = String::from_utf8_lossy(&bytes).into_owned() + &tail;
            let text = show(
                vec![
                    stamp(0, output("a", Stream::Stdout, &line)),
                    stamp(1, Event::Warning { step: None, message: line.clone() }),
                    stamp(2, finished(&line, &line, StepStatus::Failed, 1)),
                ],
                PLAIN,
            );
            prop_assert!(text.chars().all(|c| c == '\n' || c == '\t' || !c.is_control()));
        }
    }
}
