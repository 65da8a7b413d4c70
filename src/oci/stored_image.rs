//! The one image of a layout that runner wrote: its manifest and its blobs, for a registry.

use oci_spec::image::{Descriptor, ImageManifest};

use super::document::sha256;
use super::{Blobs, FilePart, Layout, OciError};
use crate::digest::Digest;

/// The media type of a manifest that names none.
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// An image of a layout.
#[derive(Debug)]
pub struct StoredImage {
    /// The digest of its manifest.
    pub digest: Digest,
    /// The type of its manifest.
    pub media_type: String,
    /// The bytes of its manifest.
    pub manifest: Vec<u8>,
    /// Its configuration and its layers, each once.
    pub blobs: Vec<(Digest, FilePart)>,
}

impl StoredImage {
    /// Reads the manifest of the only image, and opens its blobs.
    ///
    /// # Errors
    /// The layout has another number of images; the manifest is broken; a blob is missing, or has another size.
    pub fn of(layout: &Layout) -> Result<Self, OciError> {
        let digest = layout.first(None)?;
        let manifest = layout.document(&digest, true)?;
        match Digest::of_bytes(&manifest) {
            found if found != digest => return Err(OciError::Digest { expected: digest, found }),
            _ => {}
        }
        let parsed: ImageManifest = serde_json::from_slice(&manifest).map_err(|error| OciError::Document {
            name: "the manifest".to_owned(),
            problem: format!("it is broken: {error}"),
        })?;
        let mut blobs: Vec<(Digest, FilePart)> = Vec::new();
        for descriptor in std::iter::once(parsed.config()).chain(parsed.layers()) {
            let (digest, part) = opened(layout, descriptor)?;
            if blobs.iter().all(|(known, _)| *known != digest) {
                blobs.push((digest, part));
            }
        }
        let media_type = parsed.media_type().as_ref().map_or_else(|| MANIFEST.to_owned(), ToString::to_string);
        Ok(Self { digest, media_type, manifest, blobs })
    }
}

fn opened(layout: &Layout, descriptor: &Descriptor) -> Result<(Digest, FilePart), OciError> {
    let digest = sha256(descriptor)?;
    let part = layout.blob(&digest)?;
    match (descriptor.size(), part.size) {
        (expected, found) if expected != found => Err(OciError::Size { digest, expected, found }),
        _ => Ok((digest, part)),
    }
}
