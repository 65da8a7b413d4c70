//! The error of a command: the text that it prints and the exit code that it ends with.

use std::error::Error as StdError;
use std::io;
use std::process::ExitCode;

use crate::cache::CacheCheckError;
use crate::cgroup::ProcessLimit;
use crate::error::{Error, Exit};
use crate::store::StoreError;

/// The reason why a command ends without success.
pub(crate) enum CommandError {
    /// The reason is printed already, or is the exit code of the program that the command ran.
    Code(ExitCode),
    /// An error that is to be printed with its hint.
    Error(Error),
    /// A printable report that shows the problems at their places in a file.
    Report(Exit, String),
}

impl From<Error> for CommandError {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl From<Exit> for CommandError {
    fn from(exit: Exit) -> Self {
        Self::Code(exit.into())
    }
}

/// Returns the error of the store as the error of a command.
pub fn store_error(error: StoreError) -> Error {
    let hint = error.hint();
    Error::new(Exit::Host, Box::<dyn StdError + Send + Sync>::from(error)).with_hint(hint)
}

/// Returns the error of a cache check as the error of a command.
pub fn check_error(error: CacheCheckError) -> Error {
    let exit = if error.is_of_input() { Exit::Usage } else { Exit::Host };
    let hint = error.hint();
    Error::new(exit, error).with_hint(hint)
}

/// Returns the error of a thread that cannot start, without which runner cannot do `action`.
pub fn thread_error(action: &str, error: io::Error) -> Error {
    let hint = (error.kind() == io::ErrorKind::WouldBlock).then(ProcessLimit::hint);
    Error::new(Exit::Host, format!("cannot {action}: {error}")).with_hint(hint)
}
