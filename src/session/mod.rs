//! A session: mounts a container's root, and runs the processes of its steps in it, from the first step to the last.
//!
//! ```text
//! upper      what the steps changed since the last snapshot      (scratch)
//! skeleton   mount points that the root lacks                    (scratch, in no snapshot)
//! frozen …   the contents of earlier snapshots of this session   (scratch)
//! images …   the layers below                                    (squashfs by loop device)
//! ```

mod bundle_dir;
mod capabilities;
mod error;
mod etc_files;
mod exact;
mod export_view;
mod filesystems;
mod fixed_mounts;
mod full;
mod inspect;
mod layer;
mod layer_stack;
mod mount_options;
mod mounts;
mod own_settings;
mod saved_image;
mod scratch;
mod script;
mod secrets;
mod session_copy;
mod skeleton;
mod snapshot_root;
mod start;
mod user;
mod whole_root;
mod workspace;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

pub use capabilities::missing_by_default as missing_capabilities;
pub use error::SessionError;
pub use exact::append as append_exact;
pub use full::{FullPlace, explain as explain_full_place};
pub use inspect::{FileInside, Space};
pub use layer::LowerLayer;
use mounts::SessionMounts;
pub use mounts::{MountSources, RAMFS};
use oci_spec::runtime::{Process, Spec};
use own_settings::OwnSettings;
use rustix::fs::{Mode, OFlags};
pub use saved_image::{RestoreProgress, RestoreReport, SavedImage};
pub use scratch::{Scratch, inodes as scratch_files};
pub use secrets::read_all as read_all_secrets;
pub use session_copy::SessionCopy;
use skeleton::MountPoint;
pub use skeleton::copy_attributes;
pub use snapshot_root::SnapshotRoot;
use start::ContainerHelper;
pub use start::SessionStart;
pub use workspace::Workspace;

use crate::error::context;
use crate::fs::copy_into::Target;
use crate::fs::in_root::resolve;
use crate::loopdev::LentLoopDevices;
use crate::model::{Capability, Container, User};
use crate::mount::Mounted;
use crate::named_paths::NamedPaths;
use crate::runtime::container::{self, RunningStep};
use crate::runtime::process::Credentials;
use crate::runtime::spec::{self, DEFAULT_MOUNT_POINTS, HostDevice};
use crate::runtime::{Bundle, Runtime, Stdio, embedded};

/// A container's session.
#[derive(Debug)]
pub struct Session<'a> {
    workspace: &'a Workspace,
    container: &'a Container,
    /// The layers below, the lowest first.
    lowers: Vec<LowerLayer>,
    /// The number of the topmost layers that its own snapshots have written since the last full one.
    own_layers: usize,
    etc_files: Vec<etc_files::EtcFile>,
    scratch: Arc<Scratch>,
    /// The changes with which the container begins the next time.
    initial_changes: Option<InitialChanges>,
    /// Whether its content from before a step could not be restored.
    is_lost: bool,
    devices: Vec<HostDevice>,
    /// The directory in which `mounts` has made its mounts.
    own_mounts: PathBuf,
    mounts: SessionMounts,
    /// The settings of the step that runs alone.
    own: Option<OwnSettings<'a>>,
    /// A helper that waits for the container to open.
    helper: Option<ContainerHelper>,
    live: Option<Live>,
    /// Returned when no process of the session runs any more.
    _lent: LentLoopDevices,
}

/// The changes with which a container begins.
#[derive(Debug)]
enum InitialChanges {
    /// The changes of a checkpoint.
    Saved(SavedImage),
    /// The changes in a directory of its scratch, which becomes its upper directory.
    Upper(PathBuf),
}

/// The parts of a session that end at a snapshot and are made anew after it.
#[derive(Debug)]
struct Live {
    runtime: container::Container,
    /// The config.json for the bundle directory, if there is one.
    bundle_spec: Option<Spec>,
    root: OwnedFd,
    /// The mount points in the root, without links.
    mount_points: Vec<PathBuf>,
    overlay: Mounted,
    upper: PathBuf,
}

impl<'a> Session<'a> {
    /// Prepares a container on the layers `lowers`, the lowest first, with its `start` if runner has made one ahead. No process
    /// runs yet.
    ///
    /// # Errors
    /// Where a mount or a device of the container cannot be prepared.
    pub fn prepare(
        workspace: &'a Workspace,
        container: &'a Container,
        lowers: Vec<LowerLayer>,
        scratch: Arc<Scratch>,
        start: Option<SessionStart>,
        paths: &NamedPaths,
        sources: MountSources<'_>,
    ) -> Result<Self, SessionError> {
        let (devices, helper) = match start {
            Some(SessionStart { devices, helper }) => (devices, Some(helper)),
            None => (start::look_up(container, paths)?, None),
        };
        let numbers = devices.iter().map(|device| (device.node.major(), device.node.minor()));
        let lent = LentLoopDevices::note(numbers, workspace.disk())
            .map_err(context("record the loop devices of a container"))?;
        let own_mounts = workspace.directory("mounts")?;
        let mounts = SessionMounts::prepare(
            container,
            &spec::nodes(container, &devices).1,
            &own_mounts,
            paths,
            sources,
            workspace.secrets(),
            *workspace.runtime() != Runtime::Embedded,
        )?;
        Ok(Self {
            workspace,
            container,
            lowers,
            own_layers: 0,
            etc_files: etc_files::files(container, paths)?,
            scratch,
            initial_changes: None,
            is_lost: false,
            devices,
            own_mounts,
            mounts,
            own: None,
            helper,
            live: None,
            _lent: lent,
        })
    }

