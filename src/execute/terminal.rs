//! One command in a fresh session of a container, on the caller's terminal.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};

use oci_spec::runtime::BoxBuilder;

use super::attempt::Attempt;
use super::step::{bare_process, session};
use super::{Context, Rooms};
use crate::build::ContainerId;
use crate::runtime::container::Begun;
use crate::runtime::{Ended, Outcome, Stdio};
use crate::session::{Session, SessionError};
use crate::terminal::{Ending, Raw, relay, size};

/// Runs it to its end; `argv` is chosen when the root is there to be looked at.
///
/// # Errors
/// Where the session cannot be opened or closed, or the terminal be taken over; not where the command fails.
pub fn run_on_terminal<'a>(
    context: Context<'a>,
    rooms: &Rooms<'a>,
    id: ContainerId,
    argv: impl FnOnce(&Session<'_>) -> io::Result<Vec<String>>,
    terminal: BorrowedFd<'_>,
    output: &mut impl Write,
) -> Result<Attempt, SessionError> {
    let attempt = {
        let room = rooms.running(id)?;
        let session = session(&room)?;
        on_terminal(context, session, id, &argv(session)?, terminal, output)?
    };
    rooms.close(id)?;
    Ok(attempt)
}

fn on_terminal(
    context: Context<'_>,
    session: &Session<'_>,
    id: ContainerId,
    argv: &[String],
    terminal: BorrowedFd<'_>,
    output: &mut impl Write,
) -> Result<Attempt, SessionError> {
    let mut process = bare_process(context, session, context.build.container(id), argv)?;
    process.set_terminal(Some(true));
    if let Some(size) = size(terminal) {
        let size = BoxBuilder::default().height(u64::from(size.ws_row)).width(u64::from(size.ws_col)).build()?;
        process.set_console_size(Some(size));
    }
    // Its terminal takes their place.
    let null = || Ok::<_, io::Error>(File::options().read(true).write(true).open("/dev/null")?.into());
    let running = session.run(process, &Stdio { stdin: null()?, stdout: null()?, stderr: null()? })?;
    let inside = match running.terminal()? {
        Begun::Terminal(inside) => inside,
        Begun::Ended(Ended { outcome, out_of_memory }) => {
            return Ok(Attempt { outcome, out_of_memory, timed_out: false, interrupted: false });
        }
    };
    let ending = {
        let raw = Raw::take(terminal)?;
        relay(&raw, output, inside.as_fd(), running.descriptor(), context.interrupt.descriptor())?
    };
    if ending != Ending::Process {
        running.kill();
    }
    let Ended { outcome, out_of_memory } = running.ended()?;
    let outcome = match (ending, outcome) {
        (Ending::Key(signal), Outcome::Signaled { .. }) => Outcome::Signaled { signal },
        (_, outcome) => outcome,
    };
    Ok(Attempt { outcome, out_of_memory, timed_out: false, interrupted: ending == Ending::Interrupt })
}
