//! The workspace that all sessions of one runner process share: a directory in memory, and mounted images.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use rustix::fs::{Mode, OFlags};

use super::layer::{ImageFile, LowerLayer};
use super::scratch::{self, Scratch, inodes, private_directory};
use crate::error::context;
use crate::fs::dirfd::Dir;
use crate::fs::in_root::open_on_same_mount;
use crate::fs::regular;
use crate::mount::{
    BindOptions, ImageFormat, Mounted, bind, keep_out_of_binds, mount_erofs, mount_squashfs, mount_tmpfs,
};
use crate::poison::lock;
use crate::rootfs::UnpackRoom;
use crate::runtime::{PinnedMounts, Runtime, cgroups};
use crate::secret::Secrets;
use crate::{cgroup, model, oom_score};

/// With less memory than this the kernel may kill runner before a step: runner needs some, and files that steps write to roots in
/// memory count too.
const LITTLE_MEMORY: u64 = 32 << 20;

/// The way in which a path of the host is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Mountable {
    Image(ImageFormat),
    Directory,
}

/// The directory in memory, and the images, of all sessions. Needs a private mount namespace, see
/// [`enter_private_namespace`](crate::mount::enter_private_namespace).
#[derive(Debug)]
pub struct Workspace {
    // Fields are dropped in this order: the images before the directory in which they are mounted.
    images: Mutex<HashMap<(Mountable, PathBuf), LowerLayer>>,
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
    /// The mount that contains the root, so that no bind includes the root.
    outer: Mounted,
}

