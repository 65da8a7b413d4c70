//! Stores the attributes that an image of a session's changes cannot contain: times to the nanosecond, before 1970 and after 2106,
//! and access control lists. A table after the image, in the same file, has them, so that a session that resumes there is the same.
//!
//! ```text
//! image   table   length of the table: u64   "runner.x"
//! ```
//!
//! Steps made the paths in the table, so they are hostile: each is resolved in the restored directory, without following links.

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Timespec, Timestamps, statat, utimensat};

use crate::fs::acl;
use crate::fs::in_root::open_on_same_mount as inside;
use crate::fs::regular;
use crate::fs::walk::{MountPoints, Walk};
use crate::fs::xattr::{XattrFile, XattrReader};

const END: &[u8; 8] = b"runner.x";
/// The size of the table's length and of the mark.
const END_BYTES: u64 = 16;
/// The kernel's limit for a list of names, and for a value; no path is longer.
const MAX_ATTRIBUTE: usize = 64 << 10;

/// One file or directory.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    /// The path below the directory.
    path: PathBuf,
    seconds: i64,
    nanoseconds: u32,
    lists: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Appends to `image`, which was written from `directory`, the attributes that it cannot contain. No process may change `directory`.
///
/// # Errors
/// Those of reading the directory and of writing the image.
pub fn append(directory: &Path, image: &Path) -> io::Result<()> {
    let mut table = Table { file: BufWriter::new(OpenOptions::new().append(true).open(image)?), bytes: 0 };
    each(directory, |entry| table.add(&entry))?;
    let Table { mut file, bytes } = table;
    file.write_all(&bytes.to_le_bytes())?;
    file.write_all(END)?;
    file.flush()
}

/// Sets the attributes that `image` could not contain on the files that were copied from it into `directory`.
///
/// # Errors
/// Those of the system calls, with the path; a damaged table.
pub fn restore(image: &Path, directory: &Path) -> io::Result<()> {
    let Some(mut table) = read_image(image)? else { return Ok(()) };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let top = rustix::fs::open(directory, flags, Mode::empty())?;
    while let Some(entry) = next(&mut table)? {
        let restored = |error: io::Error| {
            io::Error::new(error.kind(), format!("restore the times of {}: {error}", entry.path.display()))
        };
        let name = entry.path.file_name().unwrap_or(OsStr::new("."));
        let above = entry.path.parent().unwrap_or(Path::new(""));
        let above =
            inside(top.as_fd(), above, OFlags::RDONLY | OFlags::DIRECTORY).map_err(|error| restored(error.into()))?;
        let file = XattrFile::entry(above.as_fd(), name).map_err(|error| restored(error.into()))?;
        for (name, value) in &entry.lists {
            file.set(&name[..], value).map_err(|error| restored(error.into()))?;
        }
        let time = Timespec { tv_sec: entry.seconds, tv_nsec: entry.nanoseconds.into() };
        let times = Timestamps { last_access: time, last_modification: time };
        utimensat(&above, name, &times, AtFlags::SYMLINK_NOFOLLOW).map_err(|error| restored(error.into()))?;
    }
    Ok(())
}

/// Calls `visit` with the directory itself and with each file in it, a directory before its content.
fn each(directory: &Path, mut visit: impl FnMut(Entry) -> io::Result<()>) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let top = rustix::fs::open(directory, flags, Mode::empty())?;
    let mut reader = XattrReader::default();
    visit(entry(top.as_fd(), OsStr::new("."), PathBuf::new(), &mut reader)?)?;
    let mut walk = Walk::new(top.as_fd(), MountPoints::Refuse);
    while walk.advance()? {
        for item in walk.entries()? {
            let path = walk.path().join(item.name());
            let kind = item.kind(walk.fd())?;
            visit(entry(walk.fd(), item.name(), path, &mut reader)?)?;
            if kind == FileType::Directory {
                walk.enter(item.into_name());
            }
        }
    }
    Ok(())
}

