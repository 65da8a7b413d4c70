//! Follows one step: its bundle, the runtime's calls for it, and its container's first process.

mod calls;

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;
use oci_spec::runtime::Process;
use rustix::process::{Signal, pidfd_send_signal};

use super::child::Child;
use super::console::Console;
use super::ending::Termination;
use super::groups::{Groups, StepGroups};
use super::log::not_started;
use super::own_tmpfs::OwnTmpfs;
use super::root_devices::are_refused;
use super::serve::StepEvent;
use super::shared::SharedBinds;
use super::watched::WatchedMounts;
use super::working_directory;
use super::{INIT_PATH, OpenRequest};
use crate::fs::regular;
use crate::fs::remove_tree::remove_tree;
use crate::runtime::{Outcome, ProcessEnd, reap, status};
use crate::sys;

/// The longest file with the number of a process.
const MAX_PID: u64 = 64;

/// The longest log of a runtime that the helper reads.
const MAX_LOG: u64 = 1 << 20;

/// How long a call of a runtime may take: the slowest ones, which start a virtual machine, take seconds.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a call may still take when the session ends, and nobody waits for its result.
const LAST_CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// The current call of the runtime, or the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Creating,
    Starting,
    /// No call runs, and the container's process does.
    Running,
    Deleting,
    Finished,
}

/// A step between its request and the end of its container.
pub struct Step {
    id: String,
    bundle: PathBuf,
    status: OwnedFd,
    phase: Phase,
    command: Option<Child>,
    container: Option<Child>,
    /// The step's mount namespace, which runner pins when the step has ended.
    mounts: Option<OwnedFd>,
    /// The tmpfs mounts of the step alone, whose files take memory.
    own_tmpfs: OwnTmpfs,
    /// The mounts that others can take away.
    watched: Option<WatchedMounts>,
    /// The socket on which the runtime sends the terminal, if the process has one.
    console: Option<Console>,
    /// Whether the container's first process is init's program as a reaper.
    has_reaper: bool,
    /// Whether runner has requested the step to end while the runtime's program was starting it.
    ends_when_started: bool,
    /// The termination of the step, once runner has requested it.
    termination: Option<Termination>,
    /// Whether runner has ordered to kill the step.
    is_killed: bool,
    /// When the runtime's program must have ended.
    deadline: Option<Instant>,
    /// Whether the helper has killed the runtime's program because it did not end in time.
    is_overdue: bool,
    groups: StepGroups,
}

impl Step {
    /// Begins to create the step's container. Where that fails, it reports the reason to runner, and returns none.
    pub fn begin(
        open: &OpenRequest,
        groups: &Groups<'_>,
        shared: &SharedBinds,
        number: u64,
        process: Process,
        descriptors: [OwnedFd; 4],
    ) -> Option<Self> {
        let [stdin, stdout, stderr, status] = descriptors;
        let step_groups = match groups.step(number) {
            Ok(groups) => groups,
            Err(error) => {
                // Runner may have closed its end.
                let outcome = Outcome::NotStarted { why: error.to_string(), code: 125 };
                let _ = status::send_ended(status.as_fd(), &outcome.into());
                return None;
            }
        };
        let mut step = Self {
            bundle: open.directory.join(format!("step{number}")),
            id: format!("{}-{number}", open.id),
            groups: step_groups,
            status,
            phase: Phase::Creating,
            command: None,
            container: None,
            mounts: None,
            own_tmpfs: OwnTmpfs::default(),
            watched: None,
            console: None,
            has_reaper: process.args().as_ref().is_some_and(|args| args.first().is_some_and(|name| name == INIT_PATH)),
            ends_when_started: false,
            termination: None,
            is_killed: false,
            deadline: None,
            is_overdue: false,
        };
        let has_terminal = process.terminal() == Some(true);
        let create = || {
            working_directory::check(&open.spec, process.cwd()).map_err(|error| {
                io::Error::other(format!("it cannot go to the working directory {}: {error}", process.cwd().display()))
            })?;
            step.write_bundle(shared, process)?;
            let mut command = step.runtime(open);
            command.arg("create").arg("--bundle").arg(&step.bundle).arg("--pid-file").arg(step.bundle.join("pid"));
            if has_terminal {
                step.console = Some(Console::listen(&step.bundle)?);
                // Relative to the bundle, because the path of a socket must be short, see unix(7).
                command.current_dir(&step.bundle).args(["--console-socket", Console::NAME]);
            }
            command.arg(&step.id).stdin(stdin).stdout(stdout).stderr(stderr);
            sys::join_cgroups(&mut command, step.groups.to_join()?);
            step.call(command)
        };
        let begun = create();
        match begun {
            Ok(()) => Some(step),
            Err(error) => {
                step.report_end(groups, shared, Outcome::NotStarted { why: error.to_string(), code: 125 });
                step.groups.remove();
                None
            }
        }
    }

