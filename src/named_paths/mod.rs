//! The host paths of a manifest, each opened once before anything runs.
//!
//! From then on only the open files are used: a step that can write to a directory on the way cannot change the target
//! of a path. The outputs, which the build itself writes, are opened when they are needed. No path may show the store:
//! a bind of a directory above it has an empty directory in its place.

pub mod confinement;
mod error;
mod host_mounts;
mod planted;
mod unordered;

use std::cell::OnceCell;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use confinement::{Confinement, ShowsStore};
pub use error::NamedPathError;
#[cfg(test)]
pub use planted::PlantedLink;
pub use planted::WritableBinds;
pub use unordered::unordered_binds;

use crate::fs::dirfd::Dir;
use crate::fs::opened::{OpenedFile, OpenedPaths};
use crate::fs::output::OutputPlace;
use crate::model::{
    Action, Build, Container, ContainerId, ImagePlace, ImageSource, Mount, MountKind, Network, Rootfs, Secret, StepId,
};
use crate::mount::{Location, MountTable, paths_in_options};

/// The file that a container with the host's network has at the same path.
pub const RESOLV_CONF: &str = "/etc/resolv.conf";

/// The host paths of a build.
#[derive(Debug, Default)]
pub struct NamedPaths {
    opened: Arc<OpenedPaths>,
    store: Option<Dir>,
    /// The sources of binds that would show the store.
    shows_store: HashSet<PathBuf>,
    outputs: HashMap<StepId, Arc<OutputPlace>>,
    /// The containers whose binds show the output of a step.
    shows_output: HashSet<(ContainerId, StepId)>,
}

impl NamedPaths {
    /// Opens all paths of a build, and of its outputs those of these steps, whose directories it makes. It checks only
    /// the mounts of containers that run. It must be called in the mount namespace of the build.
    ///
    /// # Errors
    /// See [`NamedPathError`].
    pub fn open(
        build: &Build,
        steps: &[StepId],
        runs: &HashSet<ContainerId>,
        store: &Path,
        confinement: &Confinement,
    ) -> Result<Self, NamedPathError> {
        let mut opened = OpenedPaths::default();
        for device in build.containers.iter().flat_map(|container| &container.devices) {
            let opens = opened.open_node(&device.path);
            opens.map_err(|source| NamedPathError::Device { path: device.path.clone(), source })?;
        }
        let writable = WritableBinds::of(build);
        let mut open = |path: &Path| {
            not_planted(&writable, path, path)?;
            opened.open(path).map_err(|source| NamedPathError::Open { path: path.to_owned(), source })
        };
        for container in &build.containers {
            match &container.rootfs {
                Rootfs::Dir(path) => open(path)?,
                Rootfs::Erofs(file) | Rootfs::Tar(file) => open(&file.path)?,
                Rootfs::Squashfs(layers) => layers.iter().try_for_each(|layer| open(&layer.path))?,
                Rootfs::Programs(paths) => paths.iter().try_for_each(|path| open(path))?,
                Rootfs::Image(ImageSource { place: ImagePlace::Layout(path, _), .. }) => open(path)?,
                Rootfs::Image(_) | Rootfs::Url(_) | Rootfs::Snapshot(_) | Rootfs::Scratch => {}
            }
            for mount in &container.mounts {
                match &mount.kind {
                    MountKind::Secret(secret @ Secret::File(path)) | MountKind::Ssh(secret @ Secret::File(path)) => {
                        // The containers with it do not run.
                        if !build.absent_secrets.iter().any(|absent| absent.secret == *secret) {
                            open(path)?;
                        }
                    }
                    MountKind::Bind(path) | MountKind::Image(path) => open(path)?,
                    MountKind::Kernel(..) => paths_of_filesystem(mount).try_for_each(|path| open(&path))?,
                    MountKind::Secret(Secret::Variable(_))
                    | MountKind::Ssh(_)
                    | MountKind::Tmpfs
                    | MountKind::Cache(_)
                    | MountKind::Snapshot { .. } => {}
                }
            }
            let resolv = Path::new(RESOLV_CONF);
            if container.network == Network::Host && resolv.exists() {
                open(resolv)?;
            }
        }
        for step in &build.steps {
            if let Action::Copy(copy) = &step.action {
                copy.host_paths().iter().try_for_each(|path| open(path))?;
            }
        }
        let outputs = outputs(build, steps, &writable)?;
        opened.expect_outputs(&outputs.values().cloned().collect::<Vec<_>>()).map_err(NamedPathError::Mounts)?;
        let dir = Dir::open(store).map_err(NamedPathError::Mounts)?;
        opened.hide(dir.identity());
        let mut paths = Self { opened: Arc::new(opened), store: Some(dir), outputs, ..Self::default() };
        paths.find_exposed_paths(build, runs, store, confinement)?;
        Ok(paths)
    }

