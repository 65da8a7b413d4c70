//! Lists the entries of an open directory, all but `.` and `..`, in the order of its filesystem.

use std::ffi::{CString, OsStr, OsString};
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use rustix::fs::{AtFlags, FileType, RawDir, SeekFrom, seek, statat};
use rustix::io::{Errno, Result};

/// The bytes of entries that are read at once.
const BUFFER: usize = 32 << 10;

/// An entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    name: CString,
    kind: FileType,
}

impl Entry {
    /// Returns its name.
    pub fn name(&self) -> &OsStr {
        OsStr::from_bytes(self.name.to_bytes())
    }

    /// Returns its name.
    pub fn into_name(self) -> OsString {
        OsString::from_vec(self.name.into_bytes())
    }

    /// Returns its name.
    pub fn into_c_name(self) -> CString {
        self.name
    }

    /// Returns its type; some filesystems report it only to fstatat(2). `directory` is the one that was listed.
    ///
    /// # Errors
    /// Those of fstatat(2).
    pub fn kind(&self, directory: BorrowedFd<'_>) -> Result<FileType> {
        match self.kind {
            FileType::Unknown => {
                let stat = statat(directory, &self.name, AtFlags::SYMLINK_NOFOLLOW)?;
                Ok(FileType::from_raw_mode(stat.st_mode))
            }
            kind => Ok(kind),
        }
    }
}

/// Returns all entries. The directory is open for reading, and is listed from its beginning however much of it was read before;
/// so only one thread at a time may list it.
///
/// # Errors
/// Those of getdents64(2).
pub fn entries(directory: BorrowedFd<'_>) -> Result<Vec<Entry>> {
    seek(directory, SeekFrom::Start(0))?;
    let mut buffer = [MaybeUninit::uninit(); BUFFER];
    let (mut raw, mut all) = (RawDir::new(directory, &mut buffer), Vec::new());
    while let Some(entry) = raw.next() {
        let entry = match entry {
            // The directory itself was removed.
            Err(Errno::NOENT) => break,
            entry => entry?,
        };
        let name = entry.file_name();
        if name != c"." && name != c".." {
            all.push(Entry { name: name.to_owned(), kind: entry.file_type() });
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::fd::AsFd;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn more_entries_than_are_read_at_once_are_listed_and_listed_again() {
        const COUNT: usize = 3000;
        let directory = tempfile::tempdir().unwrap();
        for n in 0..COUNT {
            fs::write(directory.path().join(format!("{n:0100}")), "").unwrap();
        }
        let open = File::open(directory.path()).unwrap();
        for _ in 0..2 {
            let mut names: Vec<OsString> = entries(open.as_fd()).unwrap().into_iter().map(Entry::into_name).collect();
            names.sort();
            assert!(names.iter().map(|name| name.to_str().unwrap()).eq((0..COUNT).map(|n| format!("{n:0100}"))));
        }
    }

    #[test]
    fn each_entry_has_its_type_and_a_link_is_a_link() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::create_dir(at("directory")).unwrap();
        fs::write(at("file"), "").unwrap();
        symlink("directory", at("link")).unwrap();
        let open = File::open(directory.path()).unwrap();
        let mut found = entries(open.as_fd()).unwrap();
        found.sort_by(|one, other| one.name.cmp(&other.name));
        let expected =
            [("directory", FileType::Directory), ("file", FileType::RegularFile), ("link", FileType::Symlink)];
        assert_eq!(found.len(), expected.len());
        for (entry, (name, kind)) in found.iter().zip(expected) {
            assert_eq!((entry.name(), entry.kind(open.as_fd()).unwrap()), (OsStr::new(name), kind));
            // As on a filesystem that does not report the type.
            let unknown = Entry { kind: FileType::Unknown, ..entry.clone() };
            assert_eq!(unknown.kind(open.as_fd()).unwrap(), kind);
        }
    }

    #[test]
    fn a_directory_that_was_removed_is_empty() {
        let directory = tempfile::tempdir().unwrap();
        let open = File::open(directory.path()).unwrap();
        drop(directory);
        assert_eq!(entries(open.as_fd()).unwrap(), []);
    }
}
