//! A session's container in runner: a helper process that owns it, and a socket that accepts requests for steps.
//!
//! The helper is a second process of runner's program. The embedded runtime's helper makes the container and waits for its
//! end, while requests go straight to the process that becomes the step; an external runtime's helper receives them itself.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use oci_spec::runtime::Process;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::Shutdown;
use serde::Serialize;

use super::embedded::{RequestSocket, StartedStep};
pub use super::error::RuntimeError;
use super::external::INIT_PATH;
use super::helper_process::HelperProcess;
pub use super::helper_process::{Helper, helper_exit_code};
use super::protocol::{self, OpenReply, StartRequest};
use super::status::{self, Status};
use super::watch::Watch;
use super::{Outcome, PinnedMounts, ProcessEnd, Stdio, process, wire};
use crate::oom_score;
use crate::poison::lock;

/// How long a killed step may take before [`RunningStep::thaw_or_kill`].
pub const KILL_AGAIN: Duration = Duration::from_millis(20);

/// How often runner thaws a killed step before it kills the container: two seconds.
const MAX_THAWS: u32 = 100;

/// A container that starts processes on request.
#[derive(Debug)]
pub struct Container {
    channel: Channel,
    // Declared after the channel: its socket closes before runner waits for the process.
    helper: HelperProcess,
    /// Its cgroups, where all steps are in the same ones.
    watch: Option<Arc<Watch>>,
    pinned_mounts: Arc<PinnedMounts>,
}

/// The receiver of requests.
#[derive(Debug)]
pub(super) enum Channel {
    /// The process that becomes the step.
    Embedded {
        requests: RequestSocket,
        #[expect(dead_code, reason = "the helper waits until this socket closes")]
        helper: UnixStream,
    },
    /// The helper. Messages of several threads must not mix.
    External(Mutex<UnixStream>),
}

/// A running step. Dropping it ends the step.
#[derive(Debug)]
pub struct RunningStep {
    status: OwnedFd,
    /// The facts for the message of a failed start, with the embedded runtime.
    started: Option<StartedStep>,
    /// The cgroups that the step shares, and how often memory had run out there at its start.
    watch: Option<(Arc<Watch>, u64)>,
    /// How often the step was thawed since it was killed.
    thawed: AtomicU32,
    pinned_mounts: Arc<PinnedMounts>,
}

/// The first reply of a step that requests a terminal.
#[derive(Debug)]
pub enum TerminalReply {
    /// The terminal's master side, see pty(7).
    Terminal(OwnedFd),
    /// The step ended before it had a terminal.
    Ended(ProcessEnd),
}

impl Container {
    /// Has a helper open a container, with descriptors beside the request. `watch` is for the cgroups that contain all its
    /// steps; where each step has its own, the helper watches those.
    ///
    /// # Errors
    /// See [`RuntimeError`]; [`RuntimeError::Create`] has the runtime's own message.
    pub(super) fn open(
        helper: Helper,
        open: &impl Serialize,
        descriptors: &[BorrowedFd<'_>],
        channel: impl FnOnce(UnixStream) -> Channel,
        mut watch: Option<Watch>,
        pinned_mounts: &Arc<PinnedMounts>,
    ) -> Result<Self, RuntimeError> {
        let Helper { socket: here, process: helper } = helper;
        let sent = protocol::send(&here, open, descriptors);
        if let Some(watch) = &mut watch {
            // Runner reads the counters while the helper works.
            watch.count_from_now();
        }
        let answer = sent.and_then(|()| protocol::receive(&here));
        let pinned_mounts = Arc::clone(pinned_mounts);
        let mut container = Self { channel: channel(here), helper, watch: None, pinned_mounts };
        let error = match answer {
            Ok(Some((OpenReply::Ready(limits), _))) => {
                container.watch = watch.map(|mut watch| {
                    watch.expect(limits);
                    Arc::new(watch)
                });
                return Ok(container);
            }
            Ok(Some((OpenReply::Failed(why), _))) => RuntimeError::Create(why),
            Ok(None) => RuntimeError::Gone,
            Err(error) => RuntimeError::Talk(error),
        };
        // When a helper fails, runner first sees that the other end of the socket is closed.
        let is_closed = match &error {
            RuntimeError::Gone => true,
            RuntimeError::Talk(error) => error.kind() == io::ErrorKind::BrokenPipe,
            _ => false,
        };
        match container.close() {
            Err(failed @ RuntimeError::Failed(_)) if is_closed => Err(failed),
            _ => Err(error),
        }
    }

    /// Starts a process in the container: as the first one of its PID namespace or, with `init`, as the child of a reaper.
    ///
    /// # Errors
    /// [`RuntimeError::Talk`] when the container has ended.
    pub fn start(&self, mut process: Process, init: bool, stdio: &Stdio) -> Result<RunningStep, RuntimeError> {
        process.set_oom_score_adj(Some(oom_score::of_caller()));
        let (here, there) = status::pair().map_err(RuntimeError::Talk)?;
        let descriptors = [stdio.stdin.as_fd(), stdio.stdout.as_fd(), stdio.stderr.as_fd(), there.as_fd()];
        let watch = self.watch.as_ref().map(|watch| (Arc::clone(watch), watch.oom_kills_so_far()));
        if let Some(why) = process::too_large(&process) {
            let outcome = Outcome::NotStarted { why, code: 126 };
            status::send_ended(there.as_fd(), &outcome.into()).map_err(RuntimeError::Talk)?;
            return Ok(self.running(here, None, watch));
        }
        let started = match &self.channel {
            Channel::Embedded { requests, .. } => {
                match requests.send(&process, init, descriptors).map_err(RuntimeError::Talk)? {
                    Ok(started) => Some(started),
                    Err(outcome) => {
                        status::send_ended(there.as_fd(), &outcome.into()).map_err(RuntimeError::Talk)?;
                        None
                    }
                }
            }
            Channel::External(control) => {
                if init {
                    process.set_args(Some(
                        [&[INIT_PATH.to_owned()], process.args().as_deref().unwrap_or_default()].concat(),
                    ));
                }
                let control = lock(control);
                protocol::send(&control, &StartRequest { process }, &descriptors).map_err(RuntimeError::Talk)?;
                None
            }
        };
        if let Some((watch, _)) = &watch {
            // The first call opens the groups, while the step starts.
            watch.find();
        }
        Ok(self.running(here, started, watch))
    }

    fn running(&self, status: OwnedFd, started: Option<StartedStep>, watch: Option<(Arc<Watch>, u64)>) -> RunningStep {
        let pinned_mounts = Arc::clone(&self.pinned_mounts);
        RunningStep { status, started, watch, thawed: AtomicU32::new(0), pinned_mounts }
    }

    /// Ends the container with all its processes, and waits until its cgroup is removed.
    ///
    /// # Errors
    /// Where the helper failed: it may have left a cgroup behind, which the next start of runner removes.
    pub fn close(self) -> Result<(), RuntimeError> {
        let Self { mut helper, channel, .. } = self;
        drop(channel);
        helper.wait()
    }
}

impl RunningStep {
    /// Returns a descriptor that becomes readable as soon as the step has ended.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.status.as_fd()
    }

