//! Describes the end of a step's process, with hints from its output and its cgroups.

use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::attempt::AttemptResult;
use super::failure::Failure;
use super::file_capabilities;
use super::hints::{self, Failed};
use super::output::Output;
use super::patience::Killed;
use super::step_context::{StepContext, session};
use crate::cgroup::ProcessLimit;
use crate::error::error_chain_with_hint;
use crate::model::{Action, Container, DEFAULT_SHELL, Limits, Scratch, interpreter, size_text};
use crate::resource_limits;
use crate::runtime::container::RuntimeError;
use crate::runtime::{CANNOT_START, Outcome, Runtime};
use crate::session::SessionError;

/// The exit code for a program that is missing, or whose interpreter is.
const NO_PROGRAM: i32 = 127;

impl StepContext<'_, '_> {
    /// Returns the hints for a step whose process has failed.
    pub(super) fn hints(&self, ended: &AttemptResult, output: &Output<'_>, reason: &str) -> Vec<String> {
        if ended.interrupted || ended.timed_out {
            return Vec::new();
        }
        let container = self.context.build.settings(self.id);
        let refused = match &ended.outcome {
            _ if ended.processes_refused => Some(processes_hint(container.limits.pids, ProcessLimit::of_caller())),
            // A runtime that fails takes the counters of the step's cgroup with it.
            Outcome::NotStarted { code: CANNOT_START, .. } => {
                let few = ProcessLimit::of_caller().filter(ProcessLimit::leaves_few);
                let few = few.map(|caller| format!("there may be too few processes for it: {}", caller.message()));
                few.or_else(|| too_few_for(self.context.workspace.runtime(), container.limits.pids?))
            }
            _ => None,
        };
        let no_program = matches!(ended.outcome, Outcome::NotStarted { code: NO_PROGRAM, .. });
        let hint = self
            .only_layer(no_program)
            .or_else(|| self.no_shell(no_program))
            .or_else(|| self.hint_of_output(output, reason));
        refused.into_iter().chain(hint).collect()
    }

    /// Returns the hint to list the layers below an image, if the root lacks them.
    fn only_layer(&self, no_program: bool) -> Option<String> {
        let id = self.context.build.step(self.id).container;
        let slot = self.sessions.shared(id).ok()?;
        hints::only_layer(self.context.build.container(id), no_program, session(&slot).ok()?)
    }

    /// Returns the keys for a step whose root lacks the shell that runs its text.
    fn no_shell(&self, no_program: bool) -> Option<String> {
        let step = self.context.build.step(self.id);
        let Action::Run(text) = &step.action else { return None };
        let shell = step.shell.as_ref().or(self.context.build.container(step.container).shell.as_ref());
        let program = shell.map_or(DEFAULT_SHELL[0], |words| words[0].as_str());
        let slot = self.sessions.shared(step.container).ok()?;
        interpreter(text).is_none().then(|| hints::no_shell(program, no_program, session(&slot).ok()?))?
    }

    /// Returns the failure of a step whose session ended before it.
    pub(super) fn lost(&self, error: SessionError) -> Failure {
        let container = self.context.build.settings(self.id);
        match (&error, container.limits.memory) {
            (SessionError::Runtime(RuntimeError::Gone | RuntimeError::Talk(_)), Some(most)) => {
                let most = size_text(most);
                let words = error_chain_with_hint(&error, error.hint());
                Failure::host(format!("{words}; the container may use {most} (`memory` under limits): give it more"))
            }
            _ => error.into(),
        }
    }

    fn hint_of_output(&self, output: &Output<'_>, reason: &str) -> Option<String> {
        let step = self.context.build.step(self.id);
        let container = self.context.build.settings(self.id);
        let command = match &step.action {
            Action::Run(script) => script.clone(),
            Action::Exec(argv) => argv.join(" "),
            Action::Copy(_) | Action::Snapshot(_) | Action::Export(_) => return None,
        };
        let slot = self.sessions.shared(step.container).ok()?;
        let session = session(&slot).ok()?;
        let printed = output.tail();
        let of_file = |path: &Path| session.file_capabilities(path);
        let all = format!("{reason}\n{printed}");
        if let Some(hint) = file_capabilities::hint(&container.capabilities, &all, of_file) {
            return Some(hint);
        }
        let found = session.credentials(step.user.as_ref().unwrap_or(&container.user)).ok().and_then(|user| {
            let cwd = step.cwd.as_deref().unwrap_or(&container.cwd);
            hints::hint(container, Failed { user: &user, cwd, command: &command, printed: &printed }, session)
        });
        found.or_else(|| resource_limits::hint(&all))
    }
}

