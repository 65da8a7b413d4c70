//! What is known of a build under way, and the lines that show it; pure.

use std::path::PathBuf;
use std::time::SystemTime;

use crate::event::{CheckpointStage, Event, Stamped, StepStatus};

use super::super::colour::{Colour, Paint};
use super::super::sanitize::sanitize;
use super::super::{ending, words};
use super::screen::Size;
use super::total::{Total, milliseconds};
use crate::columns::{fit, width};

/// As much of a step's last line is kept; no terminal is as wide.
const LINE_BYTES: usize = 4096;

/// Columns between a name, a time and a line.
const GAP: usize = 2;

/// Follows the events of a build.
#[derive(Debug)]
pub(super) struct Board {
    paint: Paint,
    /// Paths inside it are shown from there.
    folder: PathBuf,
    total: Total,
    /// Of the longest name so far, in columns.
    name_width: usize,
    running: Vec<Running>,
    /// Images of steps that are not running, until those are over.
    images: Vec<(String, String)>,
    /// Checkpoints that are written while other steps run.
    checkpoints: Vec<Checkpoint>,
}

/// A checkpoint of a step that is over, while its image is written.
#[derive(Debug)]
struct Checkpoint {
    step: String,
    begun: SystemTime,
    bytes: u64,
    percent: Option<u8>,
}

/// A step between its beginning and its end.
#[derive(Debug)]
struct Running {
    step: String,
    begun: SystemTime,
    attempt: u32,
    /// The last line that it printed and that is not blank, as it came.
    line: String,
    /// Bytes of its image so far, and how much of all that is.
    written: Option<(u64, Option<u8>)>,
    /// Its image.
    image: Option<String>,
    /// Whether a checkpoint is copied or restored, and how many bytes of it are.
    checkpoint: Option<(CheckpointStage, u64)>,
}

impl Board {
    pub(super) fn new(paint: Paint, folder: PathBuf) -> Self {
        Self {
            paint,
            folder,
            total: Total::default(),
            name_width: 0,
            running: Vec::new(),
            images: Vec::new(),
            checkpoints: Vec::new(),
        }
    }

    /// Takes an event; gives the lines to put above what is running, if any.
    pub(super) fn event(&mut self, Stamped { time, event, .. }: &Stamped) -> Option<String> {
        match event {
            Event::BuildStarted { name, steps } => {
                self.total.begins(*time, *steps);
                Some(format!("{}: {steps} {}", sanitize(name), if *steps == 1 { "step" } else { "steps" }))
            }
            Event::StepStarted { step, attempt, reasons, .. } => {
                self.name_width = self.name_width.max(width(step));
                match self.running(step) {
                    Some(running) => (running.attempt, running.line) = (*attempt, String::new()),
                    None => self.running.push(Running {
                        step: step.clone(),
                        begun: *time,
                        attempt: *attempt,
                        line: words::why(reasons).map(|why| format!("runs: {why}")).unwrap_or_default(),
                        written: None,
                        image: None,
                        checkpoint: None,
                    }),
                }
                None
            }
            Event::StepOutput { step, line, .. } | Event::StepLineGrows { step, line } => {
                self.running(step)?.printed(line);
                None
            }
            Event::StepWaits { step, cache } => {
                self.running(step)?.line = words::waits(cache);
                None
            }
            Event::StepHasTurn { step } => {
                let running = self.running(step)?;
                // The wait says nothing of how long the step takes.
                (running.begun, running.line) = (*time, String::new());
                None
            }
            Event::SnapshotProgress { step, bytes, percent } => {
                self.running(step)?.written = Some((*bytes, *percent));
                None
            }
            Event::CheckpointProgress { step, stage, bytes, percent } => {
                match stage {
                    CheckpointStage::Copied | CheckpointStage::Restored => {
                        self.running(step)?.checkpoint = Some((*stage, *bytes));
                    }
                    CheckpointStage::Written => self.writes_checkpoint(step, *time, *bytes, *percent),
                    CheckpointStage::Discarded => self.forget_checkpoint(step),
                }
                None
            }
            Event::CheckpointWritten { step, size } => {
                self.forget_checkpoint(step);
                Some(self.about(step, Colour::Faint, &words::checkpoint_written(*size)))
            }
            Event::CheckpointRestored { step, after } => {
                self.running(step)?.checkpoint = None;
                Some(self.about(step, Colour::Faint, &words::checkpoint_restored(after)))
            }
            Event::BuildEstimated { left_ms, untimed } => {
                self.total.estimated(*left_ms, *untimed);
                None
            }
            Event::SnapshotWritten { step, size, path, .. } => {
                let path = path.strip_prefix(&self.folder).unwrap_or(path);
                let image = format!("{}, {}", path.display(), words::size(*size));
                match self.running(step) {
                    Some(running) => running.image = Some(image),
                    // From the store: it never began.
                    None => self.images.push((step.clone(), image)),
                }
                None
            }
            Event::StepFinished { step, status, exit_code, duration_ms, reason, .. } => {
                Some(self.finished(step, *status, *exit_code, *duration_ms, reason.as_deref()))
            }
            Event::Warning { step, message } => {
                step.iter().for_each(|step| self.forget_checkpoint(step));
                let lead = step.as_ref().map(|step| format!("{}: ", sanitize(step))).unwrap_or_default();
                let lines = message.lines().map(sanitize).collect::<Vec<_>>().join("\n");
                Some(self.paint.text(Some(Colour::Yellow), &format!("{lead}warning: {lines}")).into_owned())
            }
            Event::BuildFinished { .. } => None,
        }
    }

