//! Finds images: their digests by the manifest, the lock, the store or the registry, and then their documents.

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::ControlFlow;
use std::path::PathBuf;

use super::{Arrival, FoundImage, FoundImages, ImageBlobs, PullError, Reporter};
use crate::digest::Digest;
use crate::event::ImportMethod;
use crate::http::{Download, Request, shown_url};
use crate::lock::Section;
use crate::model::{Build, ContainerId, ImagePlace, ImageSource, Rootfs, UrlSource};
use crate::named_paths::NamedPaths;
use crate::oci::{Blobs, Image, LayerBlob, OciError, Platform, read_image, read_manifest};
use crate::registry::{Registries, RegistryError};
use crate::store::{Lease, Store};

/// The largest file of a URL.
pub const MAX_FILE: u64 = 1 << 40;

/// The digests that tags were locked to, and whether they count.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pins<'l> {
    /// The lock, if there is one.
    pub lock: Option<&'l Section>,
    /// Asks the registry for each tag again.
    pub pulls: bool,
    /// Downloads the files of URLs whose digests are unknown.
    pub learns: bool,
}

/// Finds the images of a build.
#[derive(Debug, Clone, Copy)]
pub struct Finder<'f> {
    /// The build.
    pub build: &'f Build,
    /// The store, which remembers what tags led to.
    pub store: &'f Store,
    /// The lease of this process, for downloads.
    pub lease: &'f Lease,
    /// The opened layouts.
    pub paths: &'f NamedPaths,
    /// The registries.
    pub registries: &'f Registries,
    /// Receives reports of downloads.
    pub reporter: &'f Reporter,
    /// The locked digests.
    pub pins: Pins<'f>,
}

impl Finder<'_> {
    /// Finds the images of these containers.
    ///
    /// # Errors
    /// A registry, a layout or an image is the reason.
    pub fn find(
        &self,
        containers: impl Iterator<Item = ContainerId>,
    ) -> Result<(FoundImages, BTreeMap<Digest, PathBuf>), PullError> {
        let (mut found, mut downloads) = (FoundImages::new(), BTreeMap::new());
        for id in containers {
            let container = self.build.container(id);
            if found.contains_key(&id) {
                continue;
            }
            match &container.rootfs {
                Rootfs::Image(source) => drop(found.insert(id, self.image(&container.name, source)?)),
                Rootfs::Url(source) => {
                    let first = match pinned_url(&container.name, source, self.pins) {
                        Some(digest) => digest,
                        None if self.pins.learns => self.download(&container.name, source, &mut downloads)?,
                        None => {
                            let (container, url) = (container.name.clone(), source.url.clone());
                            return Err(PullError::NoDigest { container, url });
                        }
                    };
                    found.insert(id, FoundImage { first, image: None });
                }
                _ => {}
            }
        }
        Ok((found, downloads))
    }

    /// Downloads a file to learn its digest.
    fn download(
        &self,
        container: &str,
        source: &UrlSource,
        downloads: &mut BTreeMap<Digest, PathBuf>,
    ) -> Result<Digest, PullError> {
        let path = self.lease.temp_file(&format!("url{}", downloads.len()))?;
        let file = File::options().read(true).write(true).create_new(true).open(&path).map_err(PullError::Download)?;
        let download = Download { request: Request::get(&source.url), digest: None, size: None, limit: MAX_FILE };
        let url = shown_url(&source.url);
        let client = self.registries.client_for(&url);
        let arrival = Arrival::new(self.reporter, container, url, ImportMethod::Download);
        arrival.begin();
        let received = client.download(&download, &file, &|bytes, total| {
            arrival.arrived(0, bytes, total);
            ControlFlow::Continue(())
        });
        let failed = |source| PullError::Url { container: container.to_owned(), source };
        let (digest, _) = received.map_err(failed)?;
        arrival.done(&digest);
        downloads.insert(digest, path);
        Ok(digest)
    }

    fn image(&self, container: &str, source: &ImageSource) -> Result<FoundImage, PullError> {
        let failed =
            |source: RegistryError| PullError::Image { container: container.to_owned(), source: Box::new(source) };
        let blobs = ImageBlobs::open(source, self.registries, self.paths).map_err(failed)?;
        let first = match &blobs {
            ImageBlobs::Layout(layout) => {
                let tag = if let ImagePlace::Layout(_, tag) = &source.place { tag.as_deref() } else { None };
                let found = layout.first(tag).map_err(|error| failed(error.into()))?;
                match source.digest.filter(|expected| *expected != found) {
                    Some(expected) => {
                        return Err(PullError::Digest { container: container.to_owned(), expected, found });
                    }
                    None => found,
                }
            }
            ImageBlobs::Registry(repository) => match pinned(container, source, self.pins, Some(self.store)) {
                Some(first) => first,
                None => {
                    let first = repository.resolve().map_err(failed)?.digest;
                    if !self.store.is_read_only() {
                        self.store.set_resolved(source.kind(), &source.to_string(), &first)?;
                    }
                    first
                }
            },
        };
        let stored = Stored { store: self.store, blobs: &blobs };
        let image = read_image(&stored, &first, &platform(source)).map_err(failed)?;
        Ok(FoundImage { first, image: Some(image) })
    }
}

