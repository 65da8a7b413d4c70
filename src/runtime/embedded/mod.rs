//! The embedded runtime: one libcontainer container a session, whose init starts a step at each request.
//!
//! libcontainer clones raw and changes the calling process, so it is only called in a helper: runner started again
//! (`runner __session`) from a sealed view of its own program, so that nothing inside can write to the host's binary
//! through `/proc/*/exe` (CVE-2019-5736). The helper creates the container and waits for its end; the container's init
//! serves requests on a socket that it inherits. When runner goes away, however it does, the socket closes, init ends,
//! and with it its PID namespace and all in it.
//!
//! ```text
//! runner ──spawns──▶ helper (one thread) ──libcontainer──▶ init ──clone3──▶ step (PID 1 of its own namespace)
//!    └───────────── socket: Open, Opened, Start + stdio + status socket ──▶ init
//! ```

mod devices;
pub mod helper;
mod init;
mod protocol;
mod sealed;
mod step;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio as ProcessStdio};
use std::sync::Mutex;

use oci_spec::runtime::{Process, Spec};
use thiserror::Error;

use super::{Outcome, Stdio};
pub use init::OWN_PROCESSES;
use protocol::{Open, Opened, Start};
pub use sealed::SealedProgram;

/// The argument that makes runner a helper.
pub const HELPER_ARGUMENT: &str = "__session";

/// What goes wrong with a session's helper.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum RuntimeError {
    #[error("seal runner's own program")]
    Copy(#[source] io::Error),
    #[error("start a helper process")]
    Spawn(#[source] io::Error),
    #[error("talk to the session's helper process")]
    Talk(#[source] io::Error),
    #[error("create the container: {0}")]
    Create(String),
    #[error("the session's helper process ended")]
    Gone,
}

/// A container that takes processes.
#[derive(Debug)]
pub struct EmbeddedContainer {
    helper: Child,
    /// Messages of several threads must not mix.
    control: Mutex<UnixStream>,
}

/// A step under way. Dropping it ends the step.
#[derive(Debug)]
pub struct RunningStep {
    status: UnixStream,
}

impl EmbeddedContainer {
    /// Creates the container that `bundle`'s config.json describes; `state` is a folder for the runtime's own files.
    ///
    /// # Errors
    /// See [`RuntimeError`]; [`RuntimeError::Create`] has libcontainer's own words.
    pub fn create(
        program: &SealedProgram,
        id: &str,
        bundle: &Path,
        state: &Path,
        spec: &Spec,
    ) -> Result<Self, RuntimeError> {
        let (here, there) = UnixStream::pair().map_err(RuntimeError::Spawn)?;
        let helper = Command::new(program.path())
            .arg0("runner")
            .arg(HELPER_ARGUMENT)
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
        let container = Self { helper, control: Mutex::new(here) };
        let (fresh, masked, read_only) = step::own_view(spec);
        let cgroups = step::read_only_cgroups(spec);
        let resources = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref());
        let devices = resources.and_then(|resources| resources.devices().clone()).unwrap_or_default();
        let open = Open {
            id: id.into(),
            bundle: bundle.into(),
            state: state.into(),
            devices,
            fresh,
            masked,
            read_only,
            cgroups,
        };
        let answer = {
            let control = container.control();
            protocol::send(&control, &open, &[]).and_then(|()| protocol::receive(&control))
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
        protocol::send(&self.control(), &Start { process }, &descriptors).map_err(RuntimeError::Talk)?;
        Ok(RunningStep { status: here })
    }

    /// Ends the container with all that runs in it, and waits until its cgroup is gone.
    ///
    /// # Errors
    /// Where the helper did not end well: a cgroup may be left, which the next start of runner removes.
    pub fn close(self) -> Result<(), RuntimeError> {
        let Self { mut helper, control } = self;
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
    pub fn outcome(self) -> Result<Outcome, RuntimeError> {
        match protocol::receive(&self.status).map_err(RuntimeError::Talk)? {
            Some((outcome, _)) => Ok(outcome),
            None => Err(RuntimeError::Gone),
        }
    }

    /// Ends the step with SIGKILL; its outcome is still to be waited for.
    pub fn kill(&self) {
        // The other side waits for our end to close; half of it is enough, and leaves the way back open.
        let _ = self.status.shutdown(std::net::Shutdown::Write);
    }
}
