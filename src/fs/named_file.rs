//! A file that the command line or a setting names: its directory, opened once, and its name in it.
//!
//! A link in the place of the file is refused: a step of an earlier build may have made it, and it may lead to any file of the
//! host. A link in /proc is the kernel's, such as those that `/dev/fd` leads to. `/dev/stdout` and `/dev/stderr` are the streams
//! of this process. Runner writes into a FIFO, or into a device below /dev, as any program does; a device node elsewhere is
//! refused, because a step may have made it, of a disk of the host for example.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{
    AtFlags, FileType, FlockOperation, Mode, OFlags, PROC_SUPER_MAGIC, flock, fstat, fstatfs, openat, readlinkat,
    statat,
};
use rustix::io::Errno;

use crate::diagnostic::escaped;

use super::atomic::{self, Permissions};
use super::dirfd::{Dir, real_path, reopen};
use super::regular;

/// Far longer than a runner takes to read and replace a file.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);
const LOCK_INTERVAL: Duration = Duration::from_millis(10);

/// A file, whether it exists yet or not.
#[derive(Debug)]
pub struct NamedFile {
    path: PathBuf,
    dir: Dir,
    name: OsString,
    /// Added to the flags that open the file.
    flags: OFlags,
    /// The type of the file when it was found; a regular one where there was none.
    kind: FileType,
    /// The stream that is written into, in place of a file that is replaced.
    stream: Option<File>,
}