    fn running(&mut self, step: &str) -> Option<&mut Running> {
        self.running.iter_mut().find(|running| running.step == step)
    }

    fn finished(
        &mut self,
        step: &str,
        status: StepStatus,
        exit_code: Option<i32>,
        duration_ms: u64,
        reason: Option<&str>,
    ) -> String {
        self.total.is_over(status);
        self.name_width = self.name_width.max(width(step));
        let at = self.running.iter().position(|running| running.step == step);
        let image = match at {
            Some(at) => self.running.remove(at).image,
            None => {
                let at = self.images.iter().position(|(known, _)| known == step);
                at.map(|at| self.images.swap_remove(at).1)
            }
        };
        // All of a long reason is told at the end.
        let (colour, text) =
            ending::of_step(status, exit_code, duration_ms, reason.and_then(|reason| reason.lines().next()));
        let image = image.map(|image| format!(": {image}")).unwrap_or_default();
        self.about(step, colour, &format!("{text}{image}"))
    }

    /// A line about a step.
    fn about(&self, step: &str, colour: Colour, text: &str) -> String {
        let (name, text) = (sanitize(step), sanitize(text));
        let padding = " ".repeat(self.name_width.saturating_sub(width(&name)) + GAP);
        format!("{name}{padding}{}", self.paint.text(Some(colour), &text))
    }

    fn writes_checkpoint(&mut self, step: &str, now: SystemTime, bytes: u64, percent: Option<u8>) {
        match self.checkpoints.iter_mut().find(|checkpoint| checkpoint.step == step) {
            Some(checkpoint) => (checkpoint.bytes, checkpoint.percent) = (bytes, percent),
            None => self.checkpoints.push(Checkpoint { step: step.to_owned(), begun: now, bytes, percent }),
        }
    }

    fn forget_checkpoint(&mut self, step: &str) {
        self.checkpoints.retain(|checkpoint| checkpoint.step != step);
    }

