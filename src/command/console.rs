//! Standard output and standard error of the commands: results go to the first, notices and warnings to the second.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;

use serde_json::Value;

use super::command_error::CommandError;
use crate::diagnostic::Style;
use crate::error::{Error, Exit};
use crate::escape::{self, visible};
use crate::event::Stream;
use crate::report;
use crate::settings::{Progress, Settings};
use crate::terminal;

/// Prints to standard output. A reader that closes the pipe early is no error.
pub fn print(bytes: &[u8]) -> Result<(), CommandError> {
    match io::stdout().write_all(bytes).and_then(|()| io::stdout().flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::new(Exit::Host, format!("cannot write to standard output: {error}")).into())
        }
        _ => Ok(()),
    }
}

/// Prints a JSON document to standard output.
pub fn print_json(value: &Value) -> Result<(), CommandError> {
    print(escape::json(&format!("{value:#}\n")).as_bytes())
}

/// Prints the result of a command whose build was displayed: to standard error where the events have standard output as
/// JSON lines.
pub fn print_result(settings: &Settings, text: &str) -> Result<(), CommandError> {
    match settings.progress {
        Progress::Json => {
            print_to_stderr(text);
            Ok(())
        }
        _ => print(text.as_bytes()),
    }
}

/// Prints a line to standard error.
pub fn notice(text: &str) {
    print_to_stderr(&format!("{text}\n"));
}

/// Prints a warning to standard error.
pub fn warn(warning: &dyn Display) {
    notice(&format!("warning: {}", visible(&warning.to_string())));
}

/// Prints to standard error. A caller that has closed standard error reads nothing, so a failure has no consequence.
pub fn print_to_stderr(text: &str) {
    let _ = report::pass_through(Stream::Stderr, text.as_bytes());
}

/// Returns the width of standard output in columns, where standard output is a terminal.
pub fn columns() -> Option<usize> {
    let stdout = io::stdout();
    let is_terminal = stdout.is_terminal();
    is_terminal.then(|| terminal::size(stdout.as_fd())).flatten().map(|size| usize::from(size.ws_col))
}

/// Returns the style of the problem reports on standard error.
pub fn style() -> Style {
    Style {
        color: io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        ..Style::default()
    }
}

/// Returns a number with its noun, which has an `s` in the plural.
pub fn counted(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}
