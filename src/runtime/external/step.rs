//! One step: its bundle, the runtime's calls for it, and its container's first process, as far as each has come.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;
use oci_spec::runtime::{LinuxResourcesBuilder, Process};
use rustix::process::{Signal, pidfd_send_signal};

use super::child::Child;
use super::console::Console;
use super::ending::Told;
use super::folder;
use super::groups::{Groups, StepGroups};
use super::log::not_started;
use super::own_tmpfs::OwnTmpfs;
use super::root_devices::are_refused;
use super::serve::StepEvent;
use super::shared::Shared;
use super::watched::Watched;
use super::{INIT_PATH, Open};
use crate::fs::regular;
use crate::fs::remove_tree::remove_tree;
use crate::runtime::{Ended, Outcome, devices, reap, status};
use crate::sys;

/// More than a number of a process takes.
const MAX_PID: u64 = 64;

/// A runtime that logs more than this is not read.
const MAX_LOG: u64 = 1 << 20;

/// A call of a runtime that takes longer does not end by itself: the slowest, which start a virtual machine, take seconds.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// As long a call may still take when the session ends: nobody waits for its result any more.
const LAST_CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// Which call of the runtime there is, or was last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Creating,
    Starting,
    /// None: the container's process runs.
    Running,
    Deleting,
    Over,
}

/// A step between its request and the end of its container.
pub struct Step {
    id: String,
    bundle: PathBuf,
    status: OwnedFd,
    phase: Phase,
    command: Option<Child>,
    container: Option<Child>,
    /// Its mounts, which runner holds when it has ended.
    mounts: Option<OwnedFd>,
    /// Those of them that take memory and are nobody else's.
    own_tmpfs: OwnTmpfs,
    /// Those of them that others can take away.
    watched: Option<Watched>,
    /// Where the runtime hands the terminal over, if the process has one.
    console: Option<Console>,
    /// Its container's first process is runner's own program.
    is_behind: bool,
    /// It has been told to end.
    told: Option<Told>,
    /// It is to be killed.
    unwanted: bool,
    /// When the runtime's program is to have ended.
    deadline: Option<Instant>,
    /// The runtime's program was killed, for it did not end in time.
    is_overdue: bool,
    groups: StepGroups,
}

impl Step {
    /// Begins to create its container; none, and runner told why, where not even that can be done.
    pub fn begin(
        open: &Open,
        groups: &Groups<'_>,
        shared: &Shared,
        number: u64,
        process: Process,
        descriptors: [OwnedFd; 4],
    ) -> Option<Self> {
        let [stdin, stdout, stderr, status] = descriptors;
        let step_groups = match groups.step(number) {
            Ok(groups) => groups,
            Err(error) => {
                // Whoever asked may have lost interest.
                let outcome = Outcome::NotStarted { why: error.to_string(), code: 125 };
                let _ = status::send_ended(status.as_fd(), &outcome.into());
                return None;
            }
        };
        let mut step = Self {
            bundle: open.folder.join(format!("step{number}")),
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
            is_behind: process.args().as_ref().is_some_and(|args| args.first().is_some_and(|name| name == INIT_PATH)),
            told: None,
            unwanted: false,
            deadline: None,
            is_overdue: false,
        };
        let has_terminal = process.terminal() == Some(true);
        let create = || {
            folder::check(&open.spec, process.cwd()).map_err(|error| {
                io::Error::other(format!("it cannot go to the working directory {}: {error}", process.cwd().display()))
            })?;
            step.write_bundle(shared, process)?;
            let mut command = step.runtime(open);
            command.arg("create").arg("--bundle").arg(&step.bundle).arg("--pid-file").arg(step.bundle.join("pid"));
            if has_terminal {
                step.console = Some(Console::listen(&step.bundle)?);
                // Relative, for a socket's path is short, see unix(7): runtimes take it from the bundle.
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
                step.tell(groups, shared, Outcome::NotStarted { why: error.to_string(), code: 125 });
                step.groups.remove();
                None
            }
        }
    }

    fn write_bundle(&self, shared: &Shared, process: Process) -> io::Result<()> {
        let mut spec = shared.spec.clone();
        spec.set_process(Some(process));
        let mut linux = spec.linux().clone().unwrap_or_default();
        linux.set_cgroups_path(Some(self.groups.path().clone()));
        // Its limits are on a group above, where nothing inside can lift them.
        let rules = LinuxResourcesBuilder::default().devices(devices::of(&spec)).build().map_err(io::Error::other)?;
        linux.set_resources(Some(rules));
        spec.set_linux(Some(linux));
        let write = || {
            DirBuilder::new().mode(0o700).create(&self.bundle)?;
            fs::write(self.bundle.join("config.json"), serde_json::to_vec(&spec)?)
        };
        write().map_err(|error: io::Error| io::Error::other(format!("cannot write its config.json: {error}")))
    }

