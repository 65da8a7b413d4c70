//! `runner run`: one command in a fresh session of a container.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread;

use rustix::fs::FileType;

use super::Stop;
use super::inside::{container, in_session, warn};
use crate::build::Build;
use crate::cli::{Cli, OnArgs, RunArgs};
use crate::error::{Error, Exit};
use crate::execute::{self, Attempt, Context, Inside, Rooms};
use crate::report;
use crate::session::{Session, SessionError};
use crate::terminal;

/// Runs the command and passes its exit code on.
pub fn run(cli: &Cli, args: &RunArgs) -> Result<(), Stop> {
    if args.terminal {
        let hint = "without one: `runner run CONTAINER -- CMD…`";
        return on_terminal(cli, &args.on, &args.container, container, hint, |context, rooms, inside, keyboard| {
            let argv = |_: &Session<'_>| Ok(args.command.clone());
            execute::run_on_terminal(context, rooms, inside, argv, keyboard, &mut io::stdout())
        });
    }
    in_session(cli, &args.on, &args.container, container, |context, rooms, inside| {
        execute::run(context, rooms, inside.container, &args.command, stdin()?, &mut report::pass_through, &warn)
    })
}

/// Opens a session for what is run in it on this terminal, and passes its exit code on. Where there is no terminal, the
/// error has that hint.
pub fn on_terminal(
    cli: &Cli,
    on: &OnArgs,
    name: &str,
    find: impl FnOnce(&Build, &str) -> Result<Inside, Error>,
    hint: &str,
    run: impl for<'a> FnOnce(Context<'a>, &Rooms<'a>, Inside, BorrowedFd<'_>) -> Result<Attempt, SessionError>,
) -> Result<(), Stop> {
    let keyboard = keyboard(hint)?;
    in_session(cli, on, name, find, |context, rooms, inside| run(context, rooms, inside, keyboard.as_fd()))
}

/// The terminal, which standard input and standard output must be.
///
/// # Errors
/// With [`Exit::Usage`] and that hint, where they are none.
pub fn keyboard(hint: &str) -> Result<OwnedFd, Error> {
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        let error = "cannot open a terminal inside: standard input or standard output is no terminal";
        return Err(Error::new(Exit::Usage, error).with_hint(Some(hint.to_owned())));
    }
    terminal::keyboard().map_err(|error| Error::new(Exit::Host, format!("cannot open the terminal: {error}")))
}

/// Standard input for what runs inside, which is hostile: it could type into a terminal (TIOCSTI of tty_ioctl(4)), and give
/// a file another owner, or write to it, by a descriptor that is open for reading. So it gets a pipe.
///
/// Starts a thread.
pub fn stdin() -> io::Result<OwnedFd> {
    let stdin = io::stdin();
    if stdin.is_terminal() {
        return Ok(File::open("/dev/null")?.into());
    }
    let stdin = stdin.as_fd().try_clone_to_owned()?;
    if FileType::from_raw_mode(rustix::fs::fstat(&stdin)?.st_mode) == FileType::Fifo {
        return Ok(stdin);
    }
    let (reader, mut writer) = io::pipe()?;
    // It ends with the input, or when nobody reads any more.
    let pass_on = move || io::copy(&mut File::from(stdin), &mut writer);
    thread::Builder::new().name("stdin".into()).spawn(pass_on)?;
    Ok(reader.into())
}
