//! Writes every byte of a step's output to its log, and sends every line to the reporters; masks secrets in both.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;

use crate::event::{Event, Events, Stream};
use crate::secret::{Masker, Secrets};
use crate::store::StoreError;

/// The length from which a line is shown in pieces; the log has all of it.
const MAX_LINE_BYTES: usize = 64 << 10;

/// The bytes of a step's output that its log may have; later output is shown, but omitted from the log.
const MAX_LOG_BYTES: u64 = 256 << 20;

/// The bytes of the last output that are searched for the cause of a failure.
const MAX_TAIL_BYTES: usize = 4 << 10;

/// The bytes of an unfinished line that are considered: no terminal shows more.
const MAX_GROWING_BYTES: usize = 4 << 10;

/// The output of one step.
pub struct Output<'a> {
    step: &'a str,
    log: Log<'a>,
    log_error: Option<StoreError>,
    events: &'a Events,
    unfinished: [Vec<u8>; 2],
    secrets: &'a Secrets,
    maskers: [Masker; 2],
    tail: Vec<u8>,
    /// The number of bytes that may still be added to the log.
    room: u64,
    /// The number of bytes that were omitted from it.
    omitted: u64,
}

/// Makes a step's log.
pub type OpenLog<'a> = dyn Fn() -> Result<(File, PathBuf), StoreError> + 'a;

/// A step's log, which is made at the first output: a short step would spend a tenth of its time on an empty file.
enum Log<'a> {
    Unopened(&'a OpenLog<'a>),
    Open(File, PathBuf),
}

impl<'a> Output<'a> {
    /// Begins the output of the step of that name. The values of `secrets` are masked.
    pub fn new(step: &'a str, open: &'a OpenLog<'a>, events: &'a Events, secrets: &'a Secrets) -> Self {
        Self {
            step,
            log: Log::Unopened(open),
            log_error: None,
            events,
            unfinished: [Vec::new(), Vec::new()],
            secrets,
            maskers: Default::default(),
            tail: Vec::new(),
            room: MAX_LOG_BYTES,
            omitted: 0,
        }
    }

    /// Takes bytes that were read from one of its streams.
    ///
    /// # Errors
    /// Where the log cannot be made or written.
    pub fn take(&mut self, stream: Stream, bytes: &[u8]) -> io::Result<()> {
        let masker = &mut self.maskers[index(stream)];
        masker.update(self.secrets);
        let mut masked = Vec::new();
        let bytes = masker.masked(bytes, &mut masked);
        self.put(stream, bytes)
    }

    /// Notes the end of an attempt, and writes the delayed bytes, which could have been the beginning of a secret.
    ///
    /// # Errors
    /// As [`Output::take`].
    pub fn end_attempt(&mut self) -> io::Result<()> {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let mut remaining = Vec::new();
            self.maskers[index(stream)].finish(&mut remaining);
            if !remaining.is_empty() {
                self.put(stream, &remaining)?;
            }
        }
        Ok(())
    }

    /// Writes to the log, up to its limit.
    fn write_log(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        if let Log::Unopened(open) = self.log {
            let (file, path) = open()?;
            self.log = Log::Open(file, path);
        }
        let Log::Open(file, path) = &mut self.log else { return Ok(()) };
        let fits = bytes.len().min(usize::try_from(self.room).unwrap_or(usize::MAX));
        let remaining = (bytes.len() - fits) as u64;
        let mut write = || {
            file.write_all(&bytes[..fits])?;
            if remaining == 0 || self.omitted > 0 {
                return Ok(());
            }
            let most = MAX_LOG_BYTES >> 20;
            writeln!(file, "\n[runner leaves out what follows: the log of a step has at most {most} MiB of its output]")
        };
        write().map_err(|error| StoreError::log(path, error))?;
        self.room -= fits as u64;
        self.omitted += remaining;
        Ok(())
    }

    fn put(&mut self, stream: Stream, bytes: &[u8]) -> io::Result<()> {
        // The masker may delay all of them.
        if bytes.is_empty() {
            return Ok(());
        }
        self.write_log(bytes).map_err(|error| {
            self.log_error = Some(error);
            io::Error::other("the step's log cannot be written")
        })?;
        let room = MAX_TAIL_BYTES.saturating_sub(bytes.len());
        self.tail.drain(..self.tail.len().saturating_sub(room));
        self.tail.extend_from_slice(&bytes[bytes.len().saturating_sub(MAX_TAIL_BYTES)..]);
        let unfinished = &mut self.unfinished[index(stream)];
        let mut pieces = bytes.split(|byte| *byte == b'\n').peekable();
        while let Some(piece) = pieces.next() {
            let ends = pieces.peek().is_some();
            for part in piece.chunks(MAX_LINE_BYTES) {
                if unfinished.len() + part.len() > MAX_LINE_BYTES {
                    send(self.events, self.step, stream, &std::mem::take(unfinished));
                }
                unfinished.extend_from_slice(part);
            }
            if ends {
                send(self.events, self.step, stream, unfinished);
                unfinished.clear();
            }
        }
        if let Some(line) = unfinished_line(unfinished) {
            self.events.send(Event::StepLineGrows { step: self.step.to_owned(), line });
        }
        Ok(())
    }

    /// Adds the end of the output to a log that omits it.
    fn write_end(&mut self) -> io::Result<()> {
        let (Log::Open(file, _), 1..) = (&mut self.log, self.omitted) else { return Ok(()) };
        let end = &self.tail[self.tail.len().saturating_sub(usize::try_from(self.omitted).unwrap_or(usize::MAX))..];
        let omitted = self.omitted - end.len() as u64;
        writeln!(file, "[runner left out {omitted} bytes; the end of the output follows]")?;
        file.write_all(end)
    }

    /// Returns the last lines of the output.
    pub fn tail(&self) -> String {
        String::from_utf8_lossy(&self.tail).into_owned()
    }

    /// Finishes the output, and sends a last line without a newline. Returns the log's path; none where the step has
    /// printed nothing.
    pub fn finish(mut self) -> Option<PathBuf> {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let unfinished = std::mem::take(&mut self.unfinished[index(stream)]);
            if !unfinished.is_empty() {
                send(self.events, self.step, stream, &unfinished);
            }
        }
        // The log names the omission already, and a full disk cannot take the end.
        let _ = self.write_end();
        match self.log {
            Log::Unopened(_) => None,
            Log::Open(_, path) => Some(path),
        }
    }

    /// Returns the error of making or writing the log, if [`Output::take`] failed because of it.
    pub fn log_error(&mut self) -> Option<StoreError> {
        self.log_error.take()
    }
}

