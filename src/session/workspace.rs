//! What all sessions of one runner process share: a folder in memory, and mounted images.

use std::collections::HashMap;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::layer::Lower;
use super::scratch::{Scratch, private_folder};
use crate::error::context;
use crate::fs::dirfd::Dir;
use crate::fs::regular;
use crate::mount::{BindOptions, Mounted, bind, keep_out_of_binds, mount_squashfs, mount_tmpfs};
use crate::runtime::{PinnedMounts, Runtime, cgroups};
use crate::secret::Secrets;
use crate::{cgroup, model, oom_score};

/// With less than this the kernel may end runner before a step: it needs some, and what steps write to roots
/// in memory counts too.
const LITTLE_MEMORY: u64 = 32 << 20;

/// The room in which sessions live. Needs a private mount namespace, see
/// [`enter_private_namespace`](crate::mount::enter_private_namespace).
#[derive(Debug)]
pub struct Workspace {
    // Fields are dropped in this order: the images before the folder that they are mounted in.
    images: Mutex<HashMap<PathBuf, Lower>>,
    runtime: Runtime,
    bundles: Option<Dir>,
    has_sessions: AtomicBool,
    memory: OnceLock<Option<u64>>,
    has_warned: AtomicBool,
    secrets: Arc<Secrets>,
    pinned_mounts: Arc<PinnedMounts>,
    lease: String,
    disk: PathBuf,
    made: AtomicU32,
    root: Mounted,
    /// What the root is mounted in, so that no bind takes it along.
    apart: Mounted,
}

impl Workspace {
    /// Makes one: mounted on `place`, an empty folder; `disk` is where scratches on disk go; `lease` is the unique name
    /// that this process answers for.
    ///
    /// # Errors
    /// What mount(2) says.
    pub fn open(place: &Path, disk: &Path, lease: &str, runtime: Runtime) -> io::Result<Self> {
        oom_score::lower();
        // Not `nodev`: the nodes of devices outside /dev are made here, and their bind mounts would have it too.
        let tmpfs = |place: &Path| {
            let mounted = mount_tmpfs(place, &["mode=0700".into(), "nosuid".into()]);
            mounted.map_err(context(format_args!("mount a tmpfs on {}", place.display())))
        };
        let apart = tmpfs(place)?;
        keep_out_of_binds(place).map_err(context(format_args!("keep {} out of binds", place.display())))?;
        // What cannot be bound itself can hold what is.
        let inner = place.join("w");
        private_folder(&inner).map_err(context(format_args!("make the folder {}", inner.display())))?;
        let root = tmpfs(&inner)?;
        Ok(Self {
            images: Mutex::default(),
            runtime,
            bundles: None,
            has_sessions: AtomicBool::new(false),
            memory: OnceLock::new(),
            has_warned: AtomicBool::new(false),
            secrets: Arc::default(),
            pinned_mounts: Arc::default(),
            lease: lease.to_owned(),
            disk: disk.to_owned(),
            made: AtomicU32::new(0),
            root,
            apart,
        })
    }

    /// What runs the containers.
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// The secrets that sessions have read by now.
    pub fn secrets(&self) -> &Arc<Secrets> {
        &self.secrets
    }

    /// The mounts of steps that have ended.
    pub fn pinned_mounts(&self) -> &Arc<PinnedMounts> {
        &self.pinned_mounts
    }

    /// The directory of the lease on the store's disk, which the next start clears where runner is killed.
    pub fn disk(&self) -> &Path {
        &self.disk
    }

    /// Keeps the bundle of each container in that folder from now on.
    pub fn keep_bundles(&mut self, folder: Dir) {
        self.bundles = Some(folder);
    }

    /// Where bundles are kept, if they are.
    pub fn bundles(&self) -> Option<&Dir> {
        self.bundles.as_ref()
    }

    /// The folder in memory that all is mounted in.
    pub fn path(&self) -> &Path {
        self.root.path()
    }