/// Names a limit that allows an external runtime too few threads to start a step; they run in the container until then.
fn too_few_for(runtime: &Runtime, most: u64) -> Option<String> {
    const FEW: u64 = 16;
    let Runtime::External(program) = runtime else { return None };
    let name = program.path().file_name().unwrap_or_default().display();
    (most < FEW).then(|| {
        format!(
            "{name} itself needs more processes and threads in the container to start a step than the {most} of `pids` under limits; \
             `limits: {{pids: {FEW}}}` or `--runtime embedded` leaves enough"
        )
    })
}

/// Names the limit that has refused a process: the container's, unless the caller's allows fewer.
fn processes_hint(own: Option<u64>, caller: Option<ProcessLimit>) -> String {
    let most = own.unwrap_or(Limits::DEFAULT_PIDS);
    let refused = "the kernel refused a process or thread:";
    if let Some(caller) = caller.filter(|caller| caller.free < most) {
        return format!("{refused} {}", caller.message());
    }
    let which = if own.is_some() { "`pids` under limits" } else { "the default" };
    format!(
        "{refused} the container may have {most} ({which}); `limits: {{pids: {}}}` allows more",
        most.saturating_mul(2)
    )
}

/// Returns a description of the end of an attempt.
pub(super) fn words(ended: &AttemptResult, timeout: Option<Duration>, container: &Container) -> String {
    let killed = match ended.killed {
        None => String::new(),
        Some(Killed::AtOnce) => ", and was killed".to_owned(),
        Some(Killed::After(Duration::ZERO)) => " and was killed, because its grace is 0s".to_owned(),
        Some(Killed::After(grace)) => {
            format!(", and was killed {} after SIGTERM", humantime::format_duration(grace))
        }
    };
    if ended.interrupted {
        return format!("interrupted{killed}");
    }
    if let (true, Some(timeout)) = (ended.timed_out, timeout) {
        return format!("timed out after {}{killed}", humantime::format_duration(timeout));
    }
    let lack = match container.limits.memory {
        Some(most) => format!("the container may use {} (`memory` under limits)", size_text(most)),
        None => "this host, or the cgroup that runner was started in, has no more".to_owned(),
    };
    let also = match container.scratch {
        Scratch::Default | Scratch::Tmpfs(_) => {
            ", and files written to its root are in memory and count: `scratch: {disk: true}` puts it on disk"
        }
        Scratch::Disk => "",
    };
    let mut why = if ended.out_of_memory { format!("out of memory: {lack}{also}; ") } else { String::new() };
    if let Some(lost) = &ended.lost {
        why = format!("{lost}; {why}");
    }
    let how = match &ended.outcome {
        Outcome::Exited { code } => format!("exit code {code}"),
        Outcome::Signaled { signal } => {
            let name = Signal::try_from(*signal).map_or("an unnamed signal", Signal::as_str);
            format!("killed by signal {signal} ({name})")
        }
        Outcome::NotStarted { why, .. } => format!("cannot start: {why}"),
    };
    why + &how
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_that_allows_fewer_processes_is_named_with_its_value_and_key() {
        let caller = |free| Some(ProcessLimit { group: "/sys/fs/cgroup/ci".into(), most: 50, free });
        let own = "the kernel refused a process or thread: the container may have 20 (`pids` under limits); `limits: {pids: \
                   40}` allows more";
        for other in [None, caller(20), caller(48)] {
            assert_eq!(processes_hint(Some(20), other), own);
        }
        let default = processes_hint(None, None);
        assert!(default.contains("may have 32768 (the default); `limits: {pids: 65536}`"), "{default}");
        for (most, free) in [(Some(20), 19), (None, 48)] {
            let words = processes_hint(most, caller(free));
            assert!(
                words.contains("runner was started in")
                    && words.contains("limit of 50 processes and threads (/sys/fs/cgroup/ci/pids.max)"),
                "{words}"
            );
        }
    }
}
