//! The place of an output: a directory that was opened before anything ran, and a name in it.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, openat, statat};
use rustix::io::Errno;

use super::caller::{Owner, caller};
use super::dirfd::{Dir, Identity, real_path};
use super::in_root::open_without_links;

/// A file that is to be written, and replaces the one that may exist.
///
/// Links on the way are followed once, when the directory is opened. Afterwards the directory may be removed and made again, as
/// builds do to clean up, but no link leads anywhere else.
#[derive(Debug)]
pub struct OutputPlace {
    path: PathBuf,
    /// Without links.
    directory: PathBuf,
    opened: Dir,
    name: OsString,
    /// A directory may be in its place, and replaced.
    may_be_directory: bool,
    /// The owner of directories that are made for it.
    owner: Option<Owner>,
    /// Nothing is made for it.
    is_only_read: bool,
}

impl OutputPlace {
    /// Opens the directory of an output, and makes it where it is missing. A new directory belongs to the [`caller`], as the files of an
    /// export do.
    ///
    /// # Errors
    /// `InvalidInput` for a path that is not absolute or ends in no name; where the name is that of something other than a
    /// regular file; those of opening the directory.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::open_as(path, false, caller())
    }

    /// Opens the directory of an output that may be a directory itself.
    ///
    /// # Errors
    /// Those of [`OutputPlace::open`].
    pub fn open_for_tree(path: &Path) -> io::Result<Self> {
        Self::open_as(path, true, caller())
    }

    /// Opens the directory of an output to look at it, and makes nothing. Returns none where the output does not exist.
    ///
    /// # Errors
    /// Those of [`OutputPlace::open`].
    pub fn find(path: &Path, may_be_directory: bool) -> io::Result<Option<Self>> {
        let (above, name) = split(path)?;
        let opened = match Dir::open(above) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        match statat(&opened, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
            Ok(_) => Self::within(opened, path, name, (may_be_directory, None, true)).map(Some),
        }
    }

    fn open_as(path: &Path, may_be_directory: bool, owner: Option<Owner>) -> io::Result<Self> {
        let (above, name) = split(path)?;
        Self::within(Dir::open_or_create(above, 0o777, owner)?, path, name, (may_be_directory, owner, false))
    }

    fn within(
        opened: Dir,
        path: &Path,
        name: &OsStr,
        (may_be_directory, owner, is_only_read): (bool, Option<Owner>, bool),
    ) -> io::Result<Self> {
        let directory = real_path(opened.as_fd())?;
        let (path, name) = (path.to_owned(), name.to_owned());
        let place = Self { path, directory, opened, name, may_be_directory, owner, is_only_read };
        place.check(&place.opened)?;
        Ok(place)
    }

    /// Returns the path as the user wrote it, absolute.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the path of its directory, without links.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Returns its name there.
    pub fn name(&self) -> &OsStr {
        &self.name
    }

    /// Returns the directory as it was opened first.
    pub fn opened(&self) -> &Dir {
        &self.opened
    }

    /// Returns which file it is: that name in that directory.
    pub fn identity(&self) -> (Identity, &OsStr) {
        (self.opened.identity(), &self.name)
    }

    /// Opens its present directory. One that was removed is made again; a link is not followed.
    ///
    /// # Errors
    /// Where something other than a directory is in the place of it or of a parent.
    pub fn current(&self) -> io::Result<Dir> {
        let opened = match open_without_links(CWD, &self.directory, OFlags::PATH | OFlags::DIRECTORY) {
            Err(Errno::NOENT) if !self.is_only_read => self.make(),
            result => result.map_err(io::Error::from).and_then(Dir::new),
        };
        opened.map_err(|error| match Errno::from_io_error(&error) {
            Some(Errno::LOOP | Errno::NOTDIR) => {
                let directory = self.directory.display();
                io::Error::other(format!(
                    "{directory} was a directory when the build began, and now a link is in the way"
                ))
            }
            _ => error,
        })
    }

    fn make(&self) -> io::Result<Dir> {
        let names = self.directory.iter().skip(1);
        names.fold(Dir::open(Path::new("/")), |dir, name| dir?.create(name, 0o777, self.owner))
    }

    /// Refuses anything but a regular file, or a directory where that may be replaced.
    ///
    /// # Errors
    /// In words, where something else has its name in that directory.
    pub fn check(&self, dir: &Dir) -> io::Result<()> {
        let kind = match statat(dir, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => FileType::from_raw_mode(stat.st_mode),
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let found = match kind {
            FileType::RegularFile => return Ok(()),
            FileType::Directory if self.may_be_directory => return Ok(()),
            FileType::Directory => "a directory",
            FileType::Symlink => "a symbolic link",
            FileType::CharacterDevice | FileType::BlockDevice => "a device",
            FileType::Fifo => "a fifo",
            FileType::Socket => "a socket",
            FileType::Unknown => "of an unknown type",
        };
        Err(io::Error::other(format!("it is {found}, and an output replaces a regular file only")))
    }

    /// Refuses a directory, for an output that may be one, where it is a file after all.
    ///
    /// # Errors
    /// In words, where a directory has its name in that directory.
    pub fn refuse_directory(&self, dir: &Dir) -> io::Result<()> {
        match statat(dir, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => Err(io::Error::other(
                "it is a directory, and the export is a file; remove the directory, or choose another output",
            )),
            _ => Ok(()),
        }
    }

    /// Opens the file, as `O_PATH`.
    ///
    /// # Errors
    /// `NotFound` where there is none, and those of [`OutputPlace::current`] and [`OutputPlace::check`].
    pub fn file(&self) -> io::Result<OwnedFd> {
        let dir = self.current()?;
        self.check(&dir)?;
        Ok(openat(&dir, &self.name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?)
    }
}

/// Returns the directory of an output, and its name there.
fn split(path: &Path) -> io::Result<(&Path, &OsStr)> {
    let parts = path.parent().zip(path.file_name()).filter(|_| path.is_absolute());
    parts.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "it is no absolute path of a file"))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_directory_that_was_removed_is_made_again_and_a_link_in_its_place_is_refused() {
        let top = tempfile::tempdir().unwrap();
        fs::create_dir(top.path().join("real")).unwrap();
        symlink("real", top.path().join("link")).unwrap();
        let place = OutputPlace::open(&top.path().join("link/a/b/file")).unwrap();
        assert_eq!(place.directory(), top.path().canonicalize().unwrap().join("real/a/b"));
        assert_eq!(place.current().unwrap().identity(), place.opened().identity());
        fs::remove_dir_all(top.path().join("real/a")).unwrap();
        assert!(place.current().is_ok() && top.path().join("real/a/b").is_dir());
        for link in ["real/a/b", "real/a"] {
            fs::remove_dir_all(top.path().join(link)).unwrap();
            symlink("/etc", top.path().join(link)).unwrap();
            let error = place.current().unwrap_err();
            assert!(error.to_string().contains("now a link is in the way"), "{error}");
            fs::remove_file(top.path().join(link)).unwrap();
        }
    }

    #[test]
    fn only_a_regular_file_is_replaced() {
        let top = tempfile::tempdir().unwrap();
        fs::write(top.path().join("file"), "").unwrap();
        fs::create_dir(top.path().join("dir")).unwrap();
        symlink("file", top.path().join("link")).unwrap();
        rustix::fs::mknodat(CWD, top.path().join("fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        let open = |path: &Path| OutputPlace::open(path).map(drop).map_err(|error| error.to_string());
        for good in ["file", "new", "deep/er/new"] {
            open(&top.path().join(good)).unwrap();
        }
        for (bad, found) in [("dir", "a directory"), ("link", "a symbolic link"), ("fifo", "a fifo")] {
            assert!(open(&top.path().join(bad)).unwrap_err().contains(&format!("it is {found}, and")), "{bad}");
        }
        assert!(open(Path::new("/dev/null")).unwrap_err().contains("it is a device"));
        for bad in ["/", "", "relative", "/a/.."] {
            assert_eq!(open(Path::new(bad)).unwrap_err(), "it is no absolute path of a file", "{bad}");
        }
        assert!(OutputPlace::open(&top.path().join("file")).unwrap().file().is_ok());
    }
}
