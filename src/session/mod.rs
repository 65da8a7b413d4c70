//! A session: a container's root, mounted, with the processes of its steps in it, from its first step to its last.
//!
//! ```text
//! upper      what the steps changed since the last snapshot      (scratch)
//! skeleton   mount points that the root lacks                    (scratch, in no snapshot)
//! frozen …   what earlier snapshots of this session hold         (scratch)
//! images …   the layers below                                    (squashfs by loop device)
//! ```

mod before;
mod capabilities;
mod error;
mod exact;
mod filesystems;
mod full;
mod given;
mod inspect;
mod kept;
mod layer;
mod mounts;
mod scratch;
mod script;
mod secrets;
mod seed;
mod skeleton;
mod start;
mod user;
mod whole;
mod workspace;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

pub use before::Before;
pub use capabilities::missing_by_default as missing_capabilities;
pub use error::SessionError;
pub use exact::append as append_exact;
pub use full::{Full, explained as explained_for_want_of_room};
pub use inspect::{FileInside, Space};
pub use layer::Lower;
pub use mounts::RAMFS;
use mounts::SessionMounts;
use oci_spec::runtime::{Process, Spec};
use rustix::fs::{Mode, OFlags};
pub use scratch::{Scratch, inodes as scratch_files};
pub use secrets::read_all as read_all_secrets;
pub use seed::{RestoreReport, Restoring, Saved};
use skeleton::MountPoint;
use start::Begun;
pub use start::Start;
pub use workspace::Workspace;

use crate::error::context;
use crate::fs::in_root::{open_beneath, resolve};
use crate::loopdev::LentLoopDevices;
use crate::model::{Capability, Container, User};
use crate::mount::{FileNumbers, Mounted, bind_read_only, mount_overlay};
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
    lowers: Vec<Lower>,
    /// How many of them, the topmost, its own snapshots wrote since the last full one.
    own_layers: usize,
    given: Vec<given::GivenFile>,
    scratch: Arc<Scratch>,
    /// Where its changes begin the next time.
    seed: Option<Seed>,
    /// Its content from before a step could not be put back.
    is_lost: bool,
    devices: Vec<HostDevice>,
    /// Where `mounts` has what it made.
    own_mounts: PathBuf,
    mounts: SessionMounts,
    /// A helper that waits for the container to open.
    begun: Option<Begun>,
    live: Option<Live>,
    /// Given back when nothing runs any more.
    _lent: LentLoopDevices,
}

/// Changes to begin with, in place of none.
#[derive(Debug)]
enum Seed {
    /// Those of a checkpoint.
    Saved(Saved),
    /// Those in a directory of its scratch, which it is to continue in.
    Upper(PathBuf),
}

/// The parts that end at a snapshot and are made anew after it.
#[derive(Debug)]
struct Live {
    runtime: container::Container,
    /// Its config.json as it is kept, if it is.
    kept: Option<Spec>,
    root: OwnedFd,
    overlay: Mounted,
    upper: PathBuf,
}

impl<'a> Session<'a> {
    /// Makes all ready for a container on the layers `lowers`, the lowest first, with its `start` if there was time for
    /// one. Nothing runs yet.
    ///
    /// # Errors
    /// Where a mount or a device of the container cannot be made ready.
    pub fn prepare(
        workspace: &'a Workspace,
        container: &'a Container,
        lowers: Vec<Lower>,
        scratch: Arc<Scratch>,
        start: Option<Start>,
        paths: &NamedPaths,
        cache: impl Fn(&str) -> io::Result<PathBuf>,
    ) -> Result<Self, SessionError> {
        let (devices, begun) = match start {
            Some(Start { devices, begun }) => (devices, Some(begun)),
            None => (start::look_up(container, paths)?, None),
        };
        let numbers = devices.iter().map(|device| (device.node.major(), device.node.minor()));
        let lent = LentLoopDevices::note(numbers, workspace.disk())
            .map_err(context("note the loop devices of a container"))?;
        let own_mounts = workspace.folder("mounts")?;
        let mounts = SessionMounts::prepare(
            container,
            &spec::nodes(container, &devices).1,
            &own_mounts,
            paths,
            cache,
            workspace.secrets(),
            *workspace.runtime() != Runtime::Embedded,
        )?;
        Ok(Self {
            workspace,
            container,
            lowers,
            own_layers: 0,
            given: given::files(container, paths)?,
            scratch,
            seed: None,
            is_lost: false,
            devices,
            own_mounts,
            mounts,
            begun,
            live: None,
            _lent: lent,
        })
    }

