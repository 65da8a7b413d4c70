//! The digest of one file's content: from the stat cache, or read in a way that can be relied on later.
//!
//! A file may be changed while it is read, or just after, within the same tick of the clock that stamps it. So:
//!
//! 1. statx(2) gives the stamp.
//! 2. Where the ctime is of the running tick, the tick is waited for to end: a few milliseconds, for a file that was
//!    written just now. The clock is `CLOCK_REALTIME_COARSE`, the one that the kernel stamps files with.
//! 3. The content is read, and then the stamp is looked at again.
//!
//! Any change after the second point gets a later ctime, so the stamp is another one then: at the third point, or when
//! the cache is asked. Three things leave no trace, as with git: one write(2) call that lasts from before the first point
//! until after the third; stores through a shared mapping of pages that were dirty before; and a change in place of which
//! a power cut left the data and not the inode.
//!
//! A stamp is not relied on, and the file read each time,
//!
//! - on a filesystem that does not stamp files by this host's clock, see [`filesystem`];
//! - where its ctime is of whole seconds: filesystems that keep no fractions have ticks of a second or two, and images
//!   such as squashfs give the mtime for the ctime, which may have been clamped to SOURCE_DATE_EPOCH;
//! - where its ctime is in the future: the clock was set back since.

use std::collections::HashMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::by_data;
use super::cache::StatCache;
use super::error::{ContentError, changed_or_failed};
use super::filesystem::{self, Trust};
use super::long_read::LongRead;
use super::stat::{Place, Stamp, Stat};
use crate::digest::Digest;
use crate::fs::regular;

/// How much of a file is read at once, in bytes.
const BUFFER: usize = 128 << 10;

/// From this size on, files are read by their data: smaller ones are read whole in an instant.
const LARGE: u64 = 64 << 20;

/// Tells the stamp of a file that was read by its data from that of the same file read whole. No file is that large.
const BY_DATA: u64 = 1 << 63;

/// What is known of files by their stamps. Shared by all threads.
#[derive(Debug)]
pub(super) struct Known<'a> {
    /// From earlier commands.
    pub(super) cache: &'a StatCache,
    /// Read by this command.
    pub(super) fresh: &'a Mutex<HashMap<Stamp, Digest>>,
    /// Set where nothing more is to be read.
    pub(super) stop: &'a AtomicBool,
    pub(super) long_read: &'a LongRead,
}

impl Known<'_> {
    fn go_on(&self) -> Result<(), ContentError> {
        if self.stop.load(Ordering::Relaxed) { Err(ContentError::Stopped) } else { Ok(()) }
    }
}

/// Why a file could not be read whole.
enum Ended {
    Stopped,
    Failed(std::io::Error),
}

impl From<std::io::Error> for Ended {
    fn from(error: std::io::Error) -> Self {
        Self::Failed(error)
    }
}

/// Reads files, one after the other.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    known: &'a Known<'a>,
    buffer: Vec<u8>,
    /// By device; there are few.
    trust: Vec<(u64, Trust)>,
    /// The digests that can be relied on later.
    pub(super) seen: Vec<(Stamp, Digest)>,
    /// How many files were read.
    pub(super) count: u64,
}

impl<'a> Reader<'a> {
    pub(super) fn new(known: &'a Known<'a>) -> Self {
        Self { known, buffer: Vec::new(), trust: Vec::new(), seen: Vec::new(), count: 0 }
    }

    /// How far the filesystem that a file is on can be trusted; an error where its content is made up.
    pub(super) fn trust(
        &mut self,
        place: &Place<'_>,
        stat: &Stat,
        path: impl Fn() -> PathBuf,
    ) -> Result<Trust, ContentError> {
        let device = stat.stamp.device;
        let known = self.trust.iter().find(|(known, _)| *known == device).map(|(_, trust)| *trust);
        let trust = match known {
            Some(trust) => trust,
            None => {
                let trust = filesystem::trust(place).map_err(changed_or_failed("look at the filesystem of", &path))?;
                self.trust.push((device, trust));
                trust
            }
        };
        match trust {
            Trust::MadeUp(filesystem) => Err(ContentError::MadeUp { path: path(), filesystem }),
            trust => Ok(trust),
        }
    }

    /// The SHA-256 of a regular file, of which `stat` has just been told.
    pub(super) fn digest(
        &mut self,
        place: &Place<'_>,
        stat: &Stat,
        path: impl Fn() -> PathBuf,
    ) -> Result<Digest, ContentError> {
        let long_read = self.known.long_read;
        self.digest_by(place, stat, stat.stamp, &path, |file, buffer, go_on| {
            long_read.begins(&path, stat.stamp.size);
            Digest::of_file_by(file, buffer, go_on)
        })
    }

