//! What differs between two folders or images: which files, and how, the first difference first.
//!
//! Everything that an image holds is compared: type, content, mode, owner, time, hard links, extended attributes. What a
//! layer says of the layers below it is told as what it means: a *removal* of what is there, a folder that *replaces* the
//! one there. Neither follows a link, and nothing is read but files of the two.
//!
//! Files are told in the order of a walk: a folder, then what is in it, by the bytes of the names.

mod compare;
mod node;
pub(crate) mod pairs;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::fs::regular;
use crate::mount::{SQUASHFS_MAGIC as MAGIC, open_squashfs};

pub use node::{Attribute, Kind};

/// A file that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Below the top; empty for the top itself.
    pub path: PathBuf,
    /// How it differs.
    pub how: How,
}

/// How a file differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum How {
    /// It is in the second alone.
    Added(Kind),
    /// It is in the first alone.
    Removed(Kind),
    /// It is in both; at least one aspect.
    Changed(Vec<Aspect>),
}

/// What of a file differs, with what it is in the first and in the second.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Aspect {
    /// Nothing that is in it or of it is compared then.
    Type(Kind, Kind),
    /// A file's bytes: the sizes, and the first byte that differs, from 0.
    Content {
        /// Sizes.
        sizes: (u64, u64),
        /// Where the first difference is.
        at: u64,
    },
    /// A link's targets.
    Target(PathBuf, PathBuf),
    /// What device a node is of: major and minor numbers.
    Device((u32, u32), (u32, u32)),
    /// A folder that replaces the one below it and one that does not. Whether the second one does.
    Replaces(bool),
    /// Permission bits with setuid, setgid and sticky.
    Mode(u32, u32),
    /// User and group.
    Owner((u32, u32), (u32, u32)),
    /// Times of modification: seconds since 1970, and nanoseconds.
    Time((i64, u32), (i64, u32)),
    /// How many names a file has. Not compared for folders.
    Links(u32, u32),
    /// Extended attributes, by name.
    Attributes(Vec<Attribute>),
}

/// Why two could not be compared.
#[derive(Debug, Error)]
pub enum DifferenceError {
    #[error("{} is no squashfs image", path.display())]
    NotAnImage { path: PathBuf },
    #[error("cannot mount the image {}", path.display())]
    Mount { path: PathBuf, source: io::Error },
    #[error("cannot {action} {}", path.display())]
    Read { action: &'static str, path: PathBuf, source: io::Error },
}

impl DifferenceError {
    /// What mends it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Mount { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Some("run it with sudo, or in a container with --privileged".to_owned())
            }
            Self::NotAnImage { .. } => {
                Some("name an image file or a layer; `runner store ls` lists the layers".to_owned())
            }
            Self::Mount { .. } | Self::Read { .. } => None,
        }
    }
}

/// Compares two squashfs images, mounted read-only where nobody else sees them. Needs root.
///
/// # Errors
/// Where one of them is no image, or cannot be mounted or read.
pub fn between_images(first: &Path, second: &Path) -> Result<Vec<Difference>, DifferenceError> {
    between((image(first)?, first), (image(second)?, second))
}

/// Compares two folders.
///
/// # Errors
/// Where one of them cannot be read.
#[cfg(test)]
pub fn between_folders(first: &Path, second: &Path) -> Result<Vec<Difference>, DifferenceError> {
    use rustix::fs::{CWD, Mode, OFlags, openat};

    let open = |path: &Path| {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat(CWD, path, flags, Mode::empty()).map_err(failed("open", path))
    };
    between((open(first)?, first), (open(second)?, second))
}

fn image(path: &Path) -> Result<OwnedFd, DifferenceError> {
    let mut magic = [0; MAGIC.len()];
    let file = regular::open(path).map_err(failed("read", path))?;
    match file.read_exact_at(&mut magic, 0) {
        Ok(()) if magic == MAGIC => {}
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => return Err(failed("read", path)(error)),
        _ => return Err(DifferenceError::NotAnImage { path: path.to_owned() }),
    }
    open_squashfs(&file).map_err(|source| DifferenceError::Mount { path: path.to_owned(), source })
}

fn failed<E: Into<io::Error>>(action: &'static str, path: &Path) -> impl Fn(E) -> DifferenceError + use<E> {
    let path = path.to_owned();
    move |error| DifferenceError::Read { action, path: path.clone(), source: error.into() }
}

fn between(first: (OwnedFd, &Path), second: (OwnedFd, &Path)) -> Result<Vec<Difference>, DifferenceError> {
    compare::compare([(first.0.as_fd(), first.1), (second.0.as_fd(), second.1)])
}

impl fmt::Display for Aspect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Type(one, other) => write!(f, "type: {one} → {other}"),
            Self::Content { sizes: (one, other), at } if one == other => write!(f, "content: from byte {at} on"),
            Self::Content { sizes: (one, other), at } => {
                write!(f, "content: from byte {at} on, {one} → {other} bytes")
            }
            Self::Target(one, other) => write!(f, "target: {} → {}", one.display(), other.display()),
            Self::Device(one, other) => write!(f, "device: {}:{} → {}:{}", one.0, one.1, other.0, other.1),
            Self::Replaces(true) => f.write_str("now replaces the folder below"),
            Self::Replaces(false) => f.write_str("no longer replaces the folder below"),
            Self::Mode(one, other) => write!(f, "mode: {one:04o} → {other:04o}"),
            Self::Owner(one, other) => write!(f, "owner: {}:{} → {}:{}", one.0, one.1, other.0, other.1),
            Self::Time(one, other) => write!(f, "time: {} → {}", time(*one), time(*other)),
            Self::Links(one, other) => write!(f, "hard links: {one} → {other}"),
            Self::Attributes(names) => {
                let names: Vec<String> = names.iter().map(Attribute::to_string).collect();
                write!(f, "attributes: {}", names.join(", "))
            }
        }
    }
}

/// RFC 3339, with the fraction of a second if there is one.
fn time((seconds, nanoseconds): (i64, u32)) -> String {
    let since = u64::try_from(seconds).ok().map(|seconds| std::time::Duration::new(seconds, nanoseconds));
    match since.and_then(|since| std::time::SystemTime::UNIX_EPOCH.checked_add(since)) {
        // The year 10000, which RFC 3339 ends before.
        Some(time) if seconds < 253_402_300_800 => humantime::format_rfc3339(time).to_string(),
        _ => format!("{seconds} seconds since 1970"),
    }
}
