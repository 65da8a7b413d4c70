//! Runs one command in a session, like a step: on the caller's terminal, or with a stream for its standard input.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use oci_spec::runtime::{BoxBuilder, Process};

use super::attempt::{AttemptResult, RunningAttempt};
use super::context::Context;
use super::masked::{self, MaskedWriter};
use super::patience::Patience;
use super::session_pool::SessionPool;
use super::step::process_in;
use super::step_context::session;
use super::streams::Sink;
use crate::model::{Build, ContainerId, Principal, Step, StepId, User};
use crate::runtime::container::TerminalReply;
use crate::runtime::{Outcome, ProcessEnd, Stdio};
use crate::session::{Session, SessionError};
use crate::terminal::{Ending, Raw, relay, size};
use crate::warning::Warning;

/// The session and the settings that a command runs with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionTarget {
    /// The container.
    pub container: ContainerId,
    /// The step whose environment, user and working directory it has; without one, it has the container's.
    pub step: Option<StepId>,
    /// Whether it runs as root in `/` in any case: the user or the working directory may be the cause of a failure.
    pub as_root: bool,
}

impl SessionTarget {
    /// Whether the command sees the mounts of that container.
    pub fn uses(&self, build: &Build, container: ContainerId) -> bool {
        container == self.container || container == self.settings(build)
    }

    /// Returns the container with the settings of the command.
    pub fn settings(&self, build: &Build) -> ContainerId {
        self.step.map_or(self.container, |step| build.step(step).settings())
    }
}

/// Runs the command to its end. Calls `argv` when the root is mounted. The session remains open.
///
/// # Errors
/// Where the session cannot be opened, or the terminal cannot be used; not where the command fails.
pub fn run_on_terminal<'a>(
    context: Context<'a>,
    sessions: &SessionPool<'a>,
    target: SessionTarget,
    argv: impl Fn(&Session<'_>) -> io::Result<Vec<String>>,
    terminal: BorrowedFd<'_>,
    output: &mut impl Write,
) -> Result<AttemptResult, SessionError> {
    if let Some(step) = target.step {
        sessions.use_settings(context.build.step(step))?;
    }
    let slot = sessions.shared(target.container)?;
    let session = session(&slot)?;
    let process = process_inside(context, session, target, &argv(session)?)?;
    on_terminal(context, session, process, terminal, output)
}

/// Runs the command to its end with that standard input. The session remains open.
///
/// # Errors
/// Where the session cannot be opened; not where the command fails.
pub fn run_inside<'a>(
    context: Context<'a>,
    sessions: &SessionPool<'a>,
    target: SessionTarget,
    argv: impl Fn(&Session<'_>) -> io::Result<Vec<String>>,
    stdin: OwnedFd,
    sink: &mut Sink<'_>,
    warn: &dyn Fn(&Warning),
) -> Result<AttemptResult, SessionError> {
    if let Some(step) = target.step {
        sessions.use_settings(context.build.step(step))?;
    }
    let slot = sessions.shared(target.container)?;
    let session = session(&slot)?;
    let process = process_inside(context, session, target, &argv(session)?)?;
    let running = RunningAttempt::start(session, process, stdin)?;
    let patience = Patience::with_command(warn);
    masked::follow(context.workspace.secrets(), sink, |sink| running.follow(patience, sink, context.interrupt))
}

fn process_inside(
    context: Context<'_>,
    session: &Session<'_>,
    target: SessionTarget,
    argv: &[String],
) -> Result<Process, SessionError> {
    let mut container = context.build.container(target.settings(context.build)).clone();
    let mut step = target.step.map(|step| context.build.step(step).clone());
    if target.as_root {
        let root = User { user: Principal::Id(0), group: Some(Principal::Id(0)) };
        (container.user, container.cwd) = (root, PathBuf::from("/"));
        step = step.map(|step| Step { user: None, cwd: None, ..step });
    }
    process_in(context, session, &container, step.as_ref(), argv)
}

fn on_terminal(
    context: Context<'_>,
    session: &Session<'_>,
    mut process: Process,
    terminal: BorrowedFd<'_>,
    output: &mut impl Write,
) -> Result<AttemptResult, SessionError> {
    process.set_terminal(Some(true));
    if let Some(size) = size(terminal) {
        let size = BoxBuilder::default().height(u64::from(size.ws_row)).width(u64::from(size.ws_col)).build()?;
        process.set_console_size(Some(size));
    }
    // The terminal replaces these streams.
    let null = || Ok::<_, io::Error>(File::options().read(true).write(true).open("/dev/null")?.into());
    let running = session.run(process, &Stdio { stdin: null()?, stdout: null()?, stderr: null()? })?;
    let target = match running.terminal()? {
        TerminalReply::Terminal(target) => target,
        TerminalReply::Ended(ended) => return Ok(AttemptResult::of(ended)),
    };
    let ending = {
        let raw = Raw::take(terminal)?;
        let mut output = MaskedWriter::new(output, context.workspace.secrets());
        let ending = relay(&raw, &mut output, target.as_fd(), running.descriptor(), context.interrupt.descriptor())?;
        output.finish()?;
        ending
    };
    if ending != Ending::Process {
        running.kill_and_wait()?;
    }
    let ended = running.ended()?;
    let outcome = match (ending, &ended.outcome) {
        (Ending::Key(signal), Outcome::Signaled { .. }) => Outcome::Signaled { signal },
        (_, outcome) => outcome.clone(),
    };
    Ok(AttemptResult { interrupted: ending == Ending::Interrupt, ..AttemptResult::of(ProcessEnd { outcome, ..ended }) })
}
