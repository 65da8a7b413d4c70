//! The sizes in the image of a layer, which is mounted where no other process sees it.

use std::error::Error as StdError;
use std::os::fd::AsFd;

use crate::difference::{open_image, open_top};
use crate::digest::Digest;
use crate::image::Content;
use crate::store::Store;

/// Returns the sizes in the image of a layer; none where the store has no such layer. Needs root.
///
/// # Errors
/// The image cannot be mounted or read.
pub fn content(store: &Store, layer: &Digest) -> Result<Option<Content>, Box<dyn StdError>> {
    // Until the pin is dropped, no collection removes the layer.
    let Some(pin) = store.pin_layer(layer)? else { return Ok(None) };
    let mount = open_image(pin.path())?;
    let top = open_top(mount.as_fd(), pin.path())?;
    Ok(Some(Content::of(top.as_fd())?))
}
