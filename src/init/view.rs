//! A step's own view, mounted over the container's in a mount namespace that only the spare is in, and looked at again
//! when a request comes.

use crate::step::Failure;
use crate::sys::{self, AT_FDCWD, FileKind, O_DIRECTORY, O_NOFOLLOW, O_PATH, Result};
use crate::wire::{View, ViewMount, stage};

const MOUNT_ATTR_RDONLY: u64 = 1;
const MOUNT_ATTR_NOSUID: u64 = 2;
const MOUNT_ATTR_NODEV: u64 = 4;
const MOUNT_ATTR_NOEXEC: u64 = 8;

/// The attributes of what nothing may be changed through.
const LOCKED: u64 = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;

/// The filesystems that were mounted anew, by the numbers of their mounts.
pub struct Mounted(&'static [usize]);

impl Mounted {
    /// Whether each of them is where it was mounted. The read-only and the hidden paths lie in one of them.
    pub fn is_whole(&self, view: &View<'_>) -> bool {
        let mut targets = fresh_targets(view);
        self.0.iter().all(|number| {
            let found = targets.next().and_then(|target| sys::mount_seen_at(target).ok());
            found.is_some_and(|found| found.is_top && found.number == *number as u64)
        })
    }
}

fn words(count: usize) -> Result<&'static mut [usize]> {
    if count == 0 { Ok(&mut []) } else { sys::map_words(count) }
}

fn fresh_targets<'a>(view: &View<'a>) -> impl Iterator<Item = &'a [u8]> + use<'a> {
    view.mounts().filter_map(|mount| match mount {
        ViewMount::Fresh { target, .. } => Some(target),
        ViewMount::ReadOnly(_) | ViewMount::Masked(_) | ViewMount::Below(_) | ViewMount::Watched(_) => None,
    })
}

/// Mounts all of it, in order.
pub fn mount(view: &View<'_>) -> core::result::Result<Mounted, Failure> {
    // The descriptors at first, and in the end the numbers.
    let fresh_mounts = words(fresh_targets(view).count()).map_err(Failure::new(stage::MOUNT))?;
    let mut made = 0;
    let lifted = lift(view)?;
    let mut lifted = lifted.iter();
    let mut hidden = Hidden { null: -1, lacks_null: false, bare: -1, empty: -1 };
    for (index, mount) in view.mounts().enumerate() {
        let mounted = match mount {
            ViewMount::Fresh { over_empty, attributes, kind, target, options } => fresh(kind, attributes, options)
                .and_then(|mount| {
                    let place = open_or_make(target, true)?;
                    if over_empty {
                        hidden.take_bare(place);
                    }
                    fresh_mounts[made] = mount as usize;
                    made += 1;
                    let moved = sys::mount_over(mount, place);
                    sys::close(place);
                    moved
                }),
            ViewMount::ReadOnly(path) => read_only(Inside::find(view, &fresh_mounts[..made], path)),
            ViewMount::Masked(path) => hidden.mask(Inside::find(view, &fresh_mounts[..made], path)),
            ViewMount::Below(target) => lifted.next().ok_or(sys::EINVAL).and_then(|mount| put(*mount as i32, target)),
            ViewMount::Watched(_) => Ok(()),
        };
        mounted.map_err(|error| {
            // A place that cannot be hidden for want of the null device is whole itself.
            let stage = if hidden.lacks_null { stage::STDIO } else { stage::MOUNT };
            Failure { stage, error, detail: index as u64 }
        })?;
    }
    hidden.close();
    for slot in fresh_mounts.iter_mut() {
        let mount = *slot as i32;
        *slot = sys::mount_of(mount).map_err(Failure::new(stage::MOUNT))?.number as usize;
        sys::close(mount);
    }
    Ok(Mounted(fresh_mounts))
}

/// A path in a filesystem that was mounted anew, from the descriptor of that: the directory that it is mounted on may lie in
/// a bind, where a step of another container can move it away and back.
#[derive(Clone, Copy)]
struct Inside<'a> {
    directory: i32,
    path: &'a [u8],
}

impl<'a> Inside<'a> {
    fn find(view: &View<'a>, mounts: &[usize], path: &'a [u8]) -> Self {
        let mut found = Self { directory: AT_FDCWD, path };
        for (mount, target) in mounts.iter().zip(fresh_targets(view)) {
            let below = target.strip_suffix(b"\0").and_then(|target| path.strip_prefix(target)?.strip_prefix(b"/"));
            if let Some(path) = below {
                found = Self { directory: *mount as i32, path };
            }
        }
        found
    }

