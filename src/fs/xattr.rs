//! Extended attributes: the one place that reads and sets them, for all names, values and sizes.
//!
//! Before Linux 6.13 no call of xattr(7) takes a directory and a name in it. An [`XattrFile`] names a file so that no call
//! follows a link that a step made, however deep the file is.

use std::borrow::Cow;
use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{
    XattrFlags, fgetxattr, flistxattr, fremovexattr, fsetxattr, getxattr, lgetxattr, listxattr, llistxattr,
    lremovexattr, lsetxattr, removexattr, setxattr,
};
use rustix::io::{Errno, Result};
use rustix::path::Arg;

/// The kernel's limit of a list of names, and of a value, in bytes.
const MAX_BYTES: usize = 64 << 10;

/// The first sizes of the buffers: most files have no attribute, and most values are short. The kernel reserves as much memory as
/// the caller's buffer has.
const FIRST_NAMES: usize = 1 << 10;
const FIRST_VALUE: usize = 256;

/// The factor by which a buffer that is too short grows.
const GROWTH: usize = 4;

/// A file for the calls of xattr(7).
#[derive(Debug)]
pub struct XattrFile<'a>(FileAccess<'a>);

#[derive(Debug)]
enum FileAccess<'a> {
    Descriptor(BorrowedFd<'a>),
    /// The path of the kernel's own link to the file, which is followed.
    Link(CString),
    /// The path of the file, of which the last link is not followed.
    Entry(Cow<'a, CStr>),
}

impl<'a> XattrFile<'a> {
    /// Takes a file that is open for reading or writing.
    pub fn open(file: BorrowedFd<'a>) -> Self {
        Self(FileAccess::Descriptor(file))
    }

    /// Takes a file that is open, possibly as `O_PATH`.
    pub fn opened(file: BorrowedFd<'_>) -> XattrFile<'static> {
        let link = CString::new(format!("/proc/self/fd/{}", file.as_raw_fd()));
        // The text has no NUL.
        XattrFile(FileAccess::Link(link.unwrap_or_default()))
    }

    /// Takes the entry of that name in an open directory; for a link, the link itself.
    ///
    /// # Errors
    /// `EINVAL` for a name with a NUL.
    pub fn entry(directory: BorrowedFd<'_>, name: &OsStr) -> Result<XattrFile<'static>> {
        let mut path = format!("/proc/self/fd/{}/", directory.as_raw_fd()).into_bytes();
        path.extend_from_slice(name.as_bytes());
        let path = CString::new(path).map_err(|_| Errno::INVAL)?;
        Ok(XattrFile(FileAccess::Entry(Cow::Owned(path))))
    }

    /// Takes the entry of that name in the working directory of this thread; for a link, the link itself.
    pub fn here(name: &'a CStr) -> Self {
        Self(FileAccess::Entry(Cow::Borrowed(name)))
    }

    /// Returns the value of an attribute; none where the file has no such attribute or its filesystem has no attributes at all.
    ///
    /// # Errors
    /// Those of getxattr(2).
    pub fn value(&self, name: impl Arg + Copy) -> Result<Option<Vec<u8>>> {
        let mut buffer = vec![0; FIRST_VALUE];
        match fill(&mut buffer, |buffer| self.get(name, buffer)) {
            Ok(value) => Ok(Some(value.to_vec())),
            Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sets an attribute, and replaces one of that name.
    ///
    /// # Errors
    /// Those of setxattr(2).
    pub fn set(&self, name: impl Arg, value: &[u8]) -> Result<()> {
        let flags = XattrFlags::empty();
        match &self.0 {
            FileAccess::Descriptor(file) => fsetxattr(file, name, value, flags),
            FileAccess::Link(path) => setxattr(path, name, value, flags),
            FileAccess::Entry(path) => lsetxattr(&**path, name, value, flags),
        }
    }

    /// Removes an attribute.
    ///
    /// # Errors
    /// Those of removexattr(2): `ENODATA` where there is none of that name.
    pub fn remove(&self, name: impl Arg) -> Result<()> {
        match &self.0 {
            FileAccess::Descriptor(file) => fremovexattr(file, name),
            FileAccess::Link(path) => removexattr(path, name),
            FileAccess::Entry(path) => lremovexattr(&**path, name),
        }
    }

    fn list(&self, buffer: &mut [u8]) -> Result<usize> {
        match &self.0 {
            FileAccess::Descriptor(file) => flistxattr(file, buffer),
            FileAccess::Link(path) => listxattr(path, buffer),
            FileAccess::Entry(path) => llistxattr(&**path, buffer),
        }
    }

    fn get(&self, name: impl Arg, buffer: &mut [u8]) -> Result<usize> {
        match &self.0 {
            FileAccess::Descriptor(file) => fgetxattr(file, name, buffer),
            FileAccess::Link(path) => getxattr(path, name, buffer),
            FileAccess::Entry(path) => lgetxattr(&**path, name, buffer),
        }
    }
}

/// Reads the attributes of one file after another. Its buffers grow with the first file that needs it, and do not shrink.
#[derive(Debug)]
pub struct XattrReader {
    names: Vec<u8>,
    value: Vec<u8>,
}

impl Default for XattrReader {
    fn default() -> Self {
        Self { names: vec![0; FIRST_NAMES], value: vec![0; FIRST_VALUE] }
    }
}

impl XattrReader {
    /// Returns the names of a file's attributes; none where its filesystem has no attributes.
    ///
    /// # Errors
    /// Those of listxattr(2).
    pub fn names(&mut self, file: &XattrFile<'_>) -> Result<XattrNames> {
        match fill(&mut self.names, |buffer| file.list(buffer)) {
            Ok(names) => Ok(XattrNames(names.to_vec())),
            // A squashfs image that was written without any attributes is such a filesystem.
            Err(Errno::OPNOTSUPP) => Ok(XattrNames(Vec::new())),
            Err(error) => Err(error),
        }
    }

    /// Returns the value of an attribute.
    ///
    /// # Errors
    /// Those of getxattr(2): `ENODATA` where there is none of that name.
    pub fn value(&mut self, file: &XattrFile<'_>, name: &[u8]) -> Result<&[u8]> {
        fill(&mut self.value, |buffer| file.get(name, buffer))
    }

    /// Returns the names and values of the attributes that `is_selected` selects by name, in the filesystem's order.
    ///
    /// # Errors
    /// Those of [`names`](Self::names) and [`value`](Self::value).
    pub fn read(
        &mut self,
        file: &XattrFile<'_>,
        is_selected: impl Fn(&[u8]) -> bool,
    ) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let names = self.names(file)?;
        let selected = names.iter().filter(|name| is_selected(name));
        selected.map(|name| Ok((name.to_vec(), self.value(file, name)?.to_vec()))).collect()
    }
}

/// The names of a file's attributes, in the filesystem's order.
#[derive(Debug)]
pub struct XattrNames(Vec<u8>);

impl XattrNames {
    /// Returns each name.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|byte| *byte == 0).filter(|name| !name.is_empty())
    }
}

/// Returns the bytes that `read` puts into the buffer, which grows where it is too short.
fn fill(buffer: &mut Vec<u8>, read: impl Fn(&mut [u8]) -> Result<usize>) -> Result<&[u8]> {
    loop {
        match read(buffer) {
            Err(Errno::RANGE) if buffer.len() < MAX_BYTES => {
                buffer.resize(MAX_BYTES.min(buffer.len() * GROWTH), 0);
            }
            length => return Ok(&buffer[..length?]),
        }
    }
}

#[cfg(test)]
mod tests;
