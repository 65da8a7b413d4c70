//! The way from the first document of an image to its layers, with every digest and size checked.

use std::fs::File;
use std::ops::ControlFlow;

use oci_spec::image::{Descriptor, ImageConfiguration, ImageIndex, ImageManifest};
use serde::Deserialize;

use super::{OciError, Platform};
use crate::digest::{Digest, Hasher};

/// The largest document: registries refuse larger ones.
pub const MAX_DOCUMENT: u64 = 4 << 20;

/// The most layers of an image; Docker has 127.
const MAX_LAYERS: usize = 500;

/// The largest layer.
const MAX_LAYER: u64 = 1 << 40;

/// The most indexes that lead to each other.
const MAX_INDEXES: usize = 4;

/// The media types of the first document, in the order of preference.
pub const MANIFEST_TYPES: [&str; 4] = [INDEX, MANIFEST, DOCKER_LIST, DOCKER_MANIFEST];

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// A place that has the documents and layers of an image.
pub trait Blobs {
    /// The errors of the place.
    type Error: From<OciError>;

    /// Returns a document of the image, whose digest the caller checks. It has `MAX_DOCUMENT` bytes at most.
    ///
    /// # Errors
    /// Those of the place.
    fn document(&self, digest: &Digest, is_manifest: bool) -> Result<Vec<u8>, Self::Error>;

    /// Writes a layer into an empty file, and checks its digest and size. `progress` gets the bytes so far, and may end it.
    ///
    /// # Errors
    /// Those of the place, and a wrong digest or size.
    fn layer(
        &self,
        layer: &LayerBlob,
        into: &File,
        progress: &dyn Fn(u64) -> ControlFlow<()>,
    ) -> Result<(), Self::Error>;
}

/// An image for one platform.
#[derive(Debug, Clone)]
pub struct Image {
    /// The digest of its manifest.
    pub digest: Digest,
    /// The layers, the lowest first.
    pub layers: Vec<LayerBlob>,
}

/// A layer of an image, as the image stores it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerBlob {
    /// The digest of the stored bytes.
    pub digest: Digest,
    /// Their number.
    pub size: u64,
    /// The form of the content.
    pub kind: LayerKind,
    /// The digest of the content without compression.
    pub diff_id: Digest,
    /// The digest of this content and of that of all layers below.
    pub chain_id: Digest,
}

/// The form of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerKind {
    /// A tar archive with whiteouts by name, perhaps compressed.
    Tar,
    /// A squashfs image with whiteouts of overlayfs.
    Squashfs,
}

/// The fields by which a document is recognised.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kind {
    schema_version: Option<u32>,
    media_type: Option<String>,
    manifests: Option<serde::de::IgnoredAny>,
    layers: Option<serde::de::IgnoredAny>,
}

enum Document {
    Index(Box<ImageIndex>),
    Manifest(Box<ImageManifest>),
}

/// Reads the documents of an image for a platform. `first` is the digest of the first document, an index or a manifest.
///
/// # Errors
/// Those of the place, and everything that is wrong with the image.
pub fn read_image<B: Blobs>(blobs: &B, first: &Digest, platform: &Platform) -> Result<Image, B::Error> {
    let mut digest = *first;
    for _ in 0..MAX_INDEXES {
        match parse(&verified(blobs, &digest, true)?)? {
            Document::Index(index) => digest = choose(&index, platform)?,
            Document::Manifest(manifest) => return of_manifest(blobs, digest, &manifest, Some(platform)),
        }
    }
    Err(refused("the index", "its indexes lead to each other").into())
}

/// Reads the documents of the image with this manifest, whatever its platform is.
///
/// # Errors
/// Those of the place, and everything that is wrong with the image.
pub fn read_manifest<B: Blobs>(blobs: &B, digest: &Digest) -> Result<Image, B::Error> {
    match parse(&verified(blobs, digest, true)?)? {
        Document::Manifest(manifest) => of_manifest(blobs, *digest, &manifest, None),
        Document::Index(_) => Err(refused("the manifest", "it is an index").into()),
    }
}

fn of_manifest<B: Blobs>(
    blobs: &B,
    digest: Digest,
    manifest: &ImageManifest,
    platform: Option<&Platform>,
) -> Result<Image, B::Error> {
    let config = verified(blobs, &sha256(manifest.config())?, false)?;
    let config: ImageConfiguration = json(&config, "the configuration")?;
    let found = Platform::of_config(&config);
    if let Some(platform) = platform.filter(|platform| platform.fit(&found).is_none()) {
        let (wanted, found) = (platform.to_string(), vec![found.to_string().escape_debug().to_string()]);
        return Err(OciError::Platform { wanted, found }.into());
    }
    Ok(Image { digest, layers: layers(manifest, &config)? })
}

fn verified<B: Blobs>(blobs: &B, digest: &Digest, is_manifest: bool) -> Result<Vec<u8>, B::Error> {
    let bytes = blobs.document(digest, is_manifest)?;
    match Digest::of_bytes(&bytes) {
        found if found == *digest => Ok(bytes),
        found => Err(OciError::Digest { expected: *digest, found }.into()),
    }
}