    /// Finds the binds of running containers that show the store or an output.
    fn find_exposed_paths(
        &mut self,
        build: &Build,
        runs: &HashSet<ContainerId>,
        store: &Path,
        confinement: &Confinement,
    ) -> Result<(), NamedPathError> {
        let has_root = |container: &Container| matches!(container.rootfs, Rootfs::Dir(_));
        let Some(dir) = &self.store else { return Ok(()) };
        let running = || {
            let all = build.containers.iter().enumerate();
            all.filter(|(index, _)| runs.contains(&ContainerId(*index))).map(|(_, container)| container)
        };
        let power = OnceCell::new();
        let by_container = || power.get_or_init(|| ShowsStore::by_container(running()));
        let binds = || binds(build).filter(|(container, ..)| runs.contains(container));
        let of_filesystems: HashSet<PathBuf> =
            running().flat_map(|container| &container.mounts).flat_map(paths_of_filesystem).collect();
        let has_others = binds().next().is_some() || running().any(has_root);
        if self.outputs.is_empty() && !has_others && of_filesystems.is_empty() {
            return Ok(());
        }
        let in_store = |path: &Path| NamedPathError::InStore { path: path.to_owned(), store: store.to_owned() };
        let table = MountTable::read().map_err(NamedPathError::Mounts)?;
        let locate = |file: BorrowedFd<'_>| table.locate(file).map_err(NamedPathError::Mounts);
        let of_store = locate(dir.as_fd())?;
        let mut outputs = Vec::new();
        for (step, output) in &self.outputs {
            let location = locate(output.opened().as_fd())?;
            if location.is_in(&of_store) {
                return Err(in_store(output.path()));
            }
            outputs.push((*step, location.join(output.name())));
        }
        for container in running() {
            let Rootfs::Dir(path) = &container.rootfs else { continue };
            let top = locate(self.get(path).map_err(NamedPathError::Mounts)?.as_fd())?;
            if top.is_in(&of_store) {
                return Err(in_store(path));
            }
            if !table.views(&top, &of_store, false).is_empty() {
                return Err(NamedPathError::RootHoldsStore { path: path.to_owned(), store: store.to_owned() });
            }
        }
        for path in of_filesystems {
            let top = locate(self.get(&path).map_err(NamedPathError::Mounts)?.as_fd())?;
            if top.is_in(&of_store) {
                return Err(in_store(&path));
            }
            if !table.views(&top, &of_store, false).is_empty() {
                return Err(NamedPathError::MountHoldsStore { path, store: store.to_owned() });
            }
        }
        let mut known: HashMap<&Path, (Location, Vec<StepId>)> = HashMap::new();
        let (mut shows_store, mut shows_output) = (HashSet::new(), HashSet::new());
        for (container, mount, path) in binds() {
            if !known.contains_key(path) {
                // An output that does not exist cannot be bound; `validate` has reported that, unless it existed then.
                let Ok(file) = self.get(path) else { continue };
                let top = locate(file.as_fd())?;
                if top.is_in(&of_store) {
                    return Err(in_store(path));
                }
                let shown_by = table.shown_by(&top, true);
                if !shown_by.views(&of_store).is_empty() {
                    shows_store.insert(path.to_owned());
                }
                let shown = outputs.iter().filter(|(_, output)| !shown_by.views(output).is_empty());
                let shown = shown.map(|(step, _)| *step).collect();
                known.insert(path, (top, shown));
            }
            if shows_store.contains(path)
                && let Some(why) = ShowsStore::of(by_container().clone(), mount, confinement)
            {
                return Err(NamedPathError::BindShowsStore { path: path.to_owned(), store: store.to_owned(), why });
            }
            shows_output.extend(known[path].1.iter().map(|step| (container, *step)));
        }
        let tops = known.into_iter().map(|(path, (top, _))| (path, top)).collect();
        if let Some(error) = host_mounts::removable_mount(build, runs, &table, &tops, confinement) {
            return Err(error);
        }
        (self.shows_store, self.shows_output) = (shows_store, shows_output);
        Ok(())
    }

    /// Returns the open files, for code that finds files by path.
    pub fn opened(&self) -> &Arc<OpenedPaths> {
        &self.opened
    }

    /// Returns whether a path was opened.
    pub fn is_named(&self, path: &Path) -> bool {
        matches!(self.opened.get(path), Ok(Some(_)))
    }

    /// Returns the open file of a path of the manifest.
    ///
    /// # Errors
    /// `NotFound` for a path that was not opened; for an output, those of opening it now.
    pub fn get(&self, path: &Path) -> io::Result<OpenedFile<'_>> {
        self.opened.get(path)?.ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, format!("{} was not there when the build began", path.display()))
        })
    }

    /// Returns the place of a step's output, if it has one.
    pub fn output(&self, step: StepId) -> Option<&OutputPlace> {
        self.outputs.get(&step).map(|output| &**output)
    }

    /// Returns whether the steps of a container can see the output of a step.
    pub fn shows_output(&self, container: ContainerId, step: StepId) -> bool {
        self.shows_output.contains(&(container, step))
    }

    /// Returns the store's directory, if a bind of that source would show it.
    pub fn store_below(&self, source: &Path) -> Option<&Dir> {
        self.store.as_ref().filter(|_| self.shows_store.contains(source))
    }
}

