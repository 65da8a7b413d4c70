//! Files that are written whole or not at all, and removed when no process needs them: the one place of rename(2).
//!
//! A file is renamed into place. Those that may be lost without harm are not synced: a checksum, or the content itself, shows
//! what a crash damaged. The process that writes a file locks it; a half-written file that can be locked is a killed runner's,
//! and the next start removes it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags, fchmod, linkat, openat, renameat, renameat_with, unlinkat};
use rustix::io::Errno;
use tempfile::NamedTempFile;

use super::dirfd::{path_of, reopen};
use super::regular;

/// The beginning of a half-written file's name.
pub const HALF_WRITTEN: &str = ".half-";

/// Puts a file into a directory, and makes the directory where it is missing. A crash may lose the file.
///
/// The directory's parent must exist: a store that another process removed does not come back as a directory with one file.
pub fn write(directory: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    if let Err(error) = fs::create_dir(directory)
        && error.kind() != io::ErrorKind::AlreadyExists
    {
        return Err(error);
    }
    put(directory, name, bytes, false)
}

/// Puts a file into a directory. A crash after the return does not lose the file.
pub fn write_lasting(directory: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    put(directory, name, bytes, true)?;
    sync_dir(File::open(directory)?)
}

/// Syncs the entries of a directory, see fsync(2). The descriptor may be an `O_PATH` one.
pub fn sync_dir(dir: impl AsFd) -> io::Result<()> {
    match File::from(reopen(dir.as_fd(), OFlags::RDONLY | OFlags::DIRECTORY)?).sync_all() {
        // Some network and FUSE filesystems cannot sync a directory, and say so with EINVAL.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        result => result,
    }
}

/// The permissions of a file of the caller's, see [`replace`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permissions {
    /// Those of any new file: 0666 less the umask.
    New,
    /// These permissions.
    Exactly(u32),
}

/// Writes the entry `name` of an open directory of the caller's, in place of a file of that name.
///
/// Other users may write to the directory. A link in the place of the file is itself replaced.
///
/// # Errors
/// Those of writing; the file is unchanged then.
pub fn replace(dir: impl AsFd, name: &OsStr, bytes: &[u8], permissions: Permissions) -> io::Result<()> {
    let (file, half) = create_half(&dir)?;
    let write = || -> io::Result<()> {
        if let Permissions::Exactly(mode) = permissions {
            fchmod(&file, Mode::from_raw_mode(mode))?;
        }
        let mut file = File::from(file);
        file.write_all(bytes)?;
        file.sync_all()?;
        rename_at(&dir, OsStr::new(&half), name)
    };
    let written = write();
    if written.is_err() {
        // The file may be in its place already, or not be removable; the error has the cause.
        let _ = unlinkat(&dir, &half, AtFlags::empty());
    }
    written
}

/// Creates a file under a name that no other file has, and returns its name too.
fn create_half(dir: impl AsFd) -> io::Result<(OwnedFd, String)> {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    loop {
        let half = format!(".runner-{}-{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed));
        match openat(&dir, &half, flags, Mode::from_raw_mode(0o666)) {
            Err(Errno::EXIST) => {}
            file => return Ok((file?, half)),
        }
    }
}

/// Creates a file without a name in an open directory, where its filesystem can.
pub fn nameless(dir: impl AsFd, mode: u32) -> io::Result<OwnedFd> {
    Ok(openat(dir, ".", OFlags::WRONLY | OFlags::TMPFILE | OFlags::CLOEXEC, Mode::from_raw_mode(mode))?)
}

/// Copies a file into the new entry `half` of an open directory, to be renamed later. A crash after the return does not lose it.
/// With `is_nameless` the file has no name before it is whole, where its filesystem can: a kill then leaves nothing behind.
/// `finish` is called with the complete file, to set its attributes.
pub fn copy_half(
    mut source: File,
    dir: impl AsFd,
    half: &OsStr,
    permissions: u32,
    is_nameless: bool,
    finish: impl FnOnce(&File) -> io::Result<()>,
) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let (mut to, has_name) = match is_nameless.then(|| nameless(&dir, permissions).ok()).flatten() {
        Some(file) => (File::from(file), false),
        None => (File::from(openat(&dir, half, flags, Mode::from_raw_mode(permissions))?), true),
    };
    io::copy(&mut source, &mut to)?;
    finish(&to)?;
    to.sync_all()?;
    if !has_name {
        linkat(CWD, path_of(to.as_fd()), &dir, half, AtFlags::SYMLINK_FOLLOW)?;
    }
    Ok(())
}

