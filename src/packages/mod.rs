//! The packages that a root has installed, read from the databases of dpkg, apk and rpm.
//!
//! A root is hostile. Paths are resolved inside it, only regular files are read, and a database has at most
//! [`MAX_PACKAGES`] packages with fields of [`MAX_FIELD`] bytes. A database that cannot be read whole gives an error and
//! no package.
//!
//! Runner reads rpm's databases of all three formats itself: librpm and librpm's own Berkeley DB would run code in C on
//! bytes that steps made.
//!
//! - `rpmdb.sqlite` (rpm 4.16 and later): the B-trees of sqlite's file format. A database with a write-ahead log that is
//!   not empty is refused: the log may change any page.
//! - `Packages.db` (ndb, as in openSUSE).
//! - `Packages` (Berkeley DB's hash, before rpm 4.16), in either byte order.

mod apk;
mod dpkg;
mod root_files;
mod rpm;

use std::io;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Serialize;
use thiserror::Error;

use root_files::RootFiles;

/// The packages of a database. Debian has 65,000 packages in all.
const MAX_PACKAGES: usize = 100_000;

/// The bytes of a name, a version or an architecture.
const MAX_FIELD: usize = 512;

/// A package manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Manager {
    /// dpkg: `status` and `status.d` below `/var/lib/dpkg`.
    Dpkg,
    /// apk: `installed`.
    Apk,
    /// rpm: `rpmdb.sqlite`, `Packages.db` or `Packages`.
    Rpm,
}

impl Manager {
    /// Returns its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dpkg => "dpkg",
            Self::Apk => "apk",
            Self::Rpm => "rpm",
        }
    }
}

/// An installed package.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Package {
    /// The manager that has installed it.
    pub manager: Manager,
    /// The name.
    pub name: String,
    /// The version, with the epoch and the release.
    pub version: String,
    /// The architecture; empty if the database names none.
    pub architecture: String,
    /// The installed size in bytes by the database, if the database names it.
    pub size: Option<u64>,
}

/// The packages of a root.
#[derive(Debug, Default)]
pub struct Packages {
    /// All installed packages, by manager and name.
    pub all: Vec<Package>,
    /// The managers whose databases were found and read.
    pub managers: Vec<Manager>,
    /// The databases that could not be read.
    pub errors: Vec<PackageError>,
}

/// The reason why a database was not read.
#[derive(Debug, Error)]
pub enum PackageError {
    /// It cannot be read, or is too large.
    #[error("cannot read the packages of {}: {}", manager.name(), path.display())]
    Read {
        /// The manager.
        manager: Manager,
        /// The path in the root.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// Its content is not that of such a database.
    #[error("cannot read the packages of {}: {}: {problem}", manager.name(), path.display())]
    Damaged {
        /// The manager.
        manager: Manager,
        /// The path in the root.
        path: PathBuf,
        /// The problem.
        problem: Problem,
    },
}

/// The problem of a database's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Problem {
    /// It has more packages than runner reads.
    #[error("it has more than {MAX_PACKAGES} packages")]
    TooManyPackages,
    /// A field is longer than runner reads.
    #[error("a field has more than {MAX_FIELD} bytes")]
    LongField,
    /// A package lacks its name or its version.
    #[error("a package has no name or no version")]
    NoName,
    /// It is something else.
    #[error("it is not a database of this kind")]
    NotADatabase,
    /// A reference leads out of it.
    #[error("it refers to a page or a byte that it does not have")]
    OutOfBounds,
    /// Its pages refer to each other in a circle, or runner would read too much.
    #[error("its pages refer to each other in a circle, or it is too large")]
    TooMuch,
    /// It has no table of packages.
    #[error("it has no table of packages")]
    NoTable,
    /// The header of a package is damaged.
    #[error("a package has a damaged header")]
    DamagedHeader,
    /// Its write-ahead log has changes that are not in it.
    #[error("it has a write-ahead log that is not applied; `rpm --rebuilddb` in the root applies it")]
    WriteAheadLog,
    /// The file cannot be read.
    #[error("its end cannot be read")]
    Unreadable,
}

/// Returns the packages that a root has installed. The root is open, possibly as `O_PATH`.
pub fn read(root: BorrowedFd<'_>) -> Packages {
    let files = RootFiles::new(root);
    let mut packages = Packages::default();
    for (manager, read) in [(Manager::Dpkg, dpkg::read as Read), (Manager::Apk, apk::read), (Manager::Rpm, rpm::read)] {
        match read(&files) {
            Ok(None) => {}
            Ok(Some(found)) => {
                packages.managers.push(manager);
                packages.all.extend(found);
            }
            Err(error) => packages.errors.push(error),
        }
    }
    packages.all.sort();
    packages.all.dedup();
    packages
}

/// Reads the packages of a manager; none where the root has no database of it.
type Read = fn(&RootFiles<'_>) -> Result<Option<Vec<Package>>, PackageError>;

/// Returns a field as text, if it is not too long.
fn field(bytes: &[u8]) -> Result<String, Problem> {
    if bytes.len() > MAX_FIELD {
        return Err(Problem::LongField);
    }
    Ok(String::from_utf8_lossy(bytes).into_owned())
}

/// Adds a package, unless there are too many.
fn push(packages: &mut Vec<Package>, package: Package) -> Result<(), Problem> {
    if packages.len() == MAX_PACKAGES {
        return Err(Problem::TooManyPackages);
    }
    packages.push(package);
    Ok(())
}

#[cfg(test)]
mod tests;
