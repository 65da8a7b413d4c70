//! The extended attributes of a file that a step can see, as one digest.
//!
//! | attribute | |
//! | --- | --- |
//! | `user.*` | any program may read it |
//! | `security.capability` | what a program may do when it is run |
//! | `system.posix_acl_access`, `system.posix_acl_default` | who may do what |
//! | `trusted.*` | left out: only a step that administers the host can see it, and overlayfs keeps its notes there |
//! | `security.selinux` and the like | left out: what this host's policy says of the path, and not what is in it |

use std::ffi::CString;

use rustix::fs::{FileType, getxattr, lgetxattr, listxattr, llistxattr};
use rustix::io::{Errno, Result};

use super::stat::Place;
use crate::digest::{Digest, Hasher};

/// The kernel's limit of a list of names, and of a value, in bytes.
const MOST_BYTES: usize = 64 << 10;

/// The digest of the attributes, if there are any.
///
/// They are listed each time: some kernels change them on tmpfs without a trace in the ctime.
pub(super) fn digest(place: &Place<'_>, kind: FileType) -> Result<Option<Digest>> {
    // A link can have none of them.
    if kind == FileType::Symlink {
        return Ok(None);
    }
    let path = place.by_descriptor();
    let list =
        |buffer: &mut [u8]| if place.is_followed() { listxattr(&path, buffer) } else { llistxattr(&path, buffer) };
    // Most files have none.
    let mut few = [0; 512];
    let mut many = Vec::new();
    let names = match list(&mut few) {
        Ok(0) | Err(Errno::OPNOTSUPP) => return Ok(None),
        Ok(length) => &few[..length],
        Err(Errno::RANGE) => {
            many.resize(MOST_BYTES, 0);
            let length = list(&mut many)?;
            &many[..length]
        }
        Err(errno) => return Err(errno),
    };
    let mut names: Vec<&[u8]> = names.split(|byte| *byte == 0).filter(|name| counts(name)).collect();
    if names.is_empty() {
        return Ok(None);
    }
    names.sort_unstable();
    let mut hasher = Hasher::new();
    let mut value = vec![0; MOST_BYTES];
    for name in names {
        let key = CString::new(name).unwrap_or_default();
        let length = if place.is_followed() {
            getxattr(&path, &key, value.as_mut_slice())?
        } else {
            lgetxattr(&path, &key, value.as_mut_slice())?
        };
        for part in [name, &value[..length]] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
    }
    Ok(Some(hasher.finish()))
}

fn counts(name: &[u8]) -> bool {
    name.starts_with(b"user.") || name.starts_with(b"system.posix_acl_") || name == b"security.capability"
}
