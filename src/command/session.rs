//! The session of a container or step, opened with everything that it is built on, for a command or a shell of the user.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::SystemTime;

use super::analysis::Analysis;
use super::command_error::{CommandError, check_error, store_error};
use super::console::notice;
use super::effective_settings::settings_with_warning;
use super::environment::BuildEnvironment;
use super::lock_file::LockFile;
use super::manifest_file::ManifestFile;
use super::plan_run::{CheckedPlan, Unsaved, result_of, unless_interrupted};
use super::{absent_secrets, cache_turns, caller_input};
use crate::cache;
use crate::cache::key;
use crate::cli::{Cli, OnArgs};
use crate::error::{Error, Exit, error_chain};
use crate::execute::{AttemptResult, Context, KeepOpen, Options, Outcome, RestoreError, SessionPool, SessionTarget};
use crate::model::{Build, Rootfs, StepId};
use crate::plan::Plan;
use crate::pull::Pins;
use crate::report::{Mode, ReportOutputs, duration, sanitize};
use crate::session::SessionError;
use crate::settings::{Partial, Settings};
use crate::store::{StoreError, StoredFailedSession};

/// Opens the session of the target that `find` resolves the name to, does `work` in it, and closes it. Returns the exit code
/// of the work as the result of the command.
pub fn run_in_session(
    cli: &Cli,
    on: &OnArgs,
    name: &str,
    find: impl FnOnce(&Build, &str) -> Result<SessionTarget, Error>,
    work: impl for<'a> FnOnce(Context<'a>, &SessionPool<'a>, SessionTarget) -> Result<AttemptResult, SessionError>,
) -> Result<(), CommandError> {
    let flags = Partial { store: cli.store.clone(), runtime: on.runtime.runtime.clone(), ..Partial::default() };
    let settings = settings_with_warning(flags, &on.manifest)?;
    let manifest = ManifestFile::load(&on.manifest, &on.sets)?;
    let build = &manifest.build;
    let target = find(build, name)?;
    absent_secrets::refuse(&manifest, |container| target.uses(build, container))?;
    let pins = LockFile::with_sets(&settings, build, &on.sets)?.pins(build)?;
    let attempt = BuildEnvironment::within(&settings, |environment| {
        environment.store_bundles(on.runtime.bundle_dir.as_deref(), build)?;
        let steps = steps_before(build, target);
        let paths = environment.open_paths(build, &steps, Some(target))?;
        let pins = Pins { lock: pins.as_ref(), pulls: false, learns: false };
        let images = environment.images(&settings, build, &paths, (&steps, Some(target.container)), pins)?;
        let context = environment.context(build, &paths, &images);
        if context.store.is_read_only() {
            // A read-only store cannot record the leftovers of a session that is killed.
            return Err(store_error(StoreError::ReadOnly { path: context.store.root().to_owned() }).into());
        }
        let sessions = SessionPool::new(context);
        let opened = Opening { context, manifest: &manifest, settings: &settings, sessions: &sessions };
        let attempt = opened.open(target).and_then(|restored| {
            let _turns = cache_turns::take(context, target.settings(build))?;
            let attempt = work(context, &sessions, target).map_err(|error| {
                let hint = error.hint();
                Error::new(error.exit(), error).with_hint(hint)
            });
            // The stored session is in use until the work ends.
            drop(restored);
            Ok(attempt?)
        });
        let closed = sessions.close_all();
        let attempt = attempt?;
        closed.map_err(|error| Error::new(Exit::Host, error))?;
        Ok(attempt)
    })?;
    result_of_attempt(&attempt)
}

/// Runs work in a session as [`run_in_session`] does, with the caller's terminal. Without a terminal, the error has this hint.
pub fn run_on_terminal(
    cli: &Cli,
    on: &OnArgs,
    name: &str,
    find: impl FnOnce(&Build, &str) -> Result<SessionTarget, Error>,
    hint: &str,
    work: impl for<'a> FnOnce(
        Context<'a>,
        &SessionPool<'a>,
        SessionTarget,
        BorrowedFd<'_>,
    ) -> Result<AttemptResult, SessionError>,
) -> Result<(), CommandError> {
    let keyboard = caller_input::keyboard(hint)?;
    run_in_session(cli, on, name, find, |context, sessions, target| work(context, sessions, target, keyboard.as_fd()))
}

/// Returns the exit code of a program that ran in a session as the result of a command.
fn result_of_attempt(attempt: &AttemptResult) -> Result<(), CommandError> {
    if attempt.interrupted {
        return Err(Exit::Interrupted.into());
    }
    if let Outcome::NotStarted { why, .. } = &attempt.outcome {
        notice(&format!("error: cannot start: {why}"));
    }
    match u8::try_from(attempt.outcome.exit_code()) {
        Ok(0) => Ok(()),
        Ok(code) => Err(CommandError::Code(code.into())),
        Err(_) => Err(Exit::StepFailed.into()),
    }
}

