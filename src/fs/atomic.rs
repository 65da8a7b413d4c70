//! Files, written whole or not at all, and cleared away when nobody needs them: the one place of rename(2).
//!
//! They are renamed into place. Those that may be lost without harm are not synced: what a crash leaves of them is told
//! by their sums, or by what is in them. A half-written one is locked by who writes it; one that can be locked was left
//! by a killed runner, and is removed at the next start.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags, fchmod, openat, renameat, renameat_with, unlinkat};
use rustix::io::Errno;
use tempfile::NamedTempFile;

use super::dirfd::reopen;
use super::regular;

/// What the name of a half-written file begins with.
pub const HALF_WRITTEN: &str = ".half-";

/// Puts a file into this folder, which is made where it is missing. A crash may lose it.
///
/// The folder above must be there: a store that somebody has removed does not come back as a folder with this one in it.
pub fn write(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    if let Err(error) = fs::create_dir(folder)
        && error.kind() != io::ErrorKind::AlreadyExists
    {
        return Err(error);
    }
    put(folder, name, bytes, false)
}

/// Puts a file into this folder; it lasts when this returns.
pub fn write_lasting(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    put(folder, name, bytes, true)?;
    sync_dir(File::open(folder)?)
}

/// Makes the entries of a directory last, see fsync(2). The descriptor may be an `O_PATH` one.
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
    /// These.
    Exactly(u32),
}

/// Writes the entry `name` of an open directory of the caller's, in place of a file of that name.
///
/// The directory may be one that others write to. A link in the place of the file is itself replaced.
///
/// # Errors
/// What writing says; the file is as it was then.
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
        // It may be in its place already, or not be removable; the cause is in the error.
        let _ = unlinkat(&dir, &half, AtFlags::empty());
    }
    written
}

/// A new file of a name that nothing else has; with the name.
fn create_half(dir: impl AsFd) -> io::Result<(OwnedFd, String)> {
    static MADE: AtomicU64 = AtomicU64::new(0);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    loop {
        let half = format!(".runner-{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        match openat(&dir, &half, flags, Mode::from_raw_mode(0o666)) {
            Err(Errno::EXIST) => {}
            file => return Ok((file?, half)),
        }
    }
}

/// Renames an entry of an open directory, in place of another one of it.
pub fn rename_at(dir: impl AsFd, from: &OsStr, to: &OsStr) -> io::Result<()> {
    Ok(renameat(&dir, from, &dir, to)?)
}

/// Renames a file or directory, in place of what has the new name.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    Ok(renameat(CWD, from, CWD, to)?)
}

/// Gives a temporary file its name, in place of what has that name.
fn persist(temp: NamedTempFile, to: &Path) -> io::Result<()> {
    rename(temp.path(), to)?;
    // It has another name now, and stays.
    let _ = temp.into_temp_path().keep();
    Ok(())
}

/// Gives a file that is written, at `temp`, its name unless there is one of that name, and returns whether it did; it lasts when
/// this returns.
pub fn persist_new_lasting(file: &File, temp: &Path, to: &Path) -> io::Result<bool> {
    file.sync_all()?;
    let is_renamed = rename_new(temp, to)?;
    if is_renamed {
        sync_dir(File::open(to.parent().unwrap_or(Path::new("/")))?)?;
    }
    Ok(is_renamed)
}

/// Renames a file, unless there is one of the new name; whether it was renamed.
fn rename_new(from: &Path, to: &Path) -> io::Result<bool> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(Errno::EXIST) => Ok(false),
        // NFS and some FUSE filesystems have no such rename: there it replaces.
        Err(Errno::INVAL | Errno::NOSYS) => rename(from, to).map(|()| true),
        result => Ok(result.map(|()| true)?),
    }
}