/// Refuses a path whose target a link of an earlier step changes; `followed` is the part of it in which links are
/// followed.
fn not_planted(writable: &WritableBinds, path: &Path, followed: &Path) -> Result<(), NamedPathError> {
    let planted = writable.planted(followed);
    planted.map_or(Ok(()), |planted| Err(NamedPathError::Planted { path: path.to_owned(), planted }))
}

/// Returns the paths of the host that a mount of a kernel filesystem names. A source that is not a path is a word for
/// the filesystem.
fn paths_of_filesystem(mount: &Mount) -> impl Iterator<Item = PathBuf> + use<> {
    let (source, options) = match &mount.kind {
        MountKind::Kernel(_, source) => (Some(PathBuf::from(source)), paths_in_options(&mount.options)),
        _ => (None, Vec::new()),
    };
    let source = source.filter(|source| source.exists());
    options.into_iter().chain(source).filter(|path| path.is_absolute())
}

/// Opens the directories of the outputs of these steps.
fn outputs(
    build: &Build,
    steps: &[StepId],
    writable: &WritableBinds,
) -> Result<HashMap<StepId, Arc<OutputPlace>>, NamedPathError> {
    let mut outputs: HashMap<StepId, Arc<OutputPlace>> = HashMap::new();
    let mut known = HashMap::new();
    for id in steps {
        let action = &build.step(*id).action;
        let Some(path) = action.output() else { continue };
        let is_tree = matches!(action, Action::Export(export) if export.may_be_directory());
        // A link at the output itself is not followed.
        not_planted(writable, path, path.parent().unwrap_or(path))?;
        let open = if is_tree { OutputPlace::open_for_tree } else { OutputPlace::open };
        let place =
            open(path).map(Arc::new).map_err(|source| NamedPathError::Output { path: path.to_owned(), source })?;
        let (directory, name) = place.identity();
        if let Some(other) = known.insert((directory, name.to_owned()), path.to_owned()) {
            return Err(NamedPathError::SameFile { path: path.to_owned(), other });
        }
        outputs.insert(*id, place);
    }
    Ok(outputs)
}

/// Returns the binds, with their containers and sources.
fn binds(build: &Build) -> impl Iterator<Item = (ContainerId, &Mount, &Path)> {
    build.containers.iter().enumerate().flat_map(|(index, container)| {
        container.mounts.iter().filter_map(move |mount| match &mount.kind {
            MountKind::Bind(source) => Some((ContainerId(index), mount, source.as_path())),
            _ => None,
        })
    })
}

/// Returns the sources of binds that show a store, or will once it exists; each with the error of a build, if the bind
/// is refused.
///
/// # Errors
/// Those of reading the mounts.
pub fn binds_that_show_store(
    build: &Build,
    store: &Path,
    confinement: &Confinement,
) -> io::Result<Vec<(PathBuf, Option<NamedPathError>)>> {
    let sources: BTreeSet<&Path> = binds(build).map(|(_, _, source)| source).collect();
    if sources.is_empty() {
        return Ok(Vec::new());
    }
    let table = MountTable::read()?;
    let mut missing = Vec::new();
    let mut at = store;
    let existing = loop {
        match (Dir::open(at), at.parent().zip(at.file_name())) {
            (Err(error), Some((above, name))) if error.kind() == io::ErrorKind::NotFound => {
                missing.push(name);
                at = above;
            }
            (dir, _) => break dir?,
        }
    };
    let of: Location = missing.iter().rev().fold(table.locate(existing.as_fd())?, |of, name| of.join(name));
    let (mut found, by_container) = (Vec::new(), OnceCell::new());
    for source in sources {
        let mut opened = OpenedPaths::default();
        opened.open(source)?;
        let Some(file) = opened.get(source)? else { continue };
        let top = table.locate(file.as_fd())?;
        if !top.is_in(&of) && !table.views(&top, &of, true).is_empty() {
            let mut mounts = binds(build).filter(|(_, _, path)| *path == source);
            let by_container = by_container.get_or_init(|| ShowsStore::by_container(build.containers.iter()));
            let refused = mounts.find_map(|(_, mount, _)| ShowsStore::of(by_container.clone(), mount, confinement));
            let (path, store) = (source.to_owned(), store.to_owned());
            found.push((source.to_owned(), refused.map(|why| NamedPathError::BindShowsStore { path, store, why })));
        }
    }
    Ok(found)
}
