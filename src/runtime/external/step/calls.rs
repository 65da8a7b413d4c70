//! Writes a step's bundle, and calls the runtime for it.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use oci_spec::runtime::{LinuxResourcesBuilder, Process};

use super::super::OpenRequest;
use super::super::child::Child;
use super::super::shared::SharedBinds;
use super::{CALL_TIMEOUT, Step};
use crate::runtime::devices;
use crate::sys;

impl Step {
    pub(super) fn write_bundle(&self, shared: &SharedBinds, process: Process) -> io::Result<()> {
        let mut spec = shared.spec.clone();
        spec.set_process(Some(process));
        let mut linux = spec.linux().clone().unwrap_or_default();
        linux.set_cgroups_path(Some(self.groups.path().clone()));
        // The step's limits are set on a group above, where no process inside can lift them.
        let rules = LinuxResourcesBuilder::default().devices(devices::of(&spec)).build().map_err(io::Error::other)?;
        linux.set_resources(Some(rules));
        spec.set_linux(Some(linux));
        let write = || {
            DirBuilder::new().mode(0o700).create(&self.bundle)?;
            fs::write(self.bundle.join("config.json"), serde_json::to_vec(&spec)?)
        };
        write().map_err(|error: io::Error| io::Error::other(format!("cannot write its config.json: {error}")))
    }

    pub(super) fn runtime(&self, open: &OpenRequest) -> Command {
        let mut command = Command::new(&open.runtime);
        command.arg("--root").arg(&open.state).arg("--log").arg(self.log()).args(["--log-format", "json"]);
        // A runtime may be a script, and a script needs a PATH.
        command.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        // A step inherits the signals that its runtime ignores.
        sys::start_with_default_signals(&mut command);
        command
    }

    pub(super) fn log(&self) -> PathBuf {
        self.bundle.join("log.json")
    }

    pub(super) fn call(&mut self, mut command: Command) -> io::Result<()> {
        let name = command.get_program().to_owned();
        let child = command.spawn().and_then(|child| Child::of(child.id().cast_signed()));
        self.command = Some(
            child.map_err(|error| io::Error::other(format!("cannot call the runtime {}: {error}", name.display())))?,
        );
        self.deadline = Some(Instant::now() + CALL_TIMEOUT);
        Ok(())
    }

    pub(super) fn call_quietly(&mut self, open: &OpenRequest, arguments: &[&str]) -> io::Result<()> {
        // A runtime opens its log first, and would block on a FIFO that an earlier call has put there.
        let _ = fs::remove_file(self.log());
        let mut command = self.runtime(open);
        command.args(arguments).arg(&self.id).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.call(command)
    }
}
