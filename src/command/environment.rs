//! The environment of a build: the store and this process's lease in it, a private mount namespace, the workspace of
//! sessions, and the interrupt that signals set.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::command_error::{CommandError, store_error, thread_error};
use super::{leftovers, pull_reports, runtime, signals};
use crate::error::{Error, Exit};
use crate::event::Events;
use crate::execute::{Context, Interrupt, SessionTarget};
use crate::fs::dirfd::Dir;
use crate::http;
use crate::model::{Action, Build, ContainerId, StepId};
use crate::mount::enter_private_namespace;
use crate::named_paths::{Confinement, NamedPaths, WritableBinds};
use crate::pull::{Finder, Images, Pins, Reporter};
use crate::registry::Registries;
use crate::registry::credentials::Sources;
use crate::resource_limits;
use crate::runtime::{Runtime, cgroups};
use crate::session::{Workspace, read_all_secrets};
use crate::settings::Settings;
use crate::store::{BuildId, Lease, Store, StoreError};
use crate::warning::Warning;

/// The resources of the host that a build needs.
#[derive(Debug)]
pub struct BuildEnvironment {
    store: Store,
    // Closed in this order: the mounts before the directories below them.
    workspace: Workspace,
    lease: Lease,
    interrupt: Arc<Interrupt>,
    build_id: BuildId,
    warnings: Vec<Warning>,
}

impl BuildEnvironment {
    /// Opens an environment, does `work` in it, and closes it whether `work` succeeds or fails. Must be called before any
    /// thread starts.
    ///
    /// # Errors
    /// With [`Exit::Host`], without root, or if the store or the host cannot be used; else the error of `work`.
    pub fn within<T>(
        settings: &Settings,
        work: impl FnOnce(&mut Self) -> Result<T, CommandError>,
    ) -> Result<T, CommandError> {
        let mut environment = Self::open(settings)?;
        let result = work(&mut environment);
        environment.close()?;
        result
    }

    fn open(settings: &Settings) -> Result<Self, CommandError> {
        if !rustix::process::geteuid().is_root() {
            let hint = "run it with sudo, or in a container with --privileged".to_owned();
            let error = Error::new(Exit::Host, "cannot mount root filesystems: that needs root");
            return Err(error.with_hint(Some(hint)).into());
        }
        let runtime = runtime::find_working(&settings.runtime)?;
        enter_private_namespace().map_err(|error| {
            let hint = "run it with CAP_SYS_ADMIN: in Docker, `docker run --privileged`".to_owned();
            Error::new(Exit::Host, format!("cannot enter a private mount namespace: {error}")).with_hint(Some(hint))
        })?;
        resource_limits::raise_nofile().map_err(|error| {
            let hint = error.hint();
            Error::new(Exit::Host, error).with_hint(Some(hint))
        })?;
        // Before the first write: a signal that ends this process at once would leave a file half-written.
        let interrupt = Arc::new(Interrupt::new().map_err(host_error("create a pipe for interrupts"))?);
        signals::handle(Arc::clone(&interrupt))
            .map_err(|error| thread_error("start the thread that handles signals", error))?;
        let store = Store::open(&settings.store).map_err(store_error)?;
        let mut warnings: Vec<Warning> = settings.ignored.clone().into_iter().collect();
        warnings.extend(leftovers::remove(&store)?);
        let lease = store.lease().map_err(store_error)?;
        let disk = store.root().join("scratch").join(lease.id());
        let workspace = Workspace::open(&store.mnt(), &disk, lease.id(), runtime);
        let workspace = workspace.map_err(host_error("prepare the workspace of the sessions"))?;
        let build_id = store.new_build(SystemTime::now()).map_err(store_error)?;
        Ok(Self { store, workspace, lease, interrupt, build_id, warnings })
    }

    /// Stores the OCI bundles of containers in this directory, if one is given.
    ///
    /// # Errors
    /// With [`Exit::Usage`], if the directory cannot be opened or created, is a symbolic link, or lies behind one that a
    /// step of an earlier build may have made.
    pub fn store_bundles(&mut self, directory: Option<&Path>, build: &Build) -> Result<(), Error> {
        let Some(directory) = directory else { return Ok(()) };
        let failed = |why: String| {
            let error = format!("cannot store the OCI bundles in {}: {why}", directory.display());
            Error::new(Exit::Usage, error).with_hint(Some("choose another directory with `--bundle-dir`".into()))
        };
        // A step of an earlier build may have made the link.
        if directory.components().collect::<PathBuf>().is_symlink() {
            return Err(failed("it is a symbolic link".into()));
        }
        if let Some(planted) = WritableBinds::of(build).planted(directory) {
            return Err(failed(planted.to_string()).with_hint(Some(planted.hint())));
        }
        let directory = Dir::open_or_create(directory, 0o700, None).map_err(|error| failed(error.to_string()))?;
        self.workspace.write_bundles_to(directory);
        Ok(())
    }

