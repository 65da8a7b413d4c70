//! System calls for mounts by descriptor, see fsopen(2), open_tree(2), move_mount(2) and mount_setattr(2).

use core::mem::size_of_val;

use super::call::{Result, checked, fd, text};
use super::file::O_CLOEXEC;
use super::number;

const NOTHING: [u8; 1] = [0];

pub fn new_filesystem(kind: &[u8]) -> Result<i32> {
    const FSOPEN_CLOEXEC: usize = 1;
    Ok(checked(number::FSOPEN, [text(kind)?, FSOPEN_CLOEXEC])? as i32)
}

/// Sets an option; one with an empty value is a flag.
pub fn set_option(context: i32, key: &[u8], value: &[u8]) -> Result<()> {
    const SET_FLAG: usize = 0;
    const SET_STRING: usize = 1;
    if value == NOTHING {
        return checked(number::FSCONFIG, [fd(context), SET_FLAG, text(key)?, 0, 0]).map(drop);
    }
    checked(number::FSCONFIG, [fd(context), SET_STRING, text(key)?, text(value)?, 0]).map(drop)
}

pub fn create_filesystem(context: i32) -> Result<()> {
    const CMD_CREATE: usize = 6;
    checked(number::FSCONFIG, [fd(context), CMD_CREATE, 0, 0, 0]).map(drop)
}

pub fn mount_filesystem(context: i32, attributes: u64) -> Result<i32> {
    const FSMOUNT_CLOEXEC: usize = 1;
    Ok(checked(number::FSMOUNT, [fd(context), FSMOUNT_CLOEXEC, attributes as usize])? as i32)
}

/// Clones the mount at an open file, or with `recursive` all mounts below it too.
pub fn clone_mount(place: i32, recursive: bool) -> Result<i32> {
    const CLONE: usize = 1;
    const AT_EMPTY_PATH: usize = 0x1000;
    const AT_RECURSIVE: usize = 0x8000;
    let flags = CLONE | AT_EMPTY_PATH | O_CLOEXEC | if recursive { AT_RECURSIVE } else { 0 };
    Ok(checked(number::OPEN_TREE, [fd(place), NOTHING.as_ptr() as usize, flags])? as i32)
}

/// Attaches a mount at the file that is open as `place`.
pub fn mount_over(mount: i32, place: i32) -> Result<()> {
    const EMPTY_PATHS: usize = 0x4 | 0x40;
    let nothing = NOTHING.as_ptr() as usize;
    checked(number::MOVE_MOUNT, [fd(mount), nothing, fd(place), nothing, EMPTY_PATHS]).map(drop)
}

/// Sets attributes on a mount and all below it.
pub fn set_attributes(mount: i32, attributes: u64) -> Result<()> {
    const EMPTY_PATH_AND_RECURSIVE: usize = 0x1000 | 0x8000;
    let set = [attributes, 0, 0, 0];
    let nothing = NOTHING.as_ptr() as usize;
    let arguments = [fd(mount), nothing, EMPTY_PATH_AND_RECURSIVE, (&raw const set) as usize, size_of_val(&set)];
    checked(number::MOUNT_SETATTR, arguments).map(drop)
}
