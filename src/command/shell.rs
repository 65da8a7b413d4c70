//! `runner shell`: an interactive shell in the state before a container's first step, before a step, or in a step that
//! failed; and `runner apply --shell-on-failure`.

use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;

use super::Stop;
use super::inside::{container_or_step, notice};
use super::run::run_on_terminal;
use crate::build::StepId;
use crate::cli::{Cli, ShellArgs};
use crate::execute::{self, Context, Inside, Rooms};
use crate::report::sanitize;
use crate::session::Session;

/// Those that a root may have, the best first.
const SHELLS: [&str; 2] = ["/bin/bash", "/bin/sh"];

/// Runs the shell and passes its exit code on. What is done in it goes into no layer.
pub fn shell(cli: &Cli, args: &ShellArgs) -> Result<(), Stop> {
    run_on_terminal(cli, &args.on, &args.name, container_or_step, |session| match &args.shell {
        Some(shell) => Ok(vec![shell.clone()]),
        None => found(session),
    })
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
        let inside = Inside { container: step.container, step: Some(*id) };
        match execute::run_on_terminal(context, rooms, inside, found, keyboard, &mut io::stdout()) {
            Ok(attempt) if attempt.interrupted => return,
            Ok(attempt) => {
                if let execute::Outcome::NotStarted { why, .. } = attempt.outcome {
                    notice(&format!("warning: no shell in {name}: {why}"));
                }
            }
            Err(error) => notice(&format!("warning: no shell in {name}: {error}")),
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
