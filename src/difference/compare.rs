//! Compares two trees in one walk.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, openat};

use super::node::{Attribute, Kind, Node};
use super::pairs::{Pair, pairs};
use super::{Aspect, DifferenceError, Visit};
use crate::fs::descent::Descent;
use crate::fs::list::{Entry, entries};
use crate::fs::regular;
use crate::fs::xattr::XattrReader;

/// The bytes of a file that are read at once.
const BUFFER: usize = 128 << 10;

/// One of the two trees: its root, and its path for messages.
type Tree<'a> = (BorrowedFd<'a>, &'a Path);

/// A directory that is being walked.
struct OpenDirectory {
    /// The trees that have it.
    is_in: [bool; 2],
    /// The names in it that are not yet compared, and the trees that have them.
    names: std::vec::IntoIter<(OsString, [bool; 2])>,
}

struct Walk<'a> {
    sides: [Tree<'a>; 2],
    /// In each tree, the directory that is walked, or the nearest one above it that exists.
    descents: [Descent<'a>; 2],
    /// The number of levels of the walk below each of them.
    missing_levels: [usize; 2],
    /// The path of the walk below the roots.
    path: PathBuf,
    visit: &'a mut Visit<'a>,
    /// The bytes of contents that may still be read in each tree.
    remaining: u64,
    buffers: [Vec<u8>; 2],
    reader: XattrReader,
}

/// Visits the files of both trees. Of the contents of files that both trees have, at most `max_bytes` are read in each tree.
pub(super) fn compare<'a>(
    sides: [Tree<'a>; 2],
    max_bytes: u64,
    visit: &'a mut Visit<'a>,
) -> Result<(), DifferenceError> {
    let tops = [super::open_top(sides[0].0, sides[0].1)?, super::open_top(sides[1].0, sides[1].1)?];
    let mut walk = Walk {
        sides,
        descents: tops.each_ref().map(|top| Descent::new(top.as_fd())),
        missing_levels: [0; 2],
        path: PathBuf::new(),
        visit,
        remaining: max_bytes,
        buffers: [vec![0; BUFFER], vec![0; BUFFER]],
        reader: XattrReader::default(),
    };
    let [one, other] = [0, 1].map(|side| walk.node(side, OsStr::new("")));
    let (one, other) = (one?, other?);
    walk.report([one.as_ref(), other.as_ref()], aspects_of([one.as_ref(), other.as_ref()]));
    let mut levels = vec![walk.level([true; 2])?];
    while let Some(level) = levels.last_mut() {
        if let Some((name, is_in)) = level.names.next() {
            walk.leave()?;
            walk.path.push(&name);
            let is_directory = walk.entry(&name, is_in)?;
            if is_directory.contains(&true) {
                walk.enter(&name, is_directory)?;
                levels.push(walk.level(is_directory)?);
            } else {
                walk.path.pop();
            }
        } else {
            (0..2).filter(|side| level.is_in[*side]).for_each(|side| walk.missing_levels[side] += 1);
            walk.path.pop();
            levels.pop();
        }
    }
    Ok(())
}

impl Walk<'_> {
    /// Compares an entry of the directory that is walked, and returns the trees in which it is a directory.
    fn entry(&mut self, name: &OsStr, is_in: [bool; 2]) -> Result<[bool; 2], DifferenceError> {
        let [one, other] = [0, 1].map(|side| if is_in[side] { self.node(side, name) } else { Ok(None) });
        let (one, other) = (one?, other?);
        let nodes = [one.as_ref(), other.as_ref()];
        let is_directory = nodes.map(|node| node.is_some_and(|node| node.kind.is_directory()));
        let mut found = aspects_of(nodes);
        if let [Some(one), Some(other)] = nodes
            && (one.kind, other.kind) == (Kind::File, Kind::File)
            && let Some(at) = self.first_difference(name)?
        {
            found.insert(0, Aspect::Content { sizes: (one.size, other.size), at });
        }
        if nodes != [None, None] {
            self.report(nodes, found);
        }
        Ok(is_directory)
    }

    fn enter(&mut self, name: &OsStr, is_in: [bool; 2]) -> Result<(), DifferenceError> {
        for side in (0..2).filter(|side| is_in[*side]) {
            let entered = self.descents[side].enter_on_same_mount(name.as_bytes());
            entered.map_err(|error| match error.kind() {
                io::ErrorKind::CrossesDevices => {
                    DifferenceError::MountPoint { path: self.sides[side].1.join(&self.path) }
                }
                _ => self.failed("open", side)(error),
            })?;
        }
        Ok(())
    }

    /// Goes back to the directory above.
    fn leave(&mut self) -> Result<(), DifferenceError> {
        for side in 0..2 {
            let missing_levels = std::mem::take(&mut self.missing_levels[side]);
            self.descents[side].leave_levels(missing_levels).map_err(self.failed("go back to", side))?;
        }
        Ok(())
    }

    /// Lists the directory that is walked.
    fn level(&self, is_in: [bool; 2]) -> Result<OpenDirectory, DifferenceError> {
        let list = |side: usize| -> Result<Vec<OsString>, DifferenceError> {
            if !is_in[side] {
                return Ok(Vec::new());
            }
            let all = entries(self.descents[side].fd()).map_err(|error| self.failed("list", side)(error.into()))?;
            let mut names: Vec<OsString> = all.into_iter().map(Entry::into_name).collect();
            names.sort_unstable();
            Ok(names)
        };
        let all = pairs(list(0)?.into_iter(), list(1)?.into_iter(), |one, other| one.cmp(other));
        let names = all.map(|pair| match pair {
            Pair::First(name) => (name, [true, false]),
            Pair::Second(name) => (name, [false, true]),
            Pair::Both(name, _) => (name, [true, true]),
        });
        Ok(OpenDirectory { is_in, names: names.collect::<Vec<_>>().into_iter() })
    }

    /// Reads an entry of the directory that is walked; without a name, the directory itself. None for a name without a
    /// file: overlayfs lists a removal in its lowest layer under the name of the file that it removes.
    fn node(&mut self, side: usize, name: &OsStr) -> Result<Option<Node>, DifferenceError> {
        match Node::read(&mut self.reader, self.descents[side].fd(), name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            node => node.map(Some).map_err(self.failed("look at", side)),
        }
    }

    /// Returns the first byte at which the contents of two files differ.
    fn first_difference(&mut self, name: &OsStr) -> Result<Option<u64>, DifferenceError> {
        let open = |side: usize| {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let place = openat(self.descents[side].fd(), name, flags, Mode::empty()).map_err(io::Error::from);
            place.and_then(|place| regular::reopen(place.as_fd())).map_err(self.failed("open", side))
        };
        let mut files = [open(0)?, open(1)?];
        let mut buffers = std::mem::take(&mut self.buffers);
        let mut at = 0;
        let result = loop {
            let mut lengths = [0; 2];
            for side in 0..2 {
                lengths[side] = fill(&mut files[side], &mut buffers[side]).map_err(self.failed("read", side))?;
            }
            let [one, other] = [0, 1].map(|side| &buffers[side][..lengths[side]]);
            if one != other {
                let same = one.iter().zip(other).take_while(|(one, other)| one == other).count();
                break Some(at + same as u64);
            }
            if one.is_empty() {
                break None;
            }
            at += one.len() as u64;
            let Some(remaining) = self.remaining.checked_sub(one.len() as u64) else {
                return Err(DifferenceError::TooMuch { path: self.sides[0].1.join(&self.path) });
            };
            self.remaining = remaining;
        };
        self.buffers = buffers;
        Ok(result)
    }

    fn report(&mut self, nodes: [Option<&Node>; 2], aspects: Vec<Aspect>) {
        (self.visit)(&self.path, nodes, aspects);
    }

    fn failed(&self, action: &'static str, side: usize) -> impl Fn(io::Error) -> DifferenceError + use<> {
        super::failed(action, &self.sides[side].1.join(&self.path))
    }
}

