//! Reporters: what people and programs see of a build. They are fed by events alone and change nothing of the work.

mod ci;
mod colour;
mod context;
mod difference;
mod ending;
mod failure;
mod file;
mod html;
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
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use crate::event::{Event, Stamped, Stream};
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
pub use file::Format;
pub use json::events_schema_text;
pub use output_environment::OutputEnvironment;
pub use sanitize::sanitize;
pub(crate) use words::{duration, size};

/// How events are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Lines that change in place, on the terminal that standard output is.
    Tty {
        /// Whether to colour what runner itself says.
        colour: bool,
    },
    /// Lines led by the step's name, for logs and for people.
    Plain {
        /// Whether to colour what runner itself says. What steps print has no colour either way.
        colour: bool,
    },
    /// Plain lines in groups, for the log of a CI job.
    Groups {
        /// Whose.
        ci: Ci,
        /// As for plain lines.
        colour: bool,
    },
    /// One JSON object a line.
    Json,
    /// Failures only.
    Quiet,
}

/// One way of showing events.
trait Reporter {
    /// An event happened.
    fn event(&mut self, stamped: &Stamped, out: &mut dyn Write) -> io::Result<()>;

    /// Whether it shows lines that have no end yet; else it never hears of them.
    fn shows_growing_lines(&self) -> bool {
        false
    }

    /// When it wants to draw, if it does so by itself.
    fn draw_at(&self) -> Option<Instant> {
        None
    }

    /// It is time to draw.
    fn draw(&mut self, _: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }

    /// No event comes any more. After a build that ended as it should there is nothing left to say.
    fn end(&mut self, out: &mut dyn Write) -> io::Result<()>;
}

/// How long what was said may wait for more before it is written.
const REST: Duration = Duration::from_millis(1);

/// As much is written at once.
const AT_ONCE: usize = 64 << 10;

/// The files that a build's reporters write in addition to the display, and the facts that they need for it.
#[derive(Debug, Default)]
pub struct ReportOutputs {
    /// A file for the events as JSON lines, and its path.
    pub log: Option<(PathBuf, File)>,
    /// Reports to write at the end.
    pub reports: Vec<(NamedFile, Format)>,
    /// A file that a summary in Markdown is added to: `$GITHUB_STEP_SUMMARY`.
    pub summary: Option<NamedFile>,
    /// The facts that are known before the first event, for the reporters that show them.
    pub context: Option<Arc<ReportContext>>,
    /// The commands that a failure suggests.
    pub next_steps: Option<NextSteps>,
    /// The build has secrets: its files are for their owner alone.
    pub private: bool,
}

/// What could not be shown or written.
#[derive(Debug)]
pub struct Shown {
    /// The first error of the display.
    pub display: io::Result<()>,
    /// The first error of each other output.
    pub outputs: Vec<(PathBuf, io::Error)>,
}

/// Shows events until all senders are gone. Meant for a thread of its own.
///
/// What was written is flushed whenever no event waits. After an error, a broken pipe for example, nothing is written
/// there any more; all else goes on, and so does the build: it is the caller who decides what such an error means.
pub fn run(events: Receiver<Stamped>, mode: Mode, out: impl Write, outputs: ReportOutputs) -> Shown {
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
        let report = FileReport::new(file, format, outputs.context.clone(), permissions);
        sinks.push(Sink::new(Box::new(report), io::sink()));
        paths.push(path);
    }
    if let Some(file) = outputs.summary {
        let path = file.path().to_owned();
        let summary = Summary::new(file, outputs.context);
        sinks.push(Sink::new(Box::new(summary), io::sink()));
        paths.push(path);
    }
    show(&events, &mut sinks);
    let mut results = sinks.into_iter().map(Sink::close);
    let display = results.next().unwrap_or(Ok(()));
    let outputs = paths.into_iter().zip(results).filter_map(|(path, result)| Some((path, result.err()?))).collect();
    Shown { display, outputs }
}

/// A reporter and where it writes, until that fails.
struct Sink<'o> {
    reporter: Box<dyn Reporter>,
    out: BufWriter<Box<dyn Write + 'o>>,
    result: io::Result<()>,
}

impl<'o> Sink<'o> {
    fn new(reporter: Box<dyn Reporter>, out: impl Write + 'o) -> Self {
        Self { reporter, out: BufWriter::with_capacity(AT_ONCE, Box::new(out)), result: Ok(()) }
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
        // Dropping the writer would try once more to write what could not be written.
        let _ = self.out.into_parts();
        self.result
    }
}

fn show(events: &Receiver<Stamped>, sinks: &mut [Sink<'_>]) {
    let mut rested = true;
    loop {
        let due = sinks.iter().filter_map(Sink::draw_at).min();
        let stamped = match events.try_recv() {
            Ok(stamped) => stamped,
            Err(TryRecvError::Disconnected) => return,
            // Between lines that come fast there is mostly nothing: to write and wait each time would slow who prints.
            Err(TryRecvError::Empty) if !rested => {
                rested = true;
                thread::sleep(REST);
                continue;
            }
            Err(TryRecvError::Empty) => {
                sinks.iter_mut().for_each(Sink::flush);
                let waited = match due {
                    Some(at) => events.recv_timeout(at.saturating_duration_since(Instant::now())),
                    None => events.recv().map_err(|_| RecvTimeoutError::Disconnected),
                };
                match waited {
                    Ok(stamped) => stamped,
                    Err(RecvTimeoutError::Timeout) => {
                        draw(sinks);
                        continue;
                    }
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        };
        // Where nothing can be written any more there is nothing to gather.
        rested = sinks.iter().all(|sink| sink.result.is_err());
        let grows = matches!(stamped.event, Event::StepLineGrows { .. });
        for sink in sinks.iter_mut().filter(|sink| !grows || sink.reporter.shows_growing_lines()) {
            sink.write(|reporter, out| reporter.event(&stamped, out));
        }
        // Events without a pause must not keep it from drawing.
        if due.is_some_and(|at| at <= Instant::now()) {
            draw(sinks);
        }
    }
}

fn draw(sinks: &mut [Sink<'_>]) {
    let now = Instant::now();
    sinks.iter_mut().filter(|sink| sink.draw_at().is_some_and(|at| at <= now)).for_each(Sink::draw);
}

/// Hands on what a command of `runner run` prints, byte for byte.
///
/// # Errors
/// What writing says: [`io::ErrorKind::BrokenPipe`] where the reader has gone away.
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

    /// A reader that went away after some bytes.
    struct Gone<'a>(&'a AtomicUsize);

    impl Write for Gone<'_> {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            self.0.fetch_add(1, Ordering::SeqCst);
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_broken_pipe_is_told_once_and_stops_nothing() {
        for mode in [Mode::Plain { colour: false }, Mode::Json] {
            let (events, receiver) = mpsc::sync_channel(1);
            let tries = AtomicUsize::new(0);
            let result = thread::scope(|scope| {
                let reporter = scope.spawn(|| run(receiver, mode, Gone(&tries), ReportOutputs::default()).display);
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
    fn what_is_there_is_shown_before_the_reporter_waits() {
        let (events, receiver) = Events::channel();
        let (mut reader, writer) = io::pipe().unwrap();
        thread::scope(|scope| {
            scope.spawn(|| run(receiver, Mode::Plain { colour: false }, writer, ReportOutputs::default()));
            events.send(Event::Warning { step: None, message: "now".into() });
            let mut seen = [0; 13];
            io::Read::read_exact(&mut reader, &mut seen).unwrap();
            assert_eq!(&seen, b"warning: now\n");
            drop(events);
        });
    }
}
