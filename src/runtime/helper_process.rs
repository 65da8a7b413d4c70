//! Starts a session's helper process, and reports how it ended.

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, Command, ExitCode, Stdio as ProcessStdio};

use serde::Serialize;

use super::error::RuntimeError;
use super::protocol;
use crate::error::error_chain;

/// The number of bytes that runner reads of a helper's error message.
const MAX_ERROR_MESSAGE: usize = 4 << 10;

/// A helper that starts, and then waits for the request to open a container: to start it takes as long as to mount a root.
#[derive(Debug)]
pub struct Helper {
    pub(super) socket: UnixStream,
    pub(super) process: HelperProcess,
}

/// The process of a helper. Its owner has closed the socket by the time it drops this, so the helper ends; the drop waits for that.
#[derive(Debug)]
pub(super) struct HelperProcess(Child);

impl Helper {
    /// Starts a helper with this argument.
    ///
    /// # Errors
    /// [`RuntimeError::Spawn`].
    pub(super) fn start(argument: &str) -> Result<Self, RuntimeError> {
        let (here, there) = UnixStream::pair().map_err(RuntimeError::Spawn)?;
        // No process inside a container ever runs this program, so none can reach its file, see CVE-2019-5736.
        let child = Command::new("/proc/self/exe")
            .arg0("runner")
            .arg(argument)
            .env_clear()
            // The socket is the helper's standard input, so both need not agree on a descriptor number.
            .stdin(OwnedFd::from(there))
            .stdout(ProcessStdio::null())
            // For its error message alone.
            .stderr(ProcessStdio::piped())
            .current_dir("/")
            // A Ctrl-C at the terminal must reach runner alone, which ends its sessions itself.
            .process_group(0)
            .spawn()
            .map_err(RuntimeError::Spawn)?;
        Ok(Self { socket: here, process: HelperProcess(child) })
    }

    /// Sends a message that has no reply.
    pub(super) fn send(&self, message: &impl Serialize) -> io::Result<()> {
        protocol::send(&self.socket, message, &[])
    }
}

impl HelperProcess {
    /// Waits until the helper has ended.
    pub(super) fn wait(&mut self) -> Result<(), RuntimeError> {
        if self.0.wait().map_err(RuntimeError::Talk)?.success() {
            return Ok(());
        }
        let message = self.0.stderr.as_mut().map_or_else(String::new, error_message);
        Err(if message.is_empty() { RuntimeError::Gone } else { RuntimeError::Failed(message) })
    }
}

/// Returns the text that an ended helper has written to its standard error. Processes that it started may still have that
/// pipe open, so this never blocks.
fn error_message(stderr: &mut ChildStderr) -> String {
    let mut bytes = [0; MAX_ERROR_MESSAGE];
    let read =
        rustix::io::ioctl_fionbio(&*stderr, true).map_err(io::Error::from).and_then(|()| stderr.read(&mut bytes));
    String::from_utf8_lossy(&bytes[..read.unwrap_or(0)]).trim_end().to_owned()
}

/// Returns a helper's exit code, and writes the error of a failed one to its standard error. `cleaned_up` says whether nothing
/// remains of its container.
pub fn helper_exit_code(cleaned_up: io::Result<bool>) -> ExitCode {
    match cleaned_up {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // Runner may have ended, and then nobody reads the message.
            let _ = writeln!(io::stderr(), "{}", error_chain(&error));
            ExitCode::FAILURE
        }
    }
}

impl Drop for HelperProcess {
    fn drop(&mut self) {
        // Where the container was closed in the ordinary way, `wait` has returned already.
        let _ = self.0.wait();
    }
}
