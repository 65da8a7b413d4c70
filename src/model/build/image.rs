//! A file, an OCI image or a URL that a container's root comes from.

use std::fmt;
use std::path::PathBuf;

use crate::digest::Digest;
use crate::oci::{ImageName, Platform};

/// A file of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSource {
    /// Its path; absolute.
    pub path: PathBuf,
    /// The digest that it must have, if the manifest names one.
    pub digest: Option<Digest>,
}

/// Takes a file whatever its digest is.
impl<P: Into<PathBuf>> From<P> for FileSource {
    fn from(path: P) -> Self {
        Self { path: path.into(), digest: None }
    }
}

/// An image, and the version and platform of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageSource {
    /// The place of the image.
    pub place: ImagePlace,
    /// The digest of its first document that it must have, if the manifest names one.
    pub digest: Option<Digest>,
    /// The platform; without one, the host's.
    pub platform: Option<Platform>,
}

/// A place that has an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImagePlace {
    /// A registry.
    Registry(ImageName),
    /// A layout on this host: a directory or an archive, and the tag of the image in it.
    Layout(PathBuf, Option<String>),
}

impl ImageSource {
    /// Returns the key of the manifest that names it.
    pub fn kind(&self) -> &'static str {
        match self.place {
            ImagePlace::Registry(_) => "image",
            ImagePlace::Layout(..) => "oci",
        }
    }
}

/// Shows the image by its whole name.
impl fmt::Display for ImageSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            ImagePlace::Registry(name) => name.fmt(f),
            ImagePlace::Layout(path, None) => path.display().fmt(f),
            ImagePlace::Layout(path, Some(tag)) => write!(f, "{}:{tag}", path.display()),
        }
    }
}

/// A file at a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UrlSource {
    /// The URL.
    pub url: String,
    /// The digest that the file must have, if the manifest names one.
    pub digest: Option<Digest>,
}

impl UrlSource {
    /// The key of the manifest that names it.
    pub const KIND: &'static str = "url";

    /// Returns the last name of its path.
    pub fn name(&self) -> &str {
        let path = self.url.split(['?', '#']).next().unwrap_or_default();
        path.rsplit('/').find(|name| !name.is_empty()).unwrap_or_default()
    }
}
