//! The extended attributes of a file that a step can see, as one digest.
//!
//! | attribute | |
//! | --- | --- |
//! | `user.*` | any program may read it |
//! | `security.capability` | what a program may do when it is run |
//! | `system.posix_acl_access`, `system.posix_acl_default` | who may do what |
//! | `trusted.*` | left out: only a step that administers the host can see it, and overlayfs keeps its notes there; some of these no root may have |
//! | `security.selinux` and the like | left out: what this host's policy says of the path, and not what is in it |

use std::os::fd::BorrowedFd;

use nix::sched::{CloneFlags, unshare};
use rustix::fs::FileType;
use rustix::io::Result;

use super::stat::Place;
use crate::digest::{Digest, Hasher};
use crate::fs::xattr::{XattrFile, XattrReader};

/// The marks with which overlayfs does not show a file of its lowest layer, see the kernel's
/// Documentation/filesystems/overlayfs. The other ones change nothing there.
const MARKS: [&str; 2] = ["trusted.overlay.metacopy", "trusted.overlay.whiteout"];

/// The extended attributes of a file.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The digest of those that a step can see, if there are any.
    pub(super) digest: Option<Digest>,
    /// One of [`MARKS`].
    pub(super) mark: Option<&'static str>,
}

/// Reads attributes.
///
/// Before Linux 6.13 no call takes a file's name in an open directory for that, and a way through `/proc/self/fd` takes
/// three times as long. So a thread goes into the directory: the name is then all that the kernel needs.
#[derive(Debug)]
pub(super) struct Attributes {
    /// Whether this thread has a working directory of its own, and may change it.
    enters: bool,
    reader: XattrReader,
}

impl Attributes {
    /// For a thread that ends with the walk: its working directory becomes another one than the process'.
    pub(super) fn of_own_thread() -> Self {
        // Some containers forbid it, by seccomp(2). It is slower then.
        Self { enters: unshare(CloneFlags::CLONE_FS).is_ok(), reader: XattrReader::default() }
    }

    /// For any thread.
    pub(super) fn of_any_thread() -> Self {
        Self { enters: false, reader: XattrReader::default() }
    }

    /// To be called before the attributes of what is in a directory are asked for.
    pub(super) fn enter(&self, directory: BorrowedFd<'_>) -> Result<()> {
        if self.enters { rustix::process::fchdir(directory) } else { Ok(()) }
    }

    /// To be called at the end. The kernel lets go of a thread's working directory only after others may see that it has
    /// ended, and until then what is mounted there could not be unmounted.
    pub(super) fn leave(&self) {
        if self.enters {
            // It fails where `/` may not be entered, and then the directory is let go of a moment later.
            let _ = rustix::process::chdir("/");
        }
    }

    /// The attributes of a file in the directory [entered](Self::enter) last.
    ///
    /// They are listed each time: some kernels change them on tmpfs without a trace in the ctime.
    pub(super) fn look(&mut self, place: &Place<'_>, kind: FileType) -> Result<Found> {
        match kind {
            // A link can have none of them.
            FileType::Symlink => Ok(Found::default()),
            _ if self.enters && !place.is_descriptor() => self.found(&XattrFile::here(place.name())),
            _ => self.found(&place.xattr_file()?),
        }
    }

    fn found(&mut self, file: &XattrFile<'_>) -> Result<Found> {
        let all = self.reader.names(file)?;
        let mark = MARKS.into_iter().find(|mark| all.iter().any(|name| name == mark.as_bytes()));
        let mut names: Vec<&[u8]> = all.iter().filter(|name| counts(name)).collect();
        if names.is_empty() {
            return Ok(Found { digest: None, mark });
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
        Ok(Found { digest: Some(hasher.finish()), mark })
    }
}

fn counts(name: &[u8]) -> bool {
    name.starts_with(b"user.") || name.starts_with(b"system.posix_acl_") || name == b"security.capability"
}
