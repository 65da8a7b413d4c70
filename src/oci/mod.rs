//! OCI images: names, platforms, the documents that lead from a name to layers, and layouts on the disk.
//!
//! An image is an index of manifests by platform, a manifest with a configuration and layers, and the layers. Each document and
//! layer has a digest and a size, and nothing is used before both are checked. [`read_image`] leads from the first document to
//! the layers, for a layout ([`Layout`]) as for a registry. All bounds are in [`document`](self): a hostile image can
//! neither fill the memory nor name a file outside of its layout.

mod document;
mod error;
mod layout;
mod platform;
mod reference;
mod stored_image;

pub use document::{Blobs, Image, LayerBlob, LayerKind, MANIFEST_TYPES, MAX_DOCUMENT, read_image, read_manifest};
pub use error::OciError;
pub use layout::{FilePart, Layout};
pub use platform::Platform;
pub use reference::{ImageName, Version};
pub use stored_image::StoredImage;
