//! `runner run`: one command in a fresh session of a container.

use std::io;

use super::caller_input::stdin;
use super::command_error::CommandError;
use super::console::warn;
use super::session::{run_in_session, run_on_terminal};
use super::target::container;
use crate::cli::{Cli, RunArgs};
use crate::execute;
use crate::report;
use crate::session::Session;
use crate::warning::Warning;

/// Runs the command, and returns its exit code as the result.
pub fn run(cli: &Cli, args: &RunArgs) -> Result<(), CommandError> {
    if args.terminal {
        let hint = "without a terminal: `runner run CONTAINER -- CMD…`";
        return run_on_terminal(
            cli,
            &args.on,
            &args.container,
            container,
            hint,
            |context, sessions, target, keyboard| {
                let argv = |_: &Session<'_>| Ok(args.command.clone());
                execute::run_on_terminal(context, sessions, target, argv, keyboard, &mut io::stdout())
            },
        );
    }
    run_in_session(cli, &args.on, &args.container, container, |context, sessions, target| {
        let warn = |warning: &Warning| warn(warning);
        execute::run(context, sessions, target.container, &args.command, stdin()?, &mut report::pass_through, &warn)
    })
}