/// Renames an entry of an open directory and replaces another entry of it.
pub fn rename_at(dir: impl AsFd, from: &OsStr, to: &OsStr) -> io::Result<()> {
    Ok(renameat(&dir, from, &dir, to)?)
}

/// Renames an entry of an open directory, unless another entry of it has the new name, and returns whether it did.
///
/// # Errors
/// `Unsupported` where the filesystem has no such rename, and those of renameat2(2).
pub fn rename_new_at(dir: impl AsFd, from: &OsStr, to: &OsStr) -> io::Result<bool> {
    match renameat_with(&dir, from, &dir, to, RenameFlags::NOREPLACE) {
        Err(Errno::EXIST) => Ok(false),
        Err(Errno::INVAL | Errno::NOSYS) => Err(io::ErrorKind::Unsupported.into()),
        result => Ok(result.map(|()| true)?),
    }
}

/// Exchanges two entries of an open directory in one instant.
///
/// # Errors
/// `Unsupported` where the filesystem cannot, and those of renameat2(2).
pub fn exchange_at(dir: impl AsFd, one: &OsStr, other: &OsStr) -> io::Result<()> {
    match renameat_with(&dir, one, &dir, other, RenameFlags::EXCHANGE) {
        Err(Errno::INVAL | Errno::NOSYS) => Err(io::ErrorKind::Unsupported.into()),
        result => Ok(result?),
    }
}

/// Renames a file or directory and replaces the one that has the new name.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    Ok(renameat(CWD, from, CWD, to)?)
}

/// Gives a temporary file its name and replaces the file that has that name.
fn persist(temp: NamedTempFile, to: &Path) -> io::Result<()> {
    rename(temp.path(), to)?;
    // The file has another name now, and is not to be removed.
    let _ = temp.into_temp_path().keep();
    Ok(())
}

/// Renames a written file from `temp` to `to` unless another file has that name, and returns whether it did. A crash after the
/// return does not lose the file.
pub fn persist_new_lasting(file: &File, temp: &Path, to: &Path) -> io::Result<bool> {
    file.sync_all()?;
    let is_renamed = rename_new(temp, to)?;
    if is_renamed {
        sync_dir(File::open(to.parent().unwrap_or(Path::new("/")))?)?;
    }
    Ok(is_renamed)
}

/// Renames a file unless another file has the new name, and returns whether it did.
fn rename_new(from: &Path, to: &Path) -> io::Result<bool> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(Errno::EXIST) => Ok(false),
        // NFS and some FUSE filesystems have no such rename; rename(2) replaces there.
        Err(Errno::INVAL | Errno::NOSYS) => rename(from, to).map(|()| true),
        result => Ok(result.map(|()| true)?),
    }
}

fn put(directory: &Path, name: &str, bytes: &[u8], lasting: bool) -> io::Result<()> {
    loop {
        let mut temp = tempfile::Builder::new().prefix(HALF_WRITTEN).tempfile_in(directory)?;
        if temp.as_file().try_lock().is_err() {
            // Another runner has just taken the file for one of a killed runner.
            continue;
        }
        temp.write_all(bytes)?;
        if lasting {
            temp.as_file().sync_all()?;
        }
        match persist(temp, &directory.join(name)) {
            // The same, a moment later.
            Err(error) if error.kind() == io::ErrorKind::NotFound && directory.exists() => {}
            result => return result,
        }
    }
}

/// Removes the half-written files of killed runners, and with `unused` the files that were written or [used](touch) longer ago.
///
/// No failure is an error: a later sweep removes the remaining files, and the directory need not exist yet.
pub fn sweep(directory: &Path, unused: Option<Duration>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let is_half = entry.file_name().as_encoded_bytes().starts_with(HALF_WRITTEN.as_bytes());
        let is_removed = if is_half {
            regular::open(&entry.path()).is_ok_and(|file| file.try_lock().is_ok())
        } else {
            unused.is_some_and(|unused| age(&entry.path()).is_some_and(|age| age > unused))
        };
        if is_removed {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Marks a file as used, once a day.
pub fn touch(file: &Path) {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    if age(file).is_some_and(|age| age > DAY) {
        let _ = regular::open(file).and_then(|file| file.set_modified(std::time::SystemTime::now()));
    }
}

fn age(file: &Path) -> Option<Duration> {
    fs::symlink_metadata(file).ok()?.modified().ok()?.elapsed().ok()
}

#[cfg(test)]
mod tests;
