//! Imports the file at a URL: a squashfs image, which is a layer as it is, or a tar archive.

use std::fs::{self, File};
use std::io;
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::Ordering;

use super::{Import, ImportError, Importer, Importing, fields, unpacked};
use crate::digest::Digest;
use crate::event::ImportMethod;
use crate::fs::dirfd::real_path;
use crate::http::{Download, Request, shown_url};
use crate::model::UrlSource;
use crate::mount::ImageFormat;
use crate::pull::MAX_FILE;
use crate::registry::{Registries, RegistryError};
use crate::rootfs;
use crate::store::LayerPin;

impl Importer<'_> {
    /// Returns the layer of the file at a URL, and downloads the file first if the store lacks the layer and it is not `downloaded`.
    ///
    /// # Errors
    /// The file cannot be had, has another digest, or is broken; the store cannot be written.
    pub fn url(
        &self,
        source: &UrlSource,
        digest: &Digest,
        downloaded: Option<&Path>,
        registries: &Registries,
        of: Importing<'_>,
    ) -> Result<LayerPin, ImportError> {
        let key = format!("url {digest}");
        if let Some(pin) = self.stored(&fields(&key).key())? {
            return Ok(pin);
        }
        let (url, method) = match downloaded {
            Some(_) => (shown_url(&source.url), ImportMethod::Import),
            None => (shown_url(&source.url), ImportMethod::Download),
        };
        let size = downloaded.map(Path::metadata).transpose()?.map(|metadata| metadata.len());
        let arrival = self.arrival(of, url.clone(), method).of(*digest, size);
        arrival.begin();
        let import =
            Import { source: key, step: format!("url {}", source.name()), of, arrival: &arrival, is_on_others: false };
        let file = match downloaded {
            Some(path) => File::open(path)?,
            None => {
                let file = self.blob_file()?;
                let request = Request::get(&source.url);
                let download = Download { request, digest: Some(*digest), size: None, limit: MAX_FILE };
                let received = registries.client_for(&url).download(&download, &file, &|bytes, total| {
                    arrival.arrived(0, bytes, total);
                    if self.stop.flag.load(Ordering::SeqCst) {
                        ControlFlow::Break(())
                    } else {
                        ControlFlow::Continue(())
                    }
                });
                received.map_err(RegistryError::from)?;
                file
            }
        };
        // Its path before: an image is moved into the store.
        let path = real_path(file.as_fd())?;
        let imported = self.downloaded(&import, source, digest, &file);
        // Where it cannot be removed now, the end of the lease removes it.
        let _ = fs::remove_file(path);
        let pin = imported?;
        arrival.done(digest);
        Ok(pin)
    }

    fn downloaded(
        &self,
        import: &Import<'_>,
        source: &UrlSource,
        digest: &Digest,
        file: &File,
    ) -> Result<LayerPin, ImportError> {
        match ImageFormat::of(file)? {
            Some(ImageFormat::Squashfs) => {
                let size = file.metadata()?.len();
                return self.put_image(import, &real_path(file.as_fd())?, *digest, size);
            }
            // Its start would be the end of an empty archive.
            Some(ImageFormat::Erofs) => return Err(ImportError::ErofsOfUrl { url: source.url.clone() }),
            None => {}
        }
        let pin = self.layer(import, |to, _| {
            let report = unpacked(import.arrival);
            rootfs::unpack(Path::new(&source.url), file.as_fd(), to, &self.bounds(import, &report))?;
            Ok(true)
        })?;
        pin.ok_or_else(|| ImportError::Io(io::Error::other("the file was not imported")))
    }
}
