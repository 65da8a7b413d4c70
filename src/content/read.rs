//! Digests one file's content: from the stat cache, or by reading the file in a way that the cache can rely on later.
//!
//! A program may change a file while it is read, or just after, within the same tick of the clock that stamps it. So:
//!
//! 1. statx(2) gives the stamp.
//! 2. Where the ctime is of the current tick, the thread waits for the end of the tick: a few milliseconds, for a file
//!    that was written just now. The clock is `CLOCK_REALTIME_COARSE`, with which the kernel stamps files.
//! 3. The content is read, and then statx(2) gives the stamp again.
//!
//! Any change after the second point gets a later ctime, so the stamp differs then: at the third point, or when the
//! cache is used. Three changes leave no trace, as with git: one write(2) call that lasts from before the first point
//! until after the third; stores through a shared mapping of pages that were dirty before; and a change in place whose
//! data but not its inode was written before a power failure.
//!
//! A stamp is not used, and the file is read each time,
//!
//! - on a filesystem that does not stamp files by this host's clock, see [`filesystem`];
//! - where its ctime is in whole seconds: filesystems that store no fractions have ticks of a second or two, and images
//!   such as squashfs return the mtime as the ctime, which may have been clamped to SOURCE_DATE_EPOCH;
//! - where its ctime is in the future: the clock was set back later.

use std::collections::HashMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
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
use super::stat::{FileLocation, Stamp, Stat};
use crate::digest::Digest;
use crate::fs::regular;
use crate::poison::lock;

/// The bytes of a file that are read at a time.
const BUFFER: usize = 128 << 10;

/// The size from which files are read by their data: reading all of a smaller one takes little time.
const MIN_LARGE: u64 = 64 << 20;

/// A bit in the size that distinguishes the stamp of a file read by its data from that of the same file read as a
/// whole. No file is that large.
const BY_DATA: u64 = 1 << 63;

/// The known digests of files by their stamps. Shared by all threads.
#[derive(Debug)]
pub(super) struct KnownDigests<'a> {
    /// Those of earlier commands.
    pub(super) cache: &'a StatCache,
    /// Those that this command has read.
    pub(super) fresh: &'a Mutex<HashMap<Stamp, Digest>>,
    /// Set to stop reading.
    pub(super) stop: &'a AtomicBool,
    pub(super) long_read: &'a LongRead,
}

impl KnownDigests<'_> {
    fn check_stop(&self) -> Result<(), ContentError> {
        if self.stop.load(Ordering::Relaxed) { Err(ContentError::Stopped) } else { Ok(()) }
    }
}

/// The reason for which reading a file ended early.
enum ReadEnd {
    Stopped,
    Failed(std::io::Error),
}

impl From<std::io::Error> for ReadEnd {
    fn from(error: std::io::Error) -> Self {
        Self::Failed(error)
    }
}

/// Reads files, one after the other.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    known: &'a KnownDigests<'a>,
    buffer: Vec<u8>,
    /// By device, of which there are few.
    trust: Vec<(u64, Trust)>,
    /// The digests that the cache can rely on later.
    pub(super) digests: Vec<(Stamp, Digest)>,
    /// The number of files that were read.
    pub(super) count: u64,
}

impl<'a> Reader<'a> {
    pub(super) fn new(known: &'a KnownDigests<'a>) -> Self {
        Self { known, buffer: Vec::new(), trust: Vec::new(), digests: Vec::new(), count: 0 }
    }

    /// Returns the trust in a file's filesystem; an error where the kernel generates its content.
    pub(super) fn trust(
        &mut self,
        place: &FileLocation<'_>,
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

    /// Returns the SHA-256 of a regular file, whose `stat` has just been read.
    pub(super) fn digest(
        &mut self,
        place: &FileLocation<'_>,
        stat: &Stat,
        path: impl Fn() -> PathBuf,
    ) -> Result<Digest, ContentError> {
        let long_read = self.known.long_read;
        self.digest_by(place, stat, stat.stamp, &path, |file, buffer, check_stop| {
            long_read.begins(&path, stat.stamp.size);
            Digest::of_file_by(file, buffer, check_stop)
        })
    }

    /// Returns a digest of a regular file's content: for a large file by its data, so that a hole of a terabyte takes
    /// no time.
    pub(super) fn content_digest(
        &mut self,
        place: &FileLocation<'_>,
        stat: &Stat,
        path: impl Fn() -> PathBuf,
    ) -> Result<Digest, ContentError> {
        if stat.stamp.size < MIN_LARGE {
            return self.digest(place, stat, path);
        }
        // The same file may also have a digest as an image.
        let stamp = Stamp { size: stat.stamp.size | BY_DATA, ..stat.stamp };
        self.digest_by(place, stat, stamp, path, |file, buffer, check_stop| by_data::digest(file, buffer, check_stop))
    }

    fn digest_by(
        &mut self,
        place: &FileLocation<'_>,
        stat: &Stat,
        stamp: Stamp,
        path: impl Fn() -> PathBuf,
        read: impl FnOnce(&File, &mut [u8], &dyn Fn() -> Result<(), ReadEnd>) -> Result<Digest, ReadEnd>,
    ) -> Result<Digest, ContentError> {
        self.known.check_stop()?;
        let has_reliable_times = self.trust(place, stat, &path)? == Trust::Times && stat.stamp.ctime.1 != 0;
        if has_reliable_times && let Some(digest) = self.known(&stamp) {
            self.digests.push((stamp, digest));
            return Ok(digest);
        }
        let file = self.open(place, &path)?;
        let is_reliable = has_reliable_times && is_of_an_earlier_tick(stat.stamp.ctime);
        let is_same = |now: Result<Stat, Errno>| match now.map_err(changed_or_failed("look at", &path))? {
            now if now == *stat => Ok(()),
            _ => Err(ContentError::Changing { path: path() }),
        };
        is_same(FileLocation::of(&file).stat())?;
        self.buffer.resize(BUFFER, 0);
        let check_stop = || self.known.check_stop().map_err(|_| ReadEnd::Stopped);
        let digest = read(&file, &mut self.buffer, &check_stop).map_err(|ended| match ended {
            ReadEnd::Stopped => ContentError::Stopped,
            ReadEnd::Failed(source) => ContentError::Io { action: "read", path: path(), source },
        })?;
        is_same(FileLocation::of(&file).stat())?;
        self.count += 1;
        if is_reliable {
            self.digests.push((stamp, digest));
            lock(self.known.fresh).insert(stamp, digest);
        }
        Ok(digest)
    }

    /// Opens a file that may have been replaced meanwhile, and on which another process may have a lease.
    fn open(&self, place: &FileLocation<'_>, path: impl Fn() -> PathBuf) -> Result<File, ContentError> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let open = || {
            self.known.check_stop().map_err(std::io::Error::other)?;
            Ok(place.open(flags)?)
        };
        regular::open_leased(|| path().display().to_string(), open).map_err(|source| match self.known.check_stop() {
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

/// Whether any change from now on gets a later ctime. Waits where that will soon be true.
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
    fn a_ctime_of_now_is_waited_for_but_a_future_one_is_not() {
        let now = clock_gettime(ClockId::CLOCK_REALTIME_COARSE).unwrap();
        assert!(is_of_an_earlier_tick((now.tv_sec(), now.tv_nsec() as u32)));
        assert!(is_of_an_earlier_tick((now.tv_sec() - 1, 0)));
        assert!(!is_of_an_earlier_tick((now.tv_sec() + 3600, 0)));
    }
}