    /// Mounts the root and creates the container, unless it is running.
    ///
    /// # Errors
    /// See [`SessionError`].
    pub fn start(&mut self) -> Result<(), SessionError> {
        self.refuse_lost()?;
        if self.live.is_none() {
            let (workspace, container) = (self.workspace, self.settings());
            let compile_filter = || {
                // To open the container reports an error of the rules.
                if let Ok(Some(rules)) = spec::seccomp(container) {
                    embedded::compile_ahead(&rules);
                }
            };
            let live = thread::scope(|scope| {
                if *workspace.runtime() == Runtime::Embedded && workspace.is_first_session() {
                    drop(thread::Builder::new().name("seccomp".into()).spawn_scoped(scope, compile_filter));
                }
                self.create()
            })?;
            self.live = Some(live);
            self.initial_changes = None;
        }
        Ok(())
    }

    fn create(&mut self) -> Result<Live, SessionError> {
        let runtime = self.workspace.runtime();
        let helper = self.helper.take();
        let helper = helper.map_or_else(|| start::begin(self.workspace, self.settings(), self.devices()), Ok);
        let ContainerHelper { id, helper } = helper?;
        // The bundle has the name of its container, so that people find it.
        let bundle_directory = self.workspace.directory("bundle")?.join(&self.container.name);
        let rootfs = bundle_directory.join("rootfs");
        scratch::private_directory(&rootfs)?;
        let skeleton = self.scratch.directory("skeleton")?;
        let points = self.mount_points();
        let real = {
            let below = self.mount_layers(&rootfs)?;
            let real = skeleton::prepare(below.path(), &skeleton, &points)?;
            refuse_redirected(&real)?;
            let mounts = &real[DEFAULT_MOUNT_POINTS.len()..];
            etc_files::write(below.path(), &skeleton, self.etc_files(), mounts, self.own_layers())?;
            below.close().map_err(SessionError::Busy)?;
            real
        };
        let upper = self.new_upper(&skeleton)?;
        let overlay = self.overlay(&skeleton, &upper, &rootfs)?;
        if !self.settings().capabilities.contains(&Capability::Mknod) {
            // A container that may not make nodes may not open those of its root either: on a host without device rules, only
            // this mount option prevents that.
            overlay.refuse_devices().map_err(context("refuse to open device nodes of the root"))?;
        }
        let mut mounts = Vec::new();
        for (mount, real) in self.prepared().iter().zip(&real[DEFAULT_MOUNT_POINTS.len()..]) {
            mounts.push(mount.oci(real)?);
        }
        let bundle_spec =
            self.workspace.bundles().map(|_| self.bundle_spec(&real[DEFAULT_MOUNT_POINTS.len()..])).transpose()?;
        let description = spec::Description {
            id: &id,
            rootfs: &rootfs,
            mounts,
            devices: self.devices(),
            own_processes: runtime.own_processes(),
        };
        let bundle = Bundle {
            id: &id,
            directory: &bundle_directory,
            state: &self.workspace.directory("state")?,
            workspace: self.workspace.path(),
            mounts: &self.own_mounts,
            spec: &spec::spec(self.settings(), description)?,
            capabilities: &self.settings().capabilities,
            pinned_mounts: self.workspace.pinned_mounts(),
        };
        let runtime = runtime.open(helper, bundle)?;
        let root = rustix::fs::open(&rootfs, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(io::Error::from)?;
        Ok(Live { runtime, bundle_spec, root, mount_points: real, overlay, upper })
    }

    /// Returns the config.json for the bundle directory: users can run that bundle themselves when this session has ended.
    fn bundle_spec(&self, real: &[PathBuf]) -> Result<Spec, SessionError> {
        let prepared = self.prepared();
        let mounts = prepared.iter().zip(real).map(|(mount, real)| mount.oci_in_bundle(real));
        let description = spec::Description {
            id: &self.container.name,
            rootfs: Path::new(bundle_dir::ROOTFS),
            mounts: mounts.filter_map(Result::transpose).collect::<io::Result<_>>()?,
            devices: self.devices(),
            own_processes: 0,
        };
        Ok(bundle_dir::portable(spec::spec(self.settings(), description)?, self.devices()))
    }

    fn mount_points(&self) -> Vec<MountPoint> {
        let defaults = DEFAULT_MOUNT_POINTS.map(|target| MountPoint {
            target: target.into(),
            is_directory: true,
            content: None,
            name: "a filesystem of the kernel".into(),
        });
        defaults.into_iter().chain(self.prepared().iter().map(|mount| mount.point().clone())).collect()
    }

    /// Returns the numbers of a user of the manifest, from the current files of the root.
    ///
    /// # Errors
    /// Where the root does not have the user.
    pub fn credentials(&self, user: &User) -> Result<Credentials, SessionError> {
        user::look_up(self.live()?.root.as_fd(), user).map_err(SessionError::User)
    }

    /// Returns whether the root now has a file at this path; links are followed inside it. The session must have been started.
    pub fn has(&self, path: &Path) -> bool {
        let resolved = self.live().map(|live| resolve(live.root.as_fd(), path));
        matches!(resolved, Ok(Ok(inside)) if inside.missing.is_empty())
    }

    /// Returns its root as a place to copy files into. The session must have been started.
    ///
    /// # Errors
    /// Where it has not been started.
    pub fn target(&self) -> Result<Target<'_>, SessionError> {
        let Live { root, mount_points, .. } = self.live()?;
        Ok(Target { root: root.as_fd(), mount_points, kernels_own: &DEFAULT_MOUNT_POINTS })
    }

