//! The layers below a container's session: its rootfs, and the snapshots that are taken or in the store.

use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};

use super::{SessionPool, lock};
use crate::content::ContentError;
use crate::error::error_chain_with_hint;
use crate::event::ImportMethod;
use crate::import::{ImportError, Importing};
use crate::model::{Container, ContainerId, FileSource, ImagePlace, ImageSource, Rootfs, StepId, UrlSource};
use crate::mount::ImageFormat;
use crate::pull::ImageBlobs;
use crate::rootfs;
use crate::session::{LowerLayer, Scratch};

/// The layers up to a snapshot.
#[derive(Debug, Clone)]
pub(super) enum LayerChain {
    /// Mounted, the lowest first.
    Mounted(Vec<LowerLayer>),
    /// In the store, and mounted only where a session begins on it.
    Stored(Stored),
}

/// A snapshot whose layer was found in the store.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Its image.
    pub image: PathBuf,
    /// The snapshot before it in its container, which it is built on.
    pub before: Option<StepId>,
    /// Whether it is a full image, which is built on nothing.
    pub whole: bool,
}

impl SessionPool<'_> {
    pub(super) fn own_layers(&self, step: StepId) -> usize {
        lock(&self.own_layers).get(&step).copied().unwrap_or_default()
    }

    /// Returns the layers that a container's root begins with.
    pub(super) fn lowers(&self, container: &Container, scratch: &Arc<Scratch>) -> io::Result<Vec<LowerLayer>> {
        match &container.rootfs {
            Rootfs::Scratch => Ok(Vec::new()),
            Rootfs::Squashfs(layers) => {
                let layers =
                    layers.iter().map(|layer| self.file(layer, ImageFormat::Squashfs)).collect::<io::Result<_>>()?;
                self.workspace.distinct(layers)
            }
            Rootfs::Erofs(image) => Ok(vec![self.file(image, ImageFormat::Erofs)?]),
            Rootfs::Dir(path) => Ok(vec![self.workspace.host_directory(path, self.paths.get(path)?.as_fd())?]),
            Rootfs::Snapshot(step) => self.chain(*step, scratch),
            Rootfs::Tar(source) => {
                let archive = self.paths.get(&source.path)?;
                let of = self.importing(container);
                let import = || Ok(self.importer.tar(source, archive.as_fd(), of)?);
                let pin = self.imports.import(format!("tar {source:?}"), import)?;
                let layer = self.workspace.image(pin.path())?;
                self.add_pin(Some(pin));
                Ok(vec![layer])
            }
            Rootfs::Image(source) => self.image(container, source),
            Rootfs::Url(source) => self.url(container, source),
            Rootfs::Programs(paths) => {
                self.made(&container.rootfs, scratch, |to| rootfs::assemble(paths, self.paths.opened(), to))
            }
        }
    }

    /// Refuses files that a container's root comes from if they have other digests than the manifest names: before a step runs for a
    /// session of the user.
    ///
    /// # Errors
    /// [`ContentError::OtherDigest`], and those of reading the files.
    pub fn refuse_other_files(&self, container: ContainerId) -> Result<(), ContentError> {
        let files = self.build.container(container).rootfs.files();
        files.iter().try_for_each(|file| self.importer.refuse_other_file(file))
    }

    /// Mounts an image of the host, if it has the digest that the manifest names.
    fn file(&self, source: &FileSource, format: ImageFormat) -> io::Result<LowerLayer> {
        let image = self.paths.get(&source.path)?;
        // Here too, because a session for a command of the user has no plan that was checked before.
        self.importer.refuse_other_file(source).map_err(ImportError::from)?;
        self.workspace.opened_image(&source.path, image.as_fd(), format)
    }

    fn importing<'n>(&'n self, container: &'n Container) -> Importing<'n> {
        Importing {
            build: &self.build.name,
            container: &container.name,
            scratch: container.scratch,
            workspace: self.workspace,
        }
    }

    /// Returns the layers of the image that a container begins with.
    fn image(&self, container: &Container, source: &ImageSource) -> io::Result<Vec<LowerLayer>> {
        let id = self.build.containers.iter().position(|other| other.name == container.name).map(ContainerId);
        let found = id.and_then(|id| self.images.found.get(&id));
        let found = found.and_then(|found| Some((&found.first, found.image.as_ref()?)));
        let (first, found) = found.ok_or_else(|| io::Error::other(format!("the image {source} was not looked up")))?;
        let blobs = ImageBlobs::open(source, &self.images.registries, self.paths).map_err(ImportError::from)?;
        let of = self.importing(container);
        let name = source.to_string();
        let method = match source.place {
            ImagePlace::Registry(_) => ImportMethod::Pull,
            ImagePlace::Layout(..) => ImportMethod::Import,
        };
        let layers = self.imports.import(format!("image {}", found.digest), || {
            Ok(self.importer.image((&name, method), (first, found), &blobs, of)?)
        })?;
        let layer = |(layer, pin)| {
            self.add_pin(Some(pin));
            layer
        };
        self.workspace.distinct(layers.into_iter().map(layer).collect())
    }

    /// Returns the layer of the file at a URL that a container begins with.
    fn url(&self, container: &Container, source: &UrlSource) -> io::Result<Vec<LowerLayer>> {
        let id = self.build.containers.iter().position(|other| other.name == container.name).map(ContainerId);
        let found = id.and_then(|id| self.images.found.get(&id));
        let digest = found.ok_or_else(|| io::Error::other(format!("{} was not looked up", source.url)))?.first;
        let of = self.importing(container);
        let downloaded = self.images.downloads.get(&digest).map(PathBuf::as_path);
        let import = || Ok(self.importer.url(source, &digest, downloaded, &self.images.registries, of)?);
        let pin = self.imports.import(format!("url {digest} {}", source.url), import)?;
        let layer = self.workspace.image(pin.path())?;
        self.add_pin(Some(pin));
        Ok(vec![layer])
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

    /// Returns the layers up to the snapshot `step`, the lowest first.
    pub(super) fn chain(&self, step: StepId, scratch: &Arc<Scratch>) -> io::Result<Vec<LowerLayer>> {
        let chain = lock(&self.chains).get(&step).cloned();
        let Stored { image, before, whole } = match chain {
            Some(LayerChain::Mounted(lowers)) => return Ok(lowers),
            Some(LayerChain::Stored(stored)) => stored,
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
        self.workspace.push(&mut lowers, self.workspace.image(&image)?)?;
        lock(&self.chains).insert(step, LayerChain::Mounted(lowers.clone()));
        Ok(lowers)
    }

    /// Notes the layers of the snapshot `step`, which has been taken; the topmost `own` are its container's since the
    /// last full one.
    pub fn set_chain(&self, step: StepId, lowers: Vec<LowerLayer>, own: usize) {
        lock(&self.own_layers).insert(step, own);
        lock(&self.chains).insert(step, LayerChain::Mounted(lowers));
    }

    /// Notes that the layer of the snapshot `step` is in the store.
    pub fn set_stored(&self, step: StepId, stored: Stored) {
        let own = if stored.whole { 0 } else { 1 + stored.before.map_or(0, |before| self.own_layers(before)) };
        lock(&self.own_layers).insert(step, own);
        lock(&self.chains).insert(step, LayerChain::Stored(stored));
    }
}