    /// A digest of what is in a regular file: of a large one by its data, so that one of a terabyte that is all hole takes
    /// no time.
    pub(super) fn content_digest(
        &mut self,
        place: &Place<'_>,
        stat: &Stat,
        path: impl Fn() -> PathBuf,
    ) -> Result<Digest, ContentError> {
        if stat.stamp.size < LARGE {
            return self.digest(place, stat, path);
        }
        // Of the same file another digest may be known, that of an image.
        let stamp = Stamp { size: stat.stamp.size | BY_DATA, ..stat.stamp };
        self.digest_by(place, stat, stamp, path, |file, buffer, go_on| by_data::digest(file, buffer, go_on))
    }

    fn digest_by(
        &mut self,
        place: &Place<'_>,
        stat: &Stat,
        stamp: Stamp,
        path: impl Fn() -> PathBuf,
        read: impl FnOnce(&File, &mut [u8], &dyn Fn() -> Result<(), Ended>) -> Result<Digest, Ended>,
    ) -> Result<Digest, ContentError> {
        self.known.go_on()?;
        let keeps_times = self.trust(place, stat, &path)? == Trust::Times && stat.stamp.ctime.1 != 0;
        if keeps_times && let Some(digest) = self.known(&stamp) {
            self.seen.push((stamp, digest));
            return Ok(digest);
        }
        let file = self.open(place, &path)?;
        let lasts = keeps_times && is_of_an_earlier_tick(stat.stamp.ctime);
        let is_same = |now: Result<Stat, Errno>| match now.map_err(changed_or_failed("look at", &path))? {
            now if now == *stat => Ok(()),
            _ => Err(ContentError::Changing { path: path() }),
        };
        is_same(Place::of(&file).stat())?;
        self.buffer.resize(BUFFER, 0);
        let go_on = || self.known.go_on().map_err(|_| Ended::Stopped);
        let digest = read(&file, &mut self.buffer, &go_on).map_err(|ended| match ended {
            Ended::Stopped => ContentError::Stopped,
            Ended::Failed(source) => ContentError::Io { action: "read", path: path(), source },
        })?;
        is_same(Place::of(&file).stat())?;
        self.count += 1;
        if lasts {
            self.seen.push((stamp, digest));
            lock(self.known.fresh).insert(stamp, digest);
        }
        Ok(digest)
    }

    /// Opens a file that may be another by now, and on which another process may have a lease.
    fn open(&self, place: &Place<'_>, path: impl Fn() -> PathBuf) -> Result<File, ContentError> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let open = || {
            self.known.go_on().map_err(std::io::Error::other)?;
            Ok(place.open(flags)?)
        };
        regular::open_leased(|| path().display().to_string(), open).map_err(|source| match self.known.go_on() {
            Err(stopped) => stopped,
            Ok(()) => match Errno::from_io_error(&source) {
                Some(errno) => changed_or_failed("open", &path)(errno),
                None => ContentError::Io { action: "open", path: path(), source },
            },
        })
    }

    fn known(&self, stamp: &Stamp) -> Option<Digest> {
        self.known.cache.get(stamp).or_else(|| lock(self.known.fresh).get(stamp).copied())
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether whatever is changed from now on gets a later ctime. Waits for it where it will soon be so.
fn is_of_an_earlier_tick(ctime: (i64, u32)) -> bool {
    // The longest tick is 10 ms; the clock of a busy virtual machine may be late.
    for _ in 0..50 {
        let Ok(now) = clock_gettime(ClockId::CLOCK_REALTIME_COARSE) else { return false };
        if ctime < (now.tv_sec(), u32::try_from(now.tv_nsec()).unwrap_or_default()) {
            return true;
        }
        if ctime.0 > now.tv_sec() + 1 {
            return false;
        }
        thread::sleep(Duration::from_millis(1));
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ctime_of_now_is_waited_for_and_one_of_the_future_is_not() {
        let now = clock_gettime(ClockId::CLOCK_REALTIME_COARSE).unwrap();
        assert!(is_of_an_earlier_tick((now.tv_sec(), now.tv_nsec() as u32)));
        assert!(is_of_an_earlier_tick((now.tv_sec() - 1, 0)));
        assert!(!is_of_an_earlier_tick((now.tv_sec() + 3600, 0)));
    }
}
