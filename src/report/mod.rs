//! Reporters: what people and programs see of a build. They are fed by events alone and change nothing of the work.

mod failure;
mod json;
mod plain;
mod quiet;
mod sanitize;
mod words;

use std::io::{self, BufWriter, Write};
use std::sync::mpsc::{Receiver, TryRecvError};

use crate::event::{Stamped, Stream};

use json::Json;
use plain::Plain;
use quiet::Quiet;

pub use sanitize::sanitize;
pub(crate) use words::{duration, size};

/// How events are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Lines led by the step's name, for logs and for people.
    Plain {
        /// Whether to colour what runner itself says. What steps print has no colour either way.
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

    /// No event comes any more. After a build that ended as it should there is nothing left to say.
    fn end(&mut self, out: &mut dyn Write) -> io::Result<()>;
}

/// Shows events until all senders are gone. Meant for a thread of its own.
///
/// What was written is flushed whenever no event waits.
///
/// # Errors
/// The first error of `out`, a broken pipe among them. Nothing is written after it, but events are still taken until
/// the end, so that the build goes on to its own end: it is the caller who decides what such an error means.
pub fn run(events: Receiver<Stamped>, mode: Mode, out: impl Write) -> io::Result<()> {
    let mut out = BufWriter::new(out);
    let mut result = match mode {
        Mode::Plain { colour } => show(&events, Plain::new(colour), &mut out),
        Mode::Json => show(&events, Json, &mut out),
        Mode::Quiet => show(&events, Quiet::default(), &mut out),
    };
    if result.is_err() {
        for _ in events {}
    } else {
        result = out.flush();
    }
    // Dropping the writer would try once more to write what could not be written.
    let _ = out.into_parts();
    result
}

/// Hands on what a command of `runner run` prints, byte for byte. A reader that has gone away is no error: the command
/// goes on as it would without anyone looking.
///
/// # Errors
/// What writing says.
pub fn pass_through(stream: Stream, bytes: &[u8]) -> io::Result<()> {
    let mut out: Box<dyn Write> = match stream {
        Stream::Stdout => Box::new(io::stdout().lock()),
        Stream::Stderr => Box::new(io::stderr().lock()),
    };
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}

fn show(events: &Receiver<Stamped>, mut reporter: impl Reporter, out: &mut impl Write) -> io::Result<()> {
    loop {
        let stamped = match events.try_recv() {
            Ok(stamped) => stamped,
            Err(TryRecvError::Disconnected) => return reporter.end(out),
            Err(TryRecvError::Empty) => {
                out.flush()?;
                match events.recv() {
                    Ok(stamped) => stamped,
                    Err(_) => return reporter.end(out),
                }
            }
        };
        reporter.event(&stamped, out)?;
    }
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
                let reporter = scope.spawn(|| run(receiver, mode, Gone(&tries)));
                for _ in 0..10_000 {
                    // Fails if the reporter no longer takes events.
                    let event = Event::Warning { step: None, message: "x".into() };
                    events.send(Stamped { time: SystemTime::UNIX_EPOCH, event }).unwrap();
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
            scope.spawn(|| run(receiver, Mode::Plain { colour: false }, writer));
            events.send(Event::Warning { step: None, message: "now".into() });
            let mut seen = [0; 13];
            io::Read::read_exact(&mut reader, &mut seen).unwrap();
            assert_eq!(&seen, b"warning: now\n");
            drop(events);
        });
    }
}
