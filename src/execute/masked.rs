//! Masks secrets in the output of a single command, on its way to standard output and error or to the caller's terminal.

use std::io::{self, Write};

use super::attempt::AttemptResult;
use super::streams::Sink;
use crate::event::Stream;
use crate::secret::{Masker, Secrets};
use crate::session::SessionError;

/// Follows a command to its end, and masks its output before `sink` gets it.
///
/// # Errors
/// Those of `follow`, and those of `sink`.
pub fn follow(
    secrets: &Secrets,
    sink: &mut Sink<'_>,
    follow: impl FnOnce(&mut Sink<'_>) -> Result<AttemptResult, SessionError>,
) -> Result<AttemptResult, SessionError> {
    let mut maskers = [(Stream::Stdout, Masker::default()), (Stream::Stderr, Masker::default())];
    let attempt = follow(&mut |stream, bytes| {
        let (_, masker) = &mut maskers[usize::from(stream == Stream::Stderr)];
        masker.update(secrets);
        let mut buffer = Vec::new();
        let masked = masker.masked(bytes, &mut buffer);
        if masked.is_empty() { Ok(()) } else { sink(stream, masked) }
    })?;
    for (stream, masker) in &mut maskers {
        let mut remaining = Vec::new();
        masker.finish(&mut remaining);
        if !remaining.is_empty() {
            match sink(*stream, &remaining) {
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error.into()),
                _ => {}
            }
        }
    }
    Ok(attempt)
}

/// Writes the output of a terminal inside. Up to three bytes of a secret are not masked, so that each key is echoed at
/// once.
#[derive(Debug)]
pub struct MaskedWriter<'a, W> {
    output: &'a mut W,
    secrets: &'a Secrets,
    masker: Masker,
}

impl<'a, W: Write> MaskedWriter<'a, W> {
    /// Writes to `output`.
    pub fn new(output: &'a mut W, secrets: &'a Secrets) -> Self {
        Self { output, secrets, masker: Masker::default() }
    }

    /// Writes the bytes that were delayed.
    ///
    /// # Errors
    /// The error of writing.
    pub fn finish(mut self) -> io::Result<()> {
        let mut remaining = Vec::new();
        self.masker.finish(&mut remaining);
        self.output.write_all(&remaining)?;
        self.output.flush()
    }
}

impl<W: Write> Write for MaskedWriter<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.masker.update(self.secrets);
        let mut masked = Vec::new();
        self.masker.take(bytes, &mut masked);
        self.masker.release_short(&mut masked);
        self.output.write_all(&masked)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::Outcome;

    #[test]
    fn each_stream_is_masked_separately_and_completely_written() {
        let secrets = Secrets::default();
        secrets.add(b"hunter2");
        let mut shown = [String::new(), String::new()];
        let mut sink = |stream: Stream, bytes: &[u8]| {
            shown[usize::from(stream == Stream::Stderr)].push_str(std::str::from_utf8(bytes).unwrap());
            Ok(())
        };
        let attempt = follow(&secrets, &mut sink, |sink| {
            sink(Stream::Stdout, b"out hunt")?;
            sink(Stream::Stderr, b"err hunt")?;
            sink(Stream::Stdout, b"er2 hunter")?;
            sink(Stream::Stderr, b"er!")?;
            let outcome = Outcome::Exited { code: 0 };
            Ok(AttemptResult::of(outcome.into()))
        });
        assert!(attempt.unwrap().outcome.is_success());
        assert_eq!(shown, ["out *** hunter", "err hunter!"]);
    }

    #[test]
    fn a_terminal_echoes_each_key_at_once_and_masks_secrets() {
        let secrets = Secrets::default();
        secrets.add(b"hunter2");
        let mut shown = Vec::new();
        let mut writer = MaskedWriter::new(&mut shown, &secrets);
        writer.write_all(b"$ hu").unwrap();
        assert_eq!(writer.output, b"$ hu");
        writer.write_all(b"nter").unwrap();
        writer.write_all(b"2 hunter").unwrap();
        writer.finish().unwrap();
        assert_eq!(shown, b"$ hu*** hunter");
    }
}
