//! Digests the extended attributes of a file that a step can see.
//!
//! | attribute | |
//! | --- | --- |
//! | `user.*` | any program may read it |
//! | `security.capability` | the rights of a program when it is run |
//! | `system.posix_acl_access`, `system.posix_acl_default` | the rights of users and groups |
//! | `trusted.*` | omitted: only a step that administers the host can see it, and overlayfs stores its own attributes there; a root must not have some of these |
//! | `security.selinux` and the like | omitted: it is this host's policy for the path, and no content |

use std::os::fd::BorrowedFd;

use nix::sched::{CloneFlags, unshare};
use rustix::fs::FileType;
use rustix::io::Result;

use super::stat::FileLocation;
use crate::digest::{Digest, Hasher};
use crate::fs::xattr::{XattrFile, XattrReader};

/// The marks that make overlayfs hide a file of its lowest layer, see the kernel's Documentation/filesystems/overlayfs.
/// The other marks change nothing there.
const MARKS: [&str; 2] = ["trusted.overlay.metacopy", "trusted.overlay.whiteout"];

/// The extended attributes of a file.
#[derive(Debug, Default)]
pub(super) struct FileAttributes {
    /// The digest of the attributes that a step can see, if there are any.
    pub(super) digest: Option<Digest>,
    /// One of [`MARKS`], if the file has it.
    pub(super) mark: Option<&'static str>,
}

/// Reads attributes.
///
/// Before Linux 6.13 no such call takes a file's name in an open directory, and a path through `/proc/self/fd` takes
/// three times as long. So a thread enters the directory: then the kernel needs only the name.
#[derive(Debug)]
pub(super) struct Attributes {
    /// Whether this thread has a working directory of its own, and may change it.
    enters: bool,
    /// Whether all attributes count but those of overlayfs and access control lists.
    all: bool,
    reader: XattrReader,
}

impl Attributes {
    /// Makes a reader for a thread that ends with the walk: it gets a working directory of its own.
    pub(super) fn of_own_thread() -> Self {
        // Some containers forbid it, by seccomp(2). Reading is slower then.
        Self { enters: unshare(CloneFlags::CLONE_FS).is_ok(), all: false, reader: XattrReader::default() }
    }

    /// Makes a reader for any thread.
    pub(super) fn of_any_thread() -> Self {
        Self { enters: false, all: false, reader: XattrReader::default() }
    }

    /// Makes all attributes count that a copy of the file has.
    pub(super) fn with_all(self, all: bool) -> Self {
        Self { all, ..self }
    }

    /// Enters a directory. To be called before the attributes of its files are read.
    pub(super) fn enter(&self, directory: BorrowedFd<'_>) -> Result<()> {
        if self.enters { rustix::process::fchdir(directory) } else { Ok(()) }
    }

    /// Leaves the last directory. To be called at the end: the kernel releases a thread's working directory only after
    /// other threads may see that it has ended, and until then a mount there could not be unmounted.
    pub(super) fn leave(&self) {
        if self.enters {
            // It fails where `/` may not be entered, and then the kernel releases the directory a moment later.
            let _ = rustix::process::chdir("/");
        }
    }

    /// Returns the attributes of a file in the directory [entered](Self::enter) last.
    ///
    /// They are read each time: some kernels do not change the ctime when attributes change on tmpfs.
    pub(super) fn look(&mut self, place: &FileLocation<'_>, kind: FileType) -> Result<FileAttributes> {
        match kind {
            // A link can have none of these attributes.
            FileType::Symlink => Ok(FileAttributes::default()),
            _ if self.enters && !place.is_descriptor() => self.found(&XattrFile::here(place.name())),
            _ => self.found(&place.xattr_file()?),
        }
    }

    fn found(&mut self, file: &XattrFile<'_>) -> Result<FileAttributes> {
        let all = self.reader.names(file)?;
        let mark = MARKS.into_iter().find(|mark| all.iter().any(|name| name == mark.as_bytes()));
        let is_wanted = if self.all { is_copied } else { counts };
        let mut names: Vec<&[u8]> = all.iter().filter(|name| is_wanted(name)).collect();
        if names.is_empty() {
            return Ok(FileAttributes { digest: None, mark });
        }
        names.sort_unstable();
        let mut hasher = Hasher::new();
        for name in names {
            let value = self.reader.value(file, name)?;
            for part in [name, value] {
                hasher.update(&(part.len() as u64).to_le_bytes());
                hasher.update(part);
            }
        }
        Ok(FileAttributes { digest: Some(hasher.finish()), mark })
    }
}

/// Returns whether a file that is copied from one root into another has that attribute in the copy: all but the notes of an overlay
/// about its own files, and access control lists, which no image contains.
pub fn is_copied(name: &[u8]) -> bool {
    !name.starts_with(b"trusted.overlay.") && !name.starts_with(b"system.")
}

fn counts(name: &[u8]) -> bool {
    name.starts_with(b"user.") || name.starts_with(b"system.posix_acl_") || name == b"security.capability"
}