    /// Opens the host paths that the build names for the containers of these steps and for the container of `session`, and
    /// the outputs of these steps.
    ///
    /// # Errors
    /// If a path cannot be used.
    pub fn open_paths(
        &self,
        build: &Build,
        steps: &[StepId],
        session: Option<SessionTarget>,
    ) -> Result<NamedPaths, Error> {
        let mut containers: HashSet<ContainerId> = containers_of(build, steps.iter().copied()).collect();
        containers.extend(session.iter().flat_map(|target| [target.container, target.settings(build)]));
        let external = match self.workspace.runtime() {
            Runtime::Embedded => None,
            Runtime::External(program) => program.path().file_name(),
        };
        let confinement = Confinement::of(external.map(OsStr::to_string_lossy).as_deref());
        let paths = NamedPaths::open(build, steps, &containers, self.store.root(), &confinement).map_err(|error| {
            let hint = error.hint();
            Error::new(error.exit(), error).with_hint(hint)
        })?;
        self.refuse_foreign_files(build, steps, &paths)?;
        Ok(paths)
    }

    /// Refuses exports that would replace a directory with files that runner did not export there: before anything runs.
    fn refuse_foreign_files(&self, build: &Build, steps: &[StepId], paths: &NamedPaths) -> Result<(), Error> {
        for id in steps
            .iter()
            .filter(|id| matches!(&build.step(**id).action, Action::Export(export) if export.may_be_directory()))
        {
            let Some(output) = paths.output(*id) else { continue };
            // A file in its place is replaced, if the export is a file too.
            if let Ok(Some(file)) = self.store.foreign_file(output) {
                let error = StoreError::Foreign { path: output.path().to_owned(), file };
                let hint = error.hint();
                return Err(Error::new(Exit::Usage, error).with_hint(hint));
            }
        }
        Ok(())
    }

    /// Finds the images that the containers of these steps and the container of `session` begin with.
    ///
    /// # Errors
    /// If a registry, a layout or an image cannot be used.
    pub fn images(
        &self,
        settings: &Settings,
        build: &Build,
        paths: &NamedPaths,
        (steps, session): (&[StepId], Option<ContainerId>),
        pins: Pins<'_>,
    ) -> Result<Images, CommandError> {
        let flag = self.interrupt.flag();
        let http = http::Options::default();
        let reporter = Arc::new(pull_reports::reporter(settings.progress));
        let registries = Registries::new(settings.registries.clone(), http, Sources::of_environment(), flag);
        let registries = registries.reporting(Arc::<Reporter>::clone(&reporter));
        let containers = steps.iter().map(|id| build.step(*id).container).chain(session);
        let (store, lease) = (&self.store, &self.lease);
        let finder = Finder { build, store, lease, paths, registries: &registries, reporter: &reporter, pins };
        let (found, downloads) = finder.find(containers).map_err(|error| match self.interrupt.is_set() {
            true => CommandError::from(Exit::Interrupted),
            false => {
                let hint = error.hint();
                Error::new(error.exit(), error).with_hint(hint).into()
            }
        })?;
        Ok(Images { found: Arc::new(found), registries, reporter, downloads })
    }

    /// Reads the secrets of the build, and returns the context for runs of its plans.
    pub fn context<'a>(&'a self, build: &'a Build, paths: &'a NamedPaths, images: &'a Images) -> Context<'a> {
        read_all_secrets(build, paths, self.workspace.secrets());
        Context {
            build,
            store: &self.store,
            lease: &self.lease,
            workspace: &self.workspace,
            paths,
            images,
            interrupt: &self.interrupt,
            build_id: &self.build_id,
            locked: None,
        }
    }

    /// Reports the warnings that opening the environment gave.
    pub fn warn(&self, events: &Events) {
        for warning in &self.warnings {
            events.warn(None, warning);
        }
    }

    /// Unmounts and removes everything that the environment made.
    fn close(self) -> Result<(), CommandError> {
        let Self { workspace, lease, .. } = self;
        workspace.close().map_err(host_error("remove the workspace of the sessions"))?;
        // A helper that was killed, by the kernel for want of memory for example, could not remove its container's cgroups.
        if !cgroups::remove_own(lease.id()) {
            let hint = "nothing needs to be done: the next start of runner tries again".to_owned();
            let message = format!("cannot remove the cgroups of the build {}: one is still in use", lease.id());
            let error = Error::new(Exit::Host, message).with_hint(Some(hint));
            // The lease stays locked until this process ends. Then the next start of runner finds it unlocked, and tries again.
            std::mem::forget(lease);
            return Err(error.into());
        }
        Ok(lease.close().map_err(store_error)?)
    }
}

/// Returns the containers that these steps run in, and those with their own settings.
pub fn containers_of(build: &Build, steps: impl Iterator<Item = StepId>) -> impl Iterator<Item = ContainerId> {
    steps.map(|id| build.step(id)).flat_map(|step| [step.container, step.settings()])
}

fn host_error<E: Display>(action: &'static str) -> impl Fn(E) -> Error {
    move |error| Error::new(Exit::Host, format!("cannot {action}: {error}"))
}