    /// Mounts the root and creates the container, unless that is done.
    ///
    /// # Errors
    /// See [`SessionError`].
    pub fn start(&mut self) -> Result<(), SessionError> {
        self.refuse_lost()?;
        if self.live.is_none() {
            let (workspace, container) = (self.workspace, self.container);
            let ahead = || {
                // A fault of the rules is reported when the container is opened.
                if let Ok(Some(rules)) = spec::seccomp(container) {
                    embedded::compile_ahead(&rules);
                }
            };
            let live = thread::scope(|scope| {
                if *workspace.runtime() == Runtime::Embedded && workspace.is_first_session() {
                    drop(thread::Builder::new().name("seccomp".into()).spawn_scoped(scope, ahead));
                }
                self.create()
            })?;
            self.live = Some(live);
            self.seed = None;
        }
        Ok(())
    }

    fn create(&mut self) -> Result<Live, SessionError> {
        let runtime = self.workspace.runtime();
        let begun = self.begun.take().map_or_else(|| start::begin(self.workspace, self.container, &self.devices), Ok);
        let Begun { id, helper } = begun?;
        // A bundle is named after its container, as people look for it.
        let folder = self.workspace.folder("bundle")?.join(&self.container.name);
        let rootfs = folder.join("rootfs");
        scratch::private_folder(&rootfs)?;
        let skeleton = self.scratch.folder("skeleton")?;
        let points = self.mount_points();
        let real = {
            let below = self.view(&rootfs)?;
            let real = skeleton::prepare(below.path(), &skeleton, &points)?;
            ordinary(&real)?;
            given::put(below.path(), &skeleton, &self.given, &real[DEFAULT_MOUNT_POINTS.len()..], self.own_layers())?;
            below.close().map_err(SessionError::Busy)?;
            real
        };
        let upper = self.new_upper(&skeleton)?;
        let overlay = self.overlay(&skeleton, &upper, &rootfs)?;
        if !self.container.capabilities.contains(&Capability::Mknod) {
            // Who may make no nodes is not to open those that its root came with: on a host without device rules this is
            // all that keeps it from them.
            overlay.refuse_devices().map_err(context("keep device nodes of the root from being opened"))?;
        }
        let mut mounts = Vec::new();
        for (mount, real) in self.mounts.ready().iter().zip(&real[DEFAULT_MOUNT_POINTS.len()..]) {
            mounts.push(mount.oci(real)?);
        }
        let kept = self.workspace.bundles().map(|_| self.kept(&real[DEFAULT_MOUNT_POINTS.len()..])).transpose()?;
        let description = spec::Description {
            id: &id,
            rootfs: &rootfs,
            mounts,
            devices: &self.devices,
            own_processes: runtime.own_processes(),
        };
        let bundle = Bundle {
            id: &id,
            directory: &folder,
            state: &self.workspace.folder("state")?,
            workspace: self.workspace.path(),
            mounts: &self.own_mounts,
            spec: &spec::spec(self.container, description)?,
            capabilities: &self.container.capabilities,
            pinned_mounts: self.workspace.pinned_mounts(),
        };
        let runtime = runtime.open(helper, bundle)?;
        let root = rustix::fs::open(&rootfs, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(io::Error::from)?;
        Ok(Live { runtime, kept, root, overlay, upper })
    }

    /// What config.json says in a bundle that is kept: it can be run by hand, when nothing of this session is left.
    fn kept(&self, real: &[PathBuf]) -> Result<Spec, SessionError> {
        let mounts = self.mounts.ready().iter().zip(real).map(|(mount, real)| mount.oci_by_hand(real));
        let description = spec::Description {
            id: &self.container.name,
            rootfs: Path::new(kept::ROOTFS),
            mounts: mounts.filter_map(Result::transpose).collect::<io::Result<_>>()?,
            devices: &self.devices,
            own_processes: 0,
        };
        Ok(kept::by_hand(spec::spec(self.container, description)?, &self.devices))
    }

    fn mount_points(&self) -> Vec<MountPoint> {
        let defaults = DEFAULT_MOUNT_POINTS.map(|target| MountPoint {
            target: target.into(),
            folder: true,
            content: None,
            name: "a filesystem of the kernel".into(),
        });
        defaults.into_iter().chain(self.mounts.ready().iter().map(|mount| mount.point().clone())).collect()
    }

    fn numbers(&self) -> FileNumbers {
        if self.container.xino { FileNumbers::Stable } else { FileNumbers::OfLayers }
    }

    /// The layers below alone, read-only.
    fn view(&self, target: &Path) -> Result<Mounted, SessionError> {
        let empty = self.scratch.folder("empty")?;
        if self.lowers.is_empty() {
            // A root from nothing: overlayfs wants two layers, and no folder twice.
            return Ok(bind_read_only(&empty, target)?);
        }
        let mut lowers: Vec<&Path> = self.lowers.iter().rev().map(Lower::path).collect();
        lowers.push(&empty);
        Ok(mount_overlay(&lowers, None, target, self.numbers())?)
    }

    /// A folder for changes: that with those to begin with, or a new one that looks like the root of the layers below.
    fn new_upper(&self, like: &Path) -> Result<PathBuf, SessionError> {
        if let Some(Seed::Upper(upper)) = &self.seed {
            return Ok(upper.clone());
        }
        let upper = self.scratch.folder("upper")?;
        if let Some(Seed::Saved(saved)) = &self.seed {
            saved.restore(&upper)?;
            return Ok(upper);
        }
        let like = rustix::fs::open(like, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(io::Error::from)?;
        let copied = skeleton::copy_attributes(like.as_fd(), Path::new("/"), &upper);
        copied.map_err(context("copy the attributes of the root folder"))?;
        Ok(upper)
    }

    fn overlay(&self, skeleton: &Path, upper: &Path, target: &Path) -> Result<Mounted, SessionError> {
        let mut lowers: Vec<&Path> = vec![skeleton];
        lowers.extend(self.lowers.iter().rev().map(Lower::path));
        if self.container.read_only {
            let empty = self.scratch.folder("empty")?;
            lowers.push(&empty);
            return Ok(mount_overlay(&lowers, None, target, self.numbers())?);
        }
        let work = self.scratch.folder("work")?;
        Ok(mount_overlay(&lowers, Some((upper, &work)), target, self.numbers())?)
    }

    /// A user of the manifest in numbers, by the root as it is now.
    ///
    /// # Errors
    /// Where the root does not have it.
    pub fn credentials(&self, user: &User) -> Result<Credentials, SessionError> {
        user::look_up(self.live()?.root.as_fd(), user).map_err(SessionError::User)
    }

    /// Whether the root, as it is now, has something at that path, links followed inside it. The session must have been
    /// started.
    pub fn has(&self, path: &Path) -> bool {
        let found = self.live().map(|live| resolve(live.root.as_fd(), path));
        matches!(found, Ok(Ok(inside)) if inside.missing.is_empty())
    }

    /// Starts a process. The session must have been started.
    ///
    /// # Errors
    /// Where the container is gone.
    pub fn run(&self, process: Process, stdio: &Stdio) -> Result<RunningStep, SessionError> {
        let live = self.live()?;
        if let (Some(folder), Some(spec)) = (self.workspace.bundles(), &live.kept) {
            kept::write(folder, &self.container.name, spec, &process)?;
        }
        self.mounts.give_secrets(process.user().uid(), process.user().gid())?;
        Ok(live.runtime.start(process, self.container.init, stdio)?)
    }

    /// Makes a program of a script, for a step of that name; its path inside.
    ///
    /// # Errors
    /// Those of [`script::write`].
    pub fn script(&self, step: &str, text: &str) -> io::Result<PathBuf> {
        script::write(&self.own_mounts.join("scripts").join(step), text)?;
        Ok(Path::new(mounts::SCRIPTS).join(step))
    }

    /// Whether it has been started and takes processes.
    pub fn is_running(&self) -> bool {
        self.live.is_some()
    }

    fn live(&self) -> Result<&Live, SessionError> {
        self.live.as_ref().ok_or_else(|| SessionError::Io(io::Error::other("it has not been started")))
    }

    /// Ends what runs and takes the root down; what was changed since the last time becomes the topmost layer below.
    /// The session may be started again, above it.
    ///
    /// # Errors
    /// See [`SessionError`].
    pub fn freeze(&mut self) -> Result<Lower, SessionError> {
        self.refuse_lost()?;
        let upper = match self.live.take() {
            Some(live) => live.end()?,
            None => self.untouched_upper()?,
        };
        self.seed = None;
        let lower = Lower::frozen(upper, Arc::clone(&self.scratch));
        self.lowers.push(lower.clone());
        self.own_layers += 1;
        Ok(lower)
    }

    /// What a snapshot right after another one holds: nothing but the root folder itself.
    fn untouched_upper(&self) -> Result<PathBuf, SessionError> {
        let target = self.workspace.folder("view")?;
        let view = self.view(&target)?;
        let upper = self.new_upper(view.path())?;
        view.close().map_err(SessionError::Busy)?;
        Ok(upper)
    }

    /// The layers below, the lowest first.
    pub fn lowers(&self) -> &[Lower] {
        &self.lowers
    }

    /// Whether one of the layers below the topmost has something at a path, whatever that is.
    pub fn is_below(&self, path: &Path) -> bool {
        let below = path.strip_prefix("/").unwrap_or(path);
        let has = |layer: &Lower| {
            let top = rustix::fs::open(layer.path(), OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
            let found = top.and_then(|top| open_beneath(top, below, OFlags::PATH | OFlags::NOFOLLOW));
            // What cannot be looked at may be there.
            !matches!(found, Err(rustix::io::Errno::NOENT))
        };
        self.lowers.split_last().is_some_and(|(_, rest)| rest.iter().any(has))
    }

    /// Where its changes live.
    pub fn scratch(&self) -> &Arc<Scratch> {
        &self.scratch
    }

    /// Targets of its tmpfs mounts in which something was left.
    ///
    /// # Errors
    /// What reading them gives.
    pub fn tmpfs_left(&self) -> Result<Vec<PathBuf>, SessionError> {
        Ok(self.mounts.tmpfs_left()?)
    }

    /// Its tmpfs mounts: the target of each, and where it is.
    pub fn tmpfs(&self) -> impl Iterator<Item = (&Path, &Path)> {
        self.mounts.tmpfs()
    }

    /// Puts into a tmpfs mount what an image of it holds. The session must not be running.
    ///
    /// # Errors
    /// What copying gives.
    pub fn refill(&self, target: &Path, image: &Saved) -> Result<(), SessionError> {
        for (_, place) in self.tmpfs().filter(|(other, _)| *other == target) {
            image.restore(place)?;
        }
        Ok(())
    }

    /// Begins with the changes that a checkpoint holds, in place of none. The session must not be running.
    pub fn seed(&mut self, checkpoint: Saved) {
        self.seed = Some(Seed::Saved(checkpoint));
    }

    /// What was changed since the last snapshot; none where nothing has run since. Nothing may be running.
    pub fn changes(&self) -> Option<&Path> {
        self.live.as_ref().map(|live| live.upper.as_path())
    }

    /// Continues above other layers than those below now, of which the topmost `own` are those of its own snapshots since
    /// the last full one. The session must not be running.
    pub fn rebase(&mut self, lowers: Vec<Lower>, own: usize) {
        self.lowers = lowers;
        self.own_layers = own;
    }

    /// How many of its layers, the topmost, its own snapshots wrote since the last full one.
    pub fn own_layer_count(&self) -> usize {
        self.own_layers
    }

    fn own_layers(&self) -> &[Lower] {
        &self.lowers[self.lowers.len().saturating_sub(self.own_layers)..]
    }

    /// Ends it, with all that it has mounted.
    ///
    /// # Errors
    /// See [`SessionError`].
    pub fn close(mut self) -> Result<(), SessionError> {
        self.live.take().map_or(Ok(()), |live| live.end().map(drop))
    }
}

/// Refuses a root whose /proc, /dev or /sys leads elsewhere: runtimes put links and nodes below them by path before they
/// have changed to the root, and a link would take those to the host.
fn ordinary(real: &[PathBuf]) -> Result<(), SessionError> {
    for (target, real) in DEFAULT_MOUNT_POINTS.iter().zip(real) {
        if real != Path::new(target) {
            let error = format!("{target} of the rootfs is a link to {}, and must be a folder", real.display());
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
