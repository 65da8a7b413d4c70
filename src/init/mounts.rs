//! Makes a step's own mounts over the container's, in a mount namespace of the preforked process alone, and checks them when a
//! request arrives.

use crate::dev::{self, Dev};
use crate::step::Failure;
use crate::sys::{self, AT_FDCWD, FileKind, O_DIRECTORY, O_NOFOLLOW, O_PATH, Result};
use crate::wire::{MountEntry, StepSetup, stage};

const MOUNT_ATTR_RDONLY: u64 = 1;
const MOUNT_ATTR_NOSUID: u64 = 2;
const MOUNT_ATTR_NODEV: u64 = 4;
const MOUNT_ATTR_NOEXEC: u64 = 8;

/// The attributes of a mount through which nothing may be changed.
const LOCKED: u64 = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;

/// The filesystems that were mounted for a step.
pub struct Mounted {
    ids: &'static [usize],
    /// The `/dev` among them, for a later step.
    pub dev: Option<OwnDev>,
}

/// The `/dev` of this process.
pub struct OwnDev {
    dev: Dev,
    /// When it was made; none where each change of it is detected already.
    made_at: Option<sys::Time>,
    is_reusable: bool,
}

impl OwnDev {
    /// Returns the `/dev` in its state when a step begins.
    pub fn now(&self) -> Dev {
        let is_settled = |made_at| sys::file_time().is_ok_and(|now| made_at < now);
        let is_settled = self.is_reusable && self.made_at.is_none_or(is_settled);
        Dev { is_settled, ..self.dev }
    }
}

impl Mounted {
    /// Returns whether each of them is still where it was mounted. The read-only and the masked paths lie in one of them.
    pub fn is_complete(&self, setup: &StepSetup<'_>) -> bool {
        self.ids.iter().zip(fresh_targets(setup)).filter(|(id, _)| **id != IN_DEV).all(|(id, target)| {
            let mount = sys::mount_visible_at(target).ok();
            mount.is_some_and(|mount| mount.is_top && mount.id == *id as u64)
        })
    }
}

/// Replaces the id of a mount in a `/dev`, whose mount point no other step sees.
const IN_DEV: usize = usize::MAX;

fn words(count: usize) -> Result<&'static mut [usize]> {
    if count == 0 { Ok(&mut []) } else { sys::map_words(count) }
}

fn fresh_targets<'a>(setup: &StepSetup<'a>) -> impl Iterator<Item = &'a [u8]> + use<'a> {
    setup.mounts().filter_map(|mount| match mount {
        MountEntry::Fresh { target, .. } => Some(target),
        _ => None,
    })
}

/// Makes all mounts, in order, with the `/dev` of an earlier step if `reused` is one.
pub fn mount(setup: &StepSetup<'_>, reused: Option<Dev>) -> core::result::Result<Mounted, Failure> {
    // Contains descriptors at first, and finally the ids.
    let fresh_mounts = words(fresh_targets(setup).count()).map_err(Failure::new(stage::MOUNT))?;
    let mut made = 0;
    let covered = clone_covered(setup)?;
    let mut covered = covered.iter();
    let mut masks = Masks { null: -1, bare: -1, empty: -1 };
    let mut dev = None;
    for (index, mount) in setup.mounts().enumerate() {
        let mounted = match mount {
            MountEntry::Fresh { target, .. }
                if index < setup.dev_entries
                    && let Some(reused) = reused =>
            {
                fresh_mounts[made] = if index == 0 { reused.tree as usize } else { IN_DEV };
                made += 1;
                if index == 0 {
                    open_or_make(target, true).and_then(|place| attach_open(reused.tree, place))
                } else {
                    Ok(())
                }
            }
            MountEntry::Directory(_) | MountEntry::Node { .. } | MountEntry::Link { .. } if reused.is_some() => Ok(()),
            MountEntry::Fresh { over_empty, attributes, kind, target, options } => fresh(kind, attributes, options)
                .and_then(|mount| {
                    let place = open_or_make(target, true)?;
                    if over_empty {
                        masks.take_bare(place);
                    }
                    fresh_mounts[made] = mount as usize;
                    made += 1;
                    attach_open(mount, place)
                }),
            MountEntry::ReadOnly(path) => read_only(ContainerPath::find(setup, &fresh_mounts[..made], path)),
            MountEntry::Masked(path) => masks.mask(ContainerPath::find(setup, &fresh_mounts[..made], path)),
            MountEntry::Below(target) => {
                covered.next().ok_or(sys::EINVAL).and_then(|mount| attach_at(*mount as i32, target))
            }
            MountEntry::Watched(_) => Ok(()),
            MountEntry::Directory(_) | MountEntry::Node { .. } | MountEntry::Link { .. } => {
                fresh_mounts[..made].last().ok_or(sys::EINVAL).and_then(|at| make(*at as i32, mount))
            }
        };
        mounted.map_err(|error| {
            let stage = match mount {
                MountEntry::Directory(_) | MountEntry::Node { .. } | MountEntry::Link { .. } => stage::DEV,
                _ => stage::MOUNT,
            };
            Failure { stage, error, detail: index as u64 }
        })?;
        if index + 1 == setup.dev_entries {
            // If it cannot be cloned, a later step makes another one.
            dev = own_dev(fresh_mounts[0] as i32, reused, setup).ok();
            for slot in fresh_mounts[1..made].iter_mut().filter(|slot| **slot != IN_DEV) {
                sys::close(*slot as i32);
                *slot = IN_DEV;
            }
        }
    }
    masks.close();
    for slot in fresh_mounts.iter_mut().filter(|slot| **slot != IN_DEV) {
        let mount = *slot as i32;
        *slot = sys::mount_of(mount).map_err(Failure::new(stage::MOUNT))?.id as usize;
        sys::close(mount);
    }
    Ok(Mounted { ids: fresh_mounts, dev })
}

