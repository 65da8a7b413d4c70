//! Landlock: checks whether the kernel confines a step to the files below its root, whatever descriptors the step is sent.

use std::io;

use super::Check;
use crate::sys::{LEAST_LANDLOCK, landlock_version};

pub(super) fn check() -> Check {
    of(landlock_version())
}

pub(super) fn of(found: io::Result<i64>) -> Check {
    let name = "landlock";
    let fix = "boot Linux 5.19 or later with `landlock` in its `lsm=` list, as Debian's are; without it let no two containers \
                that do not trust each other run at once";
    match found {
        Ok(version) if version >= LEAST_LANDLOCK => Check::ok(name, format!("version {version}")),
        Ok(version) => Check::warning(name, format!("version {version} is too old to confine steps"), fix),
        Err(error) => Check::warning(name, format!("this kernel does not confine steps: {error}"), fix),
    }
}
