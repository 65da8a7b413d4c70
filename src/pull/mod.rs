//! Finds the images and the files of URLs that the containers of a build begin with: what a tag leads to, and the layers of it.
//!
//! The digest of an image comes from the first of these that has it: the manifest, the lock, the store (what the tag led to the
//! last time), the registry. So a build asks a registry once, and then only where something of the image is missing; `--pull`
//! asks it for each tag again. What the registry answered is in the store, and `runner lock` writes it to the lock.
//!
//! The digest of a URL comes from the manifest or the lock alone; `runner lock` downloads the file to learn it.
//!
//! Nothing is unpacked here: `import` does that for the containers that run.

mod arrival;
mod error;
mod find;
mod reporter;

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::ControlFlow;

pub use arrival::Arrival;
pub use error::PullError;
pub use find::{Finder, MAX_FILE, Pins, known, stored_image};
pub use reporter::Reporter;

use crate::digest::Digest;
use crate::model::{ContainerId, ImagePlace, ImageSource};
use crate::named_paths::NamedPaths;
use crate::oci::{Blobs, Image, LayerBlob, Layout};
use crate::registry::{Registries, RegistryError, Repository};

/// The images that were found, by container.
pub type FoundImages = BTreeMap<ContainerId, FoundImage>;

/// An image that a container begins with.
#[derive(Debug, Clone)]
pub struct FoundImage {
    /// The digest of its first document, an index or a manifest.
    pub first: Digest,
    /// Its manifest for the platform, and the layers; none where a command that asks no registry does not know them.
    pub image: Option<Image>,
}

/// The images of a build, and the ways to get their layers.
#[derive(Debug)]
pub struct Images {
    /// The images.
    pub found: std::sync::Arc<FoundImages>,
    /// The registries.
    pub registries: Registries,
    /// Receives reports of arrivals.
    pub reporter: std::sync::Arc<Reporter>,
    /// Files of URLs that were downloaded to learn their digests.
    pub downloads: BTreeMap<Digest, std::path::PathBuf>,
}

/// The place that an image comes from.
pub enum ImageBlobs<'r> {
    /// A registry.
    Registry(Repository<'r>),
    /// A layout on this host.
    Layout(Box<Layout>),
}

impl<'r> ImageBlobs<'r> {
    /// Opens the place of an image.
    ///
    /// # Errors
    /// A layout cannot be read.
    pub fn open(source: &ImageSource, registries: &'r Registries, paths: &NamedPaths) -> Result<Self, RegistryError> {
        match &source.place {
            ImagePlace::Registry(name) => Ok(Self::Registry(Repository::new(registries, name.clone()))),
            ImagePlace::Layout(path, _) => {
                let read =
                    |source| crate::oci::OciError::Read { path: path.clone(), name: "index.json".to_owned(), source };
                let place = paths.get(path).map_err(read)?;
                Ok(Self::Layout(Box::new(Layout::open(path, std::os::fd::AsFd::as_fd(&place))?)))
            }
        }
    }
}

impl Blobs for ImageBlobs<'_> {
    type Error = RegistryError;

    fn document(&self, digest: &Digest, is_manifest: bool) -> Result<Vec<u8>, RegistryError> {
        match self {
            Self::Registry(repository) => repository.document(digest, is_manifest),
            Self::Layout(layout) => Ok(layout.document(digest, is_manifest)?),
        }
    }

    fn layer(
        &self,
        layer: &LayerBlob,
        into: &File,
        progress: &dyn Fn(u64) -> ControlFlow<()>,
    ) -> Result<(), RegistryError> {
        match self {
            Self::Registry(repository) => repository.layer(layer, into, progress),
            Self::Layout(layout) => Ok(layout.layer(layer, into, progress)?),
        }
    }
}