    fn runtime(&self, open: &Open) -> Command {
        let mut command = Command::new(&open.runtime);
        command.arg("--root").arg(&open.state).arg("--log").arg(self.log()).args(["--log-format", "json"]);
        // A runtime may be a script, and a script needs a PATH.
        command.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        // A runtime passes on to the step what it ignores.
        sys::start_with_default_signals(&mut command);
        command
    }

    fn log(&self) -> PathBuf {
        self.bundle.join("log.json")
    }

    fn call(&mut self, mut command: Command) -> io::Result<()> {
        let name = command.get_program().to_owned();
        let child = command.spawn().and_then(|child| Child::of(child.id().cast_signed()));
        self.command = Some(
            child.map_err(|error| io::Error::other(format!("cannot call the runtime {}: {error}", name.display())))?,
        );
        self.deadline = Some(Instant::now() + CALL_TIMEOUT);
        Ok(())
    }

    fn call_quietly(&mut self, open: &Open, arguments: &[&str]) -> io::Result<()> {
        // A runtime opens its log first, and would wait there for what an earlier call has put in its place.
        let _ = fs::remove_file(self.log());
        let mut command = self.runtime(open);
        command.args(arguments).arg(&self.id).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.call(command)
    }

    /// What is waited for: the runtime's program, the container's first process, and the status socket.
    pub fn descriptors(&self) -> [Option<BorrowedFd<'_>>; 3] {
        let running = self.container.as_ref().filter(|_| self.phase == Phase::Running);
        let is_awaited = !self.unwanted && self.phase != Phase::Deleting;
        [
            self.command.as_ref().map(|command| command.descriptor.as_fd()),
            running.map(|container| container.descriptor.as_fd()),
            is_awaited.then(|| self.status.as_fd()),
        ]
    }

    /// Goes on after what has happened.
    ///
    /// # Errors
    /// Where the system does not tell how a child ended.
    pub fn advance(
        &mut self,
        open: &Open,
        groups: &Groups<'_>,
        shared: &Shared,
        happened: StepEvent,
    ) -> io::Result<()> {
        if happened.command
            && let Some(command) = self.command.take()
        {
            let ended = reap(command.descriptor.as_fd())?;
            self.deadline = None;
            self.after_call(open, groups, shared, &ended)?;
        } else if happened.container
            && let Some(container) = self.container.take()
        {
            let outcome = reap(container.descriptor.as_fd())?;
            self.end(open, groups, shared, outcome);
        } else if happened.status {
            match (status::receive_end(self.status.as_fd())?, &self.container) {
                (Some(false), _) => {}
                (Some(true), Some(container)) if self.phase == Phase::Running => {
                    self.told.get_or_insert_with(|| Told::tell(container, self.is_behind, &self.groups));
                }
                // Its program has not begun, or only just.
                (Some(true) | None, _) => {
                    self.unwanted = true;
                    self.kill();
                }
            }
        }
        Ok(())
    }

    fn after_call(&mut self, open: &Open, groups: &Groups<'_>, shared: &Shared, ended: &Outcome) -> io::Result<()> {
        let went_well = *ended == Outcome::Exited { code: 0 };
        match self.phase {
            Phase::Creating => {
                let created = if went_well { self.created(open, groups, shared) } else { Err(self.reason(ended)) };
                match created {
                    Ok(()) => self.phase = Phase::Starting,
                    Err(outcome) => self.fail(open, groups, shared, outcome)?,
                }
            }
            Phase::Starting if went_well => self.phase = Phase::Running,
            Phase::Starting => {
                let outcome = self.reason(ended);
                self.fail(open, groups, shared, outcome)?;
            }
            Phase::Running => {}
            Phase::Deleting | Phase::Over => {
                let _ = remove_tree(&self.bundle);
                self.groups.remove();
                self.phase = Phase::Over;
            }
        }
        Ok(())
    }