    /// Returns the descriptors that the loop polls: the runtime's program, the container's first process, and the status socket.
    pub fn descriptors(&self) -> [Option<BorrowedFd<'_>>; 3] {
        let running = self.container.as_ref().filter(|_| self.phase == Phase::Running);
        let is_awaited = !self.is_killed && self.phase != Phase::Deleting;
        [
            self.command.as_ref().map(|command| command.descriptor.as_fd()),
            running.map(|container| container.descriptor.as_fd()),
            is_awaited.then(|| self.status.as_fd()),
        ]
    }

    /// Advances the step after an event.
    ///
    /// # Errors
    /// Where the system does not report how a child ended.
    pub fn advance(
        &mut self,
        open: &OpenRequest,
        groups: &Groups<'_>,
        shared: &SharedBinds,
        event: StepEvent,
    ) -> io::Result<()> {
        if event.command
            && let Some(command) = self.command.take()
        {
            let ended = reap(command.descriptor.as_fd())?;
            self.deadline = None;
            self.after_call(open, groups, shared, &ended)?;
        } else if event.container
            && let Some(container) = self.container.take()
        {
            let outcome = reap(container.descriptor.as_fd())?;
            self.end(open, groups, shared, outcome);
        } else if event.status {
            match (status::receive_end(self.status.as_fd())?, &self.container) {
                (Some(false), _) => {}
                (Some(true), Some(container)) if self.phase == Phase::Running => {
                    self.termination
                        .get_or_insert_with(|| Termination::begin(container, self.has_reaper, &self.groups));
                }
                // The step's program may run already although the runtime's has not ended yet.
                (Some(true), Some(_)) if self.phase == Phase::Starting => self.ends_when_started = true,
                // The step's program has not started, or runner has ordered to kill it.
                (Some(true) | None, _) => {
                    self.is_killed = true;
                    self.kill();
                }
            }
        }
        Ok(())
    }

    fn after_call(
        &mut self,
        open: &OpenRequest,
        groups: &Groups<'_>,
        shared: &SharedBinds,
        ended: &Outcome,
    ) -> io::Result<()> {
        let went_well = *ended == Outcome::Exited { code: 0 };
        match self.phase {
            Phase::Creating => {
                let created = if went_well { self.created(open, groups, shared) } else { Err(self.reason(ended)) };
                match created {
                    Ok(()) => self.phase = Phase::Starting,
                    Err(outcome) => self.fail(open, groups, shared, outcome)?,
                }
            }
            Phase::Starting if went_well => {
                self.phase = Phase::Running;
                if let (true, Some(container)) = (self.ends_when_started, &self.container) {
                    self.termination = Some(Termination::begin(container, self.has_reaper, &self.groups));
                }
            }
            Phase::Starting => {
                let outcome = self.reason(ended);
                self.fail(open, groups, shared, outcome)?;
            }
            Phase::Running => {}
            Phase::Deleting | Phase::Finished => {
                let _ = remove_tree(&self.bundle);
                self.groups.remove();
                self.phase = Phase::Finished;
            }
        }
        Ok(())
    }

