//! Opens the two roots that are compared: directories, images, and results of the store as stacks of their layers.
//!
//! Everything is mounted read-only in a private mount namespace, below a tmpfs, so that nothing of it remains.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use rustix::fs::{Mode, OFlags};

use super::operand::Operand;
use super::sources::{SCRATCH, Source, Sources};
use super::stored::StoredRoot;
use crate::command::command_error::{CommandError, store_error};
use crate::difference::{DifferenceError, open_image};
use crate::digest::Digest;
use crate::error::{Error, Exit};
use crate::fs::opened::OpenedPaths;
use crate::fs::regular;
use crate::image::{Root, Side};
use crate::model::Build;
use crate::mount::{FileNumbers, Mounted, enter_private_namespace, mount_image, mount_overlay, mount_tmpfs};
use crate::rootfs::{self, Bounds, RootfsError, UnpackRoom};
use crate::settings::Settings;
use crate::store::{LayerPin, Lease, Store};

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// The two roots, and the mounts that they are on.
pub struct Roots {
    pub roots: [Root; 2],
    /// The parts that the comparison lacks, with the reasons.
    pub warnings: Vec<String>,
    pub mounts: Mounts,
}

impl Roots {
    /// Opens two images.
    pub fn open(
        operands: [Operand; 2],
        store: Option<&Store>,
        settings: &Settings,
        build: Option<&Build>,
    ) -> Result<Self, CommandError> {
        if !rustix::process::geteuid().is_root() && !operands.iter().all(|one| matches!(one, Operand::Directory(_))) {
            let hint = "run it with sudo, or in a container with --privileged".to_owned();
            return Err(Error::new(Exit::Host, "cannot mount the images: that needs root")
                .with_hint(Some(hint))
                .into());
        }
        let stored: Vec<&StoredRoot> = operands.iter().filter_map(Operand::stored).collect();
        let (mut found, mut warnings) = (None, Vec::new());
        if let Some(store) = store.filter(|_| !stored.is_empty()) {
            found = find_sources(&mut Sources::new(store, settings, build), &stored, &mut warnings)?;
        }
        let mut mounts = Mounts::default();
        if let Some(store) = store.filter(|_| !stored.is_empty()) {
            mounts.prepare(store)?;
        }
        let [old, new] = operands;
        let mut open = |operand: Operand| -> Result<Root, CommandError> {
            match operand {
                Operand::Directory(path) => {
                    let top = rustix::fs::open(&path, DIRECTORY, Mode::empty())
                        .map_err(|error| Error::new(Exit::Usage, format!("cannot open {}: {error}", path.display())))?;
                    Ok(Root { top, side: of_path(&path) })
                }
                Operand::Image(path) => {
                    let top = open_image(&path).map_err(of_difference)?;
                    Ok(Root { top, side: of_path(&path) })
                }
                Operand::Stored(name, root) => match store {
                    Some(store) => {
                        Ok(Root { top: mounts.stack(store, &root, found.as_ref())?, side: root.side(&name) })
                    }
                    None => Err(Error::new(Exit::Internal, "a result of a store without a store").into()),
                },
            }
        };
        match open(old).and_then(|old| Ok([old, open(new)?])) {
            Ok(roots) => Ok(Self { roots, warnings, mounts }),
            Err(error) => {
                // The next start of runner removes the rest.
                let _ = mounts.close();
                Err(error)
            }
        }
    }
}

impl Operand {
    fn stored(&self) -> Option<&StoredRoot> {
        match self {
            Self::Stored(_, root) => Some(root),
            Self::Directory(_) | Self::Image(_) => None,
        }
    }
}

fn of_path(path: &Path) -> Side {
    let name = path.display().to_string();
    Side { layers: vec![name.clone()], name, ..Side::default() }
}

fn of_difference(error: DifferenceError) -> Error {
    let hint = error.hint();
    let exit = if matches!(error, DifferenceError::NotAnImage { .. }) { Exit::Usage } else { Exit::Host };
    Error::new(exit, error).with_hint(hint)
}

