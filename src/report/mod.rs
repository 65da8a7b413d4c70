//! Reporters show a build to people and programs. They read events alone and change nothing of the work.

mod ci;
mod colour;
mod context;
mod difference;
mod ending;
mod failure;
mod file;
mod html;
pub mod image_difference;
pub mod imports;
mod json;
mod junit;
pub mod listing;
mod log_text;
mod output_environment;
mod plain;
pub mod plan;
mod quiet;
mod record;
mod sanitize;
mod tty;
mod words;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use crate::event::{Event, EventSource, Stamped, Stream};
use crate::fs::atomic::Permissions;
use crate::fs::named_file::NamedFile;

use ci::{Groups, Summary};
use file::FileReport;
use json::Json;
use plain::Plain;
use quiet::Quiet;
use tty::Tty;

pub use ci::Ci;
pub use context::ReportContext;
pub use difference::difference_line;
pub use failure::NextSteps;
pub use file::{Format, MeasureImage};
pub use image_difference::schema_text as diff_schema_text;
pub use json::events_schema_text;
pub use output_environment::OutputEnvironment;
pub use sanitize::sanitize;
pub(crate) use words::{duration, size};

/// A way of showing events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Lines that change in place, on the terminal at standard output.
    Tty {
        /// Whether to colour the words of runner itself.
        colour: bool,
    },
    /// Lines led by the step's name, for logs and for people.
    Plain {
        /// Whether to colour runner's own words. The output of steps has no colour either way.
        colour: bool,
    },
    /// Plain lines in groups, for the log of a CI job.
    Groups {
        /// The CI system of the job.
        ci: Ci,
        /// Whether to colour runner's own words.
        colour: bool,
    },
    /// One JSON object a line.
    Json,
    /// Failures only.
    Quiet,
}

/// Shows the events of a build in one way.
trait Reporter {
    /// Shows an event, or remembers it.
    fn event(&mut self, stamped: &Stamped, out: &mut dyn Write) -> io::Result<()>;

    /// Returns whether the reporter shows lines that have no end yet. Others do not get events of such lines.
    fn shows_growing_lines(&self) -> bool {
        false
    }

    /// Returns the time of the next drawing, if the reporter draws between events.
    fn draw_at(&self) -> Option<Instant> {
        None
    }

    /// Draws.
    fn draw(&mut self, _: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }

    /// Ends the display after the last event. After a build that ended properly, nothing remains to be shown.
    fn end(&mut self, out: &mut dyn Write) -> io::Result<()>;
}

/// The longest time that written text waits for more before it is flushed.
const FLUSH_DELAY: Duration = Duration::from_millis(1);

/// The bytes that are written at once.
const BUFFER_BYTES: usize = 64 << 10;

/// The files that a build's reporters write in addition to the display, and the facts that they need for it.
#[derive(Debug, Default)]
pub struct ReportOutputs {
    /// A file for the events as JSON lines, and its path.
    pub log: Option<(PathBuf, File)>,
    /// Reports to write at the end.
    pub reports: Vec<(NamedFile, Format)>,
    /// A file that a summary in Markdown is added to: `$GITHUB_STEP_SUMMARY`.
    pub summary: Option<NamedFile>,
    /// The facts that reporters have before the first event.
    pub context: Option<Arc<ReportContext>>,
    /// The commands that a failure suggests.
    pub next_steps: Option<NextSteps>,
    /// The build has secrets: its files are for their owner alone.
    pub private: bool,
    /// Measures images for the reports.
    pub measure: Option<MeasureImage>,
}

/// The results of showing a build: the errors of the display and of the other outputs.
#[derive(Debug)]
pub struct Shown {
    /// The first error of the display.
    pub display: io::Result<()>,
    /// The first error of each other output.
    pub outputs: Vec<(PathBuf, io::Error)>,
}

/// Shows events until all senders are dropped. The caller gives it a thread of its own.
///
/// Written text is flushed whenever no event waits. After an error, a broken pipe for example, nothing more is written
/// to that output. The other outputs and the build continue, and the caller decides what the error means.
pub fn run(mut events: impl EventSource, mode: Mode, out: impl Write, outputs: ReportOutputs) -> Shown {
    let reporter: Box<dyn Reporter> = match mode {
        Mode::Tty { colour } => Box::new(Tty::new(colour, outputs.next_steps)),
        Mode::Plain { colour } => Box::new(Plain::new(colour, outputs.next_steps)),
        Mode::Groups { ci, colour } => Box::new(Groups::new(ci, colour, outputs.context.clone(), outputs.next_steps)),
        Mode::Json => Box::new(Json::default()),
        Mode::Quiet => Box::new(Quiet::new(outputs.next_steps)),
    };
    let mut sinks = vec![Sink::new(reporter, out)];
    let mut paths = Vec::new();
    if let Some((path, file)) = outputs.log {
        sinks.push(Sink::new(Box::new(Json::default()), file));
        paths.push(path);
    }
    let permissions = if outputs.private { Permissions::Exactly(0o600) } else { Permissions::New };
    for (file, format) in outputs.reports {
        let path = file.path().to_owned();
        let measure = outputs.measure.clone();
        let report = FileReport::new(file, format, outputs.context.clone(), permissions, measure);
        sinks.push(Sink::new(Box::new(report), io::sink()));
        paths.push(path);
    }
    if let Some(file) = outputs.summary {
        let path = file.path().to_owned();
        let summary = Summary::new(file, outputs.context);
        sinks.push(Sink::new(Box::new(summary), io::sink()));
        paths.push(path);
    }
    show(&mut events, &mut sinks);
    let mut results = sinks.into_iter().map(Sink::close);
    let display = results.next().unwrap_or(Ok(()));
    let outputs = paths.into_iter().zip(results).filter_map(|(path, result)| Some((path, result.err()?))).collect();
    Shown { display, outputs }
}

