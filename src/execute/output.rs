//! The output of a step: every byte to its log, every line to the reporters; secrets in neither.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;

use crate::event::{Event, Events, Stream};
use crate::secret::{Masker, Secrets};

/// A longer line is shown in pieces; the log has it whole.
const MOST_LINE_BYTES: usize = 64 << 10;

/// As much of what was printed last is looked at for what a failure may come from.
const MOST_TAIL_BYTES: usize = 4 << 10;

/// The output of one step.
#[derive(Debug)]
pub struct Output<'a> {
    step: &'a str,
    log: Option<(File, PathBuf)>,
    events: &'a Events,
    begun: [Vec<u8>; 2],
    secrets: &'a Secrets,
    maskers: [Masker; 2],
    tail: Vec<u8>,
}

impl<'a> Output<'a> {
    /// Of the step of that name; its log is still to be opened. What is a secret by then is masked.
    pub fn new(step: &'a str, events: &'a Events, secrets: &'a Secrets) -> Self {
        Self {
            step,
            log: None,
            events,
            begun: [Vec::new(), Vec::new()],
            secrets,
            maskers: Default::default(),
            tail: Vec::new(),
        }
    }

    /// Opens the log, unless a try before has done so.
    ///
    /// # Errors
    /// What opening it gives.
    pub fn log_to<E>(&mut self, open: impl FnOnce() -> Result<(File, PathBuf), E>) -> Result<(), E> {
        if self.log.is_none() {
            self.log = Some(open()?);
        }
        Ok(())
    }

    /// Takes what was read from one of its streams.
    ///
    /// # Errors
    /// Where the log cannot be written, or is not open.
    pub fn take(&mut self, stream: Stream, bytes: &[u8]) -> io::Result<()> {
        let masker = &mut self.maskers[index(stream)];
        masker.heed(self.secrets);
        let mut masked = Vec::new();
        let bytes = masker.masked(bytes, &mut masked);
        self.put(stream, bytes)
    }

    /// A try has ended: what was held back, for a secret may begin with it, is no secret.
    ///
    /// # Errors
    /// As [`Output::take`].
    pub fn end_of_try(&mut self) -> io::Result<()> {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let mut rest = Vec::new();
            self.maskers[index(stream)].finish(&mut rest);
            if !rest.is_empty() {
                self.put(stream, &rest)?;
            }
        }
        Ok(())
    }

    fn put(&mut self, stream: Stream, bytes: &[u8]) -> io::Result<()> {
        let (log, _) = self.log.as_mut().ok_or_else(|| io::Error::other("the step's log is not open"))?;
        log.write_all(bytes)?;
        let room = MOST_TAIL_BYTES.saturating_sub(bytes.len());
        self.tail.drain(..self.tail.len().saturating_sub(room));
        self.tail.extend_from_slice(&bytes[bytes.len().saturating_sub(MOST_TAIL_BYTES)..]);
        let begun = &mut self.begun[index(stream)];
        let mut pieces = bytes.split(|byte| *byte == b'\n').peekable();
        while let Some(piece) = pieces.next() {
            let ends = pieces.peek().is_some();
            for part in piece.chunks(MOST_LINE_BYTES) {
                if begun.len() + part.len() > MOST_LINE_BYTES {
                    send(self.events, self.step, stream, &std::mem::take(begun));
                }
                begun.extend_from_slice(part);
            }
            if ends {
                send(self.events, self.step, stream, begun);
                begun.clear();
            }
        }
        Ok(())
    }

    /// The last lines of the output.
    pub fn tail(&self) -> String {
        String::from_utf8_lossy(&self.tail).into_owned()
    }

    /// The step has ended: a last line without its end is one as well. Gives the log's path.
    pub fn finish(mut self) -> Option<PathBuf> {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let begun = std::mem::take(&mut self.begun[index(stream)]);
            if !begun.is_empty() {
                send(self.events, self.step, stream, &begun);
            }
        }
        self.log.map(|(_, path)| path)
    }
}

fn index(stream: Stream) -> usize {
    match stream {
        Stream::Stdout => 0,
        Stream::Stderr => 1,
    }
}

fn send(events: &Events, step: &str, stream: Stream, line: &[u8]) {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    events.send(Event::StepOutput { step: step.to_owned(), stream, line: String::from_utf8_lossy(line).into_owned() });
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines(chunks: &[&[u8]]) -> (Vec<String>, Vec<u8>) {
        let (events, receiver) = Events::channel();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let secrets = Secrets::default();
        let mut output = Output::new("s", &events, &secrets);
        assert!(output.take(Stream::Stdout, b"lost").is_err());
        output.log_to(|| File::create(&path).map(|file| (file, path.clone()))).unwrap();
        output.log_to(|| -> io::Result<_> { panic!("opened twice") }).unwrap();
        for chunk in chunks {
            output.take(Stream::Stdout, chunk).unwrap();
        }
        let all = chunks.concat();
        let tail = &all[all.len().saturating_sub(MOST_TAIL_BYTES)..];
        assert_eq!(output.tail(), String::from_utf8_lossy(tail));
        assert_eq!(output.finish().as_ref(), Some(&path));
        drop(events);
        let lines = receiver
            .into_iter()
            .map(|stamped| match stamped.event {
                Event::StepOutput { line, .. } => line,
                other => panic!("{other:?}"),
            })
            .collect();
        (lines, std::fs::read(path).unwrap())
    }

    #[test]
    fn lines_are_whole_however_they_arrive_and_the_last_needs_no_end() {
        let (lines, log) = lines(&[b"one\ntw", b"o\r\n", b"\nlast \xff"]);
        assert_eq!(lines, ["one", "two", "", "last \u{fffd}"]);
        assert_eq!(log, b"one\ntwo\r\n\nlast \xff");
    }

    #[test]
    fn a_line_without_end_is_shown_in_pieces() {
        let (lines, log) = lines(&[&vec![b'x'; 3 * MOST_LINE_BYTES], b"\n"]);
        assert!(lines.iter().all(|line| line.len() <= MOST_LINE_BYTES));
        assert_eq!(lines.concat().len(), 3 * MOST_LINE_BYTES);
        assert_eq!(log.len(), 3 * MOST_LINE_BYTES + 1);
    }

    proptest! {
        #[test]
        fn the_log_is_what_was_printed(chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..10)) {
            let slices: Vec<&[u8]> = chunks.iter().map(Vec::as_slice).collect();
            prop_assert_eq!(lines(&slices).1, chunks.concat());
        }
    }
}
