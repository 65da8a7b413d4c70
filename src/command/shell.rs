//! `runner shell`: an interactive shell in the state before a container's first step, before a step, or in a step that
//! failed, on a terminal or with its commands on standard input; and `runner apply --shell-on-failure`.

use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;

use rustix::fs::FileType;

use super::Stop;
use super::inside::{container_or_step, in_session, notice, turns_with_caches, warn};
use super::run::{on_terminal, stdin};
use crate::build::StepId;
use crate::cli::{Cli, ShellArgs};
use crate::error::{Error, Exit, told};
use crate::execute::{self, Attempt, Context, Inside, Outcome, Rooms};
use crate::report::{self, sanitize};
use crate::session::{Session, SessionError};
use crate::written_through::WrittenThrough;

/// Those that a root may have, the best first.
const SHELLS: [&str; 2] = ["/bin/bash", "/bin/sh"];

/// Runs the shell and passes its exit code on. What is done in it goes into no layer.
///
/// Where standard input is a file or a pipe, the shell reads its commands from there, without a terminal.
pub fn shell(cli: &Cli, args: &ShellArgs) -> Result<(), Stop> {
    let argv = |session: &Session<'_>| match &args.shell {
        Some(shell) => Ok(vec![shell.clone()]),
        None => found(session),
    };
    if has_script()? {
        return in_session(cli, &args.on, &args.name, container_or_step, |context, rooms, inside| {
            let script = stdin()?;
            tell_written_through(context, inside);
            shell_in(inside, |inside| {
                let script = script.try_clone()?;
                execute::run_inside(context, rooms, inside, argv, script, &mut report::pass_through, &warn)
            })
        });
    }
    let hint = "without one, give the shell its commands on standard input: `echo id | runner shell NAME`";
    on_terminal(cli, &args.on, &args.name, container_or_step, hint, |context, rooms, inside, keyboard| {
        tell_written_through(context, inside);
        shell_in(inside, |inside| execute::run_on_terminal(context, rooms, inside, argv, keyboard, &mut io::stdout()))
    })
}

/// Whether standard input has commands to read: /dev/null has none, and a terminal is for a person.
fn has_script() -> Result<bool, Error> {
    let kind = rustix::fs::fstat(io::stdin()).map(|stat| FileType::from_raw_mode(stat.st_mode));
    let kind = kind.map_err(|error| Error::new(Exit::Host, format!("cannot look at standard input: {error}")))?;
    Ok(matches!(kind, FileType::RegularFile | FileType::Fifo | FileType::Socket))
}

/// Runs it as the step was, or else, where the step's user or working folder was what was wrong with it, as root.
fn shell_in(inside: Inside, run: impl Fn(Inside) -> Result<Attempt, SessionError>) -> Result<Attempt, SessionError> {
    let why = match run(inside) {
        Ok(Attempt { outcome: Outcome::NotStarted { why, .. }, .. }) if inside.step.is_some() => why,
        Err(error @ SessionError::User(_)) if inside.step.is_some() => told(&error),
        ended => return ended,
    };
    notice(&format!("as root in /, for not as the step: {}", sanitize(&why)));
    run(Inside { as_root: true, ..inside })
}

/// Names the mounts that are not thrown away with the session: files written there stay on the host, or in the store.
fn tell_written_through(context: Context<'_>, inside: Inside) {
    let mounts = WrittenThrough::all(&context.build.container(inside.container).mounts);
    if !mounts.is_empty() {
        notice(&format!("files written to these mounts stay: {}", sanitize(&WrittenThrough::list(&mounts))));
    }
}

/// Opens a shell in each step that has failed, one after the other, in its session as it is now.
pub fn in_failed<'a>(context: Context<'a>, rooms: &Rooms<'a>, failed: &[StepId], keyboard: BorrowedFd<'_>) {
    for (n, id) in failed.iter().enumerate() {
        let step = context.build.step(*id);
        // Where its session could not be opened there is nothing to look at.
        if !rooms.is_open(step.container) {
            continue;
        }
        let name = sanitize(&step.name);
        let of = if failed.len() > 1 { format!(" ({} of {})", n + 1, failed.len()) } else { String::new() };
        notice(&format!(
            "a shell in {name}, which failed{of}; what is done in it goes into no layer; `exit` leaves it"
        ));
        let inside = Inside { container: step.container, step: Some(*id), as_root: false };
        let _turns = match turns_with_caches(context, step.container) {
            Ok(turns) => turns,
            Err(Stop::Error(error)) => {
                notice(&format!("warning: no shell in {name}: {}", told(&error)));
                continue;
            }
            Err(_) => return,
        };
        tell_written_through(context, inside);
        let run = |inside| execute::run_on_terminal(context, rooms, inside, found, keyboard, &mut io::stdout());
        match shell_in(inside, run) {
            Ok(attempt) if attempt.interrupted => return,
            Ok(attempt) => {
                if let Outcome::NotStarted { why, .. } = attempt.outcome {
                    notice(&format!("warning: no shell in {name}: {why}"));
                }
            }
            Err(error) => notice(&format!("warning: no shell in {name}: {}", told(&error))),
        }
    }
}

fn found(session: &Session<'_>) -> io::Result<Vec<String>> {
    let there = |shell: &&&str| session.has(Path::new(shell));
    let shell = SHELLS.iter().find(there).ok_or_else(|| {
        io::Error::other(format!("the root has neither {}; name another shell with --shell", SHELLS.join(" nor ")))
    })?;
    Ok(vec![(*shell).to_owned()])
}
