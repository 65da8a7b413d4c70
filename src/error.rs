//! The end of a command: the exit codes of the contract, an error that has one of them, and the text of errors.

use std::error::Error as StdError;
use std::fmt::{self, Display};
use std::io;
use std::process::ExitCode;

use crate::escape::visible;
use crate::resource_limits;

/// The exit code of the program. The numbers are the contract's; scripts rely on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Exit {
    /// The whole request is done.
    Done = 0,
    /// A step failed.
    StepFailed = 1,
    /// The manifest, a setting or the command line is wrong. clap ends with the same code.
    Usage = 2,
    /// This host cannot do it: a privilege, a kernel feature, a program or space is missing, or the system refused.
    Host = 3,
    /// A lock or a verification does not match.
    Mismatch = 4,
    /// Runner itself has a bug; the code of a panic of Rust.
    Internal = 101,
    /// Interrupted by a signal: 128 and SIGINT's number, as shells count.
    Interrupted = 130,
}

impl Exit {
    /// Returns the exit code.
    pub fn code(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// The reason why a command could not be carried out.
///
/// Its text is the whole chain of causes: `failed to open the store: permission denied`. The hint is separate.
#[derive(Debug)]
pub struct Error {
    exit: Exit,
    source: Box<dyn StdError + Send + Sync>,
    hint: Option<String>,
}

impl Error {
    /// Returns an error that ends the program with that code.
    pub fn new(exit: Exit, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self { exit, source: source.into(), hint: None }
    }

    /// Adds the fix, which is best a command.
    #[must_use]
    pub fn with_hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint;
        self
    }

    /// Returns the program's exit code.
    pub fn exit(&self) -> Exit {
        self.exit
    }

    /// Returns the fix.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// Returns the text for the user, with the line ends: the error with its causes and, on a line of its own, the hint.
    pub fn render(&self) -> String {
        let text = self.to_string();
        // The text has names of files, which any user may have chosen.
        let mut text = format!("error: {}\n", visible(&text));
        if let Some(hint) = resource_limits::hint(&text).as_ref().or(self.hint.as_ref()) {
            text.push_str("  help: ");
            text.push_str(&visible(hint).replace('\n', "\n        "));
            text.push('\n');
        }
        text
    }
}

impl Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&error_chain(&*self.source))
    }
}

/// Returns an error with its causes: `cannot open the store: permission denied`. Every error is shown by this: the text of most
/// says what was tried, and their source says why.
pub fn error_chain(error: &(dyn StdError + 'static)) -> String {
    let mut all = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        // An error that shows its cause in its own text would say it twice.
        if !all.ends_with(&text) {
            all = format!("{all}: {text}");
        }
        cause = error.source();
    }
    all
}

/// Returns an error with its causes and, on the same line, the fix: for messages of one line.
pub fn error_chain_with_hint(error: &(dyn StdError + 'static), hint: Option<String>) -> String {
    let text = error_chain(error);
    match resource_limits::hint(&text).or(hint) {
        Some(hint) => format!("{text}; {hint}"),
        None => text,
    }
}

/// Puts the failed action before an error of the system, which names no path itself; for `map_err`.
pub fn context<E: Into<io::Error>>(action: impl Display) -> impl FnOnce(E) -> io::Error {
    move |error| {
        let error = error.into();
        io::Error::new(error.kind(), format!("{action}: {error}"))
    }
}

// The text has the chain already, so there is no `source`: a caller that walks the chain would say it twice.
impl StdError for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("failed to open the store")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn exit_codes_are_those_of_the_contract() {
        let codes =
            [Exit::Done, Exit::StepFailed, Exit::Usage, Exit::Host, Exit::Mismatch, Exit::Internal, Exit::Interrupted];
        assert_eq!(codes.map(Exit::code), [0, 1, 2, 3, 4, 101, 130]);
    }

    #[test]
    fn an_error_shows_its_causes_and_its_hint() {
        let cause = std::io::Error::other("disk is full");
        let error = Error::new(Exit::Host, Outer(cause)).with_hint(Some("free some\nor buy some".into()));
        assert_eq!(
            error.render(),
            "error: failed to open the store: disk is full\n  help: free some\n        or buy some\n"
        );
        assert_eq!(error.exit(), Exit::Host);
    }

    #[test]
    fn a_cause_in_the_errors_own_text_is_not_repeated() {
        let error = Error::new(Exit::Usage, std::io::Error::other(std::fmt::Error));
        assert_eq!(error.to_string(), std::fmt::Error.to_string());
    }
}