    /// Waits for the end of the step.
    ///
    /// # Errors
    /// [`RuntimeError::Gone`] when the container ended before the step.
    pub fn ended(self) -> Result<ProcessEnd, RuntimeError> {
        loop {
            let TerminalReply::Ended(ended) = self.next()? else { continue };
            let Some((watch, before)) = &self.watch else { return Ok(ended) };
            let failed = !ended.outcome.is_success();
            return Ok(ProcessEnd {
                out_of_memory: failed && watch.oom_kills() > *before,
                processes_refused: failed && watch.processes_refused(),
                lost: ended.lost.or_else(|| watch.lost_limit()),
                outcome: ended.outcome,
            });
        }
    }

    /// Thaws a step that was killed and has not ended: a process inside may freeze the step again and again, and a process that
    /// is frozen on v1 does not end by SIGKILL. The caller repeats this each [`KILL_AGAIN`]; finally it kills the whole container.
    pub fn thaw_or_kill(&self) {
        let Some((watch, _)) = &self.watch else { return };
        if self.thawed.fetch_add(1, Ordering::Relaxed) < MAX_THAWS { watch.thaw() } else { watch.kill() }
    }

    /// Kills the step with SIGKILL, and waits until it, or its whole container, has ended.
    ///
    /// # Errors
    /// Those of poll(2).
    pub fn kill_and_wait(&self) -> io::Result<()> {
        let again = Timespec::try_from(KILL_AGAIN).map_err(io::Error::other)?;
        self.kill();
        loop {
            match rustix::event::poll(&mut [PollFd::new(&self.status, PollFlags::IN)], Some(&again)) {
                Ok(0) => self.thaw_or_kill(),
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Waits for the terminal of a process that requests one.
    ///
    /// # Errors
    /// [`RuntimeError::Gone`] when the container ended before the step had one.
    pub fn terminal(&self) -> Result<TerminalReply, RuntimeError> {
        self.next()
    }

    fn next(&self) -> Result<TerminalReply, RuntimeError> {
        match status::receive(self.status.as_fd()).map_err(RuntimeError::Talk)? {
            Some(Status::Mounts(namespace)) => {
                self.pinned_mounts.pin(namespace);
                self.next()
            }
            Some(Status::Terminal(terminal)) => Ok(TerminalReply::Terminal(terminal)),
            Some(Status::Ended(ended)) => Ok(TerminalReply::Ended(match &self.started {
                Some(started) => ProcessEnd { outcome: started.ended(ended.outcome), ..ended },
                None => ended,
            })),
            Some(Status::EndedWithout(outcome, mount)) => {
                let lost = self.started.as_ref().map(|started| started.without_mount(mount));
                Ok(TerminalReply::Ended(ProcessEnd { lost, ..outcome.into() }))
            }
            Some(Status::Failed(failure)) => {
                let why = "it failed to start".to_owned();
                let unknown = Outcome::NotStarted { why, code: super::CANNOT_START };
                Ok(TerminalReply::Ended(
                    self.started.as_ref().map_or(unknown, |started| started.outcome(failure)).into(),
                ))
            }
            None => Err(RuntimeError::Gone),
        }
    }

    /// Has SIGTERM sent to all processes of the step. If the kernel does not deliver the signal to the first process, that one is
    /// killed as soon as the others have ended. The step may still take any time to end, or not end at all.
    pub fn ask_to_end(&self) {
        // An ended step has closed its end of the socket.
        let _ = status::send_packet(self.status.as_fd(), &wire::END, &[]);
        if let Some((watch, _)) = &self.watch {
            // A process that something inside has frozen gets no signal.
            watch.thaw();
        }
    }

    /// Kills the step with SIGKILL; the caller still waits for its outcome.
    pub fn kill(&self) {
        // The other side waits until our end closes. To close the sending half is enough, and replies still arrive.
        let _ = rustix::net::shutdown(&self.status, Shutdown::Write);
        self.thaw_or_kill();
    }
}
