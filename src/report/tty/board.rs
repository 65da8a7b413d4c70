//! The state of a running build, and the lines that show it; pure.

use std::path::PathBuf;
use std::time::SystemTime;

use crate::event::{CheckpointStage, Event, Stamped, StepFailure, StepStatus};

use super::super::colour::{Colour, Paint};
use super::super::sanitize::sanitize;
use super::super::{ending, words};
use super::imports::Imports;
use super::screen::Size;
use super::total::{Total, milliseconds};
use crate::text_width::{fit, width};

/// The bytes of a step's last line that are remembered; no terminal is as wide.
const LINE_BYTES: usize = 4096;

/// The columns between a name, a time and a line.
const GAP: usize = 2;

/// Follows the events of a build.
#[derive(Debug)]
pub(super) struct Board {
    paint: Paint,
    /// The working directory: paths inside it are shown relative to it.
    directory: PathBuf,
    total: Total,
    /// The width of the longest name so far, in columns.
    name_width: usize,
    running: Vec<Running>,
    /// The images of steps that are not running, until these steps finish.
    images: Vec<(String, String)>,
    /// The checkpoints that are written while other steps run.
    checkpoints: Vec<Checkpoint>,
    imports: Imports,
}

/// A checkpoint of a finished step, while its image is written.
#[derive(Debug)]
struct Checkpoint {
    step: String,
    started_at: SystemTime,
    bytes: u64,
    percent: Option<u8>,
}

/// A step between its beginning and its end.
#[derive(Debug)]
struct Running {
    step: String,
    started_at: SystemTime,
    attempt: u32,
    /// The last line of its output that is not blank, unchanged.
    line: String,
    /// The bytes of its image so far, and their share in percent if it is known.
    written: Option<(u64, Option<u8>)>,
    /// The bytes of its image that were sent to a registry, and the share that the registry has.
    pushed: Option<(u64, u8)>,
    /// Its image.
    image: Option<String>,
    /// The stage of a checkpoint that is copied or restored, and the bytes so far.
    checkpoint: Option<(CheckpointStage, u64)>,
}

impl Board {
    pub(super) fn new(paint: Paint, directory: PathBuf) -> Self {
        Self {
            paint,
            directory,
            total: Total::default(),
            name_width: 0,
            running: Vec::new(),
            images: Vec::new(),
            checkpoints: Vec::new(),
            imports: Imports::default(),
        }
    }