/// Returns the steps that may have to run before the session can be opened.
fn steps_before(build: &Build, target: SessionTarget) -> Vec<StepId> {
    let needs = match (target.step, &build.container(target.container).rootfs) {
        (Some(step), _) => build.step(step).needs.clone(),
        (None, Rootfs::Snapshot(base)) => vec![*base],
        (None, _) => Vec::new(),
    };
    let needs: Vec<StepId> = needs.into_iter().chain(build.container(target.container).snapshots()).collect();
    if needs.is_empty() { Vec::new() } else { Plan::new(build, &needs).order().to_vec() }
}

/// The parts that opening a session needs.
struct Opening<'o, 'c> {
    context: Context<'c>,
    manifest: &'o ManifestFile,
    settings: &'o Settings,
    sessions: &'o SessionPool<'c>,
}

impl Opening<'_, '_> {
    /// Brings the session of the target into its state: for a container, the state before its first step; for a step whose
    /// failed session is stored, that session; for another step, the state before it.
    fn open(&self, target: SessionTarget) -> Result<Option<StoredFailedSession>, CommandError> {
        let build = self.context.build;
        self.sessions
            .refuse_other_files(target.container)
            .map_err(|error| unless_interrupted(self.context, check_error(error.into()).into()))?;
        let container = build.container(target.container);
        let Some(step) = target.step else {
            let mut snapshots: Vec<StepId> = container.snapshots().collect();
            if let Rootfs::Snapshot(base) = container.rootfs {
                snapshots.push(base);
            }
            if !snapshots.is_empty() {
                self.build(&snapshots, KeepOpen::None)?;
            }
            return Ok(None);
        };
        let known = build.step(step);
        let stored = self.context.store.failed(&build.project, &known.name).map_err(store_error)?;
        let stored = stored.filter(|stored| stored.step.container == build.container(target.container).name);
        if let Some(stored) = stored {
            // The stored session has the layers of its root, and not those of mounted snapshots.
            let mounted: Vec<StepId> = build.container(target.settings(build)).snapshots().collect();
            if !mounted.is_empty() {
                self.build(&mounted, KeepOpen::None)?;
            }
            self.sessions.restore(target.container, &stored).map_err(|error| restore_error(&error, &stored))?;
            describe_failure(build, step, &stored);
            return Ok(Some(stored));
        }
        if !known.needs.is_empty() {
            self.build(&known.needs, KeepOpen::Container(target.container))?;
        }
        notice(&format!("the session before {}; changes in it are discarded", sanitize(&known.name)));
        Ok(None)
    }

    /// Builds these steps and everything that they need, shown on standard error.
    fn build(&self, steps: &[StepId], keep_open: KeepOpen) -> Result<(), CommandError> {
        let Self { context, manifest, settings, sessions } = *self;
        let analysis = Analysis::new(context.build, steps);
        // The caller continues in a session that stays open, so its steps must run, also those whose success is stored.
        let options = cache::Options { layers_only: keep_open != KeepOpen::None, ..Default::default() };
        let checked = CheckedPlan::new(context, &analysis, options);
        absent_secrets::refuse_planned(manifest, &analysis, &checked.checker)
            .map_err(|error| unless_interrupted(context, error))?;
        checked.refuse_other_files()?;
        let run = checked.show(settings.jobs, Mode::Plain { colour: false }, io::stderr(), ReportOutputs::default())?;
        let summary = run.run(sessions, Options { keep_open, ..Options::of(settings.jobs) });
        // Nothing can be done about a standard error that cannot be written to.
        let _ = run.close(Unsaved::Ignore);
        result_of(&summary)
    }
}

fn restore_error(error: &RestoreError, stored: &StoredFailedSession) -> Error {
    let step = &stored.step.step;
    let message = format!("cannot open the session of {step} as it was when it failed: {}", error_chain(error));
    Error::new(Exit::Host, message).with_hint(error.hint())
}

/// Prints when and why the step failed, and the changes of the manifest since then.
fn describe_failure(build: &Build, step: StepId, stored: &StoredFailedSession) {
    let failed = &stored.step;
    let then = humantime::parse_rfc3339(&failed.time).ok();
    let ago = then.and_then(|then| SystemTime::now().duration_since(then).ok());
    let ago = ago.map(|ago| duration(u64::try_from(ago.as_millis()).unwrap_or(u64::MAX)) + " ago").unwrap_or_default();
    let name = sanitize(&failed.step);
    notice(&format!("{name} failed {ago}: {}", sanitize(failed.reason.lines().next().unwrap_or_default())));
    let changed = key::reasons(&failed.fields, &key::of_step(build, step), None, &[&failed.step]);
    for reason in changed {
        notice(&format!("warning: since then the manifest has changed: {}", sanitize(&reason.to_string())));
    }
    notice("its session as it was then; changes in it are discarded");
}
