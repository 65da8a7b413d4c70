//! A session's container as runner sees it: a helper process that takes requests for steps on a socket.
//!
//! The helper is runner started again from a sealed view of its own program, so that nothing inside can write to the
//! host's binary through `/proc/*/exe` (CVE-2019-5736). Each runtime has a helper of its own; all speak one protocol.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio as ProcessStdio};
use std::sync::{Arc, Mutex, OnceLock};

use oci_spec::runtime::Process;
use serde::Serialize;
use thiserror::Error;

use super::memory::OomKills;
use super::protocol::{self, Opened, Start, Told};
use super::sealed::SealedProgram;
use super::{Ended, Stdio};

/// What goes wrong with a session's helper.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum RuntimeError {
    #[error("cannot make a sealed copy of runner's own program")]
    Copy(#[source] io::Error),
    #[error("cannot write the container's config.json")]
    Write(#[source] io::Error),
    #[error("cannot start the session's helper process")]
    Spawn(#[source] io::Error),
    #[error("cannot talk to the session's helper process")]
    Talk(#[source] io::Error),
    #[error("cannot create the container: {0}")]
    Create(String),
    #[error("the session's helper process ended before its time")]
    Gone,
}

impl RuntimeError {
    /// What mends it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Copy(_) => Some("`runner doctor` tells what is missing".into()),
            Self::Write(error) if error.kind() == io::ErrorKind::StorageFull => {
                Some("free some memory: it is kept there".into())
            }
            Self::Spawn(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Some("`ulimit -u` tells how many processes this user may have".into())
            }
            Self::Talk(_) | Self::Gone => {
                Some("`dmesg | tail` says whether the kernel has killed it for want of memory".into())
            }
            Self::Write(_) | Self::Spawn(_) | Self::Create(_) => None,
        }
    }
}

/// A container that takes processes.
#[derive(Debug)]
pub struct Container {
    helper: Child,
    /// Messages of several threads must not mix.
    control: Mutex<UnixStream>,
    /// The name of its cgroup, where all steps are in one.
    cgroup: Option<String>,
    /// Of that.
    oom_kills: OnceLock<Option<Arc<OomKills>>>,
}

/// A step under way. Dropping it ends the step.
#[derive(Debug)]
pub struct RunningStep {
    status: UnixStream,
    /// The counter of the cgroup that it shares, and what that was at its start.
    oom_kills: Option<(Arc<OomKills>, u64)>,
}

/// How a step with a terminal began.
#[derive(Debug)]
pub enum Begun {
    /// It has one; this is the master's side, see pty(7).
    Terminal(OwnedFd),
    /// It ended before it had one.
    Ended(Ended),
}

impl Container {
    /// Starts a helper with that argument, and has it open a container. `cgroup` is the name of the one that all its steps
    /// are in, unless each has its own, which the helper looks after.
    ///
    /// # Errors
    /// See [`RuntimeError`]; [`RuntimeError::Create`] has the runtime's own words.
    pub(super) fn open(
        program: &SealedProgram,
        argument: &str,
        open: &impl Serialize,
        cgroup: Option<&str>,
    ) -> Result<Self, RuntimeError> {
        let (here, there) = UnixStream::pair().map_err(RuntimeError::Spawn)?;
        let helper = Command::new(program.path())
            .arg0("runner")
            .arg(argument)
            .env_clear()
            // The socket is the helper's standard input: that needs no descriptor number to agree on.
            .stdin(OwnedFd::from(there))
            .stdout(ProcessStdio::null())
            .stderr(ProcessStdio::null())
            .current_dir("/")
            // A Ctrl-C at the terminal is for runner, which ends its sessions itself.
            .process_group(0)
            .spawn()
            .map_err(RuntimeError::Spawn)?;
        let cgroup = cgroup.map(str::to_owned);
        let container = Self { helper, control: Mutex::new(here), cgroup, oom_kills: OnceLock::new() };
        let answer = {
            let control = container.control();
            protocol::send(&control, open, &[]).and_then(|()| protocol::receive(&control))
        };
        let error = match answer {
            Ok(Some((Opened::Ready, _))) => return Ok(container),
            Ok(Some((Opened::Failed(why), _))) => RuntimeError::Create(why),
            Ok(None) => RuntimeError::Gone,
            Err(error) => RuntimeError::Talk(error),
        };
        // That it did not end well is what is being told.
        let _ = container.close();
        Err(error)
    }

    /// Starts a process in it.
    ///
    /// # Errors
    /// [`RuntimeError::Talk`] when the container is gone.
    pub fn start(&self, process: Process, stdio: &Stdio) -> Result<RunningStep, RuntimeError> {
        let (here, there) = UnixStream::pair().map_err(RuntimeError::Talk)?;
        let descriptors = [stdio.stdin.as_fd(), stdio.stdout.as_fd(), stdio.stderr.as_fd(), there.as_fd()];
        let counter = self.oom_kills.get_or_init(|| OomKills::of(self.cgroup.as_deref()?).map(Arc::new)).clone();
        let oom_kills = counter.and_then(|counter| counter.count().map(|count| (counter, count)));
        protocol::send(&self.control(), &Start { process }, &descriptors).map_err(RuntimeError::Talk)?;
        Ok(RunningStep { status: here, oom_kills })
    }

    /// Ends the container with all that runs in it, and waits until its cgroup is gone.
    ///
    /// # Errors
    /// Where the helper did not end well: a cgroup may be left, which the next start of runner removes.
    pub fn close(self) -> Result<(), RuntimeError> {
        let Self { mut helper, control, .. } = self;
        drop(control);
        let status = helper.wait().map_err(RuntimeError::Talk)?;
        if status.success() { Ok(()) } else { Err(RuntimeError::Gone) }
    }

    fn control(&self) -> std::sync::MutexGuard<'_, UnixStream> {
        self.control.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl RunningStep {
    /// Readable as soon as the step has ended.
    pub fn descriptor(&self) -> std::os::fd::BorrowedFd<'_> {
        self.status.as_fd()
    }

    /// Waits for the end of the step.
    ///
    /// # Errors
    /// [`RuntimeError::Gone`] when the container ended before the step.
    pub fn ended(self) -> Result<Ended, RuntimeError> {
        loop {
            match protocol::receive(&self.status).map_err(RuntimeError::Talk)? {
                Some((Told::Ended(Ended { outcome, out_of_memory }), _)) => {
                    let is_more =
                        |(counter, before): &(Arc<OomKills>, u64)| counter.count().is_some_and(|now| now > *before);
                    let out_of_memory =
                        out_of_memory || !outcome.is_success() && self.oom_kills.as_ref().is_some_and(is_more);
                    return Ok(Ended { outcome, out_of_memory });
                }
                Some((Told::Terminal, _)) => {}
                None => return Err(RuntimeError::Gone),
            }
        }
    }

    /// Waits for the terminal of a process that asks for one.
    ///
    /// # Errors
    /// [`RuntimeError::Gone`] when the container ended before.
    pub fn terminal(&self) -> Result<Begun, RuntimeError> {
        match protocol::receive(&self.status).map_err(RuntimeError::Talk)? {
            Some((Told::Terminal, descriptors)) => {
                descriptors.into_iter().next().map(Begun::Terminal).ok_or(RuntimeError::Gone)
            }
            Some((Told::Ended(ended), _)) => Ok(Begun::Ended(ended)),
            None => Err(RuntimeError::Gone),
        }
    }

    /// Ends the step with SIGKILL; its outcome is still to be waited for.
    pub fn kill(&self) {
        // The other side waits for our end to close; half of it is enough, and leaves the way back open.
        let _ = self.status.shutdown(std::net::Shutdown::Write);
    }
}
