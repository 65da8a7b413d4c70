//! A session's container as runner sees it: a helper process that owns it, and a socket that takes requests for steps.
//!
//! The helper is runner started again. The embedded runtime's helper makes the container and waits for its end, while
//! requests go straight to the process that becomes the step; an external runtime's helper takes them itself.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, Command, ExitCode, Stdio as ProcessStdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use oci_spec::runtime::Process;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::Shutdown;
use serde::Serialize;
use thiserror::Error;

use super::embedded::{Requests, Started};
use super::external::INIT_PATH;
use super::protocol::{self, Opened, Start};
use super::status::{self, Status};
use super::watch::Watch;
use super::{Ended, HeldMounts, Outcome, Stdio, process, wire};
use crate::cgroup::ProcessLimit;
use crate::error::error_chain;
use crate::oom_score;

/// How long a step that was killed may take before [`RunningStep::insist`].
pub const KILL_AGAIN: Duration = Duration::from_millis(20);

/// How often a step that was killed is thawed before its container is killed: two seconds.
const MAX_THAWS: u32 = 100;

/// EAGAIN in a helper's words: it could make no process or thread.
const NO_PROCESS: &str = "(os error 11)";

/// As much is read of a helper's last words.
const MAX_WORDS: usize = 4 << 10;

/// What goes wrong with a session's helper.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum RuntimeError {
    #[error("cannot start the session's helper process")]
    Spawn(#[source] io::Error),
    #[error("cannot talk to the session's helper process")]
    Talk(#[source] io::Error),
    #[error("cannot create the container: {0}")]
    Create(String),
    #[error("the session's helper process failed: {0}")]
    Failed(String),
    #[error("the session's helper process ended before its time")]
    Gone,
}

impl RuntimeError {
    /// What mends it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Spawn(error) if error.kind() == io::ErrorKind::WouldBlock => Some(ProcessLimit::hint()),
            Self::Create(words) | Self::Failed(words) if words.contains(NO_PROCESS) => Some(ProcessLimit::hint()),
            Self::Spawn(error) if error.kind() == io::ErrorKind::NotFound => Some("mount -t proc proc /proc".into()),
            Self::Talk(_) | Self::Gone => {
                Some("`dmesg | tail` says whether the kernel has killed it for want of memory".into())
            }
            Self::Spawn(_) | Self::Create(_) | Self::Failed(_) => None,
        }
    }
}

/// A helper that starts, and then waits for a container to open: its start takes as long as a root to mount.
#[derive(Debug)]
pub struct Helper {
    socket: UnixStream,
    process: HelperProcess,
}

/// The process of a helper. Dropped, it has lost its socket and ends; it is waited for.
#[derive(Debug)]
struct HelperProcess(Child);

/// A container that takes processes.
#[derive(Debug)]
pub struct Container {
    channel: Channel,
    // Waited for after its socket has closed.
    helper: HelperProcess,
    /// Its cgroups, where all steps are in the same.
    watch: Option<Arc<Watch>>,
    held_mounts: Arc<HeldMounts>,
}

/// Where requests go.
#[derive(Debug)]
pub(super) enum Channel {
    /// To the process that becomes the step.
    Embedded {
        requests: Requests,
        #[expect(dead_code, reason = "the helper waits for it to close")]
        helper: UnixStream,
    },
    /// To the helper. Messages of several threads must not mix.
    External(Mutex<UnixStream>),
}

/// A step under way. Dropping it ends the step.
#[derive(Debug)]
pub struct RunningStep {
    status: OwnedFd,
    /// What the words for a failed start need, with the embedded runtime.
    started: Option<Started>,
    /// The cgroups that it shares, and how often memory had run out there at its start.
    watch: Option<(Arc<Watch>, u64)>,
    /// How often it was thawed since it was killed.
    thawed: AtomicU32,
    held_mounts: Arc<HeldMounts>,
}

/// How a step with a terminal began.
#[derive(Debug)]
pub enum Begun {
    /// It has one; this is the master's side, see pty(7).
    Terminal(OwnedFd),
    /// It ended before it had one.
    Ended(Ended),
}

