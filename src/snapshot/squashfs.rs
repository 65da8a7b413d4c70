//! Squashfs images, written by mksquashfs(1) of squashfs-tools 4.5 or later.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use thiserror::Error;

use super::version::MKSQUASHFS;
use crate::build::{Compression, Snapshot};
use crate::sys;

/// zstd's own default, 15, takes fourteen times as long for a seventh less.
const ZSTD_LEVEL: u32 = 3;

/// How often the size of an image that grows is told.
const TOLD_EACH: Duration = Duration::from_millis(250);

/// As much of what mksquashfs says is kept for an error.
const MOST_SAID: u64 = 4 << 10;

/// Why there is no image.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum ImageError {
    #[error("cannot write the image: mksquashfs is not in PATH")]
    NoProgram,
    #[error("cannot write the image: mksquashfs cannot be run")]
    Run(#[from] io::Error),
    #[error("cannot write the image: mksquashfs {}, and said {}", ended(*status), if said.is_empty() { "nothing" } else { said })]
    Failed { said: String, status: ExitStatus },
    #[error("interrupted")]
    Interrupted,
}

impl ImageError {
    /// What mends it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoProgram => Some("apt-get install squashfs-tools".into()),
            Self::Failed { said, .. } if said.contains("No space left on device") => {
                Some("make room where the store is, as with `runner store gc`".into())
            }
            Self::Failed { status, .. } if status.signal().is_some() => {
                Some("`dmesg | tail` says whether the kernel has killed it for want of memory".into())
            }
            Self::Run(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                Some("`command -v mksquashfs` tells which file that is; `chmod +x` makes it a program".into())
            }
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

/// How an image is written.
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
    /// Of a snapshot step.
    pub fn new(snapshot: &Snapshot, source_date_epoch: Option<u64>) -> Self {
        Self { compression: snapshot.compression, level: snapshot.level, source_date_epoch }
    }

    fn arguments(&self) -> Vec<String> {
        let mut arguments = Vec::new();
        let mut add = |words: &[&str]| arguments.extend(words.iter().map(ToString::to_string));
        // Whatever it cannot read ends it: the default is to leave it out and go on.
        add(&["-noappend", "-exit-on-error", "-xattrs", "-no-progress", "-quiet"]);
        match self.compression {
            Compression::Zstd => {
                add(&["-comp", "zstd", "-Xcompression-level", &self.level.unwrap_or(ZSTD_LEVEL).to_string()])
            }
            Compression::Gzip => {
                add(&["-comp", "gzip"]);
                if let Some(level) = self.level {
                    add(&["-Xcompression-level", &level.to_string()]);
                }
            }
            Compression::Xz => add(&["-comp", "xz"]),
            Compression::Lz4 => add(&["-comp", "lz4"]),
            Compression::None => add(&["-comp", "gzip", "-noI", "-noId", "-noD", "-noF", "-noX"]),
        }
        arguments
    }
}

/// Something that is readable when the build is interrupted.
pub type Interrupt<'a> = std::os::fd::BorrowedFd<'a>;

/// Writes the folder `root` as an image at `image`, a path that is not there yet. Nothing is synced. `written` is told
/// now and then how many bytes the image has.
/// To be called on a thread that waits for it: mksquashfs ends with the thread.
///
/// # Errors
/// See [`ImageError`]. What was written by then is left to the caller.
pub fn write_image(
    root: &Path,
    image: &Path,
    options: ImageOptions,
    interrupt: Interrupt<'_>,
    written: &mut dyn FnMut(u64),
) -> Result<(), ImageError> {
    let mut command = Command::new(MKSQUASHFS);
    command.arg(root).arg(image).args(options.arguments());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    // Given as the variable and not as flags: mksquashfs(1) refuses both at once.
    command.env_remove("SOURCE_DATE_EPOCH");
    if let Some(seconds) = options.source_date_epoch {
        command.env("SOURCE_DATE_EPOCH", seconds.to_string());
    }
    sys::end_with_this_thread(&mut command);
    let child = command.spawn().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => ImageError::NoProgram,
        _ => ImageError::Run(error),
    })?;
    let said = wait(child, interrupt, &mut || {
        // It is not there at first.
        if let Ok(metadata) = image.metadata() {
            written(metadata.len());
        }
    })?;
    match said {
        Ok(()) => Ok(()),
        Err((status, said)) => {
            Err(ImageError::Failed { said: said.trim().replace(&format!("{}/", root.display()), "/"), status })
        }
    }
}

/// How it ended, and what it said.
type Unwell = (ExitStatus, String);

/// Waits for its end, with a call of `tick` each [`TOLD_EACH`]; what it said where it failed.
fn wait(mut child: Child, interrupt: Interrupt<'_>, tick: &mut dyn FnMut()) -> Result<Result<(), Unwell>, ImageError> {
    let each = Timespec { tv_sec: 0, tv_nsec: TOLD_EACH.subsec_nanos().into() };
    let (Some(mut stdout), Some(mut stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(ImageError::Run(io::Error::other("it has no output")));
    };
    let mut said = Vec::new();
    let mut open = [true, true];
    while open.contains(&true) {
        let mut polled = vec![PollFd::from_borrowed_fd(interrupt, PollFlags::IN)];
        // A closed pipe would be ready for ever.
        if open[0] {
            polled.push(PollFd::from_borrowed_fd(stdout.as_fd(), PollFlags::IN));
        }
        if open[1] {
            polled.push(PollFd::from_borrowed_fd(stderr.as_fd(), PollFlags::IN));
        }
        match poll(&mut polled, Some(&each)) {
            Ok(0) => {
                tick();
                continue;
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(ImageError::Run(error.into())),
        }
        let ready: Vec<bool> = polled.iter().map(|fd| !fd.revents().is_empty()).collect();
        if ready[0] {
            child.kill()?;
            child.wait()?;
            return Err(ImageError::Interrupted);
        }
        let mut buffer = [0; 4096];
        let mut next = 1;
        for (index, is_open) in open.iter_mut().enumerate() {
            if !*is_open {
                continue;
            }
            if ready[next] {
                let length = if index == 0 { stdout.read(&mut buffer)? } else { stderr.read(&mut buffer)? };
                *is_open = length > 0;
                let room = (MOST_SAID as usize).saturating_sub(said.len());
                said.extend_from_slice(&buffer[..length.min(room)]);
            }
            next += 1;
        }
    }
    let status = child.wait()?;
    Ok(if status.success() { Ok(()) } else { Err((status, String::from_utf8_lossy(&said).into_owned())) })
}
