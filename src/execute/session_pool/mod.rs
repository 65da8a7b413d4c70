//! The sessions of a build, one for each container: opened at the first step that needs it and closed after the last.

mod layers;
mod shared_imports;
mod snapshot_roots;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};

pub use layers::Stored;

use layers::LayerChain;
use shared_imports::SharedImports;

use super::checkpoints::Checkpoints;
use super::context::Context;
use super::made_once::MadeOnce;
use super::restore_error::RestoreError;
use super::start_once::StartOnce;
use crate::error::error_chain_with_hint;
use crate::import::{Importer, StopSignal};
use crate::model::{Build, ContainerId, Step, StepId};
use crate::named_paths::NamedPaths;
use crate::poison::{self, lock};
use crate::pull::Images;
use crate::session::{
    LowerLayer, MountSources, RestoreReport, SavedImage, Scratch, Session, SessionCopy, SessionError, SessionStart,
    SnapshotRoot, Workspace, explain_full_place,
};
use crate::store::{LayerPin, Store, StoredFailedSession};

/// All sessions of a build, and the layers of its snapshots.
#[derive(Debug)]
pub struct SessionPool<'a> {
    build: &'a Build,
    store: &'a Store,
    workspace: &'a Workspace,
    paths: &'a NamedPaths,
    sessions: Vec<StartOnce<Option<Session<'a>>>>,
    /// The roots of snapshots from which files are copied or mounted, each mounted once.
    snapshot_roots: MadeOnce<Arc<SnapshotRoot>>,
    chains: Mutex<HashMap<StepId, LayerChain>>,
    /// By container: the snapshot in the store that its session begins on, in place of its rootfs.
    resumed: Mutex<HashMap<ContainerId, StepId>>,
    /// By snapshot: the number of layers that its container has written since the last full one, with its own.
    own_layers: Mutex<HashMap<StepId, usize>>,
    images: &'a Images,
    importer: Importer<'a>,
    imports: SharedImports,
    /// Roots that were assembled, by their source: two containers on the same programs share them.
    made: MadeOnce<LowerLayer>,
    /// By container: the checkpoint that its session continues from.
    restored_checkpoints: Mutex<HashMap<ContainerId, Checkpoint>>,
    /// The pins of the layers and the caches that the build uses.
    pins: Mutex<Vec<LayerPin>>,
    /// By segment.
    pub checkpoints: Checkpoints,
    /// By container: a step with retries runs alone in its session, because restoring resets the whole session.
    turns: Vec<RwLock<()>>,
}

/// A checkpoint that a session continues from.
#[derive(Debug)]
struct Checkpoint {
    image: PathBuf,
    /// The step after which it was made.
    after: String,
    report: RestoreReport,
}

