//! `runner.lock`: the digests that every rootfs source and every snapshot of a build must have. It is made to be
//! committed.
//!
//! It has a section for each manifest and each set of `--set` variables that it was written with:
//!
//! ```toml
//! version = 2
//!
//! [[manifest]]
//! path = "build.yaml"
//! runner = "0.1.0"
//!
//! [manifest.set]
//! suite = "trixie"
//!
//! [[manifest.rootfs]]
//! container = "base"
//! kind = "squashfs"
//! digests = ["sha256:…"]
//!
//! [[manifest.snapshot]]
//! step = "base-layer"
//! digest = "sha256:…"
//!
//! [manifest.snapshot.packages]
//! "apt:amd64" = "2.6.1"
//!
//! [manifest.snapshot.inputs]
//! on = "the rootfs of base"
//! tools = "embedded, squashfs 1 zstd 1.5.7"
//! settings = "0123456789abcdef"
//!
//! [manifest.snapshot.inputs.steps]
//! packages = "0123456789abcdef"
//!
//! [manifest.snapshot.inputs.binds]
//! "/src" = "sha256:…"
//!
//! [manifest.snapshot.inputs.named_settings]
//! source_date_epoch = "315532800"
//! ```
//! Entries are sorted by name, so that a change of one changes few lines. A build must match the digests only. The
//! inputs of a snapshot explain why it differs, and are compared where no result is known; the packages of a Debian root only
//! explain.

mod difference;
mod error;
mod inputs;
mod packages;
mod section;

use std::io::{self, ErrorKind};
use std::path::Path;

use serde::{Deserialize, Serialize};

pub use difference::{Difference, FIX};
pub use error::LockError;
pub use inputs::LockedInputs;
pub use packages::LockedPackages;
pub use section::{LockedRootfs, LockedSnapshot, Section, SectionId};

use crate::diagnostic::toml_problem;
use crate::fs::atomic::Permissions;
use crate::fs::named_file::NamedFile;
use crate::fs::regular;

/// The version of the format.
const VERSION: u64 = 2;

/// The version of the format without sections: a file of one manifest.
const WITHOUT_SECTIONS: u64 = 1;

const HEAD: &str = "# Written by `runner lock`. `runner apply --locked` fails where a digest is another one.\n\n";

/// A lock file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Lock {
    version: u64,
    #[serde(default, rename = "manifest", skip_serializing_if = "Vec::is_empty")]
    sections: Vec<Section>,
}

/// Reads the section of a manifest.
///
/// # Errors
/// See [`LockError`]; [`LockError::NoSection`] where the file has none of it.
pub fn read(path: &Path, id: &SectionId) -> Result<Section, LockError> {
    let mut sections = read_all(path)?;
    match sections.iter().position(|section| section.id() == *id) {
        Some(at) => Ok(sections.swap_remove(at)),
        None => {
            let others = sections.iter().map(|section| section.id().to_string()).collect();
            Err(LockError::NoSection { path: path.to_owned(), wanted: id.to_string(), there: others })
        }
    }
}

/// Reads all sections.
///
/// # Errors
/// See [`LockError`].
pub fn read_all(path: &Path) -> Result<Vec<Section>, LockError> {
    let file = NamedFile::find(path).map_err(|error| unreadable(path, error))?;
    Ok(read_file(path, &file)?.sections)
}

/// Finds the file that a lock is to be written to, before anything runs.
///
/// # Errors
/// Where the path cannot be a lock: a link, a directory, or a file that is no lock and would be lost.
pub fn find(path: &Path) -> Result<NamedFile, LockError> {
    let file = NamedFile::find(path).map_err(|error| unwritable(path, error))?;
    read_sections(&file)?;
    Ok(file)
}

/// Replaces the section of a manifest in a lock file, in one instant; the other sections are unchanged. Does not write
/// a file that has the same text already.
///
/// # Errors
/// Those of locking, reading and writing.
pub fn write(file: &NamedFile, section: &Section) -> Result<(), LockError> {
    let failed = |error| unwritable(file.path(), error);
    // Another runner may be writing the section of another manifest.
    let _exclusive = file.lock_directory().map_err(failed)?;
    let mut lock = read_sections(file)?;
    lock.sections.retain(|other| other.id() != section.id());
    lock.sections.push(section.clone());
    lock.sections.sort_by_key(Section::id);
    let text = toml::to_string(&lock).map_err(|error| failed(io::Error::other(error)))?;
    let text = format!("{HEAD}{text}");
    if read_text(file).is_ok_and(|old| old == text) {
        return Ok(());
    }
    file.replace(text.as_bytes(), Permissions::Exactly(0o644)).map_err(failed)
}

/// Reads the sections to which a new one is added: none where the file is missing, or has the format without sections.
fn read_sections(file: &NamedFile) -> Result<Lock, LockError> {
    match read_file(file.path(), file) {
        Err(LockError::Missing { .. } | LockError::WithoutSections { .. }) => {
            Ok(Lock { version: VERSION, sections: Vec::new() })
        }
        read => read,
    }
}

fn read_file(path: &Path, file: &NamedFile) -> Result<Lock, LockError> {
    let text = read_text(file).map_err(|error| unreadable(path, error))?;
    let malformed = |problem: String| LockError::Malformed { path: path.to_owned(), problem };
    let in_words = |error: toml::de::Error| malformed(toml_problem(&text, &error));
    // The version first: a file of another version has other keys.
    #[derive(Deserialize)]
    struct Versioned {
        version: u64,
    }
    match toml::from_str::<Versioned>(&text).map_err(in_words)?.version {
        VERSION => toml::from_str(&text).map_err(in_words),
        WITHOUT_SECTIONS => Err(LockError::WithoutSections { path: path.to_owned() }),
        other => Err(LockError::Newer { path: path.to_owned(), version: other, known: VERSION }),
    }
}

fn unreadable(path: &Path, source: io::Error) -> LockError {
    let path = path.to_owned();
    match source.kind() {
        ErrorKind::NotFound => LockError::Missing { path },
        ErrorKind::InvalidData => LockError::Malformed { path, problem: "it is not UTF-8".to_owned() },
        _ => LockError::Io { action: "read", path, source },
    }
}

fn unwritable(path: &Path, source: io::Error) -> LockError {
    LockError::Io { action: "write", path: path.to_owned(), source }
}

/// Returns the text of a lock file. That of 100,000 snapshots is shorter than the limit.
fn read_text(file: &NamedFile) -> io::Result<String> {
    const MAX_BYTES: u64 = 256 << 20;
    regular::into_text(regular::read_all(file.read()?, MAX_BYTES)?)
}

#[cfg(test)]
mod tests;
