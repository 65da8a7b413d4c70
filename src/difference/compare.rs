//! Walks two trees side by side.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Dir, Mode, OFlags, openat};

use super::node::{Attribute, Kind, Node};
use super::{Aspect, Difference, DifferenceError, How};
use crate::fs::in_root::open_beneath;
use crate::fs::regular;

/// How much of a file is read at once, in bytes.
const BUFFER: usize = 128 << 10;

/// One of the two: its root, and where that is for people.
type Side<'a> = (BorrowedFd<'a>, &'a Path);

/// A folder that is being walked. It is open only meanwhile: a tree may be deeper than a process may have descriptors.
struct Frame {
    path: PathBuf,
    /// What is still to be looked at, and in which of the two it is.
    names: std::collections::btree_map::IntoIter<OsString, [bool; 2]>,
}

struct Walk<'a> {
    sides: [Side<'a>; 2],
    told: Vec<Difference>,
    buffers: [Vec<u8>; 2],
}

/// All that differs.
pub(super) fn compare(sides: [Side<'_>; 2]) -> Result<Vec<Difference>, DifferenceError> {
    let mut walk = Walk { sides, told: Vec::new(), buffers: [vec![0; BUFFER], vec![0; BUFFER]] };
    let roots = [0, 1].map(|side| walk.node(side, sides[side].0, OsStr::new(""), Path::new("")));
    let [one, other] = roots;
    walk.changed(PathBuf::new(), aspects(&one?, &other?));
    let mut frames = vec![walk.frame(PathBuf::new(), [true; 2])?];
    while let Some(mut frame) = frames.pop() {
        if let Some(inner) = walk.until_folder(&mut frame)? {
            frames.extend([frame, inner]);
        }
    }
    Ok(walk.told)
}

impl Walk<'_> {
    /// Compares what is in a folder up to the first folder in it, which is to be walked next.
    fn until_folder(&mut self, frame: &mut Frame) -> Result<Option<Frame>, DifferenceError> {
        let mut folders = [None, None];
        for (name, is_in) in frame.names.by_ref() {
            let mut nodes = [None, None];
            for side in (0..2).filter(|side| is_in[*side]) {
                if folders[side].is_none() {
                    folders[side] = Some(self.open(side, &frame.path)?);
                }
                if let Some(folder) = &folders[side] {
                    nodes[side] = Some(self.node(side, folder.as_fd(), &name, &frame.path)?);
                }
            }
            let path = frame.path.join(&name);
            let walked = nodes.each_ref().map(|node| node.as_ref().is_some_and(|node| node.kind.is_folder()));
            match nodes {
                [Some(one), Some(other)] => {
                    let mut found = aspects(&one, &other);
                    if let ([Some(first), Some(second)], Kind::File, Kind::File) = (&folders, one.kind, other.kind)
                        && let Some(at) = self.first_difference([first, second], &name, &path)?
                    {
                        found.insert(0, Aspect::Content { sizes: (one.size, other.size), at });
                    }
                    self.changed(path.clone(), found);
                }
                [Some(one), None] => self.tell(path.clone(), How::Removed(one.kind)),
                [None, Some(other)] => self.tell(path.clone(), How::Added(other.kind)),
                [None, None] => {}
            }
            if walked.contains(&true) {
                return self.frame(path, walked).map(Some);
            }
        }
        Ok(None)
    }

    fn frame(&self, path: PathBuf, is_in: [bool; 2]) -> Result<Frame, DifferenceError> {
        let mut names: BTreeMap<OsString, [bool; 2]> = BTreeMap::new();
        for side in (0..2).filter(|side| is_in[*side]) {
            let folder = self.open(side, &path)?;
            for name in list(&folder).map_err(self.failed("list", side, &path))? {
                names.entry(name).or_default()[side] = true;
            }
        }
        Ok(Frame { path, names: names.into_iter() })
    }

    fn open(&self, side: usize, path: &Path) -> Result<OwnedFd, DifferenceError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = open_beneath(self.sides[side].0, path, flags);
        opened.map_err(|error| self.failed("open", side, path)(error.into()))
    }

    fn node(&self, side: usize, folder: BorrowedFd<'_>, name: &OsStr, at: &Path) -> Result<Node, DifferenceError> {
        Node::read(folder, name).map_err(self.failed("look at", side, &at.join(name)))
    }

    /// Where the contents of two files differ.
    fn first_difference(
        &mut self,
        folders: [&OwnedFd; 2],
        name: &OsStr,
        path: &Path,
    ) -> Result<Option<u64>, DifferenceError> {
        let open = |side: usize| {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let place = openat(folders[side], name, flags, Mode::empty()).map_err(io::Error::from);
            place.and_then(|place| regular::reopen(place.as_fd())).map_err(self.failed("open", side, path))
        };
        let mut files = [open(0)?, open(1)?];
        let mut buffers = std::mem::take(&mut self.buffers);
        let mut at = 0;
        let result = loop {
            let mut lengths = [0; 2];
            for side in 0..2 {
                lengths[side] = fill(&mut files[side], &mut buffers[side]).map_err(self.failed("read", side, path))?;
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
        };
        self.buffers = buffers;
        Ok(result)
    }

    fn changed(&mut self, path: PathBuf, aspects: Vec<Aspect>) {
        if !aspects.is_empty() {
            self.tell(path, How::Changed(aspects));
        }
    }

    fn tell(&mut self, path: PathBuf, how: How) {
        self.told.push(Difference { path, how });
    }

    fn failed(&self, action: &'static str, side: usize, below: &Path) -> impl Fn(io::Error) -> DifferenceError + use<> {
        super::failed(action, &self.sides[side].1.join(below))
    }
}

/// What differs without reading the files.
fn aspects(one: &Node, other: &Node) -> Vec<Aspect> {
    if !one.kind.is_like(other.kind) {
        return vec![Aspect::Type(one.kind, other.kind)];
    }
    let is_folder = one.kind.is_folder();
    let attributes = attributes(&one.attributes, &other.attributes);
    let all = [
        (one.target != other.target, Aspect::Target(one.target.clone(), other.target.clone())),
        (one.device != other.device, Aspect::Device(one.device, other.device)),
        (one.kind != other.kind, Aspect::Replaces(other.kind == Kind::ReplacingFolder)),
        (one.mode != other.mode, Aspect::Mode(one.mode, other.mode)),
        (one.owner != other.owner, Aspect::Owner(one.owner, other.owner)),
        (one.time != other.time, Aspect::Time(one.time, other.time)),
        (one.links != other.links && !is_folder, Aspect::Links(one.links, other.links)),
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

fn list(folder: &OwnedFd) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(OsString::from_vec(name));
        }
    }
    Ok(names)
}

/// Reads until the buffer is full or the file ends; how much that was.
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