/// Returns the image with this manifest, if the store has its documents.
pub fn stored_image(store: &Store, manifest: &Digest) -> Option<Image> {
    read_manifest(&Known(store), manifest).ok()
}

/// Returns the digest of a URL, without downloading it.
fn pinned_url(container: &str, source: &UrlSource, pins: Pins<'_>) -> Option<Digest> {
    let locked = || pins.lock?.image(container, UrlSource::KIND, &source.url)?.parse().ok();
    source.digest.or_else(locked)
}

/// Returns what is known of the images of a build without asking a registry or reading a layout.
pub fn known(build: &Build, store: Option<&Store>, pins: Pins<'_>) -> FoundImages {
    let of = |(index, container): (usize, &crate::model::Container)| {
        let source = match &container.rootfs {
            Rootfs::Image(source) => source,
            Rootfs::Url(source) => {
                let first = pinned_url(&container.name, source, pins)?;
                return Some((ContainerId(index), FoundImage { first, image: None }));
            }
            _ => return None,
        };
        let first = match &source.place {
            ImagePlace::Registry(_) => pinned(&container.name, source, pins, store)?,
            ImagePlace::Layout(path, tag) => layout_digest(path, tag.as_deref())?,
        };
        let image = match (&source.place, store) {
            (ImagePlace::Layout(path, _), _) => {
                layout(path).and_then(|layout| read_image(&layout, &first, &platform(source)).ok())
            }
            (_, Some(store)) => read_image(&Known(store), &first, &platform(source)).ok(),
            (_, None) => None,
        };
        Some((ContainerId(index), FoundImage { first, image }))
    };
    build.containers.iter().enumerate().filter_map(of).collect()
}

fn layout(path: &std::path::Path) -> Option<crate::oci::Layout> {
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC;
    let place = rustix::fs::open(path, flags, rustix::fs::Mode::empty()).ok()?;
    crate::oci::Layout::open(path, std::os::fd::AsFd::as_fd(&place)).ok()
}

fn layout_digest(path: &std::path::Path, tag: Option<&str>) -> Option<Digest> {
    layout(path)?.first(tag).ok()
}

fn platform(source: &ImageSource) -> Platform {
    source.platform.clone().unwrap_or_else(Platform::host)
}

/// Returns the digest of an image without asking its registry.
fn pinned(container: &str, source: &ImageSource, pins: Pins<'_>, store: Option<&Store>) -> Option<Digest> {
    let own = match &source.place {
        ImagePlace::Registry(name) => name.digest(),
        ImagePlace::Layout(..) => None,
    };
    if let Some(digest) = source.digest.or(own) {
        return Some(digest);
    }
    if pins.pulls {
        return None;
    }
    let name = source.to_string();
    let locked = pins.lock.and_then(|lock| lock.image(container, source.kind(), &name)?.parse().ok());
    locked.or_else(|| store?.resolved(source.kind(), &name))
}

/// The documents in the store, and those of a place, which are put into the store.
struct Stored<'s, B> {
    store: &'s Store,
    blobs: &'s B,
}

impl<B: Blobs> Blobs for Stored<'_, B> {
    type Error = B::Error;

    fn document(&self, digest: &Digest, is_manifest: bool) -> Result<Vec<u8>, B::Error> {
        if let Some(document) = self.store.document(digest) {
            return Ok(document);
        }
        let document = self.blobs.document(digest, is_manifest)?;
        if Digest::of_bytes(&document) == *digest && !self.store.is_read_only() {
            // Without it, the place is asked again the next time.
            let _ = self.store.put_document(digest, &document);
        }
        Ok(document)
    }

    fn layer(&self, layer: &LayerBlob, into: &File, progress: &dyn Fn(u64) -> ControlFlow<()>) -> Result<(), B::Error> {
        self.blobs.layer(layer, into, progress)
    }
}

/// The documents in the store alone.
struct Known<'s>(&'s Store);

impl Blobs for Known<'_> {
    type Error = OciError;

    fn document(&self, digest: &Digest, _: bool) -> Result<Vec<u8>, OciError> {
        let missing =
            || OciError::Document { name: digest.to_string(), problem: "the store does not have it".to_owned() };
        self.0.document(digest).ok_or_else(missing)
    }

    fn layer(&self, layer: &LayerBlob, _: &File, _: &dyn Fn(u64) -> ControlFlow<()>) -> Result<(), OciError> {
        let problem = "the store does not have it".to_owned();
        Err(OciError::Document { name: layer.digest.to_string(), problem })
    }
}