    fn open(self) -> Result<i32> {
        sys::open_without_links(self.directory, self.path, O_PATH | O_NOFOLLOW)
    }
}

/// Clones the mounts of the container that are to lie below a filesystem mounted anew, before it covers them.
fn lift(view: &View<'_>) -> core::result::Result<&'static [usize], Failure> {
    let below = || view.mounts().enumerate().filter(|(_, mount)| matches!(mount, ViewMount::Below(_)));
    let count = below().count();
    if count == 0 {
        return Ok(&[]);
    }
    let lifted = sys::map_words(count).map_err(Failure::new(stage::MOUNT))?;
    for (slot, (index, mount)) in lifted.iter_mut().zip(below()) {
        let ViewMount::Below(target) = mount else { continue };
        let clone = || {
            let place = open(target)?;
            let cloned = sys::clone_mount(place, true);
            sys::close(place);
            cloned
        };
        *slot = clone().map_err(|error| Failure { stage: stage::MOUNT, error, detail: index as u64 })? as usize;
    }
    Ok(lifted)
}

fn put(mount: i32, target: &[u8]) -> Result<()> {
    let is_directory = sys::kind(mount)? == FileKind::Directory;
    over(mount, open_or_make(target, is_directory)?)
}

/// Opens a place to mount on. Where it is missing it is made, and so is what is missing above it; through no link.
fn open_or_make(path: &[u8], is_directory: bool) -> Result<i32> {
    match open(path) {
        Err(sys::ENOENT) => {}
        other => return other,
    }
    const MOST: usize = 256;
    let mut at = sys::open(AT_FDCWD, b"/\0", O_PATH | O_DIRECTORY)?;
    let mut names = path.strip_suffix(b"\0").ok_or(sys::EINVAL)?.split(|byte| *byte == b'/').peekable();
    while let Some(name) = names.next() {
        if name.is_empty() {
            continue;
        }
        let mut text = [0u8; MOST];
        let length = name.len();
        text.get_mut(..length).filter(|_| length < MOST).ok_or(sys::EINVAL)?.copy_from_slice(name);
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

/// Opens a place to mount on, to which no link may lead: an earlier step may have put one there.
fn open(path: &[u8]) -> Result<i32> {
    sys::open_without_links(AT_FDCWD, path, O_PATH | O_NOFOLLOW)
}

fn over(mount: i32, place: i32) -> Result<()> {
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

/// Leaves out a path that this kernel does not have.
fn read_only(path: Inside<'_>) -> Result<()> {
    let place = match path.open() {
        Err(sys::ENOENT) => return Ok(()),
        other => other?,
    };
    let mount = sys::clone_mount(place, true)?;
    sys::set_attributes(mount, LOCKED)?;
    over(mount, place)
}

/// What hides a path: the null device over a file, one empty directory over each directory.
struct Hidden {
    null: i32,
    /// Whether an earlier step, or one that runs beside, has replaced or removed the null device.
    lacks_null: bool,
    /// A mount of an empty directory, attached nowhere.
    bare: i32,
    /// The first directory that is hidden, which the others are cloned from.
    empty: i32,
}

impl Hidden {
    /// Has an empty directory hide others: a filesystem for that takes time to make and to take down.
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

    fn mask(&mut self, path: Inside<'_>) -> Result<()> {
        let place = match path.open() {
            Err(sys::ENOENT) => return Ok(()),
            other => other?,
        };
        if sys::kind(place)? != FileKind::Directory {
            let null = self.clone_null();
            self.lacks_null = null.is_err();
            return over(null?, place);
        }
        if self.empty >= 0 {
            return over(sys::clone_mount(self.empty, false)?, place);
        }
        let mount = match self.bare {
            -1 => fresh(b"tmpfs\0", LOCKED, [&b"source\0"[..], b"tmpfs\0"].into_iter())?,
            bare => bare,
        };
        self.bare = -1;
        over(mount, place)?;
        // A mount can only be cloned where it is attached, so the path is opened once more.
        self.empty = path.open()?;
        Ok(())
    }

    /// Clones the mount of /dev/null, if it still is that: an earlier step may have put something else there.
    fn clone_null(&mut self) -> Result<i32> {
        if self.null < 0 {
            let null = open(b"/dev/null\0")?;
            if sys::kind(null)? != FileKind::Null {
                sys::close(null);
                return Err(sys::EINVAL);
            }
            self.null = null;
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