    /// Starts a process. The session must have been started.
    ///
    /// # Errors
    /// Where the container has ended.
    pub fn run(&self, process: Process, stdio: &Stdio) -> Result<RunningStep, SessionError> {
        let live = self.live()?;
        if let (Some(directory), Some(spec)) = (self.workspace.bundles(), &live.bundle_spec) {
            bundle_dir::write(directory, &self.container.name, spec, &process)?;
        }
        for mounts in [Some(&self.mounts), self.own.as_ref().map(OwnSettings::mounts)].into_iter().flatten() {
            mounts.change_secret_owners(process.user().uid(), process.user().gid())?;
        }
        Ok(live.runtime.start(process, self.container.init, stdio)?)
    }

    /// Makes a program of a script, for the step with this name. Returns its path inside.
    ///
    /// # Errors
    /// Those of [`script::write`].
    pub fn script(&self, step: &str, text: &str) -> io::Result<PathBuf> {
        script::write(&self.own_mounts.join("scripts").join(step), text)?;
        Ok(Path::new(mounts::SCRIPTS).join(step))
    }

    /// Returns whether the session has been started and can run processes.
    pub fn is_running(&self) -> bool {
        self.live.is_some()
    }

    fn live(&self) -> Result<&Live, SessionError> {
        self.live.as_ref().ok_or_else(|| SessionError::Io(io::Error::other("it has not been started")))
    }

    /// Returns the scratch that contains its changes.
    pub fn scratch(&self) -> &Arc<Scratch> {
        &self.scratch
    }

    /// Returns the targets of its tmpfs mounts that contain files.
    ///
    /// # Errors
    /// Those of reading the mounts.
    pub fn nonempty_tmpfs(&self) -> Result<Vec<PathBuf>, SessionError> {
        Ok(self.mounts.nonempty_tmpfs()?)
    }

    /// Returns its tmpfs mounts: the target of each, and its path in the workspace.
    pub fn tmpfs(&self) -> impl Iterator<Item = (&Path, &Path)> {
        self.mounts.tmpfs()
    }

    /// Restores the content of a tmpfs mount from an image. The session must not be running.
    ///
    /// # Errors
    /// Those of copying.
    pub fn restore_tmpfs(&self, target: &Path, image: &SavedImage) -> Result<(), SessionError> {
        for (_, place) in self.tmpfs().filter(|(other, _)| *other == target) {
            image.restore(place)?;
        }
        Ok(())
    }

    /// Lets the session begin with the changes of a checkpoint. The session must not be running.
    pub fn restore_checkpoint(&mut self, checkpoint: SavedImage) {
        self.initial_changes = Some(InitialChanges::Saved(checkpoint));
    }

    /// Returns the directory with the changes since the last snapshot; none if no process has run since. No process may be running.
    pub fn changes(&self) -> Option<&Path> {
        match (&self.live, &self.initial_changes) {
            (Some(live), _) => Some(&live.upper),
            (None, Some(InitialChanges::Upper(upper))) => Some(upper),
            (None, _) => None,
        }
    }

    /// Ends the session, and unmounts all its mounts.
    ///
    /// # Errors
    /// See [`SessionError`].
    pub fn close(mut self) -> Result<(), SessionError> {
        self.live.take().map_or(Ok(()), |live| live.end().map(drop))
    }
}

/// Refuses a root whose /proc, /dev or /sys is a link: runtimes make links and nodes below them by path before they have changed to
/// the root, and would make them on the host.
fn refuse_redirected(real: &[PathBuf]) -> Result<(), SessionError> {
    for (target, real) in DEFAULT_MOUNT_POINTS.iter().zip(real) {
        if real != Path::new(target) {
            let error = format!("{target} of the rootfs is a link to {}, and must be a directory", real.display());
            return Err(SessionError::Rootfs(io::Error::new(io::ErrorKind::InvalidData, error)));
        }
    }
    Ok(())
}

impl Live {
    fn end(self) -> Result<PathBuf, SessionError> {
        let Self { runtime, root, overlay, upper, .. } = self;
        runtime.close()?;
        drop(root);
        overlay.close().map_err(SessionError::Busy)?;
        Ok(upper)
    }
}
