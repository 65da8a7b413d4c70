//! An opened directory with its identity: the directory that a path led to when it was opened, wherever the path leads later.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, Uid, chownat, fstat, mkdirat, open, openat, readlinkat};
use rustix::io::Errno;

use super::caller::Owner;
use super::list::entries;

/// The identity of a file: two paths to the same file have the same one, however they are spelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    /// Returns the identity of the file with that inode number on that device.
    pub fn new(device: u64, inode: u64) -> Self {
        Self { device, inode }
    }

    /// Returns the identity of an open file.
    ///
    /// # Errors
    /// Those of fstat(2).
    pub fn of(file: impl AsFd) -> io::Result<Self> {
        let stat = fstat(file)?;
        Ok(Self { device: stat.st_dev, inode: stat.st_ino })
    }
}

/// A directory that is open, as `O_PATH`.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
    identity: Identity,
}

impl Dir {
    /// Opens the directory, links followed.
    ///
    /// # Errors
    /// Those of open(2): `ENOTDIR` for anything else.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::new(open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
    }

    /// Opens the directory, links followed, and makes it and its parents where they are missing. A new one belongs to `owner`; without
    /// one, to this process.
    ///
    /// # Errors
    /// Those of mkdir(2), open(2) and chown(2).
    pub fn open_or_create(path: &Path, mode: u32, owner: Option<Owner>) -> io::Result<Self> {
        match Self::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => return result,
        }
        let (Some(above), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Errno::NOENT.into());
        };
        let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
        Self::open_or_create(above, mode, owner)?.create(name, mode, owner)
    }

    /// Takes a directory that is open.
    ///
    /// # Errors
    /// Those of fstat(2).
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        let identity = Identity::of(&fd)?;
        Ok(Self { fd, identity })
    }

    /// Returns which directory it is.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Opens the entry of that name in it as a directory, and makes it where it is missing: for `owner`, or without one for this
    /// process. A link is not followed.
    ///
    /// # Errors
    /// `ELOOP` or `ENOTDIR` for a link or a file, and those of mkdir(2) and chown(2).
    pub fn create(&self, name: &OsStr, mode: u32, owner: Option<Owner>) -> io::Result<Self> {
        let is_new = match mkdirat(&self.fd, name, Mode::from_raw_mode(mode)) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(error) => return Err(error.into()),
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = Self::new(openat(&self.fd, name, flags, Mode::empty())?)?;
        if let Some(owner) = owner.filter(|_| is_new) {
            opened.give_to(owner)?;
        }
        Ok(opened)
    }

    /// Gives a directory that was just made to a user. A user with write access to the directory above may have put another one in
    /// its place meanwhile: one with files, or of another user, stays as it is.
    fn give_to(&self, owner: Owner) -> io::Result<()> {
        let is_own = fstat(&self.fd)?.st_uid == rustix::process::geteuid().as_raw();
        let readable = openat(&self.fd, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        if is_own && entries(readable.as_fd())?.is_empty() {
            let (user, group) = (Uid::from_raw(owner.user), Gid::from_raw(owner.group));
            match chownat(&self.fd, "", Some(user), Some(group), AtFlags::EMPTY_PATH) {
                // A filesystem without owners, as FAT.
                Ok(()) | Err(Errno::PERM) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Returns a path to an open file, for calls that take no descriptor, in this process alone.
pub fn path_of(file: BorrowedFd<'_>) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// Returns the present path of an open file, without links; the kernel adds ` (deleted)` to the path of a removed one.
///
/// # Errors
/// Those of readlink(2): `ENOENT` where /proc is not mounted.
pub fn real_path(file: BorrowedFd<'_>) -> io::Result<PathBuf> {
    let path = readlinkat(CWD, path_of(file), Vec::new())?;
    Ok(PathBuf::from(std::ffi::OsString::from_vec(path.into_bytes())))
}

/// Opens an open file again with other flags, for example one that is open as `O_PATH`.
///
/// # Errors
/// Those of open(2).
pub fn reopen(file: BorrowedFd<'_>, flags: OFlags) -> io::Result<OwnedFd> {
    Ok(open(path_of(file), flags | OFlags::CLOEXEC, Mode::empty())?)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn two_spellings_of_one_directory_have_one_identity() {
        let top = tempfile::tempdir().unwrap();
        fs::create_dir_all(top.path().join("a/b")).unwrap();
        symlink("a", top.path().join("link")).unwrap();
        let identity = |path: &str| Dir::open(&top.path().join(path)).unwrap().identity();
        assert_eq!(identity("a/b"), identity("link/../a/b"));
        assert_ne!(identity("a"), identity("a/b"));
    }

    #[test]
    fn an_open_directory_stays_the_same_when_its_path_leads_elsewhere() {
        let top = tempfile::tempdir().unwrap();
        let path = top.path().join("x/y");
        let dir = Dir::open_or_create(&path, 0o755, None).unwrap();
        fs::rename(top.path().join("x"), top.path().join("moved")).unwrap();
        symlink("/etc", top.path().join("x")).unwrap();
        dir.create(OsStr::new("z"), 0o755, None).unwrap();
        assert!(top.path().join("moved/y/z").is_dir());
        assert_eq!(real_path(dir.as_fd()).unwrap(), top.path().join("moved/y").canonicalize().unwrap());
    }

    #[test]
    fn a_new_directory_belongs_to_its_owner_and_an_old_one_stays_as_it_is() {
        use std::os::unix::fs::MetadataExt;

        let top = tempfile::tempdir().unwrap();
        fs::create_dir(top.path().join("old")).unwrap();
        let owner = |path: &str| {
            let found = fs::metadata(top.path().join(path)).unwrap();
            (found.uid(), found.gid())
        };
        let before = owner("old");
        let given = Owner { user: 1234, group: 56 };
        Dir::open_or_create(&top.path().join("old/new/deep"), 0o755, Some(given)).unwrap();
        assert_eq!([owner("old"), owner("old/new"), owner("old/new/deep")], [before, (1234, 56), (1234, 56)]);
        // Another one that was put in the place of a new one, with files in it.
        let dir = Dir::open(&top.path().join("old")).unwrap();
        dir.give_to(given).unwrap();
        assert_eq!(owner("old"), before);
    }

    #[test]
    fn a_link_in_the_place_of_a_directory_to_make_is_refused() {
        let top = tempfile::tempdir().unwrap();
        symlink("/etc", top.path().join("link")).unwrap();
        let error = Dir::open(top.path()).unwrap().create(OsStr::new("link"), 0o755, None).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotADirectory);
    }
}
