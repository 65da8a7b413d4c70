//! Compares two directories or images: the files that differ, the aspects in which they differ, and the first
//! different byte.
//!
//! Everything that an image contains is compared: type, content, mode, owner, time, hard links, extended attributes.
//! The marks of a layer for the layers below it are reported by their meaning: a *removal* of a lower file, and a
//! directory that *replaces* the lower one. Neither tree's links are followed, and only files of the two trees are
//! read.
//!
//! Files are reported in the order of a walk: a directory, then the files in it, by the bytes of the names.

mod compare;
mod node;
pub(crate) mod pairs;
#[cfg(test)]
mod tests;

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use thiserror::Error;

use crate::fs::in_root::open_beneath;
use crate::fs::regular;
use crate::mount::{self, ImageFormat};

pub use node::{Attribute, Kind, Node};

/// Receives each file of the two trees: its path below the roots, the file in the first and in the second tree, and the
/// aspects in which the two differ. A directory comes before the files in it.
pub type Visit<'v> = dyn FnMut(&Path, [Option<&Node>; 2], Vec<Aspect>) + 'v;

/// A file that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The path below the root; empty for the root itself.
    pub path: PathBuf,
    /// The difference.
    pub how: DifferenceKind,
}

/// The way in which a file differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DifferenceKind {
    /// It exists in the second tree alone.
    Added(Kind),
    /// It exists in the first tree alone.
    Removed(Kind),
    /// It exists in both, and differs in at least one aspect.
    Changed(Vec<Aspect>),
}

/// An aspect in which a file differs, with its values in the first and in the second tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Aspect {
    /// The type. Content and attributes are not compared then.
    Type(Kind, Kind),
    /// A file's bytes: the sizes, and the first byte that differs, from 0.
    Content {
        /// Sizes.
        sizes: (u64, u64),
        /// The first byte that differs.
        at: u64,
    },
    /// A link's targets.
    Target(PathBuf, PathBuf),
    /// The device of a node: major and minor numbers.
    Device((u32, u32), (u32, u32)),
    /// A directory replaces the lower one in one tree alone. The value says whether it does in the second.
    Replaces(bool),
    /// Permission bits with setuid, setgid and sticky.
    Mode(u32, u32),
    /// User and group.
    Owner((u32, u32), (u32, u32)),
    /// Times of modification: seconds since 1970, and nanoseconds.
    Time((i64, u32), (i64, u32)),
    /// The number of names of a file. Not compared for directories.
    Links(u32, u32),
    /// Extended attributes, by name.
    Attributes(Vec<Attribute>),
}

/// The bytes of contents that are compared: an image of some kilobytes can have files of exabytes, all of them holes, and reading
/// them would not end.
const MAX_COMPARED: u64 = 1 << 40;

/// The reason why two trees could not be compared.
#[derive(Debug, Error)]
pub enum DifferenceError {
    #[error("{} is neither a squashfs nor an EROFS image", path.display())]
    NotAnImage { path: PathBuf },
    #[error("cannot mount the image {}", path.display())]
    Mount { path: PathBuf, source: io::Error },
    #[error("cannot compare {}: another filesystem is mounted on it", path.display())]
    MountPoint { path: PathBuf },
    #[error("cannot compare {}: with it, more than 1 TiB of contents would be read", path.display())]
    TooMuch { path: PathBuf },
    #[error("cannot {action} {}", path.display())]
    Read { action: &'static str, path: PathBuf, source: io::Error },
}

impl DifferenceError {
    /// Returns the fix, if one is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Mount { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Some("run it with sudo, or in a container with --privileged".to_owned())
            }
            Self::NotAnImage { .. } => {
                Some("name an image file or a layer; `runner store ls` lists the layers".to_owned())
            }
            Self::MountPoint { .. } => Some(
                "unmount it; or bind the directory to another one without the mounts in it, `mount --bind DIR OTHER`, and \
                 compare OTHER"
                    .to_owned(),
            ),
            Self::TooMuch { .. } => Some(
                "holes count: remove the file from one of the images, or compare directories without it".to_owned(),
            ),
            Self::Mount { .. } | Self::Read { .. } => None,
        }
    }
}