fn index(stream: Stream) -> usize {
    match stream {
        Stream::Stdout => 0,
        Stream::Stderr => 1,
    }
}

/// Returns an unfinished line as a terminal would show it: the last text between two carriage returns that is not
/// blank, from the end of the line.
fn unfinished_line(unfinished: &[u8]) -> Option<String> {
    let end = &unfinished[unfinished.len().saturating_sub(MAX_GROWING_BYTES)..];
    let is_blank = |part: &&[u8]| part.iter().all(u8::is_ascii_whitespace);
    let shown = end.rsplit(|byte| *byte == b'\r').find(|part| !is_blank(part))?;
    // Half a character at an end is not shown.
    Some(String::from_utf8_lossy(shown).trim_matches('\u{fffd}').to_owned())
}

fn send(events: &Events, step: &str, stream: Stream, line: &[u8]) {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    events.send(Event::StepOutput { step: step.to_owned(), stream, line: String::from_utf8_lossy(line).into_owned() });
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;

    use proptest::prelude::*;

    use super::*;

    fn lines(chunks: &[&[u8]]) -> (Vec<String>, Vec<u8>) {
        let (events, receiver) = Events::channel();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let secrets = Secrets::default();
        let open = || Ok((OpenOptions::new().create_new(true).write(true).open(&path).unwrap(), path.clone()));
        let mut output = Output::new("s", &open, &events, &secrets);
        for chunk in chunks {
            output.take(Stream::Stdout, chunk).unwrap();
        }
        let all = chunks.concat();
        let tail = &all[all.len().saturating_sub(MAX_TAIL_BYTES)..];
        assert_eq!(output.tail(), String::from_utf8_lossy(tail));
        let log = output.finish();
        assert_eq!(log.is_some(), path.exists(), "{log:?}");
        assert_eq!(path.exists(), !all.is_empty());
        drop(events);
        let lines = receiver
            .into_iter()
            .filter_map(|stamped| match stamped.event {
                Event::StepOutput { line, .. } => Some(line),
                Event::StepLineGrows { .. } => None,
                other => panic!("{other:?}"),
            })
            .collect();
        (lines, log.map(|path| std::fs::read(path).unwrap()).unwrap_or_default())
    }

    #[test]
    fn lines_are_complete_however_they_arrive_and_the_last_needs_no_newline() {
        let (lines, log) = lines(&[b"one\ntw", b"o\r\n", b"\nlast \xff"]);
        assert_eq!(lines, ["one", "two", "", "last \u{fffd}"]);
        assert_eq!(log, b"one\ntwo\r\n\nlast \xff");
    }

    #[test]
    fn an_unfinished_line_is_shown_as_a_terminal_would_show_it() {
        for (unfinished, shown) in [
            (&b"10%\r20%"[..], Some("20%")),
            (b"10%\r20%\r", Some("20%")),
            (b"\r  5 100M\r     \r", Some("  5 100M")),
            (b"no carriage return", Some("no carriage return")),
            (b"100 \xe2\x82", Some("100 ")),
            (b"\r \r\t", None),
            (b"", None),
        ] {
            assert_eq!(unfinished_line(unfinished).as_deref(), shown, "{unfinished:?}");
        }
        let long = [vec![b'x'; 2 * MAX_GROWING_BYTES], b"\rlast".to_vec()].concat();
        assert_eq!(unfinished_line(&long).as_deref(), Some("last"));
        assert_eq!(unfinished_line(&long[..2 * MAX_GROWING_BYTES]).unwrap().len(), MAX_GROWING_BYTES);
    }

    #[test]
    fn each_piece_of_an_unfinished_line_is_an_event_without_secrets() {
        let (events, receiver) = Events::channel();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let secrets = Secrets::default();
        secrets.add(b"hunter2");
        let open = || Ok((File::create(&path).unwrap(), path.clone()));
        let mut output = Output::new("s", &open, &events, &secrets);
        for piece in [&b"10%\r"[..], b"20%\r", b"by hunter2\r", b"done\n", b"next"] {
            output.take(Stream::Stderr, piece).unwrap();
        }
        output.finish();
        drop(events);
        let lines: Vec<String> = receiver
            .into_iter()
            .map(|stamped| match stamped.event {
                Event::StepOutput { line, .. } => format!("line {line:?}"),
                Event::StepLineGrows { line, .. } => line,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(lines, ["10%", "20%", "by ***", "line \"10%\\r20%\\rby ***\\rdone\"", "next", "line \"next\""]);
    }

    #[test]
    fn a_very_long_line_is_shown_in_pieces() {
        let (lines, log) = lines(&[&vec![b'x'; 3 * MAX_LINE_BYTES], b"\n"]);
        assert!(lines.iter().all(|line| line.len() <= MAX_LINE_BYTES));
        assert_eq!(lines.concat().len(), 3 * MAX_LINE_BYTES);
        assert_eq!(log.len(), 3 * MAX_LINE_BYTES + 1);
    }

    #[test]
    fn a_log_that_cannot_be_made_or_written_is_reported() {
        let (events, _receiver) = Events::channel();
        let secrets = Secrets::default();
        let path = PathBuf::from("/dev/full");
        let open = || Ok((OpenOptions::new().write(true).open(&path).unwrap(), path.clone()));
        let refuse = || Err(StoreError::Name { name: "s".into() });
        for (open, words) in [(&open as &OpenLog<'_>, "cannot write the log /dev/full"), (&refuse, "cannot use `s`")] {
            let mut output = Output::new("s", open, &events, &secrets);
            assert!(output.take(Stream::Stdout, b"text").is_err());
            let error = output.log_error().unwrap();
            assert!(error.to_string().starts_with(words), "{error}");
        }
    }

    #[test]
    fn a_log_at_its_limit_ends_with_a_remark_and_the_end_of_the_output() {
        let (events, receiver) = Events::channel();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let secrets = Secrets::default();
        let open = || Ok((File::create(&path).unwrap(), path.clone()));
        let mut output = Output::new("s", &open, &events, &secrets);
        output.room = 5;
        output.take(Stream::Stdout, b"123").unwrap();
        output.take(Stream::Stdout, b"456\n").unwrap();
        output.take(Stream::Stdout, &[b'x'; MAX_TAIL_BYTES]).unwrap();
        output.take(Stream::Stderr, b"the last\n").unwrap();
        output.finish();
        drop(events);
        let shown: usize = receiver
            .into_iter()
            .map(|stamped| match stamped.event {
                Event::StepOutput { line, .. } => line.len(),
                Event::StepLineGrows { .. } => 0,
                other => panic!("{other:?}"),
            })
            .sum();
        assert_eq!(shown, 6 + MAX_TAIL_BYTES + 8);
        let end = format!("{}the last\n", "x".repeat(MAX_TAIL_BYTES - 9));
        let expected = format!(
            "12345\n[runner leaves out what follows: the log of a step has at most 256 MiB of its output]\n\
             [runner left out 11 bytes; the end of the output follows]\n{end}"
        );
        assert_eq!(std::fs::read_to_string(path).unwrap(), expected);
    }

    proptest! {
        #[test]
        fn the_log_contains_the_output(chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..10)) {
            let slices: Vec<&[u8]> = chunks.iter().map(Vec::as_slice).collect();
            prop_assert_eq!(lines(&slices).1, chunks.concat());
        }
    }
}