impl NamedFile {
    /// Opens the directory of a file, links followed.
    ///
    /// # Errors
    /// In words for a link and for a directory of that name; those of opening its directory.
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
        } else if kind == FileType::Symlink && standard_stream(path).is_none() {
            if fstatfs(&dir)?.f_type != PROC_SUPER_MAGIC {
                let target = OsString::from_vec(readlinkat(&dir, &name, Vec::new())?.into_bytes());
                let error =
                    format!("it is a symbolic link to {}; name that file itself", escaped(&target.to_string_lossy()));
                return Err(io::Error::other(error));
            }
            flags = OFlags::CLOEXEC;
        }
        Ok(Self { path: path.to_owned(), dir, name, flags, kind, stream: None })
    }

    /// Returns the path as the user wrote it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns whether bytes are written into something that exists, such as a FIFO, rather than into a new file.
    pub fn is_stream(&self) -> bool {
        self.kind != FileType::RegularFile
    }

    /// Opens the stream that [`NamedFile::replace`] writes into, where it is one. A FIFO waits for its reader.
    ///
    /// # Errors
    /// Those of [`NamedFile::create`].
    pub fn open_stream(mut self) -> io::Result<Self> {
        if self.is_stream() {
            self.stream = Some(self.create()?);
        }
        Ok(self)
    }

    /// Opens the file to write it from its beginning, and makes it where it is missing.
    ///
    /// # Errors
    /// Those of open(2).
    pub fn create(&self) -> io::Result<File> {
        self.write(OFlags::CREATE | OFlags::TRUNC)
    }

    /// Opens the file to write at its end, and makes it where it is missing.
    ///
    /// # Errors
    /// Those of open(2).
    pub fn append(&self) -> io::Result<File> {
        self.write(OFlags::CREATE | OFlags::APPEND)
    }

    /// Opens the file for reading, by [`regular`].
    ///
    /// # Errors
    /// Those of open(2); in words where it is no regular file.
    pub fn read(&self) -> io::Result<File> {
        regular::reopen(self.open(OFlags::PATH)?.as_fd())
    }

    /// Locks the file's directory with flock(2) for as long as the result lives, so that one process at a time reads and replaces
    /// the file. It gives up after [`LOCK_TIMEOUT`], because a step may have left a process behind that never unlocks.
    ///
    /// # Errors
    /// In words, where another process has locked it; those of locking.
    pub fn lock_directory(&self) -> io::Result<OwnedFd> {
        let dir = openat(&self.dir, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let deadline = Instant::now() + LOCK_TIMEOUT;
        loop {
            match flock(&dir, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(dir),
                Err(Errno::WOULDBLOCK) if Instant::now() < deadline => thread::sleep(LOCK_INTERVAL),
                Err(Errno::WOULDBLOCK) => {
                    return Err(io::Error::other("another process has locked its directory with flock(2)"));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn write(&self, flags: OFlags) -> io::Result<File> {
        let flags = OFlags::WRONLY | flags;
        if let Some(stream) = standard_stream(&self.path) {
            // Opened again, a file would be overwritten from its beginning, and a socket could not be opened.
            return Ok(stream.try_clone_to_owned()?.into());
        }
        // By a descriptor that was checked: a step may put a device node in its place at any time.
        let existing = flags.difference(OFlags::CREATE);
        if self.is_stream() {
            let place = self.open(OFlags::PATH)?;
            let kind = FileType::from_raw_mode(fstat(&place)?.st_mode);
            if self.kind != FileType::Symlink && kind != self.kind {
                return Err(io::Error::other("it was replaced in the meantime"));
            }
            if matches!(kind, FileType::CharacterDevice | FileType::BlockDevice)
                && self.kind != FileType::Symlink
                && !real_path(self.dir.as_fd())?.starts_with("/dev")
            {
                return Err(io::Error::other("it is a device node outside /dev"));
            }
            return Ok(reopen(place.as_fd(), existing | OFlags::NOCTTY)?.into());
        }
        loop {
            match self.open(OFlags::PATH) {
                Ok(place) => {
                    regular::is_regular(&place)?;
                    let path = || self.path.display().to_string();
                    return regular::open_leased(path, || reopen(place.as_fd(), existing | OFlags::NONBLOCK));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            match self.open(flags | OFlags::CREATE | OFlags::EXCL) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                file => return Ok(file?.into()),
            }
        }
    }

    fn open(&self, flags: OFlags) -> io::Result<OwnedFd> {
        Ok(openat(&self.dir, &self.name, flags | self.flags, Mode::from_raw_mode(0o666))?)
    }

    /// Replaces the file with one that has these bytes, whole or not at all; or writes them into the open stream.
    ///
    /// # Errors
    /// Those of writing; the file is unchanged then.
    pub fn replace(&self, bytes: &[u8], permissions: Permissions) -> io::Result<()> {
        if let Some(mut stream) = self.stream.as_ref() {
            return stream.write_all(bytes);
        }
        atomic::replace(&self.dir, &self.name, bytes, permissions)
    }
}

/// Returns the stream of this process that has that name.
fn standard_stream(path: &Path) -> Option<BorrowedFd<'static>> {
    match path.components().collect::<PathBuf>().to_str()? {
        "/dev/stdout" => Some(rustix::stdio::stdout()),
        "/dev/stderr" => Some(rustix::stdio::stderr()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read;
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
    fn a_file_with_a_lease_is_refused_in_words_and_written_once_the_lease_ends() {
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
        symlink("a\n::error::", top.path().join("b/line")).unwrap();
        let error = NamedFile::find(&top.path().join("b/line")).unwrap_err();
        assert_eq!(error.to_string(), "it is a symbolic link to a\\n::error::; name that file itself");
        for directory in [top.path(), Path::new("/"), Path::new("..")] {
            assert_eq!(NamedFile::find(directory).unwrap_err().kind(), io::ErrorKind::IsADirectory);
        }
    }

    #[test]
    fn a_report_is_written_into_a_fifo_with_a_reader_and_the_fifo_stays() {
        let top = tempfile::tempdir().unwrap();
        let path = top.path().join("report.json");
        rustix::fs::mknodat(rustix::fs::CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        let reader = std::thread::spawn({
            let path = path.clone();
            move || fs::read_to_string(path).unwrap()
        });
        let named = NamedFile::find(&path).unwrap().open_stream().unwrap();
        named.replace(b"report", Permissions::Exactly(0o600)).unwrap();
        drop(named);
        assert_eq!(reader.join().unwrap(), "report");
        assert_eq!(FileType::from_raw_mode(rustix::fs::lstat(&path).unwrap().st_mode), FileType::Fifo);
    }

    #[test]
    fn a_device_node_is_written_to_only_below_dev() {
        let top = tempfile::tempdir().unwrap();
        let path = top.path().join("log.json");
        let null = rustix::fs::makedev(1, 3);
        rustix::fs::mknodat(rustix::fs::CWD, &path, FileType::CharacterDevice, Mode::from_raw_mode(0o600), null)
            .unwrap();
        let named = NamedFile::find(&path).unwrap();
        for result in [named.create().map(drop), named.append().map(drop), named.open_stream().map(drop)] {
            assert_eq!(result.unwrap_err().to_string(), "it is a device node outside /dev");
        }
        NamedFile::find(Path::new("/dev/null")).unwrap().create().unwrap().write_all(b"log").unwrap();
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