    /// A number that no other call gives.
    pub fn number(&self) -> u32 {
        self.made.fetch_add(1, Ordering::Relaxed)
    }

    /// A container id, unique on this host.
    pub fn container_id(&self) -> String {
        format!("{}{}", cgroups::prefix(&self.lease), self.number())
    }

    /// A new folder in memory that only runner may look into.
    ///
    /// # Errors
    /// What mkdir(2) says.
    pub fn folder(&self, what: &str) -> io::Result<PathBuf> {
        let path = self.root.path().join(format!("{what}{}", self.number()));
        private_folder(&path).map_err(context(format_args!("make the folder {}", path.display())))?;
        Ok(path)
    }

    /// The squashfs image `path`, mounted once for all sessions.
    ///
    /// # Errors
    /// Where it is no squashfs image, or the host has no loop devices.
    pub fn image(&self, path: &Path) -> io::Result<Lower> {
        self.shared(path, |target| {
            let mount = || mount_squashfs(&regular::open(path).map_err(context("open it"))?, target);
            mount().map(Lower::image).map_err(context(format_args!("mount {}", path.display())))
        })
    }

    /// The squashfs image that is open and was found at `path`, mounted once for all sessions.
    ///
    /// # Errors
    /// As [`Workspace::image`].
    pub fn opened_image(&self, path: &Path, image: BorrowedFd<'_>) -> io::Result<Lower> {
        self.shared(path, |target| {
            let mount = || mount_squashfs(&regular::reopen(image).map_err(context("open it"))?, target);
            mount().map(Lower::image).map_err(context(format_args!("mount {}", path.display())))
        })
    }

    /// The directory of the host that is open and was found at `path`, read-only.
    ///
    /// # Errors
    /// What mount(2) says.
    pub fn host_folder(&self, path: &Path, folder: BorrowedFd<'_>) -> io::Result<Lower> {
        let options = BindOptions { recursive: false, read_only: true, suid: true, dev: true, propagates: false };
        self.shared(path, |target| {
            let bound = bind(folder, target, options, None).map(Lower::host_directory);
            bound.map_err(context(format_args!("mount the folder {}", path.display())))
        })
    }

    fn shared(&self, path: &Path, mount: impl FnOnce(&Path) -> io::Result<Lower>) -> io::Result<Lower> {
        let mut images = self.images.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lower) = images.get(path) {
            return Ok(lower.clone());
        }
        let target = self.folder("lower")?;
        let lower = mount(&target)?;
        images.insert(path.to_owned(), lower.clone());
        Ok(lower)
    }

    /// Whether no session has asked that before.
    pub fn is_first_session(&self) -> bool {
        !self.has_sessions.swap(true, Ordering::Relaxed)
    }

    /// A new scratch.
    ///
    /// # Errors
    /// What mount(2) or mkdir(2) say.
    pub fn scratch(&self, kind: model::Scratch) -> io::Result<Scratch> {
        let name = format!("scratch{}", self.number());
        let scratch = Scratch::create(kind, self.memory_limit(), &self.root.path().join(&name), &self.disk.join(&name));
        scratch.map_err(context("make the scratch, where changes live"))
    }

    /// Returns the limit of memory of the cgroup that runner was started in, where it is so small that the kernel may end
    /// runner itself; once.
    pub fn little_memory(&self) -> Option<u64> {
        let limit = self.memory_limit().filter(|limit| *limit < LITTLE_MEMORY)?;
        (!self.has_warned.swap(true, Ordering::Relaxed)).then_some(limit)
    }

    /// The limit of memory of the cgroup that runner was started in, looked up once.
    fn memory_limit(&self) -> Option<u64> {
        *self.memory.get_or_init(|| cgroup::Home::of_this_process().ok()?.memory_limit())
    }

    /// Takes all down. No session may be left.
    ///
    /// # Errors
    /// `EBUSY` where one is.
    pub fn close(self) -> io::Result<()> {
        let Self { images, root, apart, .. } = self;
        drop(images);
        root.close()?;
        apart.close()
    }
}