    /// The container is there, with its first process waiting: sets the device rules, and lets it go on.
    fn created(&mut self, open: &Open, groups: &Groups<'_>, shared: &Shared) -> Result<(), Outcome> {
        let refused = |why: String| Outcome::NotStarted { why, code: 125 };
        let read = || -> io::Result<Child> {
            let text = regular::read_text(&self.bundle.join("pid"), MAX_PID)?;
            let pid = text.trim().parse().map_err(io::Error::other)?;
            // The runtime's program has ended, and what it started is left to this process.
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
        if self.unwanted {
            return Err(Outcome::Signaled { signal: libc::SIGKILL });
        }
        let mounts = File::open(format!("/proc/{pid}/ns/mnt"));
        self.mounts = Some(mounts.map_err(|error| refused(format!("cannot hold its mounts: {error}")))?.into());
        self.own_tmpfs =
            OwnTmpfs::note(pid, &open.spec).map_err(|error| refused(format!("cannot see its mounts: {error}")))?;
        if let Some(lost) = shared.lost() {
            return Err(refused(lost));
        }
        self.watched = Some(Watched::note(pid, &open.spec).map_err(|error| refused(error.to_string()))?);
        if let Err(error) = groups.restrict(&self.groups) {
            // Who makes no nodes may go on, but only if those that its root came with cannot be opened: a runtime may
            // have mounted it anew.
            let mounts = fs::read(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
            if open.makes_nodes || !are_refused(&String::from_utf8_lossy(&mounts)) {
                return Err(refused(format!("device rules cannot be enforced: {error}")));
            }
        }
        if let Some(console) = self.console.take() {
            let terminal = console.accept().map_err(|error| refused(format!("cannot take the terminal: {error}")))?;
            // Whoever asked may have lost interest.
            let _ = status::send_terminal(self.status.as_fd(), terminal.as_fd());
        }
        self.call_quietly(open, &["start"]).map_err(|error| refused(error.to_string()))
    }

    /// Why a call failed: because the step was ended, or by the runtime's own words.
    fn reason(&self, ended: &Outcome) -> Outcome {
        if self.unwanted {
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

    /// Ends what there is of a container that could not be started.
    fn fail(&mut self, open: &Open, groups: &Groups<'_>, shared: &Shared, outcome: Outcome) -> io::Result<()> {
        if let Some(container) = self.container.take() {
            let _ = pidfd_send_signal(&container.descriptor, Signal::KILL);
            reap(container.descriptor.as_fd())?;
        }
        self.end(open, groups, shared, outcome);
        Ok(())
    }

    fn end(&mut self, open: &Open, groups: &Groups<'_>, shared: &Shared, outcome: Outcome) {
        self.tell(groups, shared, outcome);
        self.phase = match self.call_quietly(open, &["delete", "--force"]) {
            Ok(()) => Phase::Deleting,
            // What is left of it is removed with the session.
            Err(_) => Phase::Over,
        };
    }

    /// Does what is due of a step that is to end: to be called again and again until it has ended.
    pub fn end_further(&mut self) {
        if self.unwanted {
            self.kill();
        } else if let (Some(told), Some(container)) = (&mut self.told, &self.container) {
            told.look(container, &self.groups);
        }
    }

    /// Ends it. A process in a frozen group ends only when that is thawed, and may be frozen once more meanwhile: to be
    /// called again until it has ended.
    fn kill(&self) {
        // While it is being created only the runtime can be ended; what it leaves half-made is deleted.
        for child in [&self.command, &self.container].into_iter().flatten() {
            let _ = pidfd_send_signal(&child.descriptor, Signal::KILL);
        }
        self.groups.kill();
    }

    /// How long the runtime's program may still take.
    pub fn time_left(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// Kills the runtime's program where its time is over.
    pub fn end_overdue_call(&mut self) {
        if self.time_left() == Some(Duration::ZERO)
            && let Some(command) = &self.command
        {
            (self.deadline, self.is_overdue) = (None, true);
            let _ = pidfd_send_signal(&command.descriptor, Signal::KILL);
        }
    }

    /// Gives the runtime's program less time: the session ends.
    pub fn hurry(&mut self) {
        let soon = Instant::now() + LAST_CALL_TIMEOUT;
        self.deadline = self.deadline.map(|deadline| deadline.min(soon));
    }

    /// Whether it is to end and has not, and something is to be done for that.
    pub fn is_ending(&self) -> bool {
        (self.unwanted || self.told.is_some())
            && matches!(self.phase, Phase::Creating | Phase::Starting | Phase::Running)
    }

    fn tell(&self, groups: &Groups<'_>, shared: &Shared, outcome: Outcome) {
        let failed = !outcome.is_success();
        let out_of_memory = failed && self.groups.ran_out_of_memory();
        let processes_refused = failed && groups.processes_refused(&self.groups);
        let lost = self.watched.as_ref().and_then(|watched| watched.lost(shared)).or_else(|| groups.lost_limit());
        // Whoever asked may have lost interest.
        if let Some(mounts) = &self.mounts {
            self.own_tmpfs.empty();
            let _ = status::send_mounts(self.status.as_fd(), mounts.as_fd());
        }
        let ended = Ended { outcome, out_of_memory, processes_refused, lost };
        let _ = status::send_ended(self.status.as_fd(), &ended);
    }

    /// Whether its container's first process may be there without being known.
    pub fn is_being_created(&self) -> bool {
        self.phase == Phase::Creating
    }

    /// Whether the step has ended and the runtime is at work on what is left of it.
    pub fn is_being_deleted(&self) -> bool {
        self.phase == Phase::Deleting
    }

    /// Whether nothing is left to be done for it.
    pub fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    /// Whether the process is one that it waits for.
    pub fn has(&self, pid: Pid) -> bool {
        [&self.command, &self.container].into_iter().flatten().any(|child| child.pid == pid)
    }
}
