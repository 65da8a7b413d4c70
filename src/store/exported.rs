//! The directories that runner exported: their files, by which a later export knows that it replaces no file of anyone else.
//!
//! Runner replaces a directory only where it wrote every file that is in it. It is a list in the store and no mark in the directory:
//! the directory has nothing but the exported files, and a copy of it elsewhere is the user's own.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, openat, statat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::error::io as failed;
use super::recorded::read;
use super::{Lease, Store, StoreError};
use crate::digest::Digest;
use crate::fs::atomic;
use crate::fs::copy_tree::{LeftOut, Owner, Report, copy_plain};
use crate::fs::dirfd::path_of;
use crate::fs::output::OutputPlace;
use crate::fs::remove_tree::remove_tree_at;
use crate::fs::walk::{MountPoints, Walk};

/// Up to this number of files, each is synced; else the filesystem is.
const MAX_SYNCED: usize = 64;

/// The list of a directory that runner exported.
#[derive(Debug, Default, Serialize, Deserialize)]
struct ExportedFiles {
    /// The directory.
    path: PathBuf,
    /// The export that it has; none while it is being replaced.
    digest: Option<Digest>,
    /// By path, with all bytes but those of ASCII escaped: the stat of the file when runner had written it.
    files: BTreeMap<String, String>,
}

/// A directory to be written to the host.
#[derive(Debug, Clone, Copy)]
pub struct ExportedTree<'a> {
    /// The directory that is copied.
    pub from: &'a Path,
    /// The export, by its name in the store.
    pub digest: &'a Digest,
    /// The owner of the files; none: the user who runs runner.
    pub owner: Option<Owner>,
}

impl Store {
    /// Whether an output is the directory of an export, and nothing has changed in it since runner wrote it.
    pub fn has_exported(&self, output: &OutputPlace, digest: &Digest, owner: Option<Owner>) -> bool {
        let Some(list) = self.exported_files(output).filter(|list| list.digest == Some(*digest)) else { return false };
        let Ok(Some(found)) = open_tree(output) else { return false };
        let user = owner.map_or_else(|| rustix::process::geteuid().as_raw(), |owner| owner.user);
        let belongs = rustix::fs::fstat(&found).is_ok_and(|stat| stat.st_uid == user);
        belongs && files(found.as_fd()).is_ok_and(|files| files == list.files)
    }

    /// Returns a file in the directory of an output that runner has not exported there: the directory must not be replaced. Returns
    /// none where there is no directory.
    ///
    /// # Errors
    /// Those of reading the directory.
    pub fn foreign_file(&self, output: &OutputPlace) -> io::Result<Option<String>> {
        let Some(found) = open_tree(output)? else { return Ok(None) };
        self.foreign_in(output, found.as_fd())
    }

    fn foreign_in(&self, output: &OutputPlace, found: BorrowedFd<'_>) -> io::Result<Option<String>> {
        let known = self.exported_files(output).unwrap_or_default();
        Ok(files(found)?.into_keys().find(|file| !file.is_empty() && !known.files.contains_key(file)))
    }

    fn exported_files(&self, output: &OutputPlace) -> Option<ExportedFiles> {
        let path = real(output);
        read::<ExportedFiles>(&self.exported_path(&path)).filter(|list| list.path == path)
    }

    fn exported_path(&self, path: &Path) -> PathBuf {
        self.root.join(format!("exported/{}.json", Digest::of_bytes(path.as_os_str().as_bytes()).hex()))
    }

    fn set_exported(&self, list: &ExportedFiles) -> Result<(), StoreError> {
        self.write_whole(&self.exported_path(&list.path), list, false)
    }
}

impl Lease {
    /// Copies a directory to an output, in one instant: the output is complete or unchanged. When this returns, it survives a
    /// crash. Returns the files that were left out.
    ///
    /// # Errors
    /// [`StoreError::Foreign`] where the output is a directory with other files; those of copying and renaming.
    pub fn publish_tree(
        &self,
        tree: ExportedTree<'_>,
        output: &OutputPlace,
        report: &mut Report<'_>,
    ) -> Result<LeftOut, StoreError> {
        let published = self.replace_tree(tree, output, report);
        published.map_err(|error| match error {
            error @ StoreError::Foreign { .. } => error,
            error => StoreError::Publish { path: output.path().to_owned(), source: Box::new(error) },
        })
    }

    fn replace_tree(
        &self,
        tree: ExportedTree<'_>,
        output: &OutputPlace,
        report: &mut Report<'_>,
    ) -> Result<LeftOut, StoreError> {
        let directory = output.directory();
        let dir = output.current().map_err(failed("open the directory", directory))?;
        self.refuse_foreign(output)?;
        let half = self.name_half_written(directory, output.name())?;
        let mut write = || {
            let mut make = || -> io::Result<(OwnedFd, LeftOut)> {
                let made = make_private(dir.as_fd(), &half)?;
                let left_out = copy_plain(tree.from, &path_of(made.as_fd()), tree.owner, report)?;
                sync(made.as_fd())?;
                Ok((made, left_out))
            };
            let (made, left_out) = make().map_err(failed("write", &directory.join(&half)))?;
            self.exchange(tree.digest, output, dir.as_fd(), &half, made.as_fd())?;
            Ok(left_out)
        };
        let written = write();
        // The half-written directory, or the one that was replaced.
        let removed = remove_tree_at(dir.as_fd(), Path::new(&half));
        let left_out = written?;
        removed.map_err(failed("remove", &directory.join(&half)))?;
        atomic::sync_dir(&dir).map_err(failed("sync", directory))?;
        Ok(left_out)
    }

