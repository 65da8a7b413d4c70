//! A step's own view, mounted over the container's in a mount namespace that only the spare is in, and looked at again
//! when a request comes.

use crate::dev::{self, Dev};
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
pub struct Mounted {
    numbers: &'static [usize],
    /// The `/dev` among them, for a step after this one.
    pub dev: Option<OwnDev>,
}

/// The `/dev` of this process.
pub struct OwnDev {
    dev: Dev,
    /// When it was made; none where each change of it is seen already.
    made_at: Option<sys::Time>,
    is_reusable: bool,
}

impl OwnDev {
    /// Returns it, as a step is about to begin.
    pub fn now(&self) -> Dev {
        let is_settled = |made_at| sys::file_time().is_ok_and(|now| made_at < now);
        let is_settled = self.is_reusable && self.made_at.is_none_or(is_settled);
        Dev { is_settled, ..self.dev }
    }
}

impl Mounted {
    /// Whether each of them is where it was mounted. The read-only and the hidden paths lie in one of them.
    pub fn is_whole(&self, view: &View<'_>) -> bool {
        self.numbers.iter().zip(fresh_targets(view)).filter(|(number, _)| **number != IN_DEV).all(|(number, target)| {
            let found = sys::mount_seen_at(target).ok();
            found.is_some_and(|found| found.is_top && found.number == *number as u64)
        })
    }
}

/// Stands for the number of a mount in a `/dev`, whose place no other step sees.
const IN_DEV: usize = usize::MAX;

fn words(count: usize) -> Result<&'static mut [usize]> {
    if count == 0 { Ok(&mut []) } else { sys::map_words(count) }
}

fn fresh_targets<'a>(view: &View<'a>) -> impl Iterator<Item = &'a [u8]> + use<'a> {
    view.mounts().filter_map(|mount| match mount {
        ViewMount::Fresh { target, .. } => Some(target),
        _ => None,
    })
}

/// Mounts all of it, in order, with a `/dev` of an earlier step where there is one.
pub fn mount(view: &View<'_>, given: Option<Dev>) -> core::result::Result<Mounted, Failure> {
    // The descriptors at first, and in the end the numbers.
    let fresh_mounts = words(fresh_targets(view).count()).map_err(Failure::new(stage::MOUNT))?;
    let mut made = 0;
    let lifted = lift(view)?;
    let mut lifted = lifted.iter();
    let mut hidden = Hidden { null: -1, bare: -1, empty: -1 };
    let mut dev = None;
    for (index, mount) in view.mounts().enumerate() {
        let mounted = match mount {
            ViewMount::Fresh { target, .. }
                if index < view.dev_entries
                    && let Some(given) = given =>
            {
                fresh_mounts[made] = if index == 0 { given.tree as usize } else { IN_DEV };
                made += 1;
                if index == 0 {
                    open_or_make(target, true).and_then(|place| put_over(given.tree, place))
                } else {
                    Ok(())
                }
            }
            ViewMount::Directory(_) | ViewMount::Node { .. } | ViewMount::Link { .. } if given.is_some() => Ok(()),
            ViewMount::Fresh { over_empty, attributes, kind, target, options } => fresh(kind, attributes, options)
                .and_then(|mount| {
                    let place = open_or_make(target, true)?;
                    if over_empty {
                        hidden.take_bare(place);
                    }
                    fresh_mounts[made] = mount as usize;
                    made += 1;
                    put_over(mount, place)
                }),
            ViewMount::ReadOnly(path) => read_only(Inside::find(view, &fresh_mounts[..made], path)),
            ViewMount::Masked(path) => hidden.mask(Inside::find(view, &fresh_mounts[..made], path)),
            ViewMount::Below(target) => lifted.next().ok_or(sys::EINVAL).and_then(|mount| put(*mount as i32, target)),
            ViewMount::Watched(_) => Ok(()),
            ViewMount::Directory(_) | ViewMount::Node { .. } | ViewMount::Link { .. } => {
                fresh_mounts[..made].last().ok_or(sys::EINVAL).and_then(|at| make(*at as i32, mount))
            }
        };
        mounted.map_err(|error| {
            let stage = match mount {
                ViewMount::Directory(_) | ViewMount::Node { .. } | ViewMount::Link { .. } => stage::DEV,
                _ => stage::MOUNT,
            };
            Failure { stage, error, detail: index as u64 }
        })?;
        if index + 1 == view.dev_entries {
            // Where it cannot be cloned, a later step has another one made.
            dev = own_dev(fresh_mounts[0] as i32, given, view).ok();
            for slot in fresh_mounts[1..made].iter_mut().filter(|slot| **slot != IN_DEV) {
                sys::close(*slot as i32);
                *slot = IN_DEV;
            }
        }
    }
    hidden.close();
    for slot in fresh_mounts.iter_mut().filter(|slot| **slot != IN_DEV) {
        let mount = *slot as i32;
        *slot = sys::mount_of(mount).map_err(Failure::new(stage::MOUNT))?.number as usize;
        sys::close(mount);
    }
    Ok(Mounted { numbers: fresh_mounts, dev })
}

/// Puts a mount, which stays open, over a place.
fn put_over(mount: i32, place: i32) -> Result<()> {
    let moved = sys::mount_over(mount, place);
    sys::close(place);
    moved
}

fn own_dev(dev: i32, given: Option<Dev>, view: &View<'_>) -> Result<OwnDev> {
    let (made, made_at) = match given {
        Some(given) => (given.made, None),
        None => dev::digest(dev, view).map(|found| (found.digest, Some(found.changed).filter(|_| !view.fine_times)))?,
    };
    Ok(OwnDev {
        dev: Dev { tree: sys::clone_mount(dev, true)?, made, is_settled: false },
        made_at,
        is_reusable: view.reuses_dev,
    })
}

/// Makes a file in a filesystem that nobody else sees yet.
fn make(at: i32, file: ViewMount<'_>) -> Result<()> {
    match file {
        ViewMount::Directory(path) => sys::make_directory(at, path),
        ViewMount::Link { target, path } => sys::link(target, at, path),
        ViewMount::Node { mode, major, minor, uid, gid, path } => {
            sys::make_node(at, path, mode, (major, minor))?;
            if (uid, gid) == (0, 0) { Ok(()) } else { sys::give_in(at, path, uid, gid) }
        }
        _ => Err(sys::EINVAL),
    }
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
            return over(self.clone_null()?, place);
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
