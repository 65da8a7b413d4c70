//! Snapshots: a frozen root becomes a squashfs image.

mod normalise;
mod squashfs;

pub use normalise::{Normalised, normalise};
pub use squashfs::{ImageError, ImageOptions, Interrupt, write_image};
