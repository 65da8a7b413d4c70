//! One attempt of a step's process: reads its output, limits its time, and waits for its end.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use oci_spec::runtime::Process;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Gid, Uid, fchown};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};

use super::ending::Ending;
use super::interrupt::Interrupt;
use super::patience::{Killed, Patience};
use super::streams::{BUFFER_BYTES, Sink, Streams};
use crate::error::context;
use crate::runtime::container::RunningStep;
use crate::runtime::{Outcome, ProcessEnd, Stdio};
use crate::session::{Session, SessionError};

/// The size of a pipe, for output that is not read yet: with the kernel's default of 64 KiB, a step that prints fast
/// waits often.
pub(super) const PIPE_BYTES: usize = 256 << 10;

/// The number of reads that empty both pipes, however full they were: each read takes at least one buffer of a stream.
pub(super) const READS_OF_FULL_PIPES: usize = 2 * PIPE_BYTES.div_ceil(BUFFER_BYTES);

/// The result of an attempt.
#[derive(Debug)]
pub struct AttemptResult {
    /// The end of the process.
    pub outcome: Outcome,
    /// Whether the kernel killed it, or a process that it had started, for want of memory.
    pub out_of_memory: bool,
    /// Whether a limit refused a new process to it, or to a process that it had started.
    pub processes_refused: bool,
    /// The reason for which a limit or a mount of the manifest was not in force until its end, if one was not.
    pub lost: Option<String>,
    /// Whether it was asked to end because it took longer than its timeout.
    pub timed_out: bool,
    /// Whether it was asked to end because the build was interrupted.
    pub interrupted: bool,
    /// The time at which it was killed, if it had not ended by then.
    pub killed: Option<Killed>,
}

impl AttemptResult {
    /// Makes the result of an attempt that runner did not end.
    pub fn of(ended: ProcessEnd) -> Self {
        let ProcessEnd { outcome, out_of_memory, processes_refused, lost } = ended;
        let (timed_out, interrupted) = (false, false);
        Self { outcome, out_of_memory, processes_refused, lost, timed_out, interrupted, killed: None }
    }

    /// Whether the process succeeded, in time, and with all its limits and mounts.
    pub fn is_success(&self) -> bool {
        self.outcome.is_success() && !self.timed_out && !self.interrupted && self.lost.is_none()
    }
}

/// A running attempt. Dropping it ends the process.
#[derive(Debug)]
pub struct RunningAttempt {
    running: RunningStep,
    stdout: OwnedFd,
    stderr: OwnedFd,
}

impl RunningAttempt {
    /// Starts a process in a started session.
    ///
    /// # Errors
    /// Where the session has ended; not where the process cannot be started.
    pub fn start(session: &Session<'_>, process: Process, stdin: OwnedFd) -> Result<Self, SessionError> {
        let (stdout, stdout_end) = pipe()?;
        let (stderr, stderr_end) = pipe()?;
        // So that a step of another user can open its own streams by path, as /dev/stderr; runc does the same.
        let (user, group) = (Uid::from_raw(process.user().uid()), Gid::from_raw(process.user().gid()));
        for end in [&stdout_end, &stderr_end] {
            // The pipes belong to root already.
            if user.is_root() && group.is_root() {
                break;
            }
            fchown(end, Some(user), Some(group))
                .map_err(io::Error::from)
                .map_err(context("give the step its output pipes"))?;
        }
        // Only the process' own ends may remain open: these are closed at the end of this block.
        let stdio = Stdio { stdin, stdout: stdout_end, stderr: stderr_end };
        Ok(Self { running: session.run(process, &stdio)?, stdout, stderr })
    }

    /// Follows the attempt to its end.
    ///
    /// # Errors
    /// Where the session has ended or the log cannot be written; not where the process fails.
    pub fn follow(
        self,
        patience: Patience<'_>,
        output: &mut Sink<'_>,
        interrupt: &Interrupt,
    ) -> Result<AttemptResult, SessionError> {
        let Self { running, stdout, stderr } = self;
        let mut streams = Streams::new(stdout, stderr)?;
        let mut ending = Ending::new(&running, patience, interrupt);
        loop {
            let ready = {
                let mut polled = vec![PollFd::from_borrowed_fd(running.descriptor(), PollFlags::IN)];
                polled.extend(ending.awaited().map(|request| PollFd::from_borrowed_fd(request, PollFlags::IN)));
                polled.extend(streams.open().map(|end| PollFd::new(end, PollFlags::IN)));
                let remaining = ending.due().map(|due| due.saturating_duration_since(Instant::now()));
                match poll(&mut polled, remaining.map(timespec).as_ref()) {
                    Ok(_) => {}
                    Err(Errno::INTR) => continue,
                    Err(error) => return Err(io::Error::from(error).into()),
                }
                polled.iter().map(|fd| !fd.revents().is_empty()).collect::<Vec<_>>()
            };
            let is_requested = ending.awaited().is_some() && ready[1];
            if ready[1 + usize::from(ending.awaited().is_some())..].contains(&true) {
                streams.read(output)?;
            }
            if ready[0] {
                let (timed_out, interrupted, killed) = (ending.timed_out, ending.interrupted, ending.killed);
                drop(ending);
                let ended = running.ended()?;
                // All processes of the step have ended, so its output is in the pipes by now. A process of another
                // container to which it sent its end of a pipe may continue to write: no more is read than fits into
                // the pipes.
                for _ in 0..READS_OF_FULL_PIPES {
                    if !streams.read(output)? {
                        break;
                    }
                }
                return Ok(AttemptResult { timed_out, interrupted, killed, ..AttemptResult::of(ended) });
            }
            ending.advance(is_requested);
        }
    }
}

fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&reader, true)?;
    // Refused past the limit of pipe(7) for one user; the default size works too.
    let _ = fcntl_setpipe_size(&writer, PIPE_BYTES);
    Ok((reader, writer))
}

fn timespec(duration: Duration) -> Timespec {
    Timespec { tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX), tv_nsec: duration.subsec_nanos().into() }
}