/// Returns the aspects in which two files differ, without reading them; none where one of them is missing.
fn aspects_of(nodes: [Option<&Node>; 2]) -> Vec<Aspect> {
    match nodes {
        [Some(one), Some(other)] => aspects(one, other),
        _ => Vec::new(),
    }
}

fn aspects(one: &Node, other: &Node) -> Vec<Aspect> {
    if !one.kind.is_same_type(other.kind) {
        return vec![Aspect::Type(one.kind, other.kind)];
    }
    let is_directory = one.kind.is_directory();
    let attributes = attributes(&one.attributes, &other.attributes);
    let all = [
        (one.target != other.target, Aspect::Target(one.target.clone(), other.target.clone())),
        (one.device != other.device, Aspect::Device(one.device, other.device)),
        (one.kind != other.kind, Aspect::Replaces(other.kind == Kind::ReplacingDirectory)),
        (one.mode != other.mode, Aspect::Mode(one.mode, other.mode)),
        (one.owner != other.owner, Aspect::Owner(one.owner, other.owner)),
        (one.time != other.time, Aspect::Time(one.time, other.time)),
        (one.links != other.links && !is_directory, Aspect::Links(one.links, other.links)),
        (!attributes.is_empty(), Aspect::Attributes(attributes.clone())),
    ];
    all.into_iter().filter(|(differs, _)| *differs).map(|(_, aspect)| aspect).collect()
}

fn attributes(one: &BTreeMap<OsString, Vec<u8>>, other: &BTreeMap<OsString, Vec<u8>>) -> Vec<Attribute> {
    let names: BTreeSet<&OsString> = one.keys().chain(other.keys()).collect();
    let differ = |name: &OsString| match (one.get(name), other.get(name)) {
        (Some(one), Some(other)) => (one != other).then(|| Attribute::Changed(name.clone())),
        (Some(_), None) => Some(Attribute::Removed(name.clone())),
        (None, _) => Some(Attribute::Added(name.clone())),
    };
    names.into_iter().filter_map(differ).collect()
}

/// Reads until the buffer is full or the file ends. Returns the number of bytes.
fn fill(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match file.read(&mut buffer[length..]) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}
