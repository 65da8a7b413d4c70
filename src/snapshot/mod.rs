//! Snapshots: a frozen root becomes a squashfs image.

mod bar;
mod normalise;
mod squashfs;
mod stall;
mod version;

pub use normalise::{Normalised, normalise};
pub use squashfs::{ImageError, ImageOptions, ImageProgress, Interrupt, write_image};
pub use version::{MKSQUASHFS, find_mksquashfs, mksquashfs_version};