    /// Takes an event, and returns the lines to put above the running steps, if any.
    pub(super) fn event(&mut self, stamped: &Stamped) -> Option<String> {
        let Stamped { time, event, .. } = stamped;
        match event {
            Event::BuildStarted { name, steps } => {
                self.total.started(*time, *steps);
                Some(format!("{}: {steps} {}", sanitize(name), if *steps == 1 { "step" } else { "steps" }))
            }
            Event::StepStarted { step, attempt, reasons, .. } => {
                self.name_width = self.name_width.max(width(step));
                match self.running(step) {
                    Some(running) => (running.attempt, running.line) = (*attempt, String::new()),
                    None => self.running.push(Running {
                        step: step.clone(),
                        started_at: *time,
                        attempt: *attempt,
                        line: words::why(reasons).map(|why| format!("runs: {why}")).unwrap_or_default(),
                        written: None,
                        pushed: None,
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
                // The step's time does not include the wait.
                (running.started_at, running.line) = (*time, String::new());
                None
            }
            Event::SnapshotProgress { step, bytes, percent } => {
                self.running(step)?.written = Some((*bytes, *percent));
                None
            }
            Event::PushProgress { step, bytes, percent } => {
                self.running(step)?.pushed = Some((*bytes, *percent));
                None
            }
            Event::ImagePushed { step, image, sent, changed, .. } => {
                Some(self.about(step, Colour::Faint, &words::pushed(image, *sent, *changed)))
            }
            Event::CheckpointProgress { step, stage, bytes, percent } => {
                match stage {
                    CheckpointStage::Copied | CheckpointStage::Restored => {
                        self.running(step)?.checkpoint = Some((*stage, *bytes));
                    }
                    CheckpointStage::Written => self.update_checkpoint(step, *time, *bytes, *percent),
                    CheckpointStage::Discarded => self.remove_checkpoint(step),
                }
                None
            }
            Event::CheckpointWritten { step, size } => {
                self.remove_checkpoint(step);
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
            Event::SnapshotWritten { step, size, path, .. } | Event::ExportWritten { step, size, path, .. } => {
                let path = path.strip_prefix(&self.directory).unwrap_or(path);
                let image = format!("{}, {}", path.display(), words::size(*size));
                match self.running(step) {
                    Some(running) => running.image = Some(image),
                    // A step from the store never began.
                    None => self.images.push((step.clone(), image)),
                }
                None
            }
            Event::StepFinished { step, status, exit_code, duration_ms, reason, failure, .. } => {
                Some(self.finished(step, *status, *exit_code, *duration_ms, reason.as_deref(), failure.as_deref()))
            }
            Event::Warning { step, message } => {
                step.iter().for_each(|step| self.remove_checkpoint(step));
                let lead = step.as_ref().map(|step| format!("{}: ", sanitize(step))).unwrap_or_default();
                let lines = message.lines().map(sanitize).collect::<Vec<_>>().join("\n");
                Some(self.paint.text(Some(Colour::Yellow), &format!("{lead}warning: {lines}")).into_owned())
            }
            Event::ImportStarted { container, .. } => {
                self.name_width = self.name_width.max(width(container));
                self.imports.event(stamped)
            }
            Event::ImportProgress { .. } | Event::RequestWaits { .. } | Event::ImportFinished { .. } => {
                self.imports.event(stamped)
            }
            Event::StageReached { .. } | Event::BuildFinished { .. } => None,
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
        failure: Option<&StepFailure>,
    ) -> String {
        self.total.finished(status, words::is_stopped(failure));
        self.name_width = self.name_width.max(width(step));
        let at = self.running.iter().position(|running| running.step == step);
        let image = match at {
            Some(at) => self.running.remove(at).image,
            None => {
                let at = self.images.iter().position(|(known, _)| known == step);
                at.map(|at| self.images.swap_remove(at).1)
            }
        };
        // The end of the build shows all lines of a long reason.
        let reason = reason.and_then(|reason| reason.lines().next());
        let (colour, text) = ending::step_line(status, exit_code, duration_ms, reason, failure);
        let image = image.map(|image| format!(": {image}")).unwrap_or_default();
        self.about(step, colour, &format!("{text}{image}"))
    }

    /// Returns a line about a step.
    fn about(&self, step: &str, colour: Colour, text: &str) -> String {
        let (name, text) = (sanitize(step), sanitize(text));
        let padding = " ".repeat(self.name_width.saturating_sub(width(&name)) + GAP);
        format!("{name}{padding}{}", self.paint.text(Some(colour), &text))
    }

    fn update_checkpoint(&mut self, step: &str, now: SystemTime, bytes: u64, percent: Option<u8>) {
        match self.checkpoints.iter_mut().find(|checkpoint| checkpoint.step == step) {
            Some(checkpoint) => (checkpoint.bytes, checkpoint.percent) = (bytes, percent),
            None => self.checkpoints.push(Checkpoint { step: step.to_owned(), started_at: now, bytes, percent }),
        }
    }

    fn remove_checkpoint(&mut self, step: &str) {
        self.checkpoints.retain(|checkpoint| checkpoint.step != step);
    }

    /// Returns the lines that show the running steps, and the total as the last line. No line is as wide as the
    /// terminal, and there are fewer lines than rows.
    pub(super) fn frame(&self, now: SystemTime, size: Size) -> Vec<String> {
        let columns = size.columns.saturating_sub(1);
        let bold = |line: String| self.paint.text(Some(Colour::Bold), &fit(&line, columns)).into_owned();
        let total: Vec<String> = self.total.lines(self.running.len(), now, columns).into_iter().map(bold).collect();
        let room = size.rows.saturating_sub(total.len() + 1);
        let running = self
            .running
            .iter()
            .map(|running| self.row(&running.step, running.started_at, now, columns, |columns| running.text(columns)));
        let checkpoints = self.checkpoints.iter().map(|checkpoint| {
            self.row(&checkpoint.step, checkpoint.started_at, now, columns, |columns| checkpoint.text(columns))
        });
        let imports = self.imports.iter().map(|import| {
            let [long, short] = import.text().map(str::to_owned);
            self.row(&import.container, import.started_at, now, columns, |columns| {
                if short.is_empty() { long.clone() } else { long_or_short(columns, long.clone(), short.clone()) }
            })
        });
        let mut lines: Vec<String> = running.chain(checkpoints).chain(imports).collect();
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
        started_at: SystemTime,
        now: SystemTime,
        columns: usize,
        text: impl Fn(usize) -> String,
    ) -> String {
        let name_width = self.name_width.min((columns / 3).max(8));
        let name = fit(step, name_width.min(columns));
        let time = format!("{:>6}", words::clock(milliseconds(started_at, now)));
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

    /// Returns what the step does now, as far as that is known; in fewer words if the long text does not fit.
    fn text(&self, columns: usize) -> String {
        if let Some((stage, bytes)) = self.checkpoint {
            let (verb, size) =
                (if stage == CheckpointStage::Copied { "copying" } else { "restoring" }, words::size(bytes));
            return long_or_short(columns, format!("{verb} a checkpoint, {size}"), format!("{verb} {size}"));
        }
        if let Some((bytes, percent)) = self.pushed {
            let size = words::size(bytes);
            return long_or_short(columns, format!("{percent}% pushed, {size} sent"), format!("{percent}%, {size}"));
        }
        let again = if self.attempt > 1 { format!("(try {}) ", self.attempt) } else { String::new() };
        let Some((bytes, percent)) = self.written else { return format!("{again}{}", sanitize(&self.line)) };
        let size = words::size(bytes);
        let (long, short) = match percent {
            Some(percent) => (format!("{percent}% of the image, {size}"), format!("{percent}%, {size}")),
            None => (format!("{size} of the image written"), size),
        };
        again + &long_or_short(columns, long, short)
    }
}

impl Checkpoint {
    /// Returns the progress of the checkpoint.
    fn text(&self, columns: usize) -> String {
        let size = words::size(self.bytes);
        match self.percent {
            Some(percent) => {
                long_or_short(columns, format!("{percent}% of its checkpoint, {size}"), format!("{percent}%, {size}"))
            }
            None => long_or_short(columns, format!("{size} of its checkpoint written"), size),
        }
    }
}

/// Returns the long text if it fits, or else the short one.
fn long_or_short(columns: usize, long: String, short: String) -> String {
    if width(&long) <= columns { long } else { short }
}

#[cfg(test)]
mod tests;