/// Attaches a mount at a place, and leaves its descriptor open.
fn attach_open(mount: i32, place: i32) -> Result<()> {
    let moved = sys::mount_over(mount, place);
    sys::close(place);
    moved
}

fn own_dev(dev: i32, reused: Option<Dev>, setup: &StepSetup<'_>) -> Result<OwnDev> {
    let (made, made_at) = match reused {
        Some(reused) => (reused.made, None),
        None => dev::digest(dev, setup).map(|made| (made.digest, Some(made.changed).filter(|_| !setup.fine_times)))?,
    };
    Ok(OwnDev {
        dev: Dev { tree: sys::clone_mount(dev, true)?, made, is_settled: false },
        made_at,
        is_reusable: setup.reuses_dev,
    })
}

/// Makes a file in a filesystem that no other process sees yet.
fn make(at: i32, file: MountEntry<'_>) -> Result<()> {
    match file {
        MountEntry::Directory(path) => sys::make_directory(at, path),
        MountEntry::Link { target, path } => sys::link(target, at, path),
        MountEntry::Node { mode, major, minor, uid, gid, path } => {
            sys::make_node(at, path, mode, (major, minor))?;
            if (uid, gid) == (0, 0) { Ok(()) } else { sys::change_owner_in(at, path, uid, gid) }
        }
        _ => Err(sys::EINVAL),
    }
}

/// A path in a filesystem that was mounted for the step, relative to the descriptor of that filesystem: its mount point may lie
/// in a bind, where a step of another container can move it away and back.
#[derive(Clone, Copy)]
struct ContainerPath<'a> {
    directory: i32,
    path: &'a [u8],
}

impl<'a> ContainerPath<'a> {
    fn find(setup: &StepSetup<'a>, mounts: &[usize], path: &'a [u8]) -> Self {
        let mut inside = Self { directory: AT_FDCWD, path };
        for (mount, target) in mounts.iter().zip(fresh_targets(setup)) {
            let below = target.strip_suffix(b"\0").and_then(|target| path.strip_prefix(target)?.strip_prefix(b"/"));
            if let Some(path) = below {
                inside = Self { directory: *mount as i32, path };
            }
        }
        inside
    }

    fn open(self) -> Result<i32> {
        sys::open_without_links(self.directory, self.path, O_PATH | O_NOFOLLOW)
    }
}

