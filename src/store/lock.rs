//! The flock(2) locks of files in the store.

use std::fs::{File, TryLockError};
use std::io;
use std::ops::Deref;
use std::os::unix::fs::MetadataExt;
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::process::{Pid, test_kill_process};

/// A file that this process has locked, until this is dropped. The lock is released then even where a process that was
/// just forked still has a copy of the descriptor, which closes only as that process starts its program.
#[derive(Debug)]
pub struct Locked(File);

impl Locked {
    /// Locks a file together with other processes that share the lock. Waits for a process that has an exclusive lock.
    ///
    /// # Errors
    /// Those of flock(2).
    pub fn shared(file: File) -> io::Result<Self> {
        file.lock_shared()?;
        Ok(Self(file))
    }

    /// As [`Self::shared`], without waiting; none where another process has an exclusive lock.
    ///
    /// # Errors
    /// Those of flock(2).
    pub fn try_shared(file: File) -> io::Result<Option<Self>> {
        Ok(is_locked(file.try_lock_shared())?.then(|| Self(file)))
    }

    /// Locks a file exclusively; none where another process has locked it.
    ///
    /// # Errors
    /// Those of flock(2).
    pub fn try_alone(file: File) -> io::Result<Option<Self>> {
        Ok(try_lock(&file)?.then(|| Self(file)))
    }
}

impl Deref for Locked {
    type Target = File;

    fn deref(&self) -> &File {
        &self.0
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        // Should unlocking fail, closing the file releases the lock.
        let _ = self.0.unlock();
    }
}

/// Locks the file if no process has locked it, and returns whether it did.
pub fn try_lock(file: &File) -> io::Result<bool> {
    is_locked(file.try_lock())
}

fn is_locked(result: Result<(), TryLockError>) -> io::Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Locks the file of a lease exclusively; none where another process has locked it. Where the process that the lease is
/// named after has ended, waits for its helpers, which are about to end.
pub fn lock_dead(file: File, lease: &str, deadline: Instant) -> io::Result<Option<Locked>> {
    let pid = lease.split('-').next().and_then(|pid| Pid::from_raw(pid.parse().ok()?));
    loop {
        if try_lock(&file)? {
            return Ok(Some(Locked(file)));
        }
        let is_dead = pid.is_some_and(|pid| test_kill_process(pid) == Err(Errno::SRCH));
        if !is_dead || Instant::now() >= deadline {
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Lets the processes that this one starts share the lock: a helper outlives a killed runner for a moment, and may
/// still make a cgroup then. Steps do not share it: their descriptors are closed before they begin.
pub fn hand_down(file: &File) -> io::Result<()> {
    Ok(fcntl_setfd(file, FdFlags::empty())?)
}

/// Whether the file has not been removed.
pub fn is_linked(file: &File) -> io::Result<bool> {
    Ok(file.metadata()?.nlink() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_ends_with_its_owner_where_a_forked_process_has_a_copy_of_the_file() {
        let path = tempfile::NamedTempFile::new().unwrap().into_temp_path();
        let open = || File::open(&path).unwrap();
        let locked = Locked::try_alone(open()).unwrap().unwrap();
        let copy = locked.try_clone().unwrap();
        assert!(Locked::try_shared(open()).unwrap().is_none());
        drop(locked);
        let shared = [Locked::shared(open()).unwrap(), Locked::try_shared(open()).unwrap().unwrap()];
        let copies = shared.each_ref().map(|locked| locked.try_clone().unwrap());
        assert!(Locked::try_alone(open()).unwrap().is_none());
        drop(shared);
        assert!(Locked::try_alone(open()).unwrap().is_some());
        drop((copy, copies));
    }
}