/// The right of a step to run in its session, with others or alone.
#[derive(Debug)]
pub enum Turn<'r> {
    /// With others.
    Shared { _lock: RwLockReadGuard<'r, ()> },
    /// Alone.
    Exclusive { _lock: RwLockWriteGuard<'r, ()> },
}

impl<'a> SessionPool<'a> {
    /// Makes a pool in which no session is open.
    pub fn new(context: Context<'a>) -> Self {
        let Context { build, store, lease, workspace, paths, images, interrupt, .. } = context;
        let stop = StopSignal { flag: interrupt.flag(), descriptor: interrupt.descriptor() };
        let sessions = build.containers.iter().map(|_| StartOnce::new(None)).collect();
        Self {
            build,
            store,
            workspace,
            paths,
            sessions,
            chains: Mutex::default(),
            resumed: Mutex::default(),
            own_layers: Mutex::default(),
            images,
            importer: Importer::new(store, lease, Arc::clone(paths.opened()), stop, &images.reporter),
            imports: SharedImports::default(),
            snapshot_roots: MadeOnce::default(),
            made: MadeOnce::default(),
            restored_checkpoints: Mutex::default(),
            pins: Mutex::default(),
            checkpoints: Checkpoints::default(),
            turns: build.containers.iter().map(|_| RwLock::default()).collect(),
        }
    }

    /// Waits for the turn of a step to run in its container's session.
    pub fn turn(&self, id: ContainerId, is_exclusive: bool) -> Turn<'_> {
        let turn = &self.turns[id.0];
        match is_exclusive {
            true => Turn::Exclusive { _lock: poison::write(turn) },
            false => Turn::Shared { _lock: poison::read(turn) },
        }
    }

    /// Copies the content of the container's session, before a step that runs alone in it.
    ///
    /// # Errors
    /// See [`Session::copy_into`].
    pub fn copy_into(&self, id: ContainerId, stop: &dyn Fn() -> bool) -> Result<SessionCopy, SessionError> {
        let slot = self.shared(id)?;
        let session = slot.as_ref().ok_or_else(|| SessionError::Io(io::Error::other("it is closed")))?;
        let mut before = session.empty_copy()?;
        // The cause is determined before the incomplete copy is removed.
        let copied = session.copy_into(&mut before, stop);
        copied.map_err(|error| self.explained(error, Some(session.scratch())))?;
        Ok(before)
    }

    /// Restores the copy, before the step is tried again.
    ///
    /// # Errors
    /// See [`Session::restore_copy`].
    pub fn restore_copy(
        &self,
        id: ContainerId,
        before: &SessionCopy,
        stop: &dyn Fn() -> bool,
    ) -> Result<(), SessionError> {
        let mut slot = self.exclusive(id)?;
        let session = slot.as_mut().ok_or_else(|| SessionError::Io(io::Error::other("it is closed")))?;
        let restored = session.restore_copy(before, stop);
        restored.map_err(|error| self.explained(error, Some(session.scratch())))
    }

    /// Returns the container's running session, shared with steps that run at the same time.
    ///
    /// # Errors
    /// Where it cannot be opened.
    pub fn shared(&self, id: ContainerId) -> Result<RwLockReadGuard<'_, Option<Session<'a>>>, SessionError> {
        // No other step freezes it meanwhile: a snapshot is ordered with every step of its container.
        let is_running = |slot: &Option<Session<'a>>| slot.as_ref().is_some_and(Session::is_running);
        self.sessions[id.0].started(is_running, |slot| {
            // Before anything is mounted: mounting takes as long as the start of a helper.
            let start = match slot {
                None => Some(SessionStart::new(self.workspace, self.build.container(id), self.paths)?),
                Some(_) => None,
            };
            let session = self.open(id, slot, start)?;
            let started = session.start();
            started.map_err(|error| self.explained(error, Some(session.scratch())))
        })
    }

    /// Names the full filesystem, where a session has no space.
    pub fn explained(&self, error: SessionError, scratch: Option<&Scratch>) -> SessionError {
        explain_full_place(error, self.workspace, scratch, self.store.root())
    }

    /// Opens the container's session in the state after a failed step. No process runs in it yet.
    ///
    /// # Errors
    /// Where a layer that it was built on is missing, and those of any session.
    pub fn restore(&self, id: ContainerId, failed: &StoredFailedSession) -> Result<(), RestoreError> {
        let scratch = Arc::new(self.workspace.scratch(self.build.container(id).scratch)?);
        let mut lowers = match &failed.step.base {
            None => Vec::new(),
            Some(name) => {
                let base = self.build.containers.iter().find(|container| container.name == *name);
                let base = base.ok_or_else(|| RestoreError::NoContainer(name.clone()))?;
                self.lowers(base, &scratch).map_err(SessionError::Rootfs)?
            }
        };
        let image = |path: &Path| self.workspace.image(path).map_err(SessionError::Rootfs);
        for layer in &failed.step.layers {
            let digest = layer.parse().map_err(|_| RestoreError::NoLayer(layer.clone()))?;
            let pin = self.store.pin_layer(&digest)?.ok_or_else(|| RestoreError::NoLayer(layer.clone()))?;
            lowers.push(image(pin.path())?);
            self.add_pin(Some(pin));
        }
        let saved = |path: &Path| {
            SavedImage::open(self.workspace, path, RestoreReport::default()).map_err(SessionError::Rootfs)
        };
        let mut session = self.session(id, lowers, scratch, None)?;
        if let Some(changes) = failed.changes() {
            session.restore_checkpoint(saved(&changes)?);
        }
        for (target, content) in failed.tmpfs() {
            session.restore_tmpfs(target, &saved(&content)?)?;
        }
        *self.sessions[id.0].exclusive() = Some(session);
        Ok(())
    }

    /// Returns the container's session, not shared, running or not.
    ///
    /// # Errors
    /// Where it cannot be opened.
    pub fn exclusive(&self, id: ContainerId) -> Result<RwLockWriteGuard<'_, Option<Session<'a>>>, SessionError> {
        let mut slot = self.sessions[id.0].exclusive();
        self.open(id, &mut slot, None)?;
        Ok(slot)
    }

    fn open<'r>(
        &self,
        id: ContainerId,
        slot: &'r mut Option<Session<'a>>,
        start: Option<SessionStart>,
    ) -> Result<&'r mut Session<'a>, SessionError> {
        if slot.is_none() {
            *slot = Some(self.prepare(id, start)?);
        }
        let checkpoint = lock(&self.restored_checkpoints).remove(&id);
        if let (Some(Checkpoint { image, report, .. }), Some(session)) = (checkpoint, slot.as_mut()) {
            session.restore_checkpoint(SavedImage::open(self.workspace, &image, report).map_err(SessionError::Rootfs)?);
        }
        slot.as_mut().ok_or_else(|| SessionError::Io(io::Error::other("it is closed")))
    }

    fn prepare(&self, id: ContainerId, start: Option<SessionStart>) -> Result<Session<'a>, SessionError> {
        let container = self.build.container(id);
        let scratch = self.workspace.scratch(container.scratch).map_err(|error| self.explained(error.into(), None))?;
        let scratch = Arc::new(scratch);
        let resumed = lock(&self.resumed).get(&id).copied();
        let lowers = match resumed {
            Some(step) => self.chain(step, &scratch),
            None => self.lowers(container, &scratch),
        };
        let lowers = lowers.map_err(SessionError::Rootfs);
        let session = lowers.and_then(|lowers| {
            let mut session = self.session(id, lowers.clone(), Arc::clone(&scratch), start)?;
            if let Some(step) = resumed {
                session.rebase(lowers, self.own_layers(step));
            }
            Ok(session)
        });
        session.map_err(|error| self.explained(error, Some(&scratch)))
    }

    fn session(
        &self,
        id: ContainerId,
        lowers: Vec<LowerLayer>,
        scratch: Arc<Scratch>,
        start: Option<SessionStart>,
    ) -> Result<Session<'a>, SessionError> {
        let container = self.build.container(id);
        self.with_sources(|sources| {
            Session::prepare(self.workspace, container, lowers, scratch, start, self.paths, sources)
        })
    }

    /// Calls a function with the sources of mounts that are not files of the manifest.
    fn with_sources<T>(&self, call: impl FnOnce(MountSources<'_>) -> T) -> T {
        call(MountSources {
            cache: &|cache| self.use_cache(cache),
            snapshot: &|step, path| self.file_of_snapshot(step, path),
        })
    }

    /// Returns the directory of a cache, which is in use until the end of the build.
    fn use_cache(&self, cache: &str) -> io::Result<PathBuf> {
        let pin = self.store.use_cache(cache);
        let pin = pin.map_err(|error| io::Error::other(error_chain_with_hint(&error, error.hint())))?;
        let path = pin.path().to_owned();
        self.add_pin(Some(pin));
        Ok(path)
    }

    /// Gives the session of a step the step's own settings, if it has any, until they are reset. No other step runs in the
    /// session meanwhile.
    ///
    /// # Errors
    /// Where the session cannot be opened or its container ended, or a mount or a device cannot be prepared.
    pub fn use_settings(&self, step: &Step) -> Result<(), SessionError> {
        let Some(own) = step.settings else { return Ok(()) };
        let mut slot = self.exclusive(step.container)?;
        let session = slot.as_mut().ok_or_else(|| SessionError::Io(io::Error::other("it is closed")))?;
        let own = self.build.container(own);
        let changed = self.with_sources(|sources| session.use_settings(own, self.paths, sources));
        changed.map_err(|error| self.explained(error, Some(session.scratch())))
    }

    /// Takes the step's own settings from its session.
    ///
    /// # Errors
    /// Those of the end of a container.
    pub fn reset_settings(&self, step: &Step) -> Result<(), SessionError> {
        if step.settings.is_none() {
            return Ok(());
        }
        self.sessions[step.container.0].exclusive().as_mut().map_or(Ok(()), Session::reset_settings)
    }

    /// Stores the pin of a layer or a cache for the duration of the build.
    pub fn add_pin(&self, pin: Option<LayerPin>) {
        lock(&self.pins).extend(pin);
    }

    /// Makes the container's session continue from the checkpoint in that image, which was made after that step.
    pub fn set_checkpoint(&self, id: ContainerId, image: PathBuf, after: String) {
        lock(&self.restored_checkpoints).insert(id, Checkpoint { image, after, report: RestoreReport::default() });
    }

    /// Sets the report of restoring the checkpoint of a container, given the step after which it was made. Returns
    /// whether a checkpoint is still to be restored.
    pub fn report_restoring(&self, id: ContainerId, report: impl FnOnce(String) -> RestoreReport) -> bool {
        let mut restored_checkpoints = lock(&self.restored_checkpoints);
        let Some(checkpoint) = restored_checkpoints.get_mut(&id) else { return false };
        checkpoint.report = report(checkpoint.after.clone());
        true
    }

    /// Whether the container's session is open.
    pub fn is_open(&self, id: ContainerId) -> bool {
        self.sessions[id.0].read().is_some()
    }

    /// Makes the container's session continue or begin on one of its snapshots that is in the store.
    ///
    /// # Errors
    /// Where the session is open, and a layer cannot be mounted.
    pub fn resume(&self, id: ContainerId, step: StepId) -> Result<(), SessionError> {
        lock(&self.resumed).insert(id, step);
        let mut slot = self.sessions[id.0].exclusive();
        if let Some(session) = slot.as_mut() {
            let lowers = self.chain(step, session.scratch()).map_err(SessionError::Rootfs)?;
            session.rebase(lowers, self.own_layers(step));
        }
        Ok(())
    }

    /// Closes all open sessions.
    ///
    /// # Errors
    /// The first error of closing one.
    pub fn close_all(&self) -> Result<(), SessionError> {
        let ends = (0..self.sessions.len()).map(|index| self.close(ContainerId(index)));
        ends.collect::<Vec<_>>().into_iter().collect()
    }

    /// Closes the container's session, if there is one.
    ///
    /// # Errors
    /// Those of closing it.
    pub fn close(&self, id: ContainerId) -> Result<(), SessionError> {
        let session = self.sessions[id.0].exclusive().take();
        session.map_or(Ok(()), Session::close)
    }
}
