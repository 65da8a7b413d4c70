//! Lines led by the name of their step: for logs, for pipes, and for people without a terminal.
//!
//! ```text
//! packages   * started in base
//! packages   | Reading package lists...
//! packages   * done in 12.3s
//! ```
//!
//! After `|` comes what the step printed, after `*` what runner says of it.

use std::collections::HashMap;
use std::io::{self, Write};

use crate::event::{BuildStatus, Event, Stamped, StepStatus};

use crate::key::Reason;

use super::Reporter;
use super::failure::Failures;
use super::sanitize::sanitize;
use super::words;

/// Grows with the names seen; the lines before stay as they are.
#[derive(Debug)]
pub(super) struct Plain {
    colour: bool,
    width: usize,
    failures: Failures,
    /// By container: why its steps run, as it was told last.
    told: HashMap<String, Vec<Reason>>,
}

/// SGR parameters of ECMA-48.
#[derive(Debug, Clone, Copy)]
enum Colour {
    Faint = 2,
    Red = 31,
    Green = 32,
    Yellow = 33,
}

impl Plain {
    pub(super) fn new(colour: bool) -> Self {
        Self { colour, width: 0, failures: Failures::default(), told: HashMap::new() }
    }

    /// Each line of the text, led by the step's name.
    fn lines(
        &mut self,
        out: &mut dyn Write,
        step: &str,
        mark: char,
        colour: Option<Colour>,
        text: &str,
    ) -> io::Result<()> {
        let name = sanitize(step);
        self.width = self.width.max(name.chars().count());
        let lead = self.paint(Some(Colour::Faint), &format!("{name:<width$} {mark}", width = self.width));
        if text.is_empty() {
            return writeln!(out, "{lead}");
        }
        for line in text.split('\n') {
            writeln!(out, "{lead} {}", self.paint(colour, &sanitize(line)))?;
        }
        Ok(())
    }

    fn paint(&self, colour: Option<Colour>, text: &str) -> String {
        match colour {
            Some(colour) if self.colour => format!("\u{1b}[{}m{text}\u{1b}[0m", colour as u8),
            _ => text.to_owned(),
        }
    }

    /// Why a step runs that might have been in the store, once for all steps of a container that run for the same.
    fn why(&mut self, container: &str, reasons: &[Reason]) -> String {
        let goes_without_saying = |reason: &Reason| {
            matches!(reason, Reason::NeverBuilt | Reason::NotKept | Reason::NoCache | Reason::BelowIsBuilt { .. })
        };
        if reasons.iter().all(goes_without_saying) || self.told.get(container).is_some_and(|told| told == reasons) {
            return String::new();
        }
        self.told.insert(container.to_owned(), reasons.to_vec());
        let reasons: Vec<String> = reasons.iter().map(ToString::to_string).collect();
        format!(": {}", reasons.join("; "))
    }

    fn warning(&mut self, out: &mut dyn Write, step: Option<&str>, message: &str) -> io::Result<()> {
        let message = format!("warning: {message}");
        match step {
            Some(step) => self.lines(out, step, '*', Some(Colour::Yellow), &message),
            None => message
                .lines()
                .try_for_each(|line| writeln!(out, "{}", self.paint(Some(Colour::Yellow), &sanitize(line)))),
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
            Event::StepFinished { step, status, exit_code, duration_ms, reason, .. } => {
                let (colour, exit_code) = match status {
                    StepStatus::Ran | StepStatus::Cached => (Colour::Green, None),
                    StepStatus::Failed => (Colour::Red, *exit_code),
                    StepStatus::Skipped => (Colour::Yellow, None),
                };
                let why = words::reason(reason.as_deref(), exit_code);
                self.lines(out, step, '*', Some(colour), &words::ending(*status, *duration_ms, why.as_deref()))
            }
            Event::SnapshotWritten { step, digest, size, path, cached } => {
                let verb = if *cached { "has" } else { "wrote" };
                let written = format!("{verb} {} ({}, {digest})", path.display(), words::size(*size));
                self.lines(out, step, '*', None, &written)
            }
            Event::Warning { step, message } => self.warning(out, step.as_deref(), message),
            Event::BuildFinished { status, ran, cached, failed, skipped, duration_ms } => {
                self.failures.tell(out)?;
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
                writeln!(
                    out,
                    "{}",
                    self.paint(Some(colour), &format!("build {word} in {}: {counts}", words::duration(*duration_ms)))
                )
            }
        }
    }

    fn end(&mut self, out: &mut dyn Write) -> io::Result<()> {
        self.failures.tell(out)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Mode;
    use super::super::script::{failing, finished, output, passing, show, stamp, started};
    use super::*;
    use crate::event::Stream;

    const PLAIN: Mode = Mode::Plain { colour: false };

    #[test]
    fn a_build_that_goes_well_is_told_line_by_line() {
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
base-layer * wrote /work/out/base.squashfs (1.5 MiB, sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef)
base-layer * done in 0.70s
build done in 13.1s: 2 ran, 1 cached
"
        );
    }

    #[test]
    fn failures_are_told_at_the_end_and_the_totals_last() {
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
    fn failures_are_told_even_when_the_build_never_finishes() {
        let mut events = failing();
        events.pop();
        let text = show(events, PLAIN);
        assert!(text.ends_with("  log: /store/logs/1/hello.log\n"), "{text}");
    }

    #[test]
    fn colour_is_only_runners_own_and_only_where_asked_for() {
        let text = show(passing(), Mode::Plain { colour: true });
        assert!(text.contains("\u{1b}[2mpackages |\u{1b}[0m slow mirror\n"), "{text}");
        assert!(text.contains("\u{1b}[32mdone in 12.3s\u{1b}[0m\n"), "{text}");
    }

    #[test]
    fn a_reason_of_several_lines_keeps_every_line_led() {
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
        fn no_bytes_of_a_step_reach_the_terminal_as_an_escape(bytes: Vec<u8>, tail in "[\u{1b}\u{9b}\\[\\]0-9;a-zA-Z\r]*") {
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
