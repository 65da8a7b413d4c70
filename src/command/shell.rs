//! `runner shell`: an interactive shell in the state before a container's first step.

use std::io;
use std::path::Path;

use super::Stop;
use super::run::run_on_terminal;
use crate::cli::{Cli, ShellArgs};
use crate::session::Session;

/// Those that a root may have, the best first.
const SHELLS: [&str; 2] = ["/bin/bash", "/bin/sh"];

/// Runs the shell and passes its exit code on. What is done in it goes into no layer.
pub fn shell(cli: &Cli, args: &ShellArgs) -> Result<(), Stop> {
    run_on_terminal(cli, &args.target, |session| match &args.shell {
        Some(shell) => Ok(vec![shell.clone()]),
        None => found(session).map(|shell| vec![shell.to_owned()]),
    })
}

fn found(session: &Session<'_>) -> io::Result<&'static str> {
    let there = |shell: &&&str| session.has(Path::new(shell));
    SHELLS.iter().find(there).copied().ok_or_else(|| {
        io::Error::other(format!("the root has neither {}; name another shell with --shell", SHELLS.join(" nor ")))
    })
}