fn entry(above: BorrowedFd<'_>, name: &OsStr, path: PathBuf, reader: &mut XattrReader) -> io::Result<Entry> {
    let stat = statat(above, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let lists = reader.read(&XattrFile::entry(above, name)?, acl::is_list)?;
    let nanoseconds = u32::try_from(stat.st_mtime_nsec).unwrap_or_default();
    Ok(Entry { path, seconds: stat.st_mtime, nanoseconds, lists })
}

/// A table that is being written.
struct Table<W> {
    file: W,
    /// The length of the table so far.
    bytes: u64,
}

impl<W: Write> Table<W> {
    fn add(&mut self, entry: &Entry) -> io::Result<()> {
        self.text(entry.path.as_os_str().as_bytes())?;
        self.write(&entry.seconds.to_le_bytes())?;
        self.write(&entry.nanoseconds.to_le_bytes())?;
        self.write(&u32::try_from(entry.lists.len()).unwrap_or(u32::MAX).to_le_bytes())?;
        for (name, value) in &entry.lists {
            self.text(name)?;
            self.text(value)?;
        }
        Ok(())
    }

    fn text(&mut self, text: &[u8]) -> io::Result<()> {
        self.write(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes())?;
        self.write(text)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.bytes += bytes.len() as u64;
        self.file.write_all(bytes)
    }
}

/// Opens the table after an image; returns none for an image without a table, from an older runner.
fn read_image(image: &Path) -> io::Result<Option<impl BufRead>> {
    let mut file: File = regular::open(image)?;
    let length = file.metadata()?.len();
    if length < END_BYTES {
        return Ok(None);
    }
    let mut end = [0; END_BYTES as usize];
    file.seek(SeekFrom::Start(length - END_BYTES))?;
    file.read_exact(&mut end)?;
    let (bytes, mark) = end.split_at(8);
    if mark != END {
        return Ok(None);
    }
    let bytes = u64::from_le_bytes(bytes.try_into().map_err(|_| damaged())?);
    let start = (length - END_BYTES).checked_sub(bytes).ok_or_else(damaged)?;
    file.seek(SeekFrom::Start(start))?;
    Ok(Some(BufReader::new(file.take(bytes))))
}

fn damaged() -> io::Error {
    io::Error::other("the table after the image is damaged")
}

/// Reads the next entry of a table; returns none at its end.
fn next(table: &mut impl BufRead) -> io::Result<Option<Entry>> {
    if table.fill_buf()?.is_empty() {
        return Ok(None);
    }
    let read = |table: &mut dyn BufRead| -> io::Result<Entry> {
        let path = PathBuf::from(OsString::from_vec(text(table)?));
        let seconds = i64::from_le_bytes(take(table)?);
        let nanoseconds = u32::from_le_bytes(take(table)?);
        let mut lists = Vec::new();
        for _ in 0..u32::from_le_bytes(take(table)?) {
            lists.push((text(table)?, text(table)?));
        }
        Ok(Entry { path, seconds, nanoseconds, lists })
    };
    let entry = read(table);
    entry.map(Some).map_err(|error| if error.kind() == io::ErrorKind::UnexpectedEof { damaged() } else { error })
}

fn take<const N: usize>(table: &mut dyn BufRead) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    table.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn text(table: &mut dyn BufRead) -> io::Result<Vec<u8>> {
    let length = usize::try_from(u32::from_le_bytes(take(table)?)).map_err(io::Error::other)?;
    // Neither a path nor an attribute is longer.
    if length > MAX_ATTRIBUTE {
        return Err(damaged());
    }
    let mut bytes = vec![0; length];
    table.read_exact(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};

    use proptest::prelude::*;
    use rustix::fs::{XattrFlags, lgetxattr, lsetxattr};

    use super::*;

    fn encode(entries: &[Entry]) -> Vec<u8> {
        let mut table = Table { file: Vec::new(), bytes: 0 };
        entries.iter().for_each(|entry| table.add(entry).unwrap());
        assert_eq!(table.bytes, table.file.len() as u64);
        table.file
    }

    fn decode(mut bytes: &[u8]) -> io::Result<Vec<Entry>> {
        std::iter::from_fn(|| next(&mut bytes).transpose()).collect()
    }

    fn set(path: &Path, seconds: i64, nanoseconds: i64) {
        let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds as _ };
        let times = Timestamps { last_access: time, last_modification: time };
        utimensat(rustix::fs::CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }

    #[test]
    fn times_and_access_lists_are_restored_from_the_table_after_the_image() {
        let directory = tempfile::tempdir().unwrap();
        let (from, to, image) =
            (directory.path().join("from"), directory.path().join("to"), directory.path().join("image"));
        for top in [&from, &to] {
            fs::create_dir_all(top.join("d/e")).unwrap();
            fs::write(top.join("d/f"), "").unwrap();
            symlink("/nowhere", top.join("link")).unwrap();
        }
        // user::rwx, user:1000:rwx, group::r-x, mask::rwx, other::---
        let list = b"\x02\0\0\0\x01\0\x07\0\xff\xff\xff\xff\x02\0\x07\0\xe8\x03\0\0\x04\0\x05\0\xff\xff\xff\xff\
                     \x10\0\x07\0\xff\xff\xff\xff\x20\0\0\0\xff\xff\xff\xff";
        lsetxattr(from.join("d/e"), "system.posix_acl_access", list, XattrFlags::empty()).unwrap();
        let times = [("d/f", -100, 5), ("link", 5_000_000_000, 999_999_999), ("d/e", 7, 0), ("d", 9, 1), ("", -1, 0)];
        for (name, seconds, nanoseconds) in times {
            set(&from.join(name), seconds, nanoseconds);
        }
        fs::write(&image, [7; 4096]).unwrap();
        append(&from, &image).unwrap();
        restore(&image, &to).unwrap();
        for (name, seconds, nanoseconds) in times {
            let found = fs::symlink_metadata(to.join(name)).unwrap();
            assert_eq!((found.mtime(), found.mtime_nsec()), (seconds, nanoseconds), "{name}");
        }
        let mut value = [0; 64];
        let length = lgetxattr(to.join("d/e"), "system.posix_acl_access", &mut value).unwrap();
        assert_eq!(&value[..length], list);
    }

    #[test]
    fn an_image_without_a_table_changes_nothing_and_a_damaged_table_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let image = directory.path().join("image");
        for bytes in [&b""[..], &[0; 4096]] {
            fs::write(&image, bytes).unwrap();
            restore(&image, directory.path()).unwrap();
        }
        let mut bytes = vec![1; 40];
        bytes.extend(24_u64.to_le_bytes());
        bytes.extend(END);
        fs::write(&image, &bytes).unwrap();
        assert_eq!(restore(&image, directory.path()).unwrap_err().to_string(), "the table after the image is damaged");
    }

    #[test]
    fn a_path_that_leads_out_of_the_folder_is_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let (top, image) = (directory.path().join("top"), directory.path().join("image"));
        fs::create_dir(&top).unwrap();
        fs::write(directory.path().join("outside"), "").unwrap();
        symlink("..", top.join("up")).unwrap();
        for path in ["../outside", "up/outside"] {
            let entry = Entry { path: path.into(), seconds: 1, nanoseconds: 0, lists: Vec::new() };
            let mut bytes = encode(&[entry]);
            let length = bytes.len() as u64;
            bytes.extend(length.to_le_bytes());
            bytes.extend(END);
            fs::write(&image, bytes).unwrap();
            let _ = restore(&image, &top);
            assert_ne!(fs::metadata(directory.path().join("outside")).unwrap().mtime(), 1, "{path}");
        }
    }

    proptest! {
        #[test]
        fn any_table_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(entries) = decode(&bytes) {
                prop_assert_eq!(encode(&entries), bytes);
            }
        }
    }
}
