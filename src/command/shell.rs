//! `runner shell`: a shell in the session of a container or step, on the terminal or with its commands on standard input.

use std::io;

use super::caller_input::{has_script, stdin};
use super::command_error::CommandError;
use super::console::warn;
use super::interactive_shell::{default_shell, list_lasting_mounts, run_as_step_or_root};
use super::session::{run_in_session, run_on_terminal};
use super::target::container_or_step;
use crate::cli::{Cli, ShellArgs};
use crate::execute::{self, Context, SessionTarget};
use crate::report;
use crate::session::Session;
use crate::warning::Warning;

/// Runs the shell, and returns its exit code as the result. Its changes go into no layer.
///
/// If standard input is a file or a pipe, the shell reads its commands from there, without a terminal.
pub fn shell(cli: &Cli, args: &ShellArgs) -> Result<(), CommandError> {
    if has_script()? {
        return run_in_session(cli, &args.on, &args.name, container_or_step, |context, sessions, target| {
            let script = stdin()?;
            list_lasting_mounts(context, target);
            let warn = |warning: &Warning| warn(warning);
            run_as_step_or_root(target, |target| {
                let script = script.try_clone()?;
                let argv = |session: &Session<'_>| argv(args, context, target, session);
                execute::run_inside(context, sessions, target, argv, script, &mut report::pass_through, &warn)
            })
        });
    }
    let hint = "without a terminal, give the shell its commands on standard input: `echo id | runner shell NAME`";
    run_on_terminal(cli, &args.on, &args.name, container_or_step, hint, |context, sessions, target, keyboard| {
        list_lasting_mounts(context, target);
        run_as_step_or_root(target, |target| {
            let argv = |session: &Session<'_>| argv(args, context, target, session);
            execute::run_on_terminal(context, sessions, target, argv, keyboard, &mut io::stdout())
        })
    })
}

fn argv(
    args: &ShellArgs,
    context: Context<'_>,
    target: SessionTarget,
    session: &Session<'_>,
) -> io::Result<Vec<String>> {
    match &args.shell {
        Some(shell) => Ok(vec![shell.clone()]),
        None => default_shell(context, target, session),
    }
}
