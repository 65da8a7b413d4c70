//! Finds the layers of sources that were imported before, without the sources.

use super::fields;
use super::image::source;
use crate::digest::Digest;
use crate::pull::stored_image;
use crate::store::Store;

/// Returns the layers of a source by its id in a key, `image`, `url` or `tar` with a digest, the lowest first; none where it is
/// another source, or the store lacks a layer.
pub fn imported_layers(store: &Store, id: &str) -> Option<Vec<Digest>> {
    let (kind, digest) = id.split_once(' ')?;
    let digest: Digest = digest.parse().ok()?;
    let sources = match kind {
        "image" => stored_image(store, &digest)?.layers.iter().map(source).collect(),
        "url" | "tar" => vec![id.to_owned()],
        _ => return None,
    };
    let layer = |source: &String| {
        let layer = store.recorded(&fields(source).key())?.layer?.digest;
        store.layer_path(&layer).exists().then_some(layer)
    };
    sources.iter().map(layer).collect()
}
