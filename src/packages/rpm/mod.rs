//! rpm's databases: which one a root has, and the packages in it. A database is a set of packages' headers.

mod bdb;
mod file;
pub(super) mod header;
mod ndb;
mod sqlite;

use std::fs::File;
use std::path::Path;

use super::root_files::RootFiles;
use super::{Manager, Package, PackageError, Problem, push};
use file::DatabaseFile;

/// The directories of a database: the usual one, that of Fedora and openSUSE, and that of ostree.
const DIRECTORIES: [&str; 3] = ["/var/lib/rpm", "/usr/lib/sysimage/rpm", "/usr/share/rpm"];

/// Passes the header of each package on.
type Walk = fn(&mut DatabaseFile<'_>, &mut dyn FnMut(&[u8]) -> Result<(), Problem>) -> Result<(), Problem>;

/// The names of the databases, the newest format first: rpm leaves no second one behind.
const DATABASES: [(&str, Walk); 3] =
    [("rpmdb.sqlite", sqlite::walk), ("Packages.db", ndb::walk), ("Packages", bdb::walk)];

/// Returns the packages that rpm has installed.
pub(super) fn read(files: &RootFiles<'_>) -> Result<Option<Vec<Package>>, PackageError> {
    let (mut packages, mut seen) = (None, Vec::new());
    for directory in DIRECTORIES {
        let identity = files.identity(directory);
        if identity.is_none() || seen.contains(&identity) {
            continue;
        }
        seen.push(identity);
        for (name, walk) in DATABASES {
            let path = format!("{directory}/{name}");
            let Some(file) = files.open(Manager::Rpm, &path)? else { continue };
            let damaged =
                |problem| PackageError::Damaged { manager: Manager::Rpm, path: Path::new(&path).to_owned(), problem };
            let log = files.open(Manager::Rpm, &format!("{path}-wal"))?;
            if log.is_some_and(|log| log.metadata().is_ok_and(|log| log.len() > 0)) {
                return Err(damaged(Problem::WriteAheadLog));
            }
            all(&file, walk, packages.get_or_insert_with(Vec::new)).map_err(damaged)?;
            break;
        }
    }
    Ok(packages)
}

fn all(file: &File, walk: Walk, packages: &mut Vec<Package>) -> Result<(), Problem> {
    walk(&mut DatabaseFile::new(file)?, &mut |header| push(packages, header::package(header)?))
}
