//! Where this process builds: the store, its lease, a private mount namespace, and the signals that end it early.

use std::error::Error as StdError;
use std::ffi::OsStr;
use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::SystemTime;

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGXCPU};
use signal_hook::iterator::Signals;

use super::inside::notice;
use crate::build::{Build, ContainerId, StepId};
use crate::cgroup::ProcessLimit;
use crate::content::LongRead;
use crate::error::{Error, Exit, told_with_hint};
use crate::event::Events;
use crate::execute::{Context, Interrupt};
use crate::fs::dirfd::Dir;
use crate::mount::enter_private_namespace;
use crate::named_paths::{Confinement, NamedPaths, WritableBinds};
use crate::resource_limits::{self, cpu_time_is_over};
use crate::runtime::external::{FindError, Program};
use crate::runtime::{Runtime, cgroups};
use crate::session::{Workspace, read_all_secrets};
use crate::settings::{EMBEDDED, Settings};
use crate::store::{BuildId, Lease, Store, StoreError};
use crate::sys;
use crate::warning::Warning;

/// All that a build needs of the host.
#[derive(Debug)]
pub struct Site {
    store: Store,
    // Closed in this order: what is mounted before what is removed.
    workspace: Workspace,
    lease: Lease,
    interrupt: Arc<Interrupt>,
    build_id: BuildId,
    warnings: Vec<Warning>,
}

impl Site {
    /// Takes the site, and clears what killed runners have left. To be called before any thread starts.
    ///
    /// # Errors
    /// With [`Exit::Host`]: without root, or where the store cannot be used.
    pub fn open(settings: &Settings) -> Result<Self, Error> {
        if !rustix::process::geteuid().is_root() {
            let hint = "run it with sudo, or in a container with --privileged".to_owned();
            return Err(Error::new(Exit::Host, "cannot mount root filesystems: that needs root").with_hint(Some(hint)));
        }
        let runtime = runtime(&settings.runtime)?;
        if let Runtime::External(program) = &runtime {
            program.version().map_err(not_a_runtime)?;
        }
        enter_private_namespace().map_err(|error| {
            let hint = "run it with CAP_SYS_ADMIN: in Docker, `docker run --privileged`".to_owned();
            Error::new(Exit::Host, format!("cannot enter a mount namespace of its own: {error}")).with_hint(Some(hint))
        })?;
        resource_limits::raise_nofile().map_err(|error| {
            let hint = error.hint();
            Error::new(Exit::Host, error).with_hint(Some(hint))
        })?;
        // Before anything is written: a signal that ends this process at once would leave it half-written.
        let interrupt = Arc::new(Interrupt::new().map_err(host("make a pipe for interrupts"))?);
        heed_signals(Arc::clone(&interrupt)).map_err(|error| no_thread("heed signals", error))?;
        let store = Store::open(&settings.store).map_err(of_store)?;
        let mut warnings: Vec<Warning> = settings.ignored.clone().into_iter().collect();
        warnings.extend(clear_left_over(&store)?);
        let lease = store.lease().map_err(of_store)?;
        let disk = store.root().join("scratch").join(lease.id());
        let workspace = Workspace::open(&store.mnt(), &disk, lease.id(), runtime);
        let workspace = workspace.map_err(host("make room for sessions"))?;
        let build_id = store.new_build(SystemTime::now()).map_err(of_store)?;
        Ok(Self { store, workspace, lease, interrupt, build_id, warnings })
    }

    /// Keeps the OCI bundles in that folder, if one is given.
    ///
    /// # Errors
    /// With [`Exit::Usage`], where it cannot be opened or made, is a link, or a link of an earlier step leads elsewhere.
    pub fn keep_bundles(&mut self, folder: Option<&Path>, build: &Build) -> Result<(), Error> {
        let Some(folder) = folder else { return Ok(()) };
        let failed = |why: String| {
            let error = format!("cannot keep bundles in {}: {why}", folder.display());
            Error::new(Exit::Usage, error).with_hint(Some("choose another one with `--bundle-dir FOLDER`".into()))
        };
        // A step of an earlier build may have left it.
        if folder.components().collect::<PathBuf>().is_symlink() {
            return Err(failed("it is a symbolic link".into()));
        }
        if let Some(planted) = WritableBinds::of(build).planted(folder) {
            return Err(failed(planted.to_string()).with_hint(Some(planted.hint())));
        }
        let folder = Dir::open_or_create(folder, 0o700).map_err(|error| failed(error.to_string()))?;
        self.workspace.keep_bundles(folder);
        Ok(())
    }

    /// Opens the host paths that the build names, of its outputs those of these steps, whose containers run, and `also`
    /// another one.
    ///
    /// # Errors
    /// Where one cannot be used.
    pub fn open_paths(&self, build: &Build, steps: &[StepId], also: Option<ContainerId>) -> Result<NamedPaths, Error> {
        let runs = steps.iter().map(|id| build.step(*id).container).chain(also).collect();
        let external = match self.workspace.runtime() {
            Runtime::Embedded => None,
            Runtime::External(program) => program.path().file_name(),
        };
        let confinement = Confinement::of(external.map(OsStr::to_string_lossy).as_deref());
        NamedPaths::open(build, steps, &runs, self.store.root(), &confinement).map_err(|error| {
            let hint = error.hint();
            Error::new(error.exit(), error).with_hint(hint)
        })
    }

