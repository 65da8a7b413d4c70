//! The failed steps of a build, gathered as they happen and told at its end.

use std::collections::{HashMap, VecDeque};
use std::io::{self, Write};
use std::path::PathBuf;

use crate::event::{Event, StepStatus};

use super::sanitize::sanitize;
use super::words;

/// How many of a step's last lines are told.
const LINES: usize = 20;

/// Bytes of a line that are kept for the tail: a step that prints without line ends must not fill the memory.
const LINE_BYTES: usize = 4096;

/// Reads events and remembers what failed.
#[derive(Debug, Default)]
pub(super) struct Failures {
    /// By running step: its last lines.
    tails: HashMap<String, VecDeque<String>>,
    failures: Vec<Failure>,
}

#[derive(Debug)]
struct Failure {
    step: String,
    reason: Option<String>,
    tail: VecDeque<String>,
    log: Option<PathBuf>,
}

impl Failures {
    pub(super) fn event(&mut self, event: &Event) {
        match event {
            // A new try: what the one before it printed explains nothing of this one.
            Event::StepStarted { step, .. } => {
                self.tails.remove(step);
            }
            Event::StepOutput { step, line, .. } => {
                // A step may print very fast: no name is copied for a line, and lines are looked at when they are told.
                let tail = match self.tails.get_mut(step) {
                    Some(tail) => tail,
                    None => self.tails.entry(step.clone()).or_default(),
                };
                let mut kept = if tail.len() == LINES { tail.pop_front().unwrap_or_default() } else { String::new() };
                kept.clear();
                keep(&mut kept, line);
                tail.push_back(kept);
            }
            Event::StepFinished { step, status, exit_code, log, reason, .. } => {
                let tail = self.tails.remove(step).unwrap_or_default();
                if *status == StepStatus::Failed {
                    let reason = words::reason(reason.as_deref(), *exit_code);
                    self.failures.push(Failure { step: step.clone(), reason, tail, log: log.clone() });
                }
            }
            _ => {}
        }
    }

    /// Tells all failures, and forgets them: they are told once.
    pub(super) fn tell(&mut self, out: &mut dyn Write) -> io::Result<()> {
        for Failure { step, reason, tail, log } in self.failures.drain(..) {
            let mut reason = reason.iter().flat_map(|reason| reason.lines());
            let first = reason.next().map(|line| format!(": {}", sanitize(line))).unwrap_or_default();
            writeln!(out, "\nstep {} failed{first}", sanitize(&step))?;
            for line in reason {
                writeln!(out, "  {}", sanitize(line))?;
            }
            for line in tail {
                writeln!(out, "{}", format!("  | {}", sanitize(&line)).trim_end())?;
            }
            if let Some(log) = log {
                writeln!(out, "  log: {}", sanitize(&log.to_string_lossy()))?;
            }
        }
        Ok(())
    }
}

fn keep(kept: &mut String, line: &str) {
    if line.len() <= LINE_BYTES {
        kept.push_str(line);
        return;
    }
    // What is seen may be at the end of it, behind a carriage return or a long sequence.
    let line = sanitize(line);
    let end = line.floor_char_boundary(LINE_BYTES.min(line.len()));
    kept.push_str(&line[..end]);
    if end < line.len() {
        kept.push('…');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Stream;

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
            log: Some("/store/a.log".into()),
            reason: None,
        }
    }

    fn told(events: &[Event]) -> String {
        let mut failures = Failures::default();
        events.iter().for_each(|event| failures.event(event));
        let mut out = Vec::new();
        failures.tell(&mut out).unwrap();
        failures.tell(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_last_twenty_lines_are_told_once() {
        let mut events: Vec<Event> = (1..=25).map(|i| output(format!("line {i}"))).collect();
        events.push(failed());
        let lines: String = (6..=25).map(|i| format!("  | line {i}\n")).collect();
        assert_eq!(told(&events), format!("\nstep a failed: exit code 1\n{lines}  log: /store/a.log\n"));
    }

    #[test]
    fn only_the_last_try_is_told() {
        let start = |attempt| Event::StepStarted { step: "a".into(), container: "c".into(), attempt, reasons: vec![] };
        let events = [start(1), output("first".into()), start(2), output("second".into()), failed()];
        assert_eq!(told(&events), "\nstep a failed: exit code 1\n  | second\n  log: /store/a.log\n");
    }

    #[test]
    fn an_endless_line_is_clipped_at_a_character() {
        let mut line = String::new();
        keep(&mut line, &("é".repeat(LINE_BYTES)));
        assert!(line.len() <= LINE_BYTES + '…'.len_utf8() && line.ends_with("é…"));
    }
}
