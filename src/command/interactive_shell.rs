//! A shell in a session, as the step of the session or else as root, for `runner shell` and `--shell-on-failure`.

use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;

use super::cache_turns;
use super::command_error::CommandError;
use super::console::notice;
use crate::error::error_chain;
use crate::execute::{self, AttemptResult, Context, Outcome, SessionPool, SessionTarget};
use crate::model::StepId;
use crate::report::sanitize;
use crate::session::{Session, SessionError};
use crate::written_through::WrittenThrough;

/// The shells that a root may have, in the order of preference.
const SHELLS: [&str; 2] = ["/bin/bash", "/bin/sh"];

/// Returns the command line of the best shell that the root has: one of the usual shells, or the one that runs the texts of
/// the step or the container.
pub fn default_shell(context: Context<'_>, target: SessionTarget, session: &Session<'_>) -> io::Result<Vec<String>> {
    if let Some(shell) = SHELLS.iter().find(|shell| session.has(Path::new(shell))) {
        return Ok(vec![(*shell).to_owned()]);
    }
    let of_step = target.step.and_then(|step| context.build.step(step).shell.as_deref());
    let of_container = || context.build.container(target.container).shell.as_deref();
    let interactive = of_step.or_else(of_container).map(interactive);
    interactive.filter(|argv| session.has(Path::new(&argv[0]))).ok_or_else(|| {
        io::Error::other(format!("the root has neither {}; name another shell with --shell", SHELLS.join(" nor ")))
    })
}

/// Returns a shell that runs a text, without its options: with `-c` it would wait for the text.
fn interactive(shell: &[String]) -> Vec<String> {
    let options = shell.iter().skip(1).position(|word| word.starts_with('-')).map_or(shell.len(), |at| at + 1);
    shell[..options].to_vec()
}

/// Runs a shell as the step of the session. If it cannot start so, because the step's user or working directory is wrong for
/// example, runs it as root in `/`.
pub fn run_as_step_or_root(
    target: SessionTarget,
    run: impl Fn(SessionTarget) -> Result<AttemptResult, SessionError>,
) -> Result<AttemptResult, SessionError> {
    let why = match run(target) {
        Ok(AttemptResult { outcome: Outcome::NotStarted { why, .. }, .. }) if target.step.is_some() => why,
        Err(error @ SessionError::User(_)) if target.step.is_some() => error_chain(&error),
        result => return result,
    };
    notice(&format!("cannot start as the step's user ({}); opened as root in / instead", sanitize(&why)));
    run(SessionTarget { as_root: true, ..target })
}

/// Lists the mounts that outlast the session: files written to them stay on the host or in the store.
pub fn list_lasting_mounts(context: Context<'_>, target: SessionTarget) {
    let mounts = WrittenThrough::all(&context.build.container(target.settings(context.build)).mounts);
    if !mounts.is_empty() {
        notice(&format!("files written to these mounts stay: {}", sanitize(&WrittenThrough::list(&mounts))));
    }
}

/// Opens a shell in each step that failed, one after the other, in the session as the step left it.
pub fn open_in_failed_steps<'c>(
    context: Context<'c>,
    sessions: &SessionPool<'c>,
    failed: &[StepId],
    keyboard: BorrowedFd<'_>,
) {
    for (n, id) in failed.iter().enumerate() {
        let step = context.build.step(*id);
        // A session that could not be opened has nothing to look at.
        if !sessions.is_open(step.container) {
            continue;
        }
        let name = sanitize(&step.name);
        let number = if failed.len() > 1 { format!(" ({} of {})", n + 1, failed.len()) } else { String::new() };
        notice(&format!("a shell in {name}, which failed{number}; changes in it go into no layer; `exit` closes it"));
        let target = SessionTarget { container: step.container, step: Some(*id), as_root: false };
        let _turns = match cache_turns::take(context, step.settings()) {
            Ok(turns) => turns,
            Err(CommandError::Error(error)) => {
                notice(&format!("warning: cannot open a shell in {name}: {}", error_chain(&error)));
                continue;
            }
            Err(_) => return,
        };
        list_lasting_mounts(context, target);
        let argv = |session: &Session<'_>| default_shell(context, target, session);
        let run = |target| execute::run_on_terminal(context, sessions, target, argv, keyboard, &mut io::stdout());
        match run_as_step_or_root(target, run) {
            Ok(attempt) if attempt.interrupted => return,
            Ok(attempt) => {
                if let Outcome::NotStarted { why, .. } = attempt.outcome {
                    notice(&format!("warning: cannot open a shell in {name}: {why}"));
                }
            }
            Err(error) => notice(&format!("warning: cannot open a shell in {name}: {}", error_chain(&error))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_without_its_options_is_interactive() {
        let interactive =
            |words: &[&str]| interactive(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        assert_eq!(interactive(&["/run/busybox", "sh", "-ec"]), ["/run/busybox", "sh"]);
        assert_eq!(interactive(&["/bin/ksh", "-e", "-c"]), ["/bin/ksh"]);
        assert_eq!(interactive(&["/bin/ksh"]), ["/bin/ksh"]);
    }
}
