//! Does the work of a step: runs its process with retries, or takes its snapshot.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use oci_spec::runtime::Process;

use super::attempt::{AttemptResult, RunningAttempt};
use super::caches::take_turns;
use super::context::Context;
use super::explained::words;
use super::failure::{Cause, Failure};
use super::hints::only_layer;
use super::masked;
use super::output::Output;
use super::patience::Patience;
use super::session_pool::SessionPool;
use super::session_pool::Stored;
use super::step_context::{StepContext, Written, measured, session, unusable};
use super::streams::Sink;
use crate::digest::Digest;
use crate::error::error_chain_with_hint;
use crate::event::Event;
use crate::fs::output::OutputPlace;
use crate::lock::LockedSnapshot;
use crate::model::{
    Action, Container, ContainerId, DEFAULT_SHELL, MountKind, Role, SSH_AUTH_SOCK, Snapshot, SnapshotMode, Step,
    StepId, interpreter,
};
use crate::runtime::Outcome;
use crate::runtime::process::{self, Command};
use crate::session::{Session, SessionCopy, SessionError};
use crate::snapshot::{ImageOptions, ImageProgress, normalise, write_image};
use crate::store::{CacheRecord, CacheTurn, LayerPin};
use crate::warning::Warning;
use crate::written_through::WrittenThrough;

/// An image in the store.
struct Image {
    path: PathBuf,
    digest: Digest,
    size: u64,
    /// The reason for which it was not written to its output, or must not be used.
    failure: Option<Failure>,
}

/// A snapshot whose layer is in the store.
pub struct Snapshotted {
    /// The layer.
    pub written: Written,
    /// The failure of the step nevertheless: its output cannot be written, or the layer differs from the lock.
    pub failure: Option<Failure>,
}

impl StepContext<'_, '_> {
    /// Waits for the step's turn with the caches of its container, as long as steps of the build may begin.
    pub fn take_turns(&self, stop_waiting: &AtomicBool) -> Result<Vec<CacheTurn>, Failure> {
        let step = self.context.build.step(self.id);
        let mut has_waited = false;
        let report = |id: &str| {
            has_waited = true;
            self.events.send(Event::StepWaits { step: step.name.clone(), cache: id.to_owned() });
        };
        let gives_up = || stop_waiting.load(Ordering::Relaxed);
        let turns = take_turns(self.context, step.settings(), gives_up, report)?;
        if has_waited && turns.is_some() {
            self.events.send(Event::StepHasTurn { step: step.name.clone() });
        }
        let why = || {
            let why = || Failure::own("it waited for a cache when the build failed", None);
            self.interrupted().unwrap_or_else(why)
        };
        turns.ok_or_else(why)
    }

    /// Runs the step's process, again after a failure as often as `retries` allows, or copies its files. Returns the path of its log
    /// too.
    pub fn process(&self) -> (Result<(), Failure>, Option<PathBuf>) {
        let step = self.context.build.step(self.id);
        if let Some(bytes) = self.context.workspace.little_memory() {
            self.events.warn(None, &Warning::LittleMemory { bytes });
        }
        let open = || self.context.store.log_file(self.context.build_id, &step.name);
        let mut output = Output::new(&step.name, &open, self.events, self.context.workspace.secrets());
        let result = match &step.action {
            Action::Copy(copy) => self.copy(copy, &mut output),
            _ => self.with_settings(&mut output),
        };
        (result, output.finish())
    }

    /// Gives the session the step's own settings for its attempts. No other step runs in the session meanwhile.
    fn with_settings(&self, output: &mut Output<'_>) -> Result<(), Failure> {
        let step = self.context.build.step(self.id);
        let _turn = self.sessions.turn(step.container, step.retries > 0 || step.settings.is_some());
        let lost = |error| self.interrupted().unwrap_or_else(|| self.lost(error));
        self.sessions.use_settings(step).map_err(lost)?;
        let result = self.attempts(output);
        let reset = self.sessions.reset_settings(step).map_err(lost);
        result.and(reset)
    }