/// Compares two images, mounted read-only where no other process sees them. Needs root.
///
/// # Errors
/// One of them is not an image, or cannot be mounted or read.
pub fn between_images(first: &Path, second: &Path) -> Result<Vec<Difference>, DifferenceError> {
    between((open_image(first)?, first), (open_image(second)?, second))
}

/// Compares two directories.
///
/// # Errors
/// One of them cannot be read.
#[cfg(test)]
pub fn between_directories(first: &Path, second: &Path) -> Result<Vec<Difference>, DifferenceError> {
    use rustix::fs::{CWD, Mode, openat};

    let open = |path: &Path| {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat(CWD, path, flags, Mode::empty()).map_err(failed("open", path))
    };
    between((open(first)?, first), (open(second)?, second))
}

/// Visits each file of two trees. A tree is the descriptor of its root and its path for messages.
///
/// # Errors
/// A file cannot be read, or something is mounted inside one of the trees.
pub fn visit<'a>(trees: [(BorrowedFd<'a>, &'a Path); 2], visit: &'a mut Visit<'a>) -> Result<(), DifferenceError> {
    compare::compare(trees, MAX_COMPARED, visit)
}

/// Mounts an image read-only where no other process sees it, and returns its root. Needs root.
///
/// # Errors
/// It is not an image, or cannot be mounted or read.
pub fn open_image(path: &Path) -> Result<OwnedFd, DifferenceError> {
    open_opened_image(&regular::open(path).map_err(failed("read", path))?, path)
}

/// Opens the root of a mounted image, which is open as `O_PATH`, for reading.
///
/// # Errors
/// Those of openat2(2).
pub fn open_top(mount: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd, DifferenceError> {
    open_beneath(mount, "", OFlags::RDONLY | OFlags::DIRECTORY).map_err(failed("open", path))
}

fn open_opened_image(file: &File, path: &Path) -> Result<OwnedFd, DifferenceError> {
    if ImageFormat::of(file).map_err(failed("read", path))?.is_none() {
        return Err(DifferenceError::NotAnImage { path: path.to_owned() });
    }
    mount::open_image(file).map_err(|source| DifferenceError::Mount { path: path.to_owned(), source })
}

fn failed<E: Into<io::Error>>(action: &'static str, path: &Path) -> impl Fn(E) -> DifferenceError + use<E> {
    let path = path.to_owned();
    move |error| DifferenceError::Read { action, path: path.clone(), source: error.into() }
}

fn between(first: (OwnedFd, &Path), second: (OwnedFd, &Path)) -> Result<Vec<Difference>, DifferenceError> {
    let mut differences = Vec::new();
    let mut collect = |path: &Path, nodes: [Option<&Node>; 2], aspects: Vec<Aspect>| {
        let how = match nodes {
            [None, Some(added)] => DifferenceKind::Added(added.kind),
            [Some(removed), None] => DifferenceKind::Removed(removed.kind),
            _ if aspects.is_empty() => return,
            _ => DifferenceKind::Changed(aspects),
        };
        differences.push(Difference { path: path.to_owned(), how });
    };
    compare::compare([(first.0.as_fd(), first.1), (second.0.as_fd(), second.1)], MAX_COMPARED, &mut collect)?;
    Ok(differences)
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

/// Returns the time in the format of RFC 3339, with the fraction of a second if there is one.
fn time((seconds, nanoseconds): (i64, u32)) -> String {
    let since = u64::try_from(seconds).ok().map(|seconds| std::time::Duration::new(seconds, nanoseconds));
    match since.and_then(|since| std::time::SystemTime::UNIX_EPOCH.checked_add(since)) {
        // The year 10000 begins here; RFC 3339 has none after 9999.
        Some(time) if seconds < 253_402_300_800 => humantime::format_rfc3339(time).to_string(),
        _ => format!("{seconds} seconds since 1970"),
    }
}