/// Clones the mounts of the container that must lie below a new filesystem, before that covers them.
fn clone_covered(setup: &StepSetup<'_>) -> core::result::Result<&'static [usize], Failure> {
    let below = || setup.mounts().enumerate().filter(|(_, mount)| matches!(mount, MountEntry::Below(_)));
    let count = below().count();
    if count == 0 {
        return Ok(&[]);
    }
    let covered = sys::map_words(count).map_err(Failure::new(stage::MOUNT))?;
    for (slot, (index, mount)) in covered.iter_mut().zip(below()) {
        let MountEntry::Below(target) = mount else { continue };
        let clone = || {
            let place = open(target)?;
            let cloned = sys::clone_mount(place, true);
            sys::close(place);
            cloned
        };
        *slot = clone().map_err(|error| Failure { stage: stage::MOUNT, error, detail: index as u64 })? as usize;
    }
    Ok(covered)
}

fn attach_at(mount: i32, target: &[u8]) -> Result<()> {
    let is_directory = sys::kind(mount)? == FileKind::Directory;
    attach(mount, open_or_make(target, is_directory)?)
}

/// Opens a mount point. A missing one is made, with the directories above it; follows no symbolic link.
fn open_or_make(path: &[u8], is_directory: bool) -> Result<i32> {
    match open(path) {
        Err(sys::ENOENT) => {}
        other => return other,
    }
    const MAX_NAME: usize = 256;
    let mut at = sys::open(AT_FDCWD, b"/\0", O_PATH | O_DIRECTORY)?;
    let mut names = path.strip_suffix(b"\0").ok_or(sys::EINVAL)?.split(|byte| *byte == b'/').peekable();
    while let Some(name) = names.next() {
        if name.is_empty() {
            continue;
        }
        let mut text = [0u8; MAX_NAME];
        let length = name.len();
        text.get_mut(..length).filter(|_| length < MAX_NAME).ok_or(sys::EINVAL)?.copy_from_slice(name);
        let name = &text[..=length];
        let is_last = names.peek().is_none();
        match if is_last && !is_directory { sys::make_file(at, name) } else { sys::make_directory(at, name) } {
            Ok(()) | Err(sys::EEXIST) => {}
            Err(error) => return Err(error),
        }
        let next = sys::open_without_links(at, name, O_PATH | O_NOFOLLOW)?;
        sys::close(at);
        at = next;
    }
    Ok(at)
}

/// Opens a mount point without following symbolic links, which an earlier step may have made.
fn open(path: &[u8]) -> Result<i32> {
    sys::open_without_links(AT_FDCWD, path, O_PATH | O_NOFOLLOW)
}

fn attach(mount: i32, place: i32) -> Result<()> {
    let moved = sys::mount_over(mount, place);
    sys::close(mount);
    sys::close(place);
    moved
}

fn fresh<'a>(kind: &[u8], attributes: u64, mut options: impl Iterator<Item = &'a [u8]>) -> Result<i32> {
    let context = sys::new_filesystem(kind)?;
    let make = || {
        while let (Some(key), Some(value)) = (options.next(), options.next()) {
            sys::set_option(context, key, value)?;
        }
        sys::create_filesystem(context)?;
        sys::mount_filesystem(context, attributes)
    };
    let mut make = make;
    let made = make();
    sys::close(context);
    made
}

/// Makes a path read-only, unless this kernel does not have it.
fn read_only(path: ContainerPath<'_>) -> Result<()> {
    let place = match path.open() {
        Err(sys::ENOENT) => return Ok(()),
        other => other?,
    };
    let mount = sys::clone_mount(place, true)?;
    sys::set_attributes(mount, LOCKED)?;
    attach(mount, place)
}

/// The mounts that mask paths: the null device over a file, one empty directory over each directory.
struct Masks {
    null: i32,
    /// A detached mount of an empty directory.
    bare: i32,
    /// The first masked directory, from which the other masks are cloned.
    empty: i32,
}

impl Masks {
    /// Uses an empty directory as the mask of others: a filesystem for that takes time to make and to unmount.
    fn take_bare(&mut self, place: i32) {
        if self.bare < 0
            && let Ok(mount) = sys::clone_mount(place, false)
        {
            match sys::set_attributes(mount, LOCKED) {
                Ok(()) => self.bare = mount,
                Err(_) => sys::close(mount),
            }
        }
    }

    fn mask(&mut self, path: ContainerPath<'_>) -> Result<()> {
        let place = match path.open() {
            Err(sys::ENOENT) => return Ok(()),
            other => other?,
        };
        if sys::kind(place)? != FileKind::Directory {
            return attach(self.clone_null()?, place);
        }
        if self.empty >= 0 {
            return attach(sys::clone_mount(self.empty, false)?, place);
        }
        let mount = match self.bare {
            -1 => fresh(b"tmpfs\0", LOCKED, [&b"source\0"[..], b"tmpfs\0"].into_iter())?,
            bare => bare,
        };
        self.bare = -1;
        attach(mount, place)?;
        // A mount can be cloned only when it is attached, so the path is opened once more.
        self.empty = path.open()?;
        Ok(())
    }

    /// Clones a mount of the step's own /dev/null.
    fn clone_null(&mut self) -> Result<i32> {
        if self.null < 0 {
            self.null = open(b"/dev/null\0")?;
        }
        sys::clone_mount(self.null, false)
    }

    fn close(self) {
        for descriptor in [self.null, self.bare, self.empty] {
            if descriptor >= 0 {
                sys::close(descriptor);
            }
        }
    }
}