    fn attempts(&self, output: &mut Output<'_>) -> Result<(), Failure> {
        let step = self.context.build.step(self.id);
        let stop = || self.context.interrupt.is_set();
        let before = match step.retries {
            0 => None,
            _ => {
                let before = self.sessions.copy_into(step.container, &stop);
                Some(before.map_err(|error| self.interrupted().unwrap_or_else(|| self.lost(error)))?)
            }
        };
        let (mut attempts, mut has_run) = (1, false);
        loop {
            let ended =
                self.once(output).map_err(|failure| Failure { has_run: has_run || failure.has_run, ..failure })?;
            has_run |= !matches!(ended.outcome, Outcome::NotStarted { .. });
            if ended.is_success() {
                return Ok(());
            }
            let reason = words(&ended, step.timeout, self.context.build.settings(self.id));
            if ended.interrupted || attempts > step.retries {
                let hints = self.hints(&ended, output, &reason);
                let is_explained = !hints.is_empty();
                let reason = match step.retries {
                    1.. if !ended.interrupted => format!("{reason} (try {attempts} of {})", step.retries + 1),
                    _ => reason,
                };
                let reason = [vec![reason], hints].concat().join("; ");
                let failed = if ended.interrupted { Failure::interrupted } else { Failure::own };
                let failure = failed(reason, Some(ended.outcome.exit_code()));
                return Err(Failure { is_explained, has_run, ..failure });
            }
            attempts += 1;
            let stays = WrittenThrough::all(&self.context.build.settings(self.id).mounts);
            let new_network = before.as_ref().is_some_and(SessionCopy::has_new_network);
            let of = step.retries + 1;
            self.events.warn(Some(&step.name), &Warning::Retry { reason, attempt: attempts, of, stays, new_network });
            if let Some(before) = &before {
                let restored = self.sessions.restore_copy(step.container, before, &stop);
                let failed = |error| self.interrupted().unwrap_or_else(|| self.lost(error));
                restored.map_err(|error| Failure { has_run, ..failed(error) })?;
            }
            let container = self.context.build.container(step.container).name.clone();
            let (step, reasons) = (step.name.clone(), Vec::new());
            self.events.send(Event::StepStarted { step, container, attempt: attempts, reasons });
        }
    }

    /// The failure of a step whose build was interrupted before it could be tried.
    fn interrupted(&self) -> Option<Failure> {
        self.context.interrupt.is_set().then(|| Failure::interrupted("interrupted", None))
    }

    fn once(&self, output: &mut Output<'_>) -> Result<AttemptResult, Failure> {
        let build = self.context.build;
        let step = build.step(self.id);
        let slot = self.sessions.shared(step.container)?;
        let session = session(&slot)?;
        let container = build.settings(self.id);
        let argv = match &step.action {
            Action::Run(text) if interpreter(text).is_some() => {
                let script = session.script(&step.name, text).map_err(unusable("write the step's script"))?;
                vec![script.to_string_lossy().into_owned()]
            }
            Action::Run(text) => {
                let shell = step.shell.as_ref().or(container.shell.as_ref());
                let shell = shell.cloned().unwrap_or_else(|| DEFAULT_SHELL.map(String::from).to_vec());
                [shell, vec![text.clone()]].concat()
            }
            Action::Exec(argv) => argv.clone(),
            Action::Copy(_) | Action::Snapshot(_) | Action::Export(_) => {
                return Err(Failure::host("the step has no process"));
            }
        };
        let process = process_in(self.context, session, container, Some(step), &argv).map_err(|error| match error {
            error @ SessionError::User(_) => {
                let reason = error_chain_with_hint(&error, error.hint());
                Failure::own(
                    [reason].into_iter().chain(only_layer(container, true, session)).collect::<Vec<_>>().join("; "),
                    None,
                )
            }
            error => Failure::from(error),
        })?;
        let stdin = File::open("/dev/null").map_err(unusable("open /dev/null"))?.into();
        let running = RunningAttempt::start(session, process, stdin).map_err(|error| self.lost(error))?;
        let mut sink = |stream, bytes: &[u8]| output.take(stream, bytes);
        let warn = |warning: &Warning| self.events.warn(Some(&step.name), warning);
        let patience = Patience { timeout: step.timeout, grace: step.grace, warn: &warn };
        let lost = |error| Failure { has_run: true, ..self.lost(error) };
        let followed = running.follow(patience, &mut sink, self.context.interrupt).map_err(lost);
        let attempt = followed.and_then(|attempt| {
            output.end_attempt().map_err(unusable("write the step's log"))?;
            Ok(attempt)
        });
        let mut attempt = attempt.map_err(|failure| output.log_error().map_or(failure, Failure::from))?;
        if let (Action::Run(text), Outcome::NotStarted { code: 127, .. } | Outcome::Exited { code: 1 }) =
            (&step.action, &attempt.outcome)
            // An external runtime does not distinguish that from a failing script.
            && let Some(interpreter) = interpreter(text).filter(|path| session.file(Path::new(path)).is_none())
        {
            let why = format!("the interpreter of its script, {interpreter}, is not in the root");
            attempt.outcome = Outcome::NotStarted { why, code: 127 };
        }
        Ok(attempt)
    }

