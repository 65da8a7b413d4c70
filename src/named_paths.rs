//! The host paths that a manifest names, each opened once before anything runs.
//!
//! From then on only what was opened is used: a step that can write to a directory on the way cannot have a path lead
//! elsewhere. Nothing may show the store: a bind of a directory above it has an empty directory in its place.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

use crate::build::{Build, MountKind, Network, Rootfs, Secret};
use crate::fs::dirfd::Dir;
use crate::fs::opened::OpenedPaths;
use crate::mount::{Location, MountTable};

/// What a container with the host's network finds at the same path.
pub const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Why the host paths of a build cannot be used.
#[derive(Debug, Error)]
pub enum NamedPathError {
    /// A path cannot be opened.
    #[error("cannot open {}, which the manifest names", path.display())]
    Open { path: PathBuf, source: io::Error },
    /// Nobody may write to the store but runner, or see what other builds have there.
    #[error("cannot use {}: it is in the store {}", path.display(), store.display())]
    InStore { path: PathBuf, store: PathBuf },
    /// A root is a layer of an overlay, in which nothing can be covered.
    #[error("cannot use {} as a rootfs: it contains the store {}", path.display(), store.display())]
    RootHoldsStore { path: PathBuf, store: PathBuf },
    /// The mounts of this process cannot be looked at.
    #[error("cannot tell whether the store can be seen through a bind")]
    Mounts(#[source] io::Error),
}

impl NamedPathError {
    /// What fixes it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Open { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                Some("something removed it after the manifest was checked; try again".into())
            }
            Self::InStore { .. } => {
                Some("copy what is needed out of the store, for a layer with `runner store export`".into())
            }
            Self::RootHoldsStore { .. } => Some("choose a store elsewhere with `--store DIRECTORY`".into()),
            Self::Open { .. } | Self::Mounts(_) => None,
        }
    }
}

/// The host paths of a build.
#[derive(Debug, Default)]
pub struct NamedPaths {
    opened: Arc<OpenedPaths>,
    store: Option<Dir>,
    /// The sources of binds through which the store could be seen.
    shows_store: HashSet<PathBuf>,
}

impl NamedPaths {
    /// Opens all that a build names. To be called in the mount namespace that the build is run in.
    ///
    /// # Errors
    /// See [`NamedPathError`].
    pub fn open(build: &Build, store: &Path) -> Result<Self, NamedPathError> {
        let mut opened = OpenedPaths::default();
        let mut open = |path: &Path| match opened.open(path) {
            Ok(_) => Ok(()),
            Err(source) => Err(NamedPathError::Open { path: path.to_owned(), source }),
        };
        for container in &build.containers {
            match &container.rootfs {
                Rootfs::Squashfs(path) | Rootfs::Tar(path) | Rootfs::Dir(path) => open(path)?,
                Rootfs::Programs(programs) => programs.iter().try_for_each(|path| open(path))?,
                Rootfs::Snapshot(_) | Rootfs::Scratch => {}
            }
            for mount in &container.mounts {
                match &mount.kind {
                    MountKind::Bind(path) | MountKind::Secret(Secret::File(path)) => open(path)?,
                    MountKind::Secret(Secret::Variable(_))
                    | MountKind::Tmpfs
                    | MountKind::Cache(_)
                    | MountKind::Kernel(..) => {}
                }
            }
            let resolv = Path::new(RESOLV_CONF);
            if container.network == Network::Host && resolv.exists() {
                open(resolv)?;
            }
        }
        let store_dir = Dir::open(store).map_err(NamedPathError::Mounts)?;
        opened.hide(store_dir.identity());
        let mut paths = Self { opened: Arc::new(opened), store: Some(store_dir), shows_store: HashSet::new() };
        paths.look_for_store(build, store)?;
        Ok(paths)
    }

    fn look_for_store(&mut self, build: &Build, store: &Path) -> Result<(), NamedPathError> {
        let used = |path: &Path| NamedPathError::InStore { path: path.to_owned(), store: store.to_owned() };
        let binds = binds(build).map(|(path, _)| (path, false));
        let roots = build.containers.iter().filter_map(|container| match &container.rootfs {
            Rootfs::Dir(path) => Some((path.as_path(), true)),
            _ => None,
        });
        let mut places = binds.chain(roots).peekable();
        let Some(dir) = self.store.as_ref().filter(|_| places.peek().is_some()) else { return Ok(()) };
        let table = MountTable::read().map_err(NamedPathError::Mounts)?;
        let locate = |file: BorrowedFd<'_>| table.locate(file).map_err(NamedPathError::Mounts);
        let of = locate(dir.as_fd())?;
        let mut seen = HashSet::new();
        for (path, is_root) in places.filter(|place| seen.insert(*place)) {
            let Some(file) = self.opened.get(path) else { continue };
            let top = locate(file)?;
            if top.is_in(&of) {
                return Err(used(path));
            }
            let is_shown = !table.views(&top, &of, !is_root).is_empty();
            if is_root && is_shown {
                return Err(NamedPathError::RootHoldsStore { path: path.to_owned(), store: store.to_owned() });
            }
            if is_shown {
                self.shows_store.insert(path.to_owned());
            }
        }
        Ok(())
    }

    /// What was opened, for those that look at files by their paths.
    pub fn opened(&self) -> &Arc<OpenedPaths> {
        &self.opened
    }

    /// What a path of the manifest led to when it was opened.
    ///
    /// # Errors
    /// `NotFound` for one that was not.
    pub fn get(&self, path: &Path) -> io::Result<BorrowedFd<'_>> {
        self.opened.get(path).ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, format!("{} was not there when the build began", path.display()))
        })
    }

    /// The store's directory, if it can be seen through a bind of that source.
    pub fn store_below(&self, source: &Path) -> Option<&Dir> {
        self.store.as_ref().filter(|_| self.shows_store.contains(source))
    }
}

/// The sources of binds, and whether steps can write there.
fn binds(build: &Build) -> impl Iterator<Item = (&Path, bool)> {
    build.containers.iter().flat_map(|container| &container.mounts).filter_map(|mount| match &mount.kind {
        MountKind::Bind(source) => Some((source.as_path(), !mount.is_read_only())),
        _ => None,
    })
}

/// The sources of binds through which a store can be seen, or will be once it is made there.
///
/// # Errors
/// What looking at the mounts gives.
pub fn binds_that_show_store(build: &Build, store: &Path) -> io::Result<Vec<PathBuf>> {
    let sources: HashSet<&Path> = binds(build).map(|(source, _)| source).collect();
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
    let mut found = Vec::new();
    for source in sources {
        let mut opened = OpenedPaths::default();
        let top = table.locate(opened.open(source)?)?;
        if !top.is_in(&of) && !table.views(&top, &of, true).is_empty() {
            found.push(source.to_owned());
        }
    }
    found.sort();
    Ok(found)
}
