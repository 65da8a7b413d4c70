//! The packages that are installed in an image.

use std::os::fd::AsFd;
use std::path::Path;

use thiserror::Error;

use crate::difference::{DifferenceError, open_image};
use crate::packages::{self, Package, PackageError};

/// The packages of an image that are read; Debian's largest desktops have some thousands.
const MAX_INSTALLED: usize = 20_000;

/// The reason why the packages of an image are not known.
#[derive(Debug, Error)]
pub enum InstalledError {
    /// The image cannot be mounted.
    #[error(transparent)]
    Image(#[from] DifferenceError),
    /// A database of packages cannot be read.
    #[error(transparent)]
    Database(#[from] PackageError),
    /// The image has too many packages.
    #[error("it has more than {MAX_INSTALLED} packages")]
    TooMany,
}

impl InstalledError {
    /// Returns whether the content of the image is the cause, and not this host.
    pub fn is_of_input(&self) -> bool {
        matches!(self, Self::Database(_) | Self::TooMany)
    }

    /// Returns the fix, if one is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Image(error) => error.hint(),
            Self::Database(_) | Self::TooMany => None,
        }
    }
}

/// Returns the packages that are installed in an image. Needs root, because the image is mounted where no other process sees it.
///
/// # Errors
/// See [`InstalledError`].
pub fn installed(image: &Path) -> Result<Vec<Package>, InstalledError> {
    let root = open_image(image)?;
    let packages = packages::read(root.as_fd());
    match packages.errors.into_iter().next() {
        Some(error) => Err(error.into()),
        None if packages.all.len() > MAX_INSTALLED => Err(InstalledError::TooMany),
        None => Ok(packages.all),
    }
}