    /// Takes the snapshot, and calls `frozen` as soon as its content is final.
    pub fn snapshot(&self, snapshot: &Snapshot, frozen: impl FnOnce()) -> Result<Snapshotted, Failure> {
        let build = self.context.build;
        let step = build.step(self.id);
        let mut slot = self.sessions.exclusive(step.container)?;
        let session = slot.as_mut().ok_or_else(|| Failure::host("the session is closed"))?;
        let lower = session.freeze()?;
        let tmpfs_left = session.nonempty_tmpfs()?;
        let seen = normalise(lower.path(), build.source_date_epoch, &|path| session.is_below(path))
            .map_err(unusable("read what the steps changed"))?;
        self.report_acl(seen.with_acl);
        match snapshot.mode {
            SnapshotMode::Layer => {
                self.sessions.set_chain(self.id, session.lowers().to_vec(), session.own_layer_count());
                drop(slot);
                frozen();
                let Image { digest, size, failure, .. } = self.write(lower.path(), snapshot)?;
                Ok(Snapshotted { written: Written { digest, size, tmpfs_left }, failure })
            }
            SnapshotMode::Full if let Some(subtree) = &snapshot.subtree => {
                let mounted = self.context.workspace.subtree(&lower, subtree).map_err(SessionError::Rootfs)?;
                let Image { path, digest, size, failure } = self.write(mounted.path(), snapshot)?;
                mounted.close().map_err(SessionError::Busy)?;
                self.continue_on(session, &path)?;
                Ok(Snapshotted { written: Written { digest, size, tmpfs_left }, failure })
            }
            SnapshotMode::Full => {
                let whole = session.whole_root(build.source_date_epoch)?;
                self.report_acl(whole.with_acl);
                let Image { path, digest, size, failure } = self.write(whole.mounted.path(), snapshot)?;
                whole.mounted.close().map_err(SessionError::Busy)?;
                self.continue_on(session, &path)?;
                Ok(Snapshotted { written: Written { digest, size, tmpfs_left }, failure })
            }
        }
    }

    /// Makes the session, and those that begin on this snapshot, continue above the image of a whole root.
    fn continue_on(&self, session: &mut Session<'_>, image: &Path) -> Result<(), Failure> {
        let lowers = vec![self.context.workspace.image(image).map_err(SessionError::Rootfs)?];
        session.rebase(lowers.clone(), 0);
        self.sessions.set_chain(self.id, lowers, 0);
        Ok(())
    }

    fn report_acl(&self, (first, files): (Vec<PathBuf>, u64)) {
        if files > 0 {
            self.events.warn(Some(&self.context.build.step(self.id).name), &Warning::AclLost { files, first });
        }
    }

    /// Writes the image of `root` into the store and to its output.
    fn write(&self, root: &Path, snapshot: &Snapshot) -> Result<Image, Failure> {
        let Context { build, store, lease, interrupt, .. } = self.context;
        let name = &build.step(self.id).name;
        let temp = lease.temp_file(&format!("{name}.squashfs"))?;
        let options = ImageOptions::new(snapshot, build.source_date_epoch);
        let mut progress = |ImageProgress { bytes, percent }| {
            self.events.send(Event::SnapshotProgress { step: name.clone(), bytes, percent });
        };
        write_image(root, &temp, options, interrupt.descriptor(), &mut progress)?;
        let (digest, size) = measured(&temp)?;
        let pin = store.put_and_pin(&temp, &digest)?;
        let path = pin.path().to_owned();
        self.sessions.add_pin(Some(pin));
        // From here on the layer is stored, and no failure makes it be built again.
        let published = self.check_lock(&digest).and_then(|()| {
            if let Some(output) = self.context.paths.output(self.id) {
                self.publish(&path, output)?;
            }
            Ok(())
        });
        if published.is_ok() {
            self.report_written(snapshot, &path, &digest, size, false);
        }
        Ok(Image { path, digest, size, failure: published.err() })
    }

    /// Copies an image of the store to its output, unless the output is equal already.
    fn publish(&self, stored: &Path, output: &OutputPlace) -> Result<(), Failure> {
        if self.context.lease.publish(stored, output)? {
            self.checker.wrote(output.path());
        }
        Ok(())
    }