fn put(folder: &Path, name: &str, bytes: &[u8], lasting: bool) -> io::Result<()> {
    loop {
        let mut temp = tempfile::Builder::new().prefix(HALF_WRITTEN).tempfile_in(folder)?;
        if temp.as_file().try_lock().is_err() {
            // Another runner has just taken it for left over.
            continue;
        }
        temp.write_all(bytes)?;
        if lasting {
            temp.as_file().sync_all()?;
        }
        match persist(temp, &folder.join(name)) {
            // As above, the moment before.
            Err(error) if error.kind() == io::ErrorKind::NotFound && folder.exists() => {}
            result => return result,
        }
    }
}

/// Removes what killed runners left half-written, and what was written or [used](touch) longer ago than that.
///
/// Nothing here is an error: what stays is removed another time, and there may be no folder yet.
pub fn sweep(folder: &Path, unused: Option<Duration>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let is_half = entry.file_name().as_encoded_bytes().starts_with(HALF_WRITTEN.as_bytes());
        let goes = if is_half {
            regular::open(&entry.path()).is_ok_and(|file| file.try_lock().is_ok())
        } else {
            unused.is_some_and(|unused| age(&entry.path()).is_some_and(|age| age > unused))
        };
        if goes {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Notes that a file is in use, once a day.
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
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::fs::symlink;
    use std::time::SystemTime;

    use proptest::prelude::*;

    use super::*;

    /// A way to write a file, and what has its name before.
    #[derive(Debug, Clone, Copy)]
    enum Way {
        Write,
        Lasting,
        Replace,
    }

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Before {
        /// Whatever the writes before gave it.
        Same,
        /// A link to a file outside.
        Link,
        /// A directory that is not empty.
        Directory,
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn after_any_writes_each_name_has_the_last_bytes_whole_and_nothing_else_is_there(
            known in prop::collection::vec("[^/\0]{1,60}", 4),
            writes in prop::collection::vec((
                0..4_usize,
                prop::sample::select(vec![Way::Write, Way::Lasting, Way::Replace]),
                prop::sample::select(vec![Before::Same, Before::Same, Before::Link, Before::Directory]),
                prop::collection::vec(any::<u8>(), 0..3000),
            ), 1..20),
        ) {
            let top = tempfile::tempdir_in("/dev/shm").unwrap();
            let (folder, outside) = (top.path().join("folder"), top.path().join("outside"));
            fs::create_dir(&folder).unwrap();
            fs::write(&outside, "outside").unwrap();
            let dir = super::super::dirfd::Dir::open(&folder).unwrap();
            let mut expected: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
            for (at, way, before, bytes) in writes {
                let name = known[at].as_str();
                if name == "." || name == ".." {
                    continue;
                }
                let path = folder.join(name);
                if before != Before::Same {
                    let _ = fs::remove_file(&path);
                    expected.remove(name);
                }
                match before {
                    Before::Same => {}
                    Before::Link => symlink(&outside, &path).unwrap(),
                    Before::Directory => fs::create_dir_all(path.join("full")).unwrap(),
                }
                let written = match way {
                    Way::Write => write(&folder, name, &bytes),
                    Way::Lasting => write_lasting(&folder, name, &bytes),
                    Way::Replace => replace(&dir, OsStr::new(name), &bytes, Permissions::New),
                };
                prop_assert_eq!(written.is_err(), before == Before::Directory);
                if before == Before::Directory {
                    fs::remove_dir_all(&path).unwrap();
                } else {
                    expected.insert(name, bytes);
                }
                sweep(&folder, None);
            }
            let found: BTreeMap<String, Vec<u8>> = names(&folder)
                .into_iter()
                .map(|name| {
                    let path = folder.join(&name);
                    assert!(fs::symlink_metadata(&path).unwrap().is_file(), "{name:?}");
                    let bytes = fs::read(path).unwrap();
                    (name, bytes)
                })
                .collect();
            prop_assert!(found.iter().map(|(name, bytes)| (name.as_str(), bytes)).eq(expected.iter().map(|(n, b)| (*n, b))));
            prop_assert_eq!(fs::read(&outside).unwrap(), b"outside");
        }
    }

    #[test]
    fn a_written_file_gets_a_new_name_and_never_one_that_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let [temp, to] = ["temp", "to"].map(|name| folder.path().join(name));
        for (text, is_new) in [("one", true), ("two", false)] {
            fs::write(&temp, text).unwrap();
            assert_eq!(persist_new_lasting(&File::open(&temp).unwrap(), &temp, &to).unwrap(), is_new);
            assert_eq!((fs::read_to_string(&to).unwrap().as_str(), temp.exists()), ("one", !is_new));
        }
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn grow_old(file: &Path, days: u64) {
        let time = SystemTime::now() - Duration::from_secs(days * 24 * 60 * 60);
        File::open(file).unwrap().set_modified(time).unwrap();
    }

    #[test]
    fn a_file_is_put_in_a_new_folder_and_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let below = folder.path().join("a");
        write(&below, "name", b"old").unwrap();
        write(&below, "name", b"new").unwrap();
        assert_eq!(fs::read(below.join("name")).unwrap(), b"new");
        assert_eq!(names(&below), ["name"]);
    }

    #[test]
    fn a_folder_above_that_is_gone_does_not_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let gone = folder.path().join("store");
        assert_eq!(write(&gone.join("timings"), "name", b"").unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(!gone.exists());
    }

    #[test]
    fn a_callers_file_is_replaced_and_a_link_in_its_place_is_not_followed() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("name");
        fs::write(folder.path().join("outside"), "kept").unwrap();
        symlink("outside", &path).unwrap();
        let dir = super::super::dirfd::Dir::open(folder.path()).unwrap();
        for text in ["one", "two"] {
            replace(&dir, OsStr::new("name"), text.as_bytes(), Permissions::Exactly(0o640)).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(fs::symlink_metadata(&path).unwrap().permissions().mode(), 0o100_640);
        assert_eq!(fs::read_to_string(folder.path().join("outside")).unwrap(), "kept");
        assert_eq!(names(folder.path()), ["name", "outside"]);
    }

    #[test]
    fn a_file_that_cannot_be_put_leaves_nothing_half_written() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("name/full")).unwrap();
        let dir = super::super::dirfd::Dir::open(folder.path()).unwrap();
        assert!(replace(&dir, OsStr::new("name"), b"text", Permissions::New).is_err());
        assert_eq!(names(folder.path()), ["name"]);
    }

    #[test]
    fn half_written_files_of_killed_runners_go_and_those_of_living_ones_stay() {
        let folder = tempfile::tempdir().unwrap();
        let living = File::create(folder.path().join(".half-living")).unwrap();
        living.lock().unwrap();
        File::create(folder.path().join(".half-dead")).unwrap();
        write(folder.path(), "whole", b"").unwrap();
        sweep(folder.path(), None);
        assert_eq!(names(folder.path()), [".half-living", "whole"]);
    }

    #[test]
    fn what_is_not_used_for_long_goes() {
        const MONTH: Duration = Duration::from_secs(30 * 24 * 60 * 60);
        let folder = tempfile::tempdir().unwrap();
        for name in ["fresh", "old", "used"] {
            write(folder.path(), name, b"").unwrap();
        }
        grow_old(&folder.path().join("old"), 31);
        grow_old(&folder.path().join("used"), 31);
        touch(&folder.path().join("used"));
        sweep(folder.path(), Some(MONTH));
        assert_eq!(names(folder.path()), ["fresh", "used"]);
    }

    #[test]
    fn two_that_write_and_sweep_at_once_do_no_harm() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        std::thread::scope(|scope| {
            for byte in 0..3 {
                scope.spawn(move || {
                    for _ in 0..200 {
                        write(path, "name", &[byte; 1000]).unwrap();
                        sweep(path, None);
                        if let Ok(bytes) = fs::read(path.join("name")) {
                            assert!(bytes.len() == 1000 && bytes.iter().all(|other| *other == bytes[0]));
                        }
                    }
                });
            }
        });
        assert_eq!(names(path), ["name"]);
    }
}