/// Finds the rootfs sources below these roots; none where one is missing. Then both roots are compared without their sources: with
/// the source of one alone, every file of it would look added or removed.
fn find_sources(
    sources: &mut Sources<'_>,
    roots: &[&StoredRoot],
    warnings: &mut Vec<String>,
) -> Result<Option<HashMap<String, Source>>, CommandError> {
    let mut found = HashMap::new();
    let mut is_whole = true;
    for root in roots {
        if !root.is_complete {
            is_whole = false;
            warnings.push(format!(
                "the store does not know everything that the layer {} is built on, so the images are compared without \
                 their rootfs sources",
                root.layer
            ));
        }
        for parent in root.parents.iter().filter(|parent| parent.layer().is_none()) {
            match sources.find(&parent.id)? {
                Some(source) => drop(found.insert(parent.id.clone(), source)),
                None => {
                    is_whole = false;
                    let warning = format!(
                        "the rootfs source `{}` is neither in the store nor in the manifest as it is now, so the images are \
                         compared without their rootfs sources",
                        parent.id
                    );
                    if !warnings.contains(&warning) {
                        warnings.push(warning);
                    }
                }
            }
        }
    }
    Ok(is_whole.then_some(found))
}

/// The mounts of a comparison. Dropping them unmounts them.
#[derive(Default)]
pub struct Mounts {
    /// By what they show: an image's path or a source's id.
    lowers: HashMap<String, PathBuf>,
    mounted: Vec<Mounted>,
    pins: Vec<LayerPin>,
    lease: Option<Lease>,
    /// The directory that everything is mounted in, unmounted last.
    workspace: Option<Mounted>,
}

impl Mounts {
    /// Mounts the directory for the mounts, where only this process sees it.
    fn prepare(&mut self, store: &Store) -> Result<(), Error> {
        enter_private_namespace().map_err(|error| {
            let hint = "run it with CAP_SYS_ADMIN: in Docker, `docker run --privileged`".to_owned();
            Error::new(Exit::Host, format!("cannot enter a private mount namespace: {error}")).with_hint(Some(hint))
        })?;
        let options = ["mode=0700", "nosuid", "nodev", "noexec"].map(str::to_owned);
        let workspace = mount_tmpfs(&store.mnt(), &options).map_err(host("mount a tmpfs for the images"))?;
        self.workspace = Some(workspace);
        Ok(())
    }

    fn directory(&self, name: &str) -> Result<PathBuf, Error> {
        let path = self.workspace.as_ref().map(|workspace| workspace.path().join(name)).unwrap_or_default();
        match std::fs::create_dir(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(host("make a mount point")(error)),
            _ => Ok(path),
        }
    }

    /// Mounts the layers of a result as one root, with its sources unless there are none to be had.
    fn stack(
        &mut self,
        store: &Store,
        root: &StoredRoot,
        sources: Option<&HashMap<String, Source>>,
    ) -> Result<OwnedFd, CommandError> {
        let mut lowers = Vec::new();
        for parent in &root.parents {
            match (parent.layer(), sources) {
                (Some(layer), _) => lowers.push(self.layer(store, &layer)?),
                (None, Some(sources)) if parent.id != SCRATCH => {
                    if let Some(source) = sources.get(&parent.id) {
                        lowers.extend(self.source(store, &parent.id, source)?);
                    }
                }
                (None, _) => {}
            }
        }
        lowers.push(self.layer(store, &root.layer)?);
        self.distinct(&mut lowers)?;
        let mut tops: Vec<&Path> = lowers.iter().rev().map(PathBuf::as_path).collect();
        let open = |path: &Path| {
            rustix::fs::open(path, DIRECTORY, Mode::empty()).map_err(|error| host("open the images")(error.into()))
        };
        // A layer without the lower ones: its removals are shown.
        if let ([one], None) = (tops.as_slice(), sources) {
            return Ok(open(one)?);
        }
        // With it, overlayfs has two layers at least, and shows none of its own marks.
        let empty = self.directory("empty")?;
        tops.push(&empty);
        let target = self.directory(&format!("root{}", self.mounted.len()))?;
        let mounted = mount_overlay(&tops, None, &target, FileNumbers::Stable).map_err(|error| {
            let hint = error.hint();
            Error::new(Exit::Host, error).with_hint(hint)
        })?;
        let top = open(&target)?;
        self.mounted.push(mounted);
        Ok(top)
    }

    fn layer(&mut self, store: &Store, layer: &Digest) -> Result<PathBuf, CommandError> {
        let pin = store.pin_layer(layer).map_err(store_error)?.ok_or_else(|| {
            let hint = "build it again with `runner apply`".to_owned();
            Error::new(Exit::Usage, format!("the layer {layer} is not in the store any more")).with_hint(Some(hint))
        })?;
        let mounted = self.image(pin.path())?;
        self.pins.push(pin);
        Ok(mounted)
    }