    /// Refuses a layer that differs from the lock.
    fn check_lock(&self, digest: &Digest) -> Result<(), Failure> {
        let is_own = self.context.build.step(self.id).role != Role::TestedState;
        let Some(lock) = self.context.locked.filter(|_| is_own) else { return Ok(()) };
        let name = &self.context.build.step(self.id).name;
        let causes = |locked: &LockedSnapshot| {
            let causes = self.checker.causes(self.id, locked, digest);
            causes.into_iter().chain(lock.other_runner()).collect()
        };
        match lock.snapshot_difference(name, &digest.to_string(), causes) {
            None => Ok(()),
            Some(difference) => Err(Failure {
                reason: format!("differs from the lock: {}", difference.without_subject()),
                exit_code: None,
                cause: Cause::Mismatch,
                is_explained: false,
                has_run: false,
            }),
        }
    }

    fn report_written(&self, snapshot: &Snapshot, stored: &Path, digest: &Digest, size: u64, cached: bool) {
        let step = self.context.build.step(self.id).name.clone();
        let path = snapshot.output.clone().unwrap_or_else(|| stored.to_owned());
        self.events.send(Event::SnapshotWritten { step, digest: digest.to_string(), size, path, cached });
    }

    /// Uses a step's result from the store: writes the output of a snapshot, and makes the steps built on it use the
    /// layer in the store. `before` is the snapshot before it in its container.
    pub fn take_from_store(
        &self,
        recorded: &CacheRecord,
        before: Option<StepId>,
        pin: Option<LayerPin>,
    ) -> Result<(), Failure> {
        let Context { build, store, .. } = self.context;
        let step = build.step(self.id);
        let (Action::Snapshot(snapshot), Some(layer)) = (&step.action, &recorded.layer) else { return Ok(()) };
        store.touch(recorded)?;
        self.check_lock(&layer.digest)?;
        // The last key only serves explanations; the calls that must write to the store report one that is read-only.
        let _ = store.set_last_key(&build.name, &build.project, &step.name, &recorded.fields);
        let stored = store.layer_path(&layer.digest);
        if let Some(output) = self.context.paths.output(self.id)
            && !self.checker.is_file_of(output, &layer.digest, layer.size)
        {
            self.publish(&stored, output)?;
        }
        self.sessions.add_pin(pin);
        let whole = snapshot.mode == SnapshotMode::Full;
        self.sessions.set_stored(self.id, Stored { image: stored.clone(), before: before.filter(|_| !whole), whole });
        self.sessions.resume(step.container, self.id)?;
        self.checker.reopens(step.container);
        self.report_written(snapshot, &stored, &layer.digest, layer.size, true);
        Ok(())
    }
}

/// Runs one command in a fresh session of a container, which ends with it.
///
/// # Errors
/// Where the session cannot be opened or closed; not where the command fails.
pub fn run<'a>(
    context: Context<'a>,
    sessions: &SessionPool<'a>,
    id: ContainerId,
    argv: &[String],
    stdin: OwnedFd,
    sink: &mut Sink<'_>,
    warn: &dyn Fn(&Warning),
) -> Result<AttemptResult, SessionError> {
    let container = context.build.container(id);
    let attempt = {
        let slot = sessions.shared(id)?;
        let session = session(&slot)?;
        let process = process_in(context, session, container, None, argv)?;
        let running = RunningAttempt::start(session, process, stdin)?;
        let patience = Patience::with_command(warn);
        masked::follow(context.workspace.secrets(), sink, |sink| running.follow(patience, sink, context.interrupt))?
    };
    sessions.close(id)?;
    Ok(attempt)
}

/// Returns the process of a command, with the settings of the step, if there is one, else of the container.
pub fn process_in(
    context: Context<'_>,
    session: &Session<'_>,
    container: &Container,
    step: Option<&Step>,
    argv: &[String],
) -> Result<Process, SessionError> {
    let mut env = step.map(|step| step.env.clone()).unwrap_or_default();
    let agent = container.mounts.iter().find(|mount| matches!(mount.kind, MountKind::Ssh(_)));
    if let Some(agent) = agent.filter(|_| !container.env.contains_key(SSH_AUTH_SOCK)) {
        env.entry(SSH_AUTH_SOCK.to_owned()).or_insert_with(|| agent.target.display().to_string());
    }
    let user = step.and_then(|step| step.user.as_ref()).unwrap_or(&container.user);
    let command = Command {
        argv: argv.to_vec(),
        env: &env,
        cwd: step.and_then(|step| step.cwd.as_deref()).unwrap_or(&container.cwd),
        user: &session.credentials(user)?,
        source_date_epoch: context.build.source_date_epoch,
    };
    Ok(process::process(container, command)?)
}