impl Workspace {
    /// Mounts a workspace on `place`, an empty directory; `disk` is the directory for scratches on disk, and `lease` the unique name
    /// of this process' lease.
    ///
    /// # Errors
    /// Those of mount(2).
    pub fn open(place: &Path, disk: &Path, lease: &str, runtime: Runtime) -> io::Result<Self> {
        oom_score::lower();
        // Without `nodev`: the nodes of devices outside /dev are made here, and their bind mounts would have that option too.
        let tmpfs = |place: &Path| {
            let mounted = mount_tmpfs(place, &["mode=0700".into(), "nosuid".into()]);
            mounted.map_err(context(format_args!("mount a tmpfs on {}", place.display())))
        };
        let outer = tmpfs(place)?;
        keep_out_of_binds(place).map_err(context(format_args!("exclude {} from binds", place.display())))?;
        // A mount that cannot be bound itself can contain one that is bound.
        let inner = place.join("w");
        private_directory(&inner).map_err(context(format_args!("make the directory {}", inner.display())))?;
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
            outer,
        })
    }

    /// Returns the runtime that runs the containers.
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Returns the secrets that sessions have read so far.
    pub fn secrets(&self) -> &Arc<Secrets> {
        &self.secrets
    }

    /// Returns the mounts of steps that have ended.
    pub fn pinned_mounts(&self) -> &Arc<PinnedMounts> {
        &self.pinned_mounts
    }

    /// Returns the directory of the lease on the store's disk, which the next start removes if runner is killed.
    pub fn disk(&self) -> &Path {
        &self.disk
    }

    /// Writes the bundle of each container in this directory from now on.
    pub fn write_bundles_to(&mut self, directory: Dir) {
        self.bundles = Some(directory);
    }

    /// Returns the bundle directory, if there is one.
    pub fn bundles(&self) -> Option<&Dir> {
        self.bundles.as_ref()
    }

    /// Returns the directory in memory in which everything is mounted.
    pub fn path(&self) -> &Path {
        self.root.path()
    }

    /// Returns a number that no other call returns.
    pub fn number(&self) -> u32 {
        self.made.fetch_add(1, Ordering::Relaxed)
    }

    /// Returns a new container id, unique on this host.
    pub fn container_id(&self) -> String {
        format!("{}{}", cgroups::prefix(&self.lease), self.number())
    }

    /// Makes a new directory in memory that only runner may read, whose name begins with `purpose`.
    ///
    /// # Errors
    /// Those of mkdir(2).
    pub fn directory(&self, purpose: &str) -> io::Result<PathBuf> {
        let path = self.root.path().join(format!("{purpose}{}", self.number()));
        private_directory(&path).map_err(context(format_args!("make the directory {}", path.display())))?;
        Ok(path)
    }

    /// Mounts the squashfs image `path`, once for all sessions.
    ///
    /// # Errors
    /// Where the file is no squashfs image, or the host has no loop devices.
    pub fn image(&self, path: &Path) -> io::Result<LowerLayer> {
        self.shared(Mountable::Image(ImageFormat::Squashfs), path, |target| {
            let mount = || mount_squashfs(&regular::open(path).map_err(context("open it"))?, target);
            let mounted = mount().map_err(context(format_args!("mount {}", path.display())))?;
            Ok(LowerLayer::image(mounted).of_file(ImageFile::Stored(path.to_owned())))
        })
    }

    /// Mounts an open image of this format, which was found at `path`, once for all sessions.
    ///
    /// # Errors
    /// Where the file is no such image, the kernel does not know the format, or the host has no loop devices.
    pub fn opened_image(&self, path: &Path, image: BorrowedFd<'_>, format: ImageFormat) -> io::Result<LowerLayer> {
        self.shared(Mountable::Image(format), path, |target| {
            let mount = || -> io::Result<LowerLayer> {
                let image = regular::reopen(image).map_err(context("open it"))?;
                match format {
                    ImageFormat::Squashfs => {
                        let layer = mount_squashfs(&image, target).map(LowerLayer::image)?;
                        Ok(layer.of_file(ImageFile::Open(Arc::new(image))))
                    }
                    ImageFormat::Erofs => mount_erofs(&image, target).map(LowerLayer::wider_image),
                }
            };
            mount().map_err(context(format_args!("mount {}", path.display())))
        })
    }

    /// Mounts layers again that are several times in a stack, the lowest first.
    ///
    /// # Errors
    /// As [`Self::push`].
    pub fn distinct(&self, layers: Vec<LowerLayer>) -> io::Result<Vec<LowerLayer>> {
        let mut stack = Vec::with_capacity(layers.len());
        layers.into_iter().try_for_each(|layer| self.push(&mut stack, layer))?;
        Ok(stack)
    }

    /// Puts a layer on top of a stack; mounts it again where the stack has it already, because overlayfs takes no directory twice.
    ///
    /// # Errors
    /// As [`Self::opened_image`].
    pub fn push(&self, stack: &mut Vec<LowerLayer>, layer: LowerLayer) -> io::Result<()> {
        let again = stack.iter().any(|other| other.is(&layer)).then(|| layer.image_file()).flatten();
        stack.push(match again {
            Some(image) => mount_squashfs(&image?, &self.directory("lower")?).map(LowerLayer::image)?,
            None => layer,
        });
        Ok(())
    }

    /// Mounts an open directory of the host, which was found at `path`, read-only.
    ///
    /// # Errors
    /// Those of mount(2).
    pub fn host_directory(&self, path: &Path, directory: BorrowedFd<'_>) -> io::Result<LowerLayer> {
        let options = BindOptions { recursive: false, read_only: true, suid: true, dev: true, propagates: false };
        self.shared(Mountable::Directory, path, |target| {
            let bound = bind(directory, target, options, None).map(LowerLayer::host_directory);
            bound.map_err(context(format_args!("mount the directory {}", path.display())))
        })
    }

    /// Mounts a directory of a frozen layer read-only, by its path from the top of the layer. No link on the way is followed.
    ///
    /// # Errors
    /// Where the layer has no such directory, and those of mount(2).
    pub fn subtree(&self, layer: &LowerLayer, path: &Path) -> io::Result<Mounted> {
        let mount = || -> io::Result<Mounted> {
            let flags = OFlags::PATH | OFlags::DIRECTORY;
            let top = rustix::fs::open(layer.path(), flags | OFlags::CLOEXEC, Mode::empty())?;
            let directory = open_on_same_mount(&top, path.strip_prefix("/").unwrap_or(path), flags)?;
            let options = BindOptions { recursive: false, read_only: true, suid: true, dev: true, propagates: false };
            bind(directory.as_fd(), &self.directory("subtree")?, options, None)
        };
        mount().map_err(context(format_args!("mount the directory {} of the changes", path.display())))
    }

    fn shared(
        &self,
        what: Mountable,
        path: &Path,
        mount: impl FnOnce(&Path) -> io::Result<LowerLayer>,
    ) -> io::Result<LowerLayer> {
        let mut images = lock(&self.images);
        let key = (what, path.to_owned());
        if let Some(lower) = images.get(&key) {
            return Ok(lower.clone());
        }
        let target = self.directory("lower")?;
        let lower = mount(&target)?;
        images.insert(key, lower.clone());
        Ok(lower)
    }

    /// Returns whether this is the first call.
    pub fn is_first_session(&self) -> bool {
        !self.has_sessions.swap(true, Ordering::Relaxed)
    }

    /// Returns the room of a scratch of this kind.
    pub fn room(&self, kind: model::Scratch) -> UnpackRoom {
        let bytes = scratch::bytes(kind, self.memory_limit());
        bytes.map_or(UnpackRoom::ALL, |bytes| UnpackRoom { bytes, files: inodes(bytes) })
    }

    /// Makes a new scratch.
    ///
    /// # Errors
    /// Those of mount(2) and mkdir(2).
    pub fn scratch(&self, kind: model::Scratch) -> io::Result<Scratch> {
        let name = format!("scratch{}", self.number());
        let scratch = Scratch::create(kind, self.memory_limit(), &self.root.path().join(&name), &self.disk.join(&name));
        scratch.map_err(context("make the scratch for changes"))
    }

    /// Returns the memory limit of the cgroup in which runner was started, if it is so small that the kernel may kill runner itself;
    /// only at the first call.
    pub fn little_memory(&self) -> Option<u64> {
        let limit = self.memory_limit().filter(|limit| *limit < LITTLE_MEMORY)?;
        (!self.has_warned.swap(true, Ordering::Relaxed)).then_some(limit)
    }

    /// Returns the memory limit of the cgroup in which runner was started, read once.
    fn memory_limit(&self) -> Option<u64> {
        *self.memory.get_or_init(|| cgroup::GroupSet::of_this_process().ok()?.memory_limit())
    }

    /// Unmounts everything. No session may exist any more.
    ///
    /// # Errors
    /// `EBUSY` where a session exists.
    pub fn close(self) -> io::Result<()> {
        let Self { images, root, outer, .. } = self;
        drop(images);
        root.close()?;
        outer.close()
    }
}
