//! A container's room in a build: its session, opened at the first step that needs it and closed after the last.

use std::collections::HashMap;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use rustix::fs::{Mode, OFlags};

use super::checkpoints::Checkpoints;
use super::context::Context;
use super::made_once::MadeOnce;
use super::restore_error::RestoreError;
use super::start_once::StartOnce;
use crate::error::error_chain_with_hint;
use crate::model::{Build, Container, ContainerId, Rootfs, StepId};
use crate::named_paths::NamedPaths;
use crate::rootfs;
use crate::session::{
    LowerLayer, RestoreReport, SavedImage, Scratch, Session, SessionCopy, SessionError, SessionStart, Workspace,
    explain_full_place,
};
use crate::store::{LayerPin, Store, StoredFailedSession};

/// The layers that a snapshot ends.
#[derive(Debug, Clone)]
enum Chain {
    /// Mounted, the lowest first.
    Mounted(Vec<LowerLayer>),
    /// In the store, and mounted only where a session begins above it.
    Stored(Stored),
}

/// A snapshot that was taken from the store.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Its image.
    pub image: PathBuf,
    /// The snapshot before it in its container, which it stands on.
    pub before: Option<StepId>,
    /// It stands on nothing.
    pub whole: bool,
}

/// All rooms of a build, and the layer chains that its snapshots end.
#[derive(Debug)]
pub struct SessionPool<'a> {
    build: &'a Build,
    store: &'a Store,
    workspace: &'a Workspace,
    paths: &'a NamedPaths,
    rooms: Vec<StartOnce<Option<Session<'a>>>>,
    chains: Mutex<HashMap<StepId, Chain>>,
    /// By container: the snapshot in the store that its session begins above, in place of its rootfs.
    resumed: Mutex<HashMap<ContainerId, StepId>>,
    /// By snapshot: how many layers its container has written since the last full one, with its own.
    own_layers: Mutex<HashMap<StepId, usize>>,
    /// Roots that had to be made, by their source: two containers on the same archive share them.
    made: MadeOnce<LowerLayer>,
    /// By container: the checkpoint that its session goes on from.
    seeds: Mutex<HashMap<ContainerId, Seed>>,
    /// The layers and the caches that the build uses.
    held: Mutex<Vec<LayerPin>>,
    /// By segment.
    pub checkpoints: Checkpoints,
    /// By container: a step that may be tried again runs alone in its session, for what is put back is all of it.
    turns: Vec<RwLock<()>>,
}

/// A checkpoint that a session goes on from.
#[derive(Debug)]
struct Seed {
    image: PathBuf,
    /// The step that it was taken after.
    after: String,
    report: RestoreReport,
}

