//! System calls for Landlock, see landlock(7).

use core::mem::size_of_val;

use super::call::{Errno, Result, checked, fd};
use super::file::{AT_FDCWD, O_DIRECTORY, O_PATH, close, open};
use super::number;

const EOPNOTSUPP: Errno = Errno(95);

/// The first version that can permit renames and links between directories.
const MIN_VERSION: usize = 2;

/// Forbids this process and its descendants to open, make or remove any file that is not below its root, also by the descriptor of
/// a directory that another process has sent. A kernel without Landlock changes nothing; `runner doctor` reports such a kernel.
pub fn confine_to_root() -> Result<()> {
    const CREATE_RULESET_VERSION: usize = 1;
    let version = match checked(number::LANDLOCK_CREATE_RULESET, [0, 0, CREATE_RULESET_VERSION]) {
        Err(super::ENOSYS | EOPNOTSUPP) => return Ok(()),
        version => version?,
    };
    if version < MIN_VERSION {
        return Ok(());
    }
    let rights = rights(version);
    let ruleset =
        checked(number::LANDLOCK_CREATE_RULESET, [(&raw const rights) as usize, size_of_val(&rights), 0])? as i32;
    let confined = open(AT_FDCWD, b"/\0", O_PATH | O_DIRECTORY).and_then(|root| {
        let permitted = permit_below(ruleset, root, rights);
        close(root);
        permitted.and_then(|()| checked(number::LANDLOCK_RESTRICT_SELF, [fd(ruleset), 0]).map(drop))
    });
    close(ruleset);
    confined
}

/// Returns all rights for files that this version knows: one bit each.
const fn rights(version: usize) -> u64 {
    let count = match version {
        ..3 => 14,
        3..5 => 15,
        _ => 16,
    };
    (1 << count) - 1
}

fn permit_below(ruleset: i32, directory: i32, rights: u64) -> Result<()> {
    const RULE_PATH_BENEATH: usize = 1;
    /// `struct landlock_path_beneath_attr`.
    #[repr(C, packed)]
    struct PathBeneath {
        rights: u64,
        directory: i32,
    }
    let rule = PathBeneath { rights, directory };
    checked(number::LANDLOCK_ADD_RULE, [fd(ruleset), RULE_PATH_BENEATH, (&raw const rule) as usize, 0]).map(drop)
}