    /// The lines that show what is running now, the last of them the total; none as wide as the terminal, and fewer than
    /// it has rows.
    pub(super) fn frame(&self, now: SystemTime, size: Size) -> Vec<String> {
        let columns = size.columns.saturating_sub(1);
        let bold = |line: String| self.paint.text(Some(Colour::Bold), &fit(&line, columns)).into_owned();
        let total: Vec<String> = self.total.lines(self.running.len(), now, columns).into_iter().map(bold).collect();
        let room = size.rows.saturating_sub(total.len() + 1);
        let running = self
            .running
            .iter()
            .map(|running| self.row(&running.step, running.begun, now, columns, |columns| running.now(columns)));
        let checkpoints = self.checkpoints.iter().map(|checkpoint| {
            self.row(&checkpoint.step, checkpoint.begun, now, columns, |columns| checkpoint.now(columns))
        });
        let mut lines: Vec<String> = running.chain(checkpoints).collect();
        let all = lines.len();
        let shown = if all > room { room.saturating_sub(1) } else { all };
        lines.truncate(shown);
        let hidden = all - shown;
        if hidden > 0 && room > 0 {
            lines.push(fit(&format!("… and {hidden} more"), columns));
        }
        lines.extend(total);
        lines
    }

    fn row(
        &self,
        step: &str,
        begun: SystemTime,
        now: SystemTime,
        columns: usize,
        text: impl Fn(usize) -> String,
    ) -> String {
        let name_width = self.name_width.min((columns / 3).max(8));
        let name = fit(step, name_width.min(columns));
        let time = format!("{:>6}", words::clock(milliseconds(begun, now)));
        let lead = width(&name).max(name_width) + GAP + width(&time) + GAP;
        if lead >= columns {
            return fit(&format!("{name} {time}"), columns);
        }
        let padding = " ".repeat(name_width.saturating_sub(width(&name)) + GAP);
        let name = self.paint.text(Some(Colour::Cyan), &name);
        let time = self.paint.text(Some(Colour::Faint), &time);
        format!("{name}{padding}{time}{}{}", " ".repeat(GAP), fit(&text(columns - lead), columns - lead))
            .trim_end()
            .to_owned()
    }
}

impl Running {
    fn printed(&mut self, line: &str) {
        let short = if line.len() > LINE_BYTES { line.rsplit('\r').next().unwrap_or(line) } else { line };
        if short.bytes().all(|byte| byte.is_ascii_whitespace()) {
            return;
        }
        self.line.clear();
        self.line.push_str(&short[..short.floor_char_boundary(LINE_BYTES.min(short.len()))]);
    }

    /// What it does now, as far as that is known; in fewer words where these have no room.
    fn now(&self, columns: usize) -> String {
        if let Some((stage, bytes)) = self.checkpoint {
            let (what, size) =
                (if stage == CheckpointStage::Copied { "copying" } else { "restoring" }, words::size(bytes));
            return shorter(columns, format!("{what} a checkpoint, {size}"), format!("{what} {size}"));
        }
        let again = if self.attempt > 1 { format!("(try {}) ", self.attempt) } else { String::new() };
        let Some((bytes, percent)) = self.written else { return format!("{again}{}", sanitize(&self.line)) };
        let size = words::size(bytes);
        let (long, short) = match percent {
            Some(percent) => (format!("{percent}% of the image, {size}"), format!("{percent}%, {size}")),
            None => (format!("{size} of the image written"), size),
        };
        again + &shorter(columns, long, short)
    }
}

impl Checkpoint {
    /// How far it is.
    fn now(&self, columns: usize) -> String {
        let size = words::size(self.bytes);
        match self.percent {
            Some(percent) => {
                shorter(columns, format!("{percent}% of its checkpoint, {size}"), format!("{percent}%, {size}"))
            }
            None => shorter(columns, format!("{size} of its checkpoint written"), size),
        }
    }
}

/// The short words where the long ones have no room.
fn shorter(columns: usize, long: String, short: String) -> String {
    if width(&long) <= columns { long } else { short }
}

#[cfg(test)]
mod tests;
