//! A file that the command line or a setting names: its directory, opened once, and its name in it.
//!
//! A link in the place of the file is refused: a step of an earlier build may have left it, and it may lead to any file
//! of the host. A link in /proc is the kernel's, such as those that `/dev/fd` leads to.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, PROC_SUPER_MAGIC, fstatfs, openat, readlinkat, statat};
use rustix::io::Errno;

use super::atomic::{self, Permissions};
use super::dirfd::Dir;
use super::regular;

/// A file, whether it is there yet or not.
#[derive(Debug)]
pub struct NamedFile {
    path: PathBuf,
    dir: Dir,
    name: OsString,
    /// Added to the flags that it is opened with.
    flags: OFlags,
    /// Whether a regular file was there, or nothing.
    is_regular: bool,
}

impl NamedFile {
    /// Opens the directory of a file, links followed.
    ///
    /// # Errors
    /// In words for a link and for a directory of that name; what opening its directory gives.
    pub fn find(path: &Path) -> io::Result<Self> {
        let is_directory = || io::Error::new(io::ErrorKind::IsADirectory, "it is a directory");
        let name = path.file_name().ok_or_else(is_directory)?.to_owned();
        let above = path.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let dir = Dir::open(above)?;
        let kind = match statat(&dir, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => FileType::from_raw_mode(stat.st_mode),
            Err(Errno::NOENT) => FileType::RegularFile,
            Err(error) => return Err(error.into()),
        };
        let mut flags = OFlags::CLOEXEC | OFlags::NOFOLLOW;
        if kind == FileType::Directory {
            return Err(is_directory());
        } else if kind == FileType::Symlink {
            if fstatfs(&dir)?.f_type != PROC_SUPER_MAGIC {
                let target = OsString::from_vec(readlinkat(&dir, &name, Vec::new())?.into_bytes());
                let error = format!("it is a symbolic link to {}; name that file itself", target.display());
                return Err(io::Error::other(error));
            }
            flags = OFlags::CLOEXEC;
        }
        Ok(Self { path: path.to_owned(), dir, name, flags, is_regular: kind == FileType::RegularFile })
    }

    /// As the user wrote it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens it to be written from its beginning, and makes it where it is missing.
    ///
    /// # Errors
    /// What open(2) says.
    pub fn create(&self) -> io::Result<File> {
        self.write(OFlags::CREATE | OFlags::TRUNC)
    }

    /// Opens it to be written at its end, and makes it where it is missing.
    ///
    /// # Errors
    /// What open(2) says.
    pub fn append(&self) -> io::Result<File> {
        self.write(OFlags::CREATE | OFlags::APPEND)
    }

    /// Opens it for reading, by [`regular`].
    ///
    /// # Errors
    /// What open(2) says; where it is no regular file.
    pub fn read(&self) -> io::Result<File> {
        regular::reopen(self.open(OFlags::PATH)?.as_fd())
    }

    fn write(&self, flags: OFlags) -> io::Result<File> {
        let flags = OFlags::WRONLY | flags;
        if !self.is_regular {
            return Ok(self.open(flags)?.into());
        }
        regular::open_leased(|| self.path.display().to_string(), || self.open(flags | OFlags::NONBLOCK))
    }

    fn open(&self, flags: OFlags) -> io::Result<OwnedFd> {
        Ok(openat(&self.dir, &self.name, flags | self.flags, Mode::from_raw_mode(0o666))?)
    }

    /// Puts a file with these bytes in its place, whole or not at all.
    ///
    /// # Errors
    /// What writing gives; the file is as it was then.
    pub fn replace(&self, bytes: &[u8], permissions: Permissions) -> io::Result<()> {
        atomic::replace(&self.dir, &self.name, bytes, permissions)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{Read, Write};
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_fifo_in_the_place_of_a_file_is_refused_at_once() {
        let top = tempfile::tempdir().unwrap();
        let path = top.path().join("runner.lock");
        rustix::fs::mknodat(rustix::fs::CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        let error = NamedFile::find(&path).unwrap().read().unwrap_err();
        assert_eq!(error.to_string(), "it is a FIFO, not a regular file");
    }

    #[test]
    fn a_file_with_a_lease_is_written_when_that_ends_and_refused_in_words_while_it_lasts() {
        let file = tempfile::NamedTempFile::new().unwrap().into_temp_path();
        let holder = fs::File::open(&file).unwrap();
        crate::sys::take_lease(&holder, false).unwrap();
        let named = NamedFile::find(&file).unwrap();
        for error in [named.create().unwrap_err(), named.append().unwrap_err()] {
            assert!(error.to_string().contains(&format!("`fuser -v {}`", file.display())), "{error}");
        }
        drop(holder);
        named.append().unwrap().write_all(b"log").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "log");
    }

    #[test]
    fn a_file_is_found_once_and_a_link_in_its_place_is_never_followed() {
        let top = tempfile::tempdir().unwrap();
        fs::write(top.path().join("victim"), "kept").unwrap();
        fs::create_dir(top.path().join("a")).unwrap();
        let file = NamedFile::find(&top.path().join("a/file")).unwrap();
        file.create().unwrap().write_all(b"log").unwrap();
        fs::rename(top.path().join("a"), top.path().join("b")).unwrap();
        file.replace(b"report", Permissions::New).unwrap();
        let mut text = String::new();
        file.read().unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(
            (text.as_str(), fs::read_to_string(top.path().join("b/file")).unwrap().as_str()),
            ("report", "report")
        );
        fs::remove_file(top.path().join("b/file")).unwrap();
        symlink("../victim", top.path().join("b/file")).unwrap();
        assert!(file.create().is_err() && file.read().is_err());
        let error = NamedFile::find(&top.path().join("b/file")).unwrap_err();
        assert_eq!(error.to_string(), "it is a symbolic link to ../victim; name that file itself");
        assert_eq!(fs::read_to_string(top.path().join("victim")).unwrap(), "kept");
        for directory in [top.path(), Path::new("/"), Path::new("..")] {
            assert_eq!(NamedFile::find(directory).unwrap_err().kind(), io::ErrorKind::IsADirectory);
        }
    }

    #[test]
    fn a_descriptor_of_this_process_can_be_written_to() {
        let (mut reader, writer) = io::pipe().unwrap();
        let path = format!("/dev/fd/{}", writer.as_raw_fd());
        NamedFile::find(Path::new(&path)).unwrap().create().unwrap().write_all(b"log").unwrap();
        drop(writer);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "log");
    }
}
