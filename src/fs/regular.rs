//! Opens files whose bytes are read: only regular ones, without waiting for another process, and reads them up to a bound.
//!
//! Anyone may have put another file at a path by now: opening a FIFO waits, opening a device has effects, and a file of a
//! terabyte does not fit into memory. So the path is looked up first, and only a regular file is opened. Nor does opening wait
//! for the end of a lease that another process has on a file and may never give up, see fcntl(2).

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::thread;
use std::time::Duration;

use rustix::fs::{FileType, Mode, OFlags, fcntl_getfl, fcntl_setfl, fstat, fstatfs};
use rustix::io::Errno;

use super::dirfd;

/// The max_bytes bytes of a file that runner wrote itself, such as a record of the store.
pub const MAX_OF_OURS: u64 = 64 << 20;

/// A file with a lease is tried as often. A file server gives its lease up milliseconds after the kernel asks.
const LEASE_TRIES: u32 = 50;

/// The time between two of them.
const LEASE_PAUSE: Duration = Duration::from_millis(10);

/// Opens a file for reading, links followed.
///
/// # Errors
/// Those of open(2); in words where it is no regular file.
pub fn open(path: &Path) -> io::Result<File> {
    reopen(rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?.as_fd())
}

/// Opens a file or a directory, to lock it, links followed.
///
/// # Errors
/// Those of open(2); in words where it is neither.
pub fn open_or_directory(path: &Path) -> io::Result<File> {
    let place = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    match is_regular(&place) {
        Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
            Ok(dirfd::reopen(place.as_fd(), OFlags::RDONLY | OFlags::DIRECTORY)?.into())
        }
        _ => reopen(place.as_fd()),
    }
}

/// Opens for reading a file that is open as `O_PATH`.
///
/// # Errors
/// Those of open(2); in words where it is no regular file.
pub fn reopen(place: BorrowedFd<'_>) -> io::Result<File> {
    is_regular(place)?;
    let path = || dirfd::real_path(place).map_or_else(|_| "FILE".to_owned(), |path| path.display().to_string());
    open_leased(path, || dirfd::reopen(place, OFlags::RDONLY | OFlags::NOCTTY | OFlags::NONBLOCK))
}

/// Opens a regular file on which another process may have a lease; the kernel asks that process to give the lease up. `open`
/// opens the file with `O_NONBLOCK`; the returned file is without it.
///
/// # Errors
/// Those of `open`; in words, with the file's path, where the lease lasts.
pub fn open_leased(path: impl FnOnce() -> String, mut open: impl FnMut() -> io::Result<OwnedFd>) -> io::Result<File> {
    for _ in 0..LEASE_TRIES {
        match open() {
            Err(error) if error.raw_os_error() == Some(Errno::AGAIN.raw_os_error()) => thread::sleep(LEASE_PAUSE),
            opened => {
                let file = opened?;
                fcntl_setfl(&file, fcntl_getfl(&file)?.difference(OFlags::NONBLOCK))?;
                return Ok(file.into());
            }
        }
    }
    let words = "another process has a lease on it (fcntl(2), F_SETLEASE) and does not give it up";
    Err(io::Error::new(
        io::ErrorKind::ResourceBusy,
        format!("{words}: `lslocks` and `fuser -v {}` name that process; end it", path()),
    ))
}

/// Opens a file for reading that may also be a pipe of a shell, as `<(command)` makes. A FIFO is refused: it has a name, and
/// anyone may have made it.
///
/// # Errors
/// Those of open(2); in words where it is neither.
pub fn open_or_pipe(path: &Path) -> io::Result<File> {
    const PIPEFS_MAGIC: i64 = 0x5049_5045;
    let place = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    if fstatfs(&place)?.f_type == PIPEFS_MAGIC {
        return Ok(dirfd::reopen(place.as_fd(), OFlags::RDONLY)?.into());
    }
    reopen(place.as_fd())
}

/// Fails, in words, unless the open file is a regular one.
///
/// # Errors
/// The kind of file that it is instead; those of fstat(2).
pub fn is_regular(file: impl AsFd) -> io::Result<()> {
    let kind = match FileType::from_raw_mode(fstat(file)?.st_mode) {
        FileType::RegularFile => return Ok(()),
        FileType::Directory => {
            return Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a directory, not a regular file"));
        }
        FileType::Symlink => "a symbolic link",
        FileType::Fifo => "a FIFO",
        FileType::Socket => "a socket",
        FileType::CharacterDevice => "a character device",
        FileType::BlockDevice => "a block device",
        FileType::Unknown => "of an unknown kind",
    };
    Err(io::Error::other(format!("it is {kind}, not a regular file")))
}