    /// Sets the device rules of a created container, whose first process waits, and starts that process.
    fn created(&mut self, open: &OpenRequest, groups: &Groups<'_>, shared: &SharedBinds) -> Result<(), Outcome> {
        let refused = |why: String| Outcome::NotStarted { why, code: 125 };
        let read = || -> io::Result<Child> {
            let text = regular::read_text(&self.bundle.join("pid"), MAX_PID)?;
            let pid = text.trim().parse().map_err(io::Error::other)?;
            // The runtime's program has ended, so its child is now a child of this process.
            let peek = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
            match waitid(Id::Pid(Pid::from_raw(pid)), peek) {
                Ok(_) => Child::of(pid),
                Err(_) => Err(io::Error::other(format!("the runtime has started no process {pid}"))),
            }
        };
        let container = read().map_err(|error| {
            refused(format!("the runtime's `create` left no pid of the container's first process: {error}"))
        })?;
        let pid = container.pid.as_raw();
        self.container = Some(container);
        if self.is_killed {
            return Err(Outcome::Signaled { signal: libc::SIGKILL });
        }
        let mounts = File::open(format!("/proc/{pid}/ns/mnt"));
        self.mounts =
            Some(mounts.map_err(|error| refused(format!("cannot open its mount namespace: {error}")))?.into());
        self.own_tmpfs =
            OwnTmpfs::open(pid, &open.spec).map_err(|error| refused(format!("cannot see its mounts: {error}")))?;
        if let Some(lost) = shared.lost() {
            return Err(refused(lost));
        }
        self.watched = Some(WatchedMounts::record(pid, &open.spec).map_err(|error| refused(error.to_string()))?);
        if let Err(error) = groups.restrict(&self.groups) {
            // A container that may not make nodes may continue, but only if the nodes of its root cannot be opened: a runtime may
            // have mounted the root anew.
            let mounts = fs::read(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
            if open.makes_nodes || !are_refused(&String::from_utf8_lossy(&mounts)) {
                return Err(refused(format!("device rules cannot be enforced: {error}")));
            }
        }
        if let Some(console) = self.console.take() {
            let terminal = console.accept().map_err(|error| refused(format!("cannot take the terminal: {error}")))?;
            // Runner may have closed its end.
            let _ = status::send_terminal(self.status.as_fd(), terminal.as_fd());
        }
        self.call_quietly(open, &["start"]).map_err(|error| refused(error.to_string()))
    }

    /// Returns the outcome of a step after a failed call: it was killed, the call took too long, or the runtime's own message.
    fn reason(&self, ended: &Outcome) -> Outcome {
        if self.is_killed {
            return Outcome::Signaled { signal: libc::SIGKILL };
        }
        if self.is_overdue {
            let call = if self.phase == Phase::Creating { "create" } else { "start" };
            let why = format!("the runtime's `{call}` had not ended after {}s, and was killed", CALL_TIMEOUT.as_secs());
            return Outcome::NotStarted { why, code: 125 };
        }
        let log = regular::read(&self.log(), MAX_LOG).unwrap_or_default();
        not_started(&String::from_utf8_lossy(&log), ended)
    }

    /// Ends a container that could not be started, as far as it exists.
    fn fail(
        &mut self,
        open: &OpenRequest,
        groups: &Groups<'_>,
        shared: &SharedBinds,
        outcome: Outcome,
    ) -> io::Result<()> {
        if let Some(container) = self.container.take() {
            let _ = pidfd_send_signal(&container.descriptor, Signal::KILL);
            reap(container.descriptor.as_fd())?;
        }
        self.end(open, groups, shared, outcome);
        Ok(())
    }

    fn end(&mut self, open: &OpenRequest, groups: &Groups<'_>, shared: &SharedBinds, outcome: Outcome) {
        self.report_end(groups, shared, outcome);
        self.phase = match self.call_quietly(open, &["delete", "--force"]) {
            Ok(()) => Phase::Deleting,
            // The remains of the container are removed with the session.
            Err(_) => Phase::Finished,
        };
    }

    /// Continues to end the step; the loop repeats this until the step has ended.
    pub fn continue_ending(&mut self) {
        if self.is_killed {
            self.kill();
        } else if let (Some(termination), Some(container)) = (&mut self.termination, &self.container) {
            termination.advance(container, &self.groups);
        }
    }

    /// Kills the step. A process in a frozen group ends only when the group is thawed, and may be frozen once more meanwhile, so
    /// the loop repeats this until the step has ended.
    fn kill(&self) {
        // While the container is being created only the runtime can be killed; `delete` then removes the incomplete container.
        for child in [&self.command, &self.container].into_iter().flatten() {
            let _ = pidfd_send_signal(&child.descriptor, Signal::KILL);
        }
        self.groups.kill();
    }

    /// Returns how long the runtime's program may still take.
    pub fn remaining_time(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// Kills the runtime's program if its deadline has passed.
    pub fn end_overdue_call(&mut self) {
        if self.remaining_time() == Some(Duration::ZERO)
            && let Some(command) = &self.command
        {
            (self.deadline, self.is_overdue) = (None, true);
            let _ = pidfd_send_signal(&command.descriptor, Signal::KILL);
        }
    }

    /// Shortens the deadline of the runtime's program, because the session ends.
    pub fn shorten_deadline(&mut self) {
        let soon = Instant::now() + LAST_CALL_TIMEOUT;
        self.deadline = self.deadline.map(|deadline| deadline.min(soon));
    }

    /// Returns whether the helper is ending the step.
    pub fn is_ending(&self) -> bool {
        (self.is_killed || self.termination.is_some())
            && matches!(self.phase, Phase::Creating | Phase::Starting | Phase::Running)
    }

    fn report_end(&self, groups: &Groups<'_>, shared: &SharedBinds, outcome: Outcome) {
        let failed = !outcome.is_success();
        let out_of_memory = failed && self.groups.ran_out_of_memory();
        let processes_refused = failed && groups.processes_refused(&self.groups);
        let lost = self.watched.as_ref().and_then(|watched| watched.lost(shared)).or_else(|| groups.lost_limit());
        // Runner may have closed its end.
        if let Some(mounts) = &self.mounts {
            self.own_tmpfs.empty();
            let _ = status::send_mounts(self.status.as_fd(), mounts.as_fd());
        }
        let ended = ProcessEnd { outcome, out_of_memory, processes_refused, lost };
        let _ = status::send_ended(self.status.as_fd(), &ended);
    }

    /// Returns whether the container's first process may exist already without being known.
    pub fn is_being_created(&self) -> bool {
        self.phase == Phase::Creating
    }

    /// Returns whether the step has ended and the runtime is deleting its container.
    pub fn is_being_deleted(&self) -> bool {
        self.phase == Phase::Deleting
    }

    /// Returns whether the step needs nothing more.
    pub fn is_finished(&self) -> bool {
        self.phase == Phase::Finished
    }

    /// Returns whether the step waits for this process.
    pub fn has(&self, pid: Pid) -> bool {
        [&self.command, &self.container].into_iter().flatten().any(|child| child.pid == pid)
    }
}