    /// Returns the context of a plan's run. The secrets of the build are read.
    pub fn context<'a>(&'a self, build: &'a Build, paths: &'a NamedPaths) -> Context<'a> {
        read_all_secrets(build, paths, self.workspace.secrets());
        Context {
            build,
            store: &self.store,
            lease: &self.lease,
            workspace: &self.workspace,
            paths,
            interrupt: &self.interrupt,
            build_id: &self.build_id,
            locked: None,
        }
    }

    /// Tells what was found amiss when it was opened.
    pub fn warn(&self, events: &Events) {
        for warning in &self.warnings {
            events.warn(None, warning);
        }
    }

    /// Gives all back.
    ///
    /// # Errors
    /// With [`Exit::Host`], where something could not be removed; the next start tries again.
    pub fn close(self) -> Result<(), Error> {
        let Self { workspace, lease, .. } = self;
        workspace.close().map_err(host("take the sessions' folder down"))?;
        // A helper that was killed, by who runs out of memory for example, could not remove its container's.
        if !cgroups::remove_own(lease.id()) {
            let hint = "the next start of runner tries again; nothing has to be done".to_owned();
            let message = format!("cannot remove the cgroups of the build {}: one is still in use", lease.id());
            let error = Error::new(Exit::Host, message).with_hint(Some(hint));
            // Locked to the end of this process, and then found dead: the next start tries again.
            std::mem::forget(lease);
            return Err(error);
        }
        lease.close().map_err(of_store)
    }
}

/// The runtime that the settings name. Nothing is run to find it.
///
/// # Errors
/// With [`Exit::Host`], where it is not there.
pub fn runtime(name: &str) -> Result<Runtime, Error> {
    if name == EMBEDDED {
        return Ok(Runtime::Embedded);
    }
    let search = std::env::var_os("PATH").unwrap_or_default();
    Program::find(name, &search).map(Runtime::External).map_err(not_a_runtime)
}

fn not_a_runtime(error: FindError) -> Error {
    let hint = error.hint();
    Error::new(Exit::Host, error).with_hint(Some(hint))
}

fn host<E: Display>(what: &'static str) -> impl Fn(E) -> Error {
    move |error| Error::new(Exit::Host, format!("cannot {what}: {error}"))
}

/// Reports inputs that take long to read: among the events once there are some, until then on standard error.
#[derive(Default)]
pub(super) struct LongReads(Arc<OnceLock<Events>>);

impl LongReads {
    /// Returns the function to call for each.
    pub(super) fn reporter(&self) -> LongRead {
        let events = Arc::clone(&self.0);
        LongRead::reported_by(move |path, bytes| {
            let warning = Warning::LongRead { path: path.to_owned(), bytes };
            match events.get() {
                Some(events) => events.warn(None, &warning),
                None => notice(&format!("warning: {warning}")),
            }
        })
    }

    /// From now on they are events, which end no sooner than what has the reporter.
    pub(super) fn are_events(self, events: &Events) {
        let _ = self.0.set(events.clone());
    }
}

/// An error of starting a thread.
pub(super) fn no_thread(what: &str, error: io::Error) -> Error {
    let hint = (error.kind() == io::ErrorKind::WouldBlock).then(ProcessLimit::hint);
    Error::new(Exit::Host, format!("cannot {what}: {error}")).with_hint(hint)
}

/// As an error of a command.
pub(super) fn of_store(error: StoreError) -> Error {
    let hint = error.hint();
    Error::new(Exit::Host, Box::<dyn StdError + Send + Sync>::from(error)).with_hint(hint)
}

/// Removes what killed runners have left in the store and among the cgroups; gives what would not go.
pub(super) fn clear_left_over(store: &Store) -> Result<Vec<Warning>, Error> {
    let swept = store.sweep().map_err(of_store)?;
    let left = |error: &StoreError| Warning::LeftOver { why: told_with_hint(error, error.hint()) };
    let mut warnings: Vec<Warning> = swept.problems.iter().map(left).collect();
    if swept.dead.is_empty() {
        return Ok(warnings);
    }
    let mut groups = cgroups::LeftOver::find();
    for lease in swept.dead {
        if !groups.remove(lease.id()) {
            warnings.push(Warning::LeftCgroup { build: lease.id().to_owned() });
            continue;
        }
        if let Err(error) = lease.close() {
            warnings.push(left(&error));
        }
    }
    groups.restore();
    Ok(warnings)
}

/// The first signal ends the build in order. The second one ends the grace of steps that were asked to end; where there is
/// none, it ends runner at once: the kernel and the next start clean up. So does the third one. A signal that the caller
/// ignores stays ignored, as under nohup(1).
fn heed_signals(interrupt: Arc<Interrupt>) -> std::io::Result<()> {
    let mut heeded = Vec::new();
    let seconds = resource_limits::warned_cpu_time();
    for signal in [SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGXCPU] {
        if !sys::is_ignored(signal)? {
            heeded.push(signal);
        }
    }
    let mut signals = Signals::new(heeded)?;
    thread::Builder::new().name("signals".into()).spawn(move || {
        let (mut is_over, mut is_impatient) = (false, false);
        for signal in &mut signals {
            if signal == SIGXCPU {
                // It comes each second from then on; a limit that another process has set in the meantime is unknown.
                if !std::mem::replace(&mut is_over, true) {
                    notice(&format!("error: {}", cpu_time_is_over(seconds.unwrap_or_default())));
                    interrupt.set();
                }
                continue;
            }
            if !interrupt.is_set() {
                interrupt.set();
            } else if is_impatient || !interrupt.end_grace() {
                std::process::exit(Exit::Interrupted.code().into());
            } else {
                is_impatient = true;
            }
        }
    })?;
    Ok(())
}
