//! The files of the kernel that runner itself needs, which a bare chroot(2) lacks: its own /proc, and /dev/null.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use crate::error::{Error, Exit};

/// `PROC_SUPER_MAGIC` of linux/magic.h.
const PROC_MAGIC: u64 = 0x9fa0;

/// The number of the null device: major 1, minor 3.
const NULL_DEVICE: u64 = 0x103;

/// The command that mounts /proc.
pub const MOUNT_PROC: &str = "mount -t proc proc /proc";

/// The command that makes /dev/null.
pub const MAKE_NULL: &str = "mkdir -p /dev && rm -f /dev/null && mknod -m 666 /dev/null c 1 3";

/// Looks for a proc(5) at /proc, of the PID namespace that runner is in.
///
/// # Errors
/// With [`Exit::Host`], and the command that mounts one.
pub fn check_proc() -> Result<(), Error> {
    let why = match rustix::fs::statfs("/proc") {
        Err(error) => format!("it cannot be looked at: {}", std::io::Error::from(error)),
        Ok(found) if found.f_type as u64 != PROC_MAGIC => "no process filesystem is mounted there".to_owned(),
        Ok(_) if fs::read_link("/proc/self").is_err() => "it shows the processes of another PID namespace".to_owned(),
        Ok(_) => return Ok(()),
    };
    let error = format!("cannot use /proc, which runner needs: {why}");
    Err(Error::new(Exit::Host, error).with_hint(Some(MOUNT_PROC.to_owned())))
}

/// Looks for the null device at /dev/null.
///
/// # Errors
/// With [`Exit::Host`], and the command that makes it.
pub fn check_null() -> Result<(), Error> {
    let why = match fs::metadata("/dev/null") {
        Err(error) => error.to_string(),
        Ok(found) if !found.file_type().is_char_device() || found.rdev() != NULL_DEVICE => {
            "it is not the null device".to_owned()
        }
        Ok(_) => match fs::File::options().read(true).write(true).open("/dev/null") {
            Ok(_) => return Ok(()),
            Err(error) => error.to_string(),
        },
    };
    let error = format!("cannot use /dev/null, which runner needs: {why}");
    Err(Error::new(Exit::Host, error).with_hint(Some(MAKE_NULL.to_owned())))
}