    /// Mounts an image once.
    fn image(&mut self, path: &Path) -> Result<PathBuf, Error> {
        let name = path.display().to_string();
        if let Some(mounted) = self.lowers.get(&name) {
            return Ok(mounted.clone());
        }
        let target = self.mount(path)?;
        self.lowers.insert(name, target.clone());
        Ok(target)
    }

    /// Mounts layers again that are several times in a stack: overlayfs takes no directory twice.
    fn distinct(&mut self, lowers: &mut [PathBuf]) -> Result<(), Error> {
        let mut seen = HashSet::new();
        for lower in lowers {
            if !seen.insert(lower.clone())
                && let Some(image) =
                    self.lowers.iter().find(|(_, mounted)| *mounted == lower).map(|(image, _)| image.clone())
            {
                *lower = self.mount(Path::new(&image))?;
            }
        }
        Ok(())
    }

    fn mount(&mut self, path: &Path) -> Result<PathBuf, Error> {
        let target = self.directory(&format!("lower{}", self.mounted.len()))?;
        let image = regular::open(path)
            .map_err(|error| Error::new(Exit::Host, format!("cannot open {}: {error}", path.display())))?;
        let mounted = mount_image(&image, &target)
            .map_err(|source| of_difference(DifferenceError::Mount { path: path.to_owned(), source }))?;
        self.mounted.push(mounted);
        Ok(target)
    }

    /// Returns the directories of a source, the lowest first.
    fn source(&mut self, store: &Store, id: &str, source: &Source) -> Result<Vec<PathBuf>, CommandError> {
        let one = match source {
            Source::Layers(layers) => return layers.iter().map(|layer| self.layer(store, layer)).collect(),
            Source::Empty => self.directory("empty")?,
            Source::Image(path) => self.image(path)?,
            Source::Directory(path) => path.clone(),
            Source::Archive(path) => {
                let archive = regular::open(path)
                    .map_err(|error| Error::new(Exit::Host, format!("cannot open {}: {error}", path.display())))?;
                // A signal ends this command as a whole.
                let stop = AtomicBool::new(false);
                self.made(store, id, |to| {
                    rootfs::unpack(path, archive.as_fd(), to.as_fd(), &Bounds::new(&stop, UnpackRoom::ALL))
                })?
            }
            Source::Programs(programs) => {
                self.made(store, id, |to| rootfs::assemble(programs, &OpenedPaths::default(), to.as_fd()))?
            }
        };
        Ok(vec![one])
    }

    /// Makes a root in a directory of the store that belongs to this process, once.
    fn made(
        &mut self,
        store: &Store,
        id: &str,
        make: impl FnOnce(&OwnedFd) -> Result<(), RootfsError>,
    ) -> Result<PathBuf, CommandError> {
        if let Some(made) = self.lowers.get(id) {
            return Ok(made.clone());
        }
        if self.lease.is_none() {
            self.lease = Some(store.lease().map_err(store_error)?);
        }
        let Some(lease) = &self.lease else { return Err(Exit::Internal.into()) };
        let directory = lease.scratch_dir(&format!("root{}", self.lowers.len())).map_err(store_error)?;
        let to = rustix::fs::open(&directory, DIRECTORY, Mode::empty())
            .map_err(|error| host("open a directory of the store")(error.into()))?;
        make(&to).map_err(|error| {
            let exit = if error.is_of_input() { Exit::Usage } else { Exit::Host };
            let hint = error.hint();
            Error::new(exit, error).with_hint(hint)
        })?;
        self.lowers.insert(id.to_owned(), directory.clone());
        Ok(directory)
    }

    /// Unmounts everything, and removes what was unpacked.
    pub fn close(self) -> Result<(), CommandError> {
        let Self { mounted, pins, lease, workspace, .. } = self;
        // The roots before the layers below them, and the directory in which they are mounted last.
        mounted.into_iter().rev().for_each(drop);
        drop(pins);
        drop(workspace);
        Ok(lease.map_or(Ok(()), Lease::close).map_err(store_error)?)
    }
}

fn host(action: &'static str) -> impl Fn(io::Error) -> Error {
    move |error| Error::new(Exit::Host, format!("cannot {action}: {error}"))
}
