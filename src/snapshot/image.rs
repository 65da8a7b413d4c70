//! A snapshot's image: its options, its writer, and the errors of writing it.
//!
//! Runner writes images itself (`squashfs`). With `RUNNER_MKSQUASHFS=1` in its environment mksquashfs(1) does, to compare: the
//! bytes differ, and the content is the same but for times after 2106, which mksquashfs wraps around.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use thiserror::Error;

use super::mksquashfs;
use super::normalise::MAX_PATH_BYTES;
use crate::cgroup::ProcessLimit;
use crate::model::{Compression, Snapshot};
use crate::squashfs::{self, WriteError, WriteOptions, WriteProgress};

/// How often the progress of a growing image is reported.
pub(super) const PROGRESS_INTERVAL: Duration = Duration::from_millis(250);

/// Before the end it is not done, however close.
pub(super) const MAX_PERCENT: u8 = 99;

/// The variable that makes mksquashfs(1) write images.
const VARIABLE: &str = "RUNNER_MKSQUASHFS";

/// Returns whether mksquashfs(1) writes images, and not runner itself.
pub fn uses_mksquashfs() -> bool {
    std::env::var_os(VARIABLE).is_some_and(|value| !value.is_empty() && value != "0")
}

/// The reason why there is no image.
#[derive(Debug, Error)]
pub enum ImageError {
    #[error("cannot write the image: mksquashfs is not in PATH")]
    NoProgram,
    #[error("cannot write the image: mksquashfs cannot be run")]
    Run(#[from] io::Error),
    #[error("cannot write the image: mksquashfs {}, and said {}", ended(*status), if said.is_empty() { "nothing" } else { said })]
    Failed { said: String, status: ExitStatus },
    #[error("cannot write the image: mksquashfs has read and written nothing for {}", humantime::format_duration(*.0))]
    Stalled(Duration),
    #[error("cannot write the image: mksquashfs reported no error, and wrote {found}")]
    NotAnImage { found: String },
    #[error("cannot write the image")]
    Write(#[source] WriteError),
    #[error("interrupted")]
    Interrupted,
}

impl ImageError {
    /// Returns the fix, where it is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoProgram => Some("unset RUNNER_MKSQUASHFS, or apt-get install squashfs-tools".into()),
            Self::Failed { said, .. } if said.contains("No space left on device") => {
                Some("make room where the store is, as with `runner store gc`".into())
            }
            Self::Failed { status, .. } if status.signal().is_some() => {
                Some("`dmesg | tail` says whether the kernel has killed it for want of memory".into())
            }
            Self::Failed { said, .. } if said.contains("Failed to create thread") => Some(ProcessLimit::hint()),
            Self::Run(error) if error.kind() == io::ErrorKind::WouldBlock => Some(ProcessLimit::hint()),
            Self::Run(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                Some("`command -v mksquashfs` shows which file that is; `chmod +x` makes it a program".into())
            }
            Self::Stalled(_) => {
                let hint = "a layer below may be damaged: `runner store verify` looks at those of the store, and `unsquashfs \
                            -no-progress -d /tmp/try IMAGE` reads an image of the rootfs";
                Some(hint.into())
            }
            Self::NotAnImage { .. } => Some(
                "`command -v mksquashfs` shows which program that is; apt-get install --reinstall squashfs-tools"
                    .into(),
            ),
            Self::Write(error) => error.hint(),
            Self::Run(_) | Self::Failed { .. } | Self::Interrupted => None,
        }
    }
}

fn ended(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit code {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => status.to_string(),
    }
}

/// The options of an image.
#[derive(Debug, Clone, Copy)]
pub struct ImageOptions {
    /// The compressor.
    pub compression: Compression,
    /// Its level; `None`: see [`Snapshot::level`].
    pub level: Option<u32>,
    /// Seconds since 1970 that times are clamped to, and the time of the image itself.
    pub source_date_epoch: Option<u64>,
}

impl ImageOptions {
    /// Takes the options of a snapshot step.
    pub fn new(snapshot: &Snapshot, source_date_epoch: Option<u64>) -> Self {
        Self { compression: snapshot.compression, level: snapshot.level, source_date_epoch }
    }
}

/// The progress of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageProgress {
    /// The bytes that it has.
    pub bytes: u64,
    /// The share that is written, from 0 to 99 and never lower than before; none where it is not known.
    pub percent: Option<u8>,
}

/// A descriptor that becomes readable when the build is interrupted.
pub type Interrupt<'a> = std::os::fd::BorrowedFd<'a>;

/// Writes the directory `root` as an image at `image`, a path that does not exist yet. Nothing is synced. `progress` is called
/// now and then. To be called on a thread that waits for it.
///
/// # Errors
/// See [`ImageError`]. The caller removes a partly written image.
pub fn write_image(
    root: &Path,
    image: &Path,
    options: ImageOptions,
    interrupt: Interrupt<'_>,
    progress: &mut dyn FnMut(ImageProgress),
) -> Result<(), ImageError> {
    if uses_mksquashfs() {
        return mksquashfs::write(root, image, options, interrupt, progress);
    }
    let mut next = Instant::now() + PROGRESS_INTERVAL;
    let mut report = |written: WriteProgress| {
        let now = Instant::now();
        if now >= next {
            next = now + PROGRESS_INTERVAL;
            progress(ImageProgress { bytes: written.size, percent: Some(percent(written)) });
        }
    };
    squashfs::write(root, image, options.to_write(), interrupt, &mut report).map_err(|error| match error {
        WriteError::Interrupted => ImageError::Interrupted,
        error => ImageError::Write(error),
    })
}

impl ImageOptions {
    fn to_write(self) -> WriteOptions {
        let clamp = |seconds: u64| u32::try_from(seconds).unwrap_or(u32::MAX);
        let epoch = self.source_date_epoch.map(clamp);
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| clamp(since.as_secs()));
        WriteOptions {
            compression: self.compression,
            level: self.level,
            time: epoch.unwrap_or_else(now),
            latest: epoch.unwrap_or(u32::MAX),
            threads: thread::available_parallelism().map_or(1, usize::from),
            longest_path: MAX_PATH_BYTES,
        }
    }
}

fn percent(written: WriteProgress) -> u8 {
    let percent = u128::from(written.read) * 100 / u128::from(written.all.max(1));
    u8::try_from(percent).map_or(MAX_PERCENT, |percent| percent.min(MAX_PERCENT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_never_done_before_its_end() {
        let percent = |read, all| percent(WriteProgress { size: 0, read, all });
        assert_eq!([percent(0, 0), percent(1, 3), percent(7, 7), percent(u64::MAX, 1)], [0, 33, 99, 99]);
    }

    #[test]
    fn times_are_those_of_the_epoch_where_there_is_one() {
        let options = |epoch| {
            let options = ImageOptions { compression: Compression::Zstd, level: None, source_date_epoch: epoch };
            let written = options.to_write();
            (written.time, written.latest)
        };
        assert_eq!(options(Some(7)), (7, 7));
        assert_eq!(options(Some(1 << 40)), (u32::MAX, u32::MAX));
        assert!(options(None).0 > 1_700_000_000 && options(None).1 == u32::MAX);
    }
}
