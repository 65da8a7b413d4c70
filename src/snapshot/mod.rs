//! Snapshots: a frozen root becomes a squashfs image.

mod image;
mod mksquashfs;
mod mksquashfs_progress;
mod normalise;
mod stall;
mod version;

pub use image::{ImageError, ImageOptions, ImageProgress, uses_mksquashfs, write_image};
pub use normalise::{MAX_PATH_BYTES, normalise};
pub use version::{MKSQUASHFS, find_mksquashfs, mksquashfs_version};
