//! A part of a file as the body of a request. Reading it moves no offset of the file, so several requests may send parts of it.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;

use super::Problem;

/// A part of a file that is sent.
#[derive(Clone, Copy)]
pub struct SentFile<'a> {
    /// The file.
    pub file: &'a File,
    /// The offset of its first byte.
    pub offset: u64,
    /// The number of bytes.
    pub size: u64,
    /// Gets the number of bytes that this try has sent, and may end the request. A new try begins at zero.
    pub progress: &'a (dyn Fn(u64) -> ControlFlow<()> + Sync),
}

impl fmt::Debug for SentFile<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SentFile").field("offset", &self.offset).field("size", &self.size).finish_non_exhaustive()
    }
}

/// Reads the part for one try of the request.
pub(super) struct SentReader<'a> {
    sent: SentFile<'a>,
    position: u64,
    /// The reason why it ended early: the client would take its own errors for those of the connection.
    pub(super) problem: Option<Problem>,
}

impl<'a> SentReader<'a> {
    pub(super) fn new(sent: SentFile<'a>) -> Self {
        Self { sent, position: 0, problem: None }
    }

    fn ended(&mut self, problem: Problem) -> io::Error {
        self.problem = Some(problem);
        io::Error::other("the body of the request ended early")
    }
}

impl Read for SentReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let SentFile { file, offset, size, progress } = self.sent;
        if progress(self.position).is_break() {
            return Err(self.ended(Problem::Interrupted));
        }
        let most = buffer.len().min(usize::try_from(size - self.position).unwrap_or(usize::MAX));
        if most == 0 {
            return Ok(0);
        }
        let result = loop {
            match file.read_at(&mut buffer[..most], offset + self.position) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(0) => break Err(io::ErrorKind::UnexpectedEof.into()),
                result => break result,
            }
        };
        match result {
            Ok(count) => {
                self.position += count as u64;
                Ok(count)
            }
            Err(source) => Err(self.ended(Problem::File { action: "read the file to send", source })),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Mutex;

    use super::*;

    fn file(content: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        file
    }

    #[test]
    fn only_the_part_is_read_and_its_progress_reported() {
        let (file, seen) = (file(b"0123456789"), Mutex::new(Vec::new()));
        let progress = |count| {
            seen.lock().unwrap().push(count);
            ControlFlow::Continue(())
        };
        let mut text = String::new();
        let sent = SentFile { file: &file, offset: 3, size: 4, progress: &progress };
        SentReader::new(sent).read_to_string(&mut text).unwrap();
        assert_eq!(text, "3456");
        assert_eq!(seen.lock().unwrap().last(), Some(&4));
    }

    #[test]
    fn a_short_file_and_a_stop_are_told_from_a_broken_connection() {
        let file = file(b"0123");
        let goes_on = |_| ControlFlow::Continue(());
        let mut reader = SentReader::new(SentFile { file: &file, offset: 2, size: 4, progress: &goes_on });
        reader.read_to_end(&mut Vec::new()).unwrap_err();
        assert!(matches!(reader.problem, Some(Problem::File { .. })), "{:?}", reader.problem);
        let stops = |_| ControlFlow::Break(());
        let mut reader = SentReader::new(SentFile { file: &file, offset: 0, size: 4, progress: &stops });
        reader.read_to_end(&mut Vec::new()).unwrap_err();
        assert!(matches!(reader.problem, Some(Problem::Interrupted)), "{:?}", reader.problem);
    }
}
