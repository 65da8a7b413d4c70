//! Images that mksquashfs(1) of squashfs-tools 4.5 or later writes: the reference for runner's own, see `image`.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::image::{ImageError, ImageOptions, ImageProgress, Interrupt, PROGRESS_INTERVAL};
use super::mksquashfs_progress::{self, MksquashfsProgress};
use super::stall::{Stall, TIMEOUT, bytes_moved};
use super::version::MKSQUASHFS;
use crate::fs::regular;
use crate::model::Compression;
use crate::sys;

/// The bytes of mksquashfs' messages that an error quotes.
const MAX_MESSAGE_BYTES: u64 = 4 << 10;

impl ImageOptions {
    fn arguments(&self) -> Vec<String> {
        let mut arguments = Vec::new();
        let mut add = |words: &[&str]| arguments.extend(words.iter().map(ToString::to_string));
        // A file that it cannot read is an error: the default is to leave the file out and continue.
        add(&["-noappend", "-exit-on-error", "-xattrs", "-quiet"]);
        match self.compression {
            Compression::Zstd => add(&[
                "-comp",
                "zstd",
                "-Xcompression-level",
                &self.level.unwrap_or(crate::squashfs::ZSTD_LEVEL).to_string(),
            ]),
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

/// Writes an image, see [`write_image`](super::write_image).
/// To be called on a thread that waits for it: mksquashfs ends with the thread.
///
/// # Errors
/// See [`ImageError`].
pub(super) fn write(
    root: &Path,
    image: &Path,
    options: ImageOptions,
    interrupt: Interrupt<'_>,
    progress: &mut dyn FnMut(ImageProgress),
) -> Result<(), ImageError> {
    let mut command = Command::new(MKSQUASHFS);
    command.arg(root).arg(image).args(options.arguments());
    let stdout = match mksquashfs_progress::terminal() {
        Ok((ours, theirs)) => {
            command.stdout(theirs);
            Some(File::from(ours))
        }
        // On a host without devpts the image is the same, but its progress is not reported.
        Err(_) => {
            command.arg("-no-progress").stdout(Stdio::piped());
            None
        }
    };
    command.stdin(Stdio::null()).stderr(Stdio::piped()).process_group(0);
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
    // The command has the program's end of the terminal open, so that our end would never report its close.
    drop(command);
    let stall = Stall::new(TIMEOUT, Instant::now());
    let said = wait(child, stdout, interrupt, stall, &mut |percent| {
        // The image does not exist at first.
        if let Ok(metadata) = image.metadata() {
            progress(ImageProgress { bytes: metadata.len(), percent });
        }
    })?;
    match said {
        Ok(()) => check(image),
        Err((status, said)) => {
            Err(ImageError::Failed { said: in_one_line(&said).replace(&format!("{}/", root.display()), "/"), status })
        }
    }
}

/// Joins the lines of an error: several threads can fail at once, each with a line of its own.
fn in_one_line(said: &str) -> String {
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines.join("; ")
}

/// Checks that the image exists and is complete: its first bytes have its size, see squashfs_fs.h in Linux.
fn check(image: &Path) -> Result<(), ImageError> {
    const MAGIC: &[u8] = b"hsqs";
    const SUPERBLOCK: usize = 96;
    let refused = |found: String| Err(ImageError::NotAnImage { found });
    let mut file = match regular::open(image) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return refused("no file".into()),
        file => file?,
    };
    let mut start = [0; SUPERBLOCK];
    match file.read_exact(&mut start) {
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => return Err(error.into()),
        Ok(()) if start.starts_with(MAGIC) => {}
        _ => return refused("a file that is no squashfs image".into()),
    }
    let used = start[40..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    let length = file.metadata()?.len();
    if length < used {
        return refused(format!("{length} bytes of an image of {used}"));
    }
    Ok(())
}

/// The exit status of a failed mksquashfs, and its messages.
type FailedExit = (ExitStatus, String);

/// Waits for its end, and calls `tick` each [`PROGRESS_INTERVAL`]; returns its messages where it failed.
fn wait(
    mut child: Child,
    terminal: Option<File>,
    interrupt: Interrupt<'_>,
    mut stall: Stall,
    tick: &mut dyn FnMut(Option<u8>),
) -> Result<Result<(), FailedExit>, ImageError> {
    let stdout = terminal.or_else(|| child.stdout.take().map(|stdout| File::from(OwnedFd::from(stdout))));
    let stderr = child.stderr.take().map(|stderr: ChildStderr| File::from(OwnedFd::from(stderr)));
    let mut streams = [stdout, stderr];
    let (mut bar, mut said) = (MksquashfsProgress::default(), Vec::new());
    let mut next = Instant::now() + PROGRESS_INTERVAL;
    while streams.iter().any(Option::is_some) {
        let left = next.saturating_duration_since(Instant::now());
        if left.is_zero() {
            tick(bar.percent());
            if bytes_moved(child.id()).is_some_and(|count| stall.is_stalled(count, Instant::now())) {
                child.kill()?;
                child.wait()?;
                return Err(ImageError::Stalled(stall.timeout()));
            }
            next = Instant::now() + PROGRESS_INTERVAL;
            continue;
        }
        let mut polled = vec![PollFd::from_borrowed_fd(interrupt, PollFlags::IN)];
        // A closed pipe would be ready for ever.
        polled.extend(streams.iter().flatten().map(|stream| PollFd::from_borrowed_fd(stream.as_fd(), PollFlags::IN)));
        let left = Timespec { tv_sec: 0, tv_nsec: left.subsec_nanos().into() };
        match poll(&mut polled, Some(&left)) {
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(error) => return Err(ImageError::Run(error.into())),
        }
        let mut ready = polled.iter().map(|fd| !fd.revents().is_empty()).collect::<Vec<_>>().into_iter();
        if ready.next() == Some(true) {
            child.kill()?;
            child.wait()?;
            return Err(ImageError::Interrupted);
        }
        for (index, stream) in streams.iter_mut().enumerate() {
            if stream.is_none() || ready.next() != Some(true) {
                continue;
            }
            let bytes = read_some(stream)?;
            let bytes = if index == 0 { bar.take(&bytes) } else { bytes };
            let room = (MAX_MESSAGE_BYTES as usize).saturating_sub(said.len());
            said.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
    }
    let status = child.wait()?;
    Ok(if status.success() { Ok(()) } else { Err((status, String::from_utf8_lossy(&said).into_owned())) })
}

/// Reads the available bytes; closes the stream at its end.
fn read_some(stream: &mut Option<File>) -> io::Result<Vec<u8>> {
    let Some(file) = stream else { return Ok(Vec::new()) };
    let mut buffer = vec![0; 4096];
    let length = match file.read(&mut buffer) {
        // A terminal that no process has open any more, see pty(7).
        Err(error) if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => 0,
        length => length?,
    };
    buffer.truncate(length);
    if length == 0 {
        *stream = None;
    }
    Ok(buffer)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Waits for a program with a shorter timeout than usual.
    fn waited(script: &str) -> Result<Result<(), FailedExit>, ImageError> {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().unwrap();
        let (never, _writer) = io::pipe().unwrap();
        let stall = Stall::new(Duration::from_secs(1), Instant::now());
        wait(child, None, never.as_fd(), stall, &mut |_| {})
    }

    #[test]
    fn an_error_of_several_lines_is_one_line_of_a_message() {
        let said = "\nFATAL ERROR: Failed to create thread\n\nFATAL ERROR: frag_thrd: can't open destination\n";
        let line = "FATAL ERROR: Failed to create thread; FATAL ERROR: frag_thrd: can't open destination";
        assert_eq!(in_one_line(said), line);
    }

    #[test]
    fn a_program_that_neither_reads_nor_writes_is_ended() {
        let error = waited("while :; do :; done").unwrap_err();
        assert_eq!(error.to_string(), "cannot write the image: mksquashfs has read and written nothing for 1s");
    }

    #[test]
    fn a_slow_program_is_waited_for() {
        let slow = "n=0; while [ $n -lt 20 ]; do n=$((n+1)); read line < /proc/self/stat; sleep 0.1; done";
        assert!(waited(slow).unwrap().is_ok());
        assert_eq!(waited("echo no; exit 3").unwrap().unwrap_err().1, "no\n");
    }
}