/// The right of a step to run in its session: with others, or alone.
#[derive(Debug)]
pub enum Turn<'r> {
    /// With others.
    Shared { _lock: RwLockReadGuard<'r, ()> },
    /// Alone.
    Alone { _lock: RwLockWriteGuard<'r, ()> },
}

impl<'a> SessionPool<'a> {
    /// None is open.
    pub fn new(context: Context<'a>) -> Self {
        let Context { build, store, workspace, paths, .. } = context;
        let rooms = build.containers.iter().map(|_| StartOnce::new(None)).collect();
        Self {
            build,
            store,
            workspace,
            paths,
            rooms,
            chains: Mutex::default(),
            resumed: Mutex::default(),
            own_layers: Mutex::default(),
            made: MadeOnce::default(),
            seeds: Mutex::default(),
            held: Mutex::default(),
            checkpoints: Checkpoints::default(),
            turns: build.containers.iter().map(|_| RwLock::default()).collect(),
        }
    }

    /// Waits for the turn of a step to run in its container's session.
    pub fn turn(&self, id: ContainerId, alone: bool) -> Turn<'_> {
        let turn = &self.turns[id.0];
        match alone {
            true => Turn::Alone { _lock: turn.write().unwrap_or_else(PoisonError::into_inner) },
            false => Turn::Shared { _lock: turn.read().unwrap_or_else(PoisonError::into_inner) },
        }
    }

    /// Copies what the container's session holds, before a step that runs alone in it.
    ///
    /// # Errors
    /// See [`Session::copy_into`].
    pub fn copy_into(&self, id: ContainerId, stop: &dyn Fn() -> bool) -> Result<SessionCopy, SessionError> {
        let room = self.running(id)?;
        let session = room.as_ref().ok_or_else(|| SessionError::Io(io::Error::other("it is closed")))?;
        let mut before = session.empty_copy()?;
        // Explained while the half of it is there that fits.
        let copied = session.copy_into(&mut before, stop);
        copied.map_err(|error| self.explained(error, Some(session.scratch())))?;
        Ok(before)
    }

    /// Puts back what was copied, before the step is tried again.
    ///
    /// # Errors
    /// See [`Session::restore_copy`].
    pub fn restore_copy(
        &self,
        id: ContainerId,
        before: &SessionCopy,
        stop: &dyn Fn() -> bool,
    ) -> Result<(), SessionError> {
        let mut room = self.alone(id)?;
        let session = room.as_mut().ok_or_else(|| SessionError::Io(io::Error::other("it is closed")))?;
        let restored = session.restore_copy(before, stop);
        restored.map_err(|error| self.explained(error, Some(session.scratch())))
    }

    /// The container's session, running; to be shared by steps that run at once.
    ///
    /// # Errors
    /// Where it cannot be opened.
    pub fn running(&self, id: ContainerId) -> Result<RwLockReadGuard<'_, Option<Session<'a>>>, SessionError> {
        // Nothing freezes it in between: a snapshot is ordered with every step of its container.
        let is_running = |room: &Option<Session<'a>>| room.as_ref().is_some_and(Session::is_running);
        self.rooms[id.0].started(is_running, |room| {
            // While nothing is mounted yet: that takes as long as a helper to get ready.
            let start = match room {
                None => Some(SessionStart::new(self.workspace, self.build.container(id), self.paths)?),
                Some(_) => None,
            };
            let session = self.open(id, room, start)?;
            let started = session.start();
            started.map_err(|error| self.explained(error, Some(session.scratch())))
        })
    }

    /// Names the place that is full, where a session finds no room.
    fn explained(&self, error: SessionError, scratch: Option<&Scratch>) -> SessionError {
        explain_full_place(error, self.workspace, scratch, self.store.root())
    }

    /// Opens the container's session as a step that failed has left it. Nothing runs in it yet.
    ///
    /// # Errors
    /// Where something that it stood on is not there any more, and as for any session.
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
            let held = self.store.pin_layer(&digest)?.ok_or_else(|| RestoreError::NoLayer(layer.clone()))?;
            lowers.push(image(held.path())?);
            self.keep(Some(held));
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
        *self.rooms[id.0].alone() = Some(session);
        Ok(())
    }

    /// The container's session alone, running or not.
    ///
    /// # Errors
    /// Where it cannot be opened.
    pub fn alone(&self, id: ContainerId) -> Result<RwLockWriteGuard<'_, Option<Session<'a>>>, SessionError> {
        let mut room = self.rooms[id.0].alone();
        self.open(id, &mut room, None)?;
        Ok(room)
    }

    fn open<'r>(
        &self,
        id: ContainerId,
        room: &'r mut Option<Session<'a>>,
        start: Option<SessionStart>,
    ) -> Result<&'r mut Session<'a>, SessionError> {
        if room.is_none() {
            *room = Some(self.prepare(id, start)?);
        }
        let seed = lock(&self.seeds).remove(&id);
        if let (Some(Seed { image, report, .. }), Some(session)) = (seed, room.as_mut()) {
            session.restore_checkpoint(SavedImage::open(self.workspace, &image, report).map_err(SessionError::Rootfs)?);
        }
        room.as_mut().ok_or_else(|| SessionError::Io(io::Error::other("it is closed")))
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

    fn own_layers(&self, step: StepId) -> usize {
        lock(&self.own_layers).get(&step).copied().unwrap_or_default()
    }

    fn session(
        &self,
        id: ContainerId,
        lowers: Vec<LowerLayer>,
        scratch: Arc<Scratch>,
        start: Option<SessionStart>,
    ) -> Result<Session<'a>, SessionError> {
        Session::prepare(self.workspace, self.build.container(id), lowers, scratch, start, self.paths, |cache| {
            let held = self.store.use_cache(cache);
            let held = held.map_err(|error| io::Error::other(error_chain_with_hint(&error, error.hint())))?;
            let path = held.path().to_owned();
            self.keep(Some(held));
            Ok(path)
        })
    }

    /// The layers that a container's root begins with.
    fn lowers(&self, container: &Container, scratch: &Arc<Scratch>) -> io::Result<Vec<LowerLayer>> {
        match &container.rootfs {
            Rootfs::Scratch => Ok(Vec::new()),
            Rootfs::Squashfs(layers) => {
                let mounted = |path: &PathBuf| self.workspace.opened_image(path, self.paths.get(path)?.as_fd());
                layers.iter().map(mounted).collect()
            }
            Rootfs::Dir(path) => Ok(vec![self.workspace.host_directory(path, self.paths.get(path)?.as_fd())?]),
            Rootfs::Snapshot(step) => self.chain(*step, scratch),
            Rootfs::Tar(path) => {
                let archive = self.paths.get(path)?;
                self.made(&container.rootfs, scratch, |to| rootfs::unpack(path, archive.as_fd(), to))
            }
            Rootfs::Programs(paths) => {
                self.made(&container.rootfs, scratch, |to| rootfs::assemble(paths, self.paths.opened(), to))
            }
        }
    }

    fn made(
        &self,
        source: &Rootfs,
        scratch: &Arc<Scratch>,
        make: impl FnOnce(std::os::fd::BorrowedFd<'_>) -> Result<(), rootfs::RootfsError>,
    ) -> io::Result<Vec<LowerLayer>> {
        let make = || -> io::Result<LowerLayer> {
            let directory = scratch.directory("rootfs")?;
            let to = rustix::fs::open(&directory, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
            make(to.as_fd()).map_err(|error| {
                let kind = match &error {
                    error if error.is_for_want_of_room() => io::ErrorKind::StorageFull,
                    error if error.is_of_input() => io::ErrorKind::InvalidData,
                    _ => io::ErrorKind::Other,
                };
                io::Error::new(kind, error_chain_with_hint(&error, error.hint()))
            })?;
            Ok(LowerLayer::root(directory, Arc::clone(scratch)))
        };
        Ok(vec![self.made.get(format!("{source:?}"), make)?])
    }

    /// The layers that the snapshot `step` ends, the lowest first.
    fn chain(&self, step: StepId, scratch: &Arc<Scratch>) -> io::Result<Vec<LowerLayer>> {
        let chain = lock(&self.chains).get(&step).cloned();
        let Stored { image, before, whole } = match chain {
            Some(Chain::Mounted(lowers)) => return Ok(lowers),
            Some(Chain::Stored(stored)) => stored,
            None => {
                let name = &self.build.step(step).name;
                return Err(io::Error::other(format!("the snapshot {name} has not been taken")));
            }
        };
        let mut lowers = match before {
            _ if whole => Vec::new(),
            Some(before) => self.chain(before, scratch)?,
            None => self.lowers(self.build.container(self.build.step(step).container), scratch)?,
        };
        lowers.push(self.workspace.image(&image)?);
        lock(&self.chains).insert(step, Chain::Mounted(lowers.clone()));
        Ok(lowers)
    }

    /// The snapshot `step` has been taken; of its layers the topmost `own` are its container's since the last full one.
    pub fn set_chain(&self, step: StepId, lowers: Vec<LowerLayer>, own: usize) {
        lock(&self.own_layers).insert(step, own);
        lock(&self.chains).insert(step, Chain::Mounted(lowers));
    }

    /// The snapshot `step` is in the store.
    pub fn set_stored(&self, step: StepId, stored: Stored) {
        let own = if stored.whole { 0 } else { 1 + stored.before.map_or(0, |before| self.own_layers(before)) };
        lock(&self.own_layers).insert(step, own);
        lock(&self.chains).insert(step, Chain::Stored(stored));
    }

    /// Keeps a layer or a cache in the store for as long as the build lasts.
    pub fn keep(&self, held: Option<LayerPin>) {
        lock(&self.held).extend(held);
    }

    /// The container's session goes on from the checkpoint in that image, which was taken after that step.
    pub fn set_seed(&self, id: ContainerId, image: PathBuf, after: String) {
        lock(&self.seeds).insert(id, Seed { image, after, report: RestoreReport::default() });
    }

    /// Has it reported how far the checkpoint of a container is restored, given the step that it was taken after; whether
    /// there is one that is still to be restored.
    pub fn report_restoring(&self, id: ContainerId, report: impl FnOnce(String) -> RestoreReport) -> bool {
        let mut seeds = lock(&self.seeds);
        let Some(seed) = seeds.get_mut(&id) else { return false };
        seed.report = report(seed.after.clone());
        true
    }

    /// Whether the container's session is open.
    pub fn is_open(&self, id: ContainerId) -> bool {
        self.rooms[id.0].read().is_some()
    }

    /// The container's session goes on above a snapshot of it that is in the store, or begins there.
    ///
    /// # Errors
    /// Where it is open, and a layer cannot be mounted.
    pub fn resume(&self, id: ContainerId, step: StepId) -> Result<(), SessionError> {
        lock(&self.resumed).insert(id, step);
        let mut room = self.rooms[id.0].alone();
        if let Some(session) = room.as_mut() {
            let lowers = self.chain(step, session.scratch()).map_err(SessionError::Rootfs)?;
            session.rebase(lowers, self.own_layers(step));
        }
        Ok(())
    }

    /// Closes all that are open.
    ///
    /// # Errors
    /// The first thing that would not go.
    pub fn close_all(&self) -> Result<(), SessionError> {
        let ends = (0..self.rooms.len()).map(|index| self.close(ContainerId(index)));
        ends.collect::<Vec<_>>().into_iter().collect()
    }

    /// Closes the container's session, if there is one.
    ///
    /// # Errors
    /// Where something of it would not go.
    pub fn close(&self, id: ContainerId) -> Result<(), SessionError> {
        let session = self.rooms[id.0].alone().take();
        session.map_or(Ok(()), Session::close)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