/// A reporter and its output, until the output fails.
struct Sink<'o> {
    reporter: Box<dyn Reporter>,
    out: BufWriter<Box<dyn Write + 'o>>,
    result: io::Result<()>,
}

impl<'o> Sink<'o> {
    fn new(reporter: Box<dyn Reporter>, out: impl Write + 'o) -> Self {
        Self { reporter, out: BufWriter::with_capacity(BUFFER_BYTES, Box::new(out)), result: Ok(()) }
    }

    fn write(&mut self, write: impl FnOnce(&mut dyn Reporter, &mut dyn Write) -> io::Result<()>) {
        if self.result.is_ok() {
            self.result = write(self.reporter.as_mut(), &mut self.out);
        }
    }

    fn flush(&mut self) {
        self.write(|_, out| out.flush());
    }

    fn draw_at(&self) -> Option<Instant> {
        self.reporter.draw_at().filter(|_| self.result.is_ok())
    }

    fn draw(&mut self) {
        self.write(|reporter, out| {
            reporter.draw(out)?;
            out.flush()
        });
    }

    fn close(mut self) -> io::Result<()> {
        self.write(|reporter, out| reporter.end(out));
        self.flush();
        // Dropping the writer would try once more to write the bytes that failed.
        let _ = self.out.into_parts();
        self.result
    }
}

fn show(events: &mut dyn EventSource, sinks: &mut [Sink<'_>]) {
    let mut has_paused = true;
    loop {
        let due = sinks.iter().filter_map(Sink::draw_at).min();
        let stamped = match events.try_next() {
            Ok(stamped) => stamped,
            Err(TryRecvError::Disconnected) => return,
            // Between lines that come fast the queue is mostly empty: to write and wait each time would slow the step
            // that prints.
            Err(TryRecvError::Empty) if !has_paused => {
                has_paused = true;
                thread::sleep(FLUSH_DELAY);
                continue;
            }
            Err(TryRecvError::Empty) => {
                sinks.iter_mut().for_each(Sink::flush);
                match events.next_until(due) {
                    Ok(stamped) => stamped,
                    Err(RecvTimeoutError::Timeout) => {
                        draw(sinks);
                        continue;
                    }
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        };
        // If no output can be written any more, there is nothing to gather.
        has_paused = sinks.iter().all(|sink| sink.result.is_err());
        let grows = matches!(stamped.event, Event::StepLineGrows { .. });
        for sink in sinks.iter_mut().filter(|sink| !grows || sink.reporter.shows_growing_lines()) {
            sink.write(|reporter, out| reporter.event(&stamped, out));
        }
        // Events without a pause must not prevent drawing.
        if due.is_some_and(|at| at <= Instant::now()) {
            draw(sinks);
        }
    }
}

fn draw(sinks: &mut [Sink<'_>]) {
    let now = Instant::now();
    sinks.iter_mut().filter(|sink| sink.draw_at().is_some_and(|at| at <= now)).for_each(Sink::draw);
}

/// Writes the output of a command of `runner run`, byte for byte.
///
/// # Errors
/// Those of writing: [`io::ErrorKind::BrokenPipe`] if the reader has closed its end.
pub fn pass_through(stream: Stream, bytes: &[u8]) -> io::Result<()> {
    let mut out: Box<dyn Write> = match stream {
        Stream::Stdout => Box::new(io::stdout().lock()),
        Stream::Stderr => Box::new(io::stderr().lock()),
    };
    out.write_all(bytes).and_then(|()| out.flush())
}

#[cfg(test)]
mod script;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;
    use std::thread;
    use std::time::SystemTime;

    use super::*;
    use crate::event::{Event, Events};

    /// A pipe whose reader has closed its end.
    struct BrokenPipe<'a>(&'a AtomicUsize);

    impl Write for BrokenPipe<'_> {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            self.0.fetch_add(1, Ordering::SeqCst);
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_broken_pipe_is_reported_once_and_the_build_continues() {
        for mode in [Mode::Plain { colour: false }, Mode::Json] {
            let (events, receiver) = mpsc::sync_channel(1);
            let tries = AtomicUsize::new(0);
            let result = thread::scope(|scope| {
                let reporter =
                    scope.spawn(|| run(receiver, mode, BrokenPipe(&tries), ReportOutputs::default()).display);
                for _ in 0..10_000 {
                    // Fails if the reporter no longer takes events.
                    let event = Event::Warning { step: None, message: "x".into() };
                    events.send(Stamped::new(SystemTime::UNIX_EPOCH, event)).unwrap();
                }
                drop(events);
                reporter.join().unwrap()
            });
            assert_eq!(result.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
            assert_eq!(tries.into_inner(), 1);
        }
    }

    #[test]
    fn waiting_events_are_shown_before_the_reporter_waits() {
        let (events, receiver) = Events::channel();
        let (mut reader, writer) = io::pipe().unwrap();
        thread::scope(|scope| {
            scope.spawn(|| run(receiver, Mode::Plain { colour: false }, writer, ReportOutputs::default()));
            events.send(Event::Warning { step: None, message: "now".into() });
            let mut shown = [0; 13];
            io::Read::read_exact(&mut reader, &mut shown).unwrap();
            assert_eq!(&shown, b"warning: now\n");
            drop(events);
        });
    }
}
