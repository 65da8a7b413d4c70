//! The flock(2) locks of leases.

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::process::{Pid, test_kill_process};

/// Whether the lock was free and is held now.
pub fn try_lock(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// As [`try_lock`], but where the process that the lease is named after is gone, waits for its helpers: they are about to
/// end.
pub fn try_lock_until(file: &File, lease: &str, deadline: Instant) -> io::Result<bool> {
    let pid = lease.split('-').next().and_then(|pid| Pid::from_raw(pid.parse().ok()?));
    loop {
        if try_lock(file)? {
            return Ok(true);
        }
        let gone = pid.is_some_and(|pid| test_kill_process(pid) == Err(Errno::SRCH));
        if !gone || Instant::now() >= deadline {
            return Ok(false);
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Has the processes that this one starts hold the lock too: a helper outlives a killed runner for a moment, and may
/// still be making a cgroup then. A step does not: its descriptors are closed before it begins.
pub fn hand_down(file: &File) -> io::Result<()> {
    Ok(fcntl_setfd(file, FdFlags::empty())?)
}

/// Whether the file has not been removed.
pub fn is_linked(file: &File) -> io::Result<bool> {
    Ok(file.metadata()?.nlink() > 0)
}