impl Helper {
    /// Starts a helper with that argument.
    ///
    /// # Errors
    /// [`RuntimeError::Spawn`].
    pub(super) fn start(argument: &str) -> Result<Self, RuntimeError> {
        let (here, there) = UnixStream::pair().map_err(RuntimeError::Spawn)?;
        // No process inside a container ever runs this program, so none has a way to its file, see CVE-2019-5736.
        let child = Command::new("/proc/self/exe")
            .arg0("runner")
            .arg(argument)
            .env_clear()
            // The socket is the helper's standard input: that needs no descriptor number to agree on.
            .stdin(OwnedFd::from(there))
            .stdout(ProcessStdio::null())
            // For its last words alone.
            .stderr(ProcessStdio::piped())
            .current_dir("/")
            // A Ctrl-C at the terminal is for runner, which ends its sessions itself.
            .process_group(0)
            .spawn()
            .map_err(RuntimeError::Spawn)?;
        Ok(Self { socket: here, process: HelperProcess(child) })
    }

    /// Sends a message that is not answered.
    pub(super) fn send(&self, message: &impl Serialize) -> io::Result<()> {
        protocol::send(&self.socket, message, &[])
    }
}

impl HelperProcess {
    /// Waits for its end.
    fn end(&mut self) -> Result<(), RuntimeError> {
        if self.0.wait().map_err(RuntimeError::Talk)?.success() {
            return Ok(());
        }
        let words = self.0.stderr.as_mut().map_or_else(String::new, words);
        Err(if words.is_empty() { RuntimeError::Gone } else { RuntimeError::Failed(words) })
    }
}

/// What a helper that has ended wrote to its standard error. What it started may still have that open.
fn words(stderr: &mut ChildStderr) -> String {
    let mut bytes = [0; MAX_WORDS];
    let read =
        rustix::io::ioctl_fionbio(&*stderr, true).map_err(io::Error::from).and_then(|()| stderr.read(&mut bytes));
    String::from_utf8_lossy(&bytes[..read.unwrap_or(0)]).trim_end().to_owned()
}

/// How a helper ends: with why, in words, on its standard error where it fails. `done`: nothing is left of its container.
pub fn last_words(done: io::Result<bool>) -> ExitCode {
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // Runner may be gone, and then nobody wants to know.
            let _ = writeln!(io::stderr(), "{}", error_chain(&error));
            ExitCode::FAILURE
        }
    }
}

impl Drop for HelperProcess {
    fn drop(&mut self) {
        // Waited for already where it was closed in the ordinary way.
        let _ = self.0.wait();
    }
}

impl Container {
    /// Has a helper open a container, with descriptors beside the request. `watch` is for the cgroups that all its steps
    /// are in, unless each has its own, which the helper looks after.
    ///
    /// # Errors
    /// See [`RuntimeError`]; [`RuntimeError::Create`] has the runtime's own words.
    pub(super) fn open(
        helper: Helper,
        open: &impl Serialize,
        descriptors: &[BorrowedFd<'_>],
        channel: impl FnOnce(UnixStream) -> Channel,
        mut watch: Option<Watch>,
        held_mounts: &Arc<HeldMounts>,
    ) -> Result<Self, RuntimeError> {
        let Helper { socket: here, process: helper } = helper;
        let sent = protocol::send(&here, open, descriptors);
        if let Some(watch) = &mut watch {
            // While the helper works.
            watch.count_from_now();
        }
        let answer = sent.and_then(|()| protocol::receive(&here));
        let held_mounts = Arc::clone(held_mounts);
        let mut container = Self { channel: channel(here), helper, watch: None, held_mounts };
        let error = match answer {
            Ok(Some((Opened::Ready(limits), _))) => {
                container.watch = watch.map(|mut watch| {
                    watch.expect(limits);
                    Arc::new(watch)
                });
                return Ok(container);
            }
            Ok(Some((Opened::Failed(why), _))) => RuntimeError::Create(why),
            Ok(None) => RuntimeError::Gone,
            Err(error) => RuntimeError::Talk(error),
        };
        // Of a helper that fails runner sees first that the other end of the socket is closed.
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

    /// Starts a process in it, the first one of its namespace or, with `init`, behind one that reaps.
    ///
    /// # Errors
    /// [`RuntimeError::Talk`] when the container is gone.
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
                let control = control.lock().unwrap_or_else(PoisonError::into_inner);
                protocol::send(&control, &Start { process }, &descriptors).map_err(RuntimeError::Talk)?;
                None
            }
        };
        if let Some((watch, _)) = &watch {
            // The first time, while the step starts.
            watch.find();
        }
        Ok(self.running(here, started, watch))
    }

    fn running(&self, status: OwnedFd, started: Option<Started>, watch: Option<(Arc<Watch>, u64)>) -> RunningStep {
        let held_mounts = Arc::clone(&self.held_mounts);
        RunningStep { status, started, watch, thawed: AtomicU32::new(0), held_mounts }
    }

    /// Ends the container with all that runs in it, and waits until its cgroup is gone.
    ///
    /// # Errors
    /// Where the helper did not end well: a cgroup may be left, which the next start of runner removes.
    pub fn close(self) -> Result<(), RuntimeError> {
        let Self { mut helper, channel, .. } = self;
        drop(channel);
        helper.end()
    }
}