/// Reads all of a regular file that has no more than `max_bytes` bytes, links followed.
///
/// # Errors
/// Those of [`open`] and [`read_all`].
pub fn read(path: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
    read_all(open(path)?, max_bytes)
}

/// Reads a file to its end.
///
/// # Errors
/// `FileTooLarge`, in words, where it has more than `max_bytes` bytes; those of read(2).
pub fn read_all(file: impl Read, max_bytes: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(max_bytes.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max_bytes {
        let max_bytes = if max_bytes.is_multiple_of(1 << 20) {
            format!("{} MiB", max_bytes >> 20)
        } else {
            format!("{max_bytes} bytes")
        };
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it is over {max_bytes}")));
    }
    Ok(bytes)
}

/// Reads a file of text as [`read`] does.
///
/// # Errors
/// Those of [`read`]; `InvalidData` where it is not UTF-8.
pub fn read_text(path: &Path, max_bytes: u64) -> io::Result<String> {
    into_text(read(path, max_bytes)?)
}

/// Returns bytes as text.
///
/// # Errors
/// `InvalidData` where they are not UTF-8.
pub fn into_text(bytes: Vec<u8>) -> io::Result<String> {
    String::from_utf8(bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixListener;

    use rustix::fs::{CWD, makedev, mknodat};

    use super::*;

    #[test]
    fn only_a_regular_file_is_opened_and_at_once() {
        let top = tempfile::tempdir().unwrap();
        let at = |name: &str| top.path().join(name);
        let make = |name: &str, kind, device| mknodat(CWD, at(name), kind, Mode::from_raw_mode(0o600), device);
        make("fifo", FileType::Fifo, 0).unwrap();
        make("zero", FileType::CharacterDevice, makedev(1, 5)).unwrap();
        make("loop", FileType::BlockDevice, makedev(7, 0)).unwrap();
        fs::create_dir(at("directory")).unwrap();
        let _socket = UnixListener::bind(at("socket")).unwrap();
        std::os::unix::fs::symlink("fifo", at("link")).unwrap();
        for (name, why) in [
            ("fifo", "it is a FIFO, not a regular file"),
            ("link", "it is a FIFO, not a regular file"),
            ("zero", "it is a character device, not a regular file"),
            ("loop", "it is a block device, not a regular file"),
            ("socket", "it is a socket, not a regular file"),
            ("directory", "it is a directory, not a regular file"),
        ] {
            assert_eq!(read(&at(name), 9).unwrap_err().to_string(), why);
            assert_eq!(open_or_pipe(&at(name)).unwrap_err().to_string(), why);
        }
        assert_eq!(open(&at("missing")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_file_with_a_lease_is_refused_in_words_and_read_once_the_lease_is_given_up() {
        let file = tempfile::NamedTempFile::new().unwrap().into_temp_path();
        let holder = File::open(&file).unwrap();
        crate::sys::take_lease(&holder, true).unwrap();
        let error = open(&file).unwrap_err().to_string();
        let fuser = format!("`fuser -v {}`", file.display());
        assert!(error.contains("F_SETLEASE") && error.contains(&fuser), "{error}");
        let holder = thread::spawn(move || {
            thread::sleep(LEASE_PAUSE * 3);
            drop(holder);
        });
        let opened = open(&file).unwrap();
        holder.join().unwrap();
        assert!(!fcntl_getfl(&opened).unwrap().contains(OFlags::NONBLOCK));
    }

    #[test]
    fn a_file_larger_than_its_bound_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (length, read_whole) in [(0, true), (5, true), (6, false), (1 << 40, false)] {
            file.as_file().set_len(length).unwrap();
            assert_eq!(read(file.path(), 5).is_ok(), read_whole, "{length}");
        }
        assert_eq!(read(file.path(), 5).unwrap_err().to_string(), "it is over 5 bytes");
        assert_eq!(read(file.path(), 1 << 20).unwrap_err().to_string(), "it is over 1 MiB");
    }

    #[test]
    fn a_pipe_of_a_shell_is_read_only_on_request() {
        let (reader, mut writer) = io::pipe().unwrap();
        writer.write_all(b"text").unwrap();
        drop(writer);
        let path = format!("/dev/fd/{}", reader.as_raw_fd());
        assert!(open(Path::new(&path)).is_err());
        assert_eq!(read_all(open_or_pipe(Path::new(&path)).unwrap(), 9).unwrap(), b"text");
    }
}
