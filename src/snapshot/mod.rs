//! Snapshots: a frozen root becomes a squashfs image.

mod normalise;
mod squashfs;
mod version;

pub use normalise::{Normalised, normalise};
pub use squashfs::{ImageError, ImageOptions, Interrupt, write_image};
pub use version::{MKSQUASHFS, find_mksquashfs, mksquashfs_version};