impl RunningStep {
    /// Readable as soon as the step has ended.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.status.as_fd()
    }

    /// Waits for the end of the step.
    ///
    /// # Errors
    /// [`RuntimeError::Gone`] when the container ended before the step.
    pub fn ended(self) -> Result<Ended, RuntimeError> {
        loop {
            let Begun::Ended(ended) = self.next()? else { continue };
            let Some((watch, before)) = &self.watch else { return Ok(ended) };
            let failed = !ended.outcome.is_success();
            return Ok(Ended {
                out_of_memory: failed && watch.oom_kills() > *before,
                processes_refused: failed && watch.processes_refused(),
                lost: ended.lost.or_else(|| watch.lost_limit()),
                outcome: ended.outcome,
            });
        }
    }

    /// For a step that was killed and has not ended: something inside may freeze it again and again, and what is frozen
    /// on v1 does not end by SIGKILL. To be called each [`KILL_AGAIN`]; in the end the whole container is killed.
    pub fn insist(&self) {
        let Some((watch, _)) = &self.watch else { return };
        if self.thawed.fetch_add(1, Ordering::Relaxed) < MAX_THAWS { watch.thaw() } else { watch.kill() }
    }

    /// Ends the step with SIGKILL, and waits until it has ended or the container with it.
    ///
    /// # Errors
    /// What poll(2) says.
    pub fn kill_and_wait(&self) -> io::Result<()> {
        let again = Timespec::try_from(KILL_AGAIN).map_err(io::Error::other)?;
        self.kill();
        loop {
            match rustix::event::poll(&mut [PollFd::new(&self.status, PollFlags::IN)], Some(&again)) {
                Ok(0) => self.insist(),
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Waits for the terminal of a process that asks for one.
    ///
    /// # Errors
    /// [`RuntimeError::Gone`] when the container ended before.
    pub fn terminal(&self) -> Result<Begun, RuntimeError> {
        self.next()
    }

    fn next(&self) -> Result<Begun, RuntimeError> {
        match status::receive(self.status.as_fd()).map_err(RuntimeError::Talk)? {
            Some(Status::Mounts(namespace)) => {
                self.held_mounts.hold(namespace);
                self.next()
            }
            Some(Status::Terminal(terminal)) => Ok(Begun::Terminal(terminal)),
            Some(Status::Ended(ended)) => Ok(Begun::Ended(match &self.started {
                Some(started) => Ended { outcome: started.ended(ended.outcome), ..ended },
                None => ended,
            })),
            Some(Status::EndedWithout(outcome, mount)) => {
                let lost = self.started.as_ref().map(|started| started.without_mount(mount));
                Ok(Begun::Ended(Ended { lost, ..outcome.into() }))
            }
            Some(Status::Failed(failure)) => {
                let why = "it failed to start".to_owned();
                let unknown = Outcome::NotStarted { why, code: super::CANNOT_START };
                Ok(Begun::Ended(self.started.as_ref().map_or(unknown, |started| started.outcome(failure)).into()))
            }
            None => Err(RuntimeError::Gone),
        }
    }

    /// Has SIGTERM sent to all processes of the step. A first process that the kernel keeps that from is killed as soon as the
    /// others have ended. Nothing says when, or whether, the step ends.
    pub fn ask_to_end(&self) {
        // A step that has ended has closed its end.
        let _ = status::send_packet(self.status.as_fd(), &wire::END, &[]);
        if let Some((watch, _)) = &self.watch {
            // What something inside has frozen gets no signal.
            watch.thaw();
        }
    }

    /// Ends the step with SIGKILL; its outcome is still to be waited for.
    pub fn kill(&self) {
        // The other side waits for our end to close; half of it is enough, and leaves the way back open.
        let _ = rustix::net::shutdown(&self.status, Shutdown::Write);
        self.insist();
    }
}
