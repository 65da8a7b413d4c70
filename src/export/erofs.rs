//! EROFS images: mkfs.erofs(1) of erofs-utils writes them.
//!
//! It is the one form that another program writes. That program reads the root, whose names and attributes are hostile, as the user
//! who runs runner: it gets the read-only view of the root and an environment with nothing but `PATH`.

use std::io::{self, Read};
use std::os::fd::BorrowedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{Epoch, ExportError};
use crate::model::Compression;
use crate::sys;

/// The program.
pub const MKFS: &str = "mkfs.erofs";

/// Of its messages, an error quotes as many bytes.
const MAX_MESSAGE_BYTES: usize = 2 << 10;

/// How often its end and an interrupt are noticed.
const POLL_INTERVAL: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

/// The same for each image: the same root gives the same bytes.
const UUID: &str = "00000000-0000-0000-0000-000000000000";

/// Returns the program's path, if it is in `PATH`.
pub fn find_mkfs() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(MKFS)).find(|program| program.is_file())
}

/// Writes an image of a directory. All its times are the epoch, where there is one.
///
/// # Errors
/// Where the program is missing or fails.
pub fn write(
    directory: &Path,
    to: &Path,
    compression: Compression,
    epoch: Epoch,
    interrupt: BorrowedFd<'_>,
) -> Result<(), ExportError> {
    let program = find_mkfs().ok_or(ExportError::NoMkfsErofs)?;
    let mut command = Command::new(program);
    command.arg("--quiet").args(["-U", UUID]);
    match epoch {
        Some(seconds) => command.arg(format!("-T{seconds}")),
        None => command.arg("--preserve-mtime"),
    };
    if compression == Compression::Lz4 {
        command.arg("-zlz4");
    }
    command.arg(to).arg(directory).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).process_group(0);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    sys::end_with_this_thread(&mut command);
    let mut child = command.spawn().map_err(ExportError::MkfsErofs)?;
    let stderr = child.stderr.take();
    let said = thread::scope(|scope| {
        let reader = scope.spawn(move || {
            let (mut said, mut chunk) = (Vec::new(), [0; 4096]);
            let Some(mut stderr) = stderr else { return said };
            while let Ok(count @ 1..) = stderr.read(&mut chunk) {
                let room = MAX_MESSAGE_BYTES.saturating_sub(said.len());
                said.extend(&chunk[..count.min(room)]);
            }
            said
        });
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            let mut polled = [PollFd::from_borrowed_fd(interrupt, PollFlags::IN)];
            if poll(&mut polled, Some(&POLL_INTERVAL)).is_ok_and(|ready| ready > 0) {
                child.kill()?;
                break child.wait()?;
            }
        };
        let said = reader.join().unwrap_or_default();
        io::Result::Ok((status, said))
    });
    let (status, said) = said.map_err(ExportError::MkfsErofs)?;
    if status.success() {
        return Ok(());
    }
    let lines = String::from_utf8_lossy(&said).replace(&directory.display().to_string(), "");
    let said: Vec<&str> = lines.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    Err(ExportError::MkfsErofsFailed { status, said: said.join("; ") })
}