fn refused(name: &str, problem: impl Into<String>) -> OciError {
    OciError::Document { name: name.to_owned(), problem: problem.into() }
}

fn json<'d, T: Deserialize<'d>>(bytes: &'d [u8], name: &str) -> Result<T, OciError> {
    serde_json::from_slice(bytes).map_err(|error| refused(name, error.to_string()))
}

fn parse(bytes: &[u8]) -> Result<Document, OciError> {
    let kind: Kind = json(bytes, "the manifest")?;
    if kind.schema_version == Some(1) {
        return Err(refused("the manifest", "it has the old schema 1; write the image again with a newer tool"));
    }
    // The two kinds are told apart by the media type, and never guessed where it contradicts the fields.
    match (kind.media_type.as_deref(), kind.manifests.is_some(), kind.layers.is_some()) {
        (Some(INDEX | DOCKER_LIST) | None, true, false) => {
            json(bytes, "the index").map(|index| Document::Index(Box::new(index)))
        }
        (Some(MANIFEST | DOCKER_MANIFEST) | None, false, true) => {
            json(bytes, "the manifest").map(|manifest| Document::Manifest(Box::new(manifest)))
        }
        (media_type, ..) => {
            let media_type = media_type.unwrap_or("no media type").escape_debug().to_string();
            Err(refused("the manifest", format!("it is neither an index nor the manifest of an image ({media_type})")))
        }
    }
}

/// Returns the digest of the entry of an index that fits best.
fn choose(index: &ImageIndex, platform: &Platform) -> Result<Digest, OciError> {
    let entries = index.manifests();
    let of = |entry: &Descriptor| entry.platform().as_ref().map(Platform::of_entry);
    let fits = entries.iter().filter_map(|entry| Some((of(entry).and_then(|found| platform.fit(&found))?, entry)));
    // The platform is optional: one entry may leave it out, and its configuration, or the index that it is, says it.
    let mut without = entries.iter().filter(|entry| entry.platform().is_none());
    let without = without.next().filter(|_| without.next().is_none());
    match fits.min_by_key(|(fit, _)| *fit).map(|(_, entry)| entry).or(without) {
        Some(entry) => sha256(entry),
        None => {
            // Attestations are for no platform.
            let found = entries.iter().filter_map(of).map(|found| found.to_string().escape_debug().to_string());
            let mut found: Vec<String> = found.filter(|name| !name.starts_with("unknown/")).collect();
            found.sort();
            found.dedup();
            Err(OciError::Platform { wanted: platform.to_string(), found })
        }
    }
}

fn layers(manifest: &ImageManifest, config: &ImageConfiguration) -> Result<Vec<LayerBlob>, OciError> {
    let (stored, diff_ids) = (manifest.layers(), config.rootfs().diff_ids());
    if stored.len() > MAX_LAYERS {
        return Err(refused("the manifest", format!("it has {} layers, and {MAX_LAYERS} are the most", stored.len())));
    }
    if stored.len() != diff_ids.len() {
        let problem = format!("it describes {} layers, and the manifest has {}", diff_ids.len(), stored.len());
        return Err(refused("the configuration", problem));
    }
    let mut below: Option<Digest> = None;
    let mut layers = Vec::new();
    for (descriptor, diff_id) in stored.iter().zip(diff_ids) {
        let diff_id = diff_id.to_string();
        let diff_id: Digest =
            diff_id.parse().map_err(|_| refused("the configuration", "it has a layer without a SHA-256 digest"))?;
        if descriptor.size() > MAX_LAYER {
            return Err(refused("the manifest", "it has a layer of more than a terabyte"));
        }
        let chain_id = below.map_or(diff_id, |below| chain(&below, &diff_id));
        below = Some(chain_id);
        let (digest, kind) = (sha256(descriptor)?, layer_kind(descriptor)?);
        layers.push(LayerBlob { digest, size: descriptor.size(), kind, diff_id, chain_id });
    }
    Ok(layers)
}

/// Returns the chain id of a layer (OCI image spec, "Layer ChainID").
fn chain(below: &Digest, diff_id: &Digest) -> Digest {
    let mut hasher = Hasher::new();
    hasher.update(format!("{below} {diff_id}").as_bytes());
    hasher.finish()
}

fn layer_kind(descriptor: &Descriptor) -> Result<LayerKind, OciError> {
    let media_type = descriptor.media_type().to_string();
    if media_type.contains("foreign") || media_type.contains("nondistributable") {
        return Err(refused("the manifest", "it has a layer that may not be distributed"));
    }
    if media_type.contains("squashfs") {
        return Ok(LayerKind::Squashfs);
    }
    if media_type.contains("encrypted") || !media_type.contains("tar") {
        let shown = media_type.escape_debug();
        return Err(refused("the manifest", format!("it has a layer of the unknown type {shown}")));
    }
    Ok(LayerKind::Tar)
}

/// Returns the digest of a descriptor.
pub(super) fn sha256(descriptor: &Descriptor) -> Result<Digest, OciError> {
    let digest = descriptor.digest().to_string();
    digest.parse().map_err(|_| refused("the manifest", format!("the digest {} is not SHA-256", digest.escape_debug())))
}

#[cfg(test)]
mod tests;