    /// Puts the new directory into the place of the old one, and lists its files.
    fn exchange(
        &self,
        digest: &Digest,
        output: &OutputPlace,
        dir: BorrowedFd<'_>,
        half: &OsStr,
        made: BorrowedFd<'_>,
    ) -> Result<(), StoreError> {
        let store = &self.store;
        let list = || files(made).map_err(failed("read", output.path()));
        let before = store.exported_files(output).unwrap_or_default();
        // A kill in between leaves either directory with a list that has all of its files.
        let both = before.files.into_keys().chain(list()?.into_keys()).map(|file| (file, String::new())).collect();
        store.set_exported(&ExportedFiles { path: real(output), digest: None, files: both })?;
        let rename = failed("replace", output.path());
        match statat(dir, output.name(), AtFlags::SYMLINK_NOFOLLOW).map(|stat| FileType::from_raw_mode(stat.st_mode)) {
            Err(Errno::NOENT) => {
                if !atomic::rename_new_at(dir, half, output.name()).map_err(&rename)? {
                    return Err(rename(io::Error::other("a step has just made another file there")));
                }
            }
            Ok(FileType::Directory) => {
                atomic::exchange_at(dir, half, output.name()).map_err(&rename)?;
                // A file that was added since the last look is brought back.
                if let Err(error) = self.refuse_foreign_in(output, dir, half) {
                    atomic::exchange_at(dir, half, output.name()).map_err(&rename)?;
                    return Err(error);
                }
            }
            Ok(_) => return Err(rename(io::Error::other(NOT_A_DIRECTORY))),
            Err(error) => return Err(rename(error.into())),
        }
        store.set_exported(&ExportedFiles { path: real(output), digest: Some(*digest), files: list()? })
    }

    /// Refuses to replace a directory with a file that runner has not exported there, and anything that is no directory.
    fn refuse_foreign(&self, output: &OutputPlace) -> Result<(), StoreError> {
        let foreign = self.store.foreign_file(output).map_err(failed("read", output.path()))?;
        foreign.map_or(Ok(()), |file| Err(StoreError::Foreign { path: output.path().to_owned(), file }))
    }

    fn refuse_foreign_in(&self, output: &OutputPlace, dir: BorrowedFd<'_>, name: &OsStr) -> Result<(), StoreError> {
        let look = || self.store.foreign_in(output, open_directory(dir, name)?.as_fd());
        let foreign = look().map_err(failed("read", output.path()))?;
        foreign.map_or(Ok(()), |file| Err(StoreError::Foreign { path: output.path().to_owned(), file }))
    }
}

/// The reason why an output is not replaced by a directory.
const NOT_A_DIRECTORY: &str = "it is a file, and the export is a directory; remove the file, or choose another output";

/// Returns the path of an output, the same for each spelling.
fn real(output: &OutputPlace) -> PathBuf {
    output.directory().join(output.name())
}

/// Opens the directory of an output, if there is one.
fn open_tree(output: &OutputPlace) -> io::Result<Option<OwnedFd>> {
    match open_directory(output.current()?.as_fd(), output.name()) {
        Err(Errno::NOENT) => Ok(None),
        Err(Errno::NOTDIR | Errno::LOOP) => Err(io::Error::other(NOT_A_DIRECTORY)),
        found => Ok(Some(found?)),
    }
}

fn open_directory(dir: BorrowedFd<'_>, name: &OsStr) -> rustix::io::Result<OwnedFd> {
    openat(dir, name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

/// Makes a directory that only this user can use, in one where others may be able to rename it.
fn make_private(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<OwnedFd> {
    rustix::fs::mkdirat(dir, name, Mode::RWXU)?;
    let made = open_directory(dir, name)?;
    let stat = rustix::fs::fstat(&made)?;
    let is_empty = crate::fs::list::entries(made.as_fd())?.is_empty();
    if stat.st_uid != rustix::process::geteuid().as_raw() || stat.st_mode & 0o077 != 0 || !is_empty {
        return Err(io::Error::other("another program has put a directory of its own there"));
    }
    Ok(made)
}

/// Returns the files of a directory with their stats; the directory itself has an empty path.
fn files(top: BorrowedFd<'_>) -> io::Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    let mut walk = Walk::new(top, MountPoints::Refuse);
    files.insert(String::new(), stat(top, OsStr::new("."))?);
    while walk.advance()? {
        for entry in walk.entries()? {
            let path = walk.path().join(entry.name());
            files.insert(path.as_os_str().as_bytes().escape_ascii().to_string(), stat(walk.fd(), entry.name())?);
            if entry.kind(walk.fd())? == FileType::Directory {
                walk.enter(entry.into_name());
            }
        }
    }
    Ok(files)
}

fn stat(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<String> {
    let of = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(format!(
        "{:o} {}:{} {} {} {}.{:09} {}.{:09}",
        of.st_mode,
        of.st_uid,
        of.st_gid,
        of.st_ino,
        of.st_size,
        of.st_mtime,
        of.st_mtime_nsec,
        of.st_ctime,
        of.st_ctime_nsec
    ))
}

/// Makes a directory survive a crash.
fn sync(top: BorrowedFd<'_>) -> io::Result<()> {
    let mut walk = Walk::new(top, MountPoints::Refuse);
    let mut synced = 0;
    while walk.advance()? {
        for entry in walk.entries()? {
            match entry.kind(walk.fd())? {
                FileType::RegularFile => {
                    synced += 1;
                    if synced > MAX_SYNCED {
                        return Ok(rustix::fs::syncfs(top)?);
                    }
                    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                    rustix::fs::fsync(openat(walk.fd(), entry.name(), flags, Mode::empty())?)?;
                }
                FileType::Directory => walk.enter(entry.into_name()),
                _ => {}
            }
        }
        atomic::sync_dir(walk.fd())?;
    }
    Ok(())
}
