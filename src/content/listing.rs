//! A listing: the facts about each file in a host path. Its digest is the digest of the content.
//!
//! ```text
//! `runner listing 1` and a newline, then of each file, by ascending bytes of its path:
//!   1  type: `f`ile, `d`irectory, `l`ink, `c`haracter or `b`lock device, fifo `p`, `s`ocket; a capital: with a time or
//!      another name; | 0x80: with attributes
//!   2  mode, 07777
//!   4  uid
//!   4  gid
//!   4  length of the path
//!   …  the path below the top; empty for the top itself
//!  32  of a file: the SHA-256 of its content
//! 4 …  of a link: the length of its target, and the target
//! 4 4  of a device: major, minor
//!  32  with attributes: their SHA-256
//!   1  of a capital: 1 with a time, 2 with another name, 3 with both
//!   8  with a time: seconds since 1970
//! 4 …  with another name: the length of the first path of the same file, and that path
//! ```
//! Numbers are little-endian.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::names;
use crate::digest::Digest;
use crate::fs::dirfd::Identity;

const MAGIC: &[u8] = b"runner listing 1\n";

/// The bytes before the path.
const HEAD: usize = 1 + 2 + 4 + 4 + 4;

const HAS_ATTRIBUTES: u8 = 0x80;
const HAS_TIME: u8 = 1;
const HAS_OTHER_NAME: u8 = 2;

/// The listing of a host path, in its compact, serialized form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing(Vec<u8>);

/// A file in a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Its path below the top; empty for the top itself.
    pub path: &'a Path,
    /// Its type and content.
    pub kind: Kind<'a>,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u16,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// The digest of its extended attributes, if it has any that count.
    pub attributes: Option<Digest>,
    /// The time at which its content changed, in seconds since 1970, where that is before the limit of the walk.
    pub time: Option<i64>,
    /// The first path of the same file, where that is another path.
    pub first_name: Option<&'a Path>,
}

/// The type and the content of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the types of inode(7)")]
pub enum Kind<'a> {
    File(Digest),
    Directory,
    /// A link, with its target.
    Link(&'a Path),
    /// Major and minor number.
    CharacterDevice(u32, u32),
    /// Major and minor number.
    BlockDevice(u32, u32),
    Fifo,
    Socket,
}

impl Listing {
    /// Parses a listing; none where the bytes are not one.
    pub fn from_bytes(bytes: Vec<u8>) -> Option<Self> {
        let mut bytes_left = bytes.strip_prefix(MAGIC)?;
        let mut last: Option<&Path> = None;
        while !bytes_left.is_empty() {
            let entry = read(&mut bytes_left)?;
            if last.is_some_and(|last| last.as_os_str().as_bytes() >= entry.path.as_os_str().as_bytes()) {
                return None;
            }
            last = Some(entry.path);
        }
        Some(Self(bytes))
    }

    /// Returns the bytes, to be stored under their [digest](Listing::digest).
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the digest of the bytes, which is the digest of the content.
    pub fn digest(&self) -> Digest {
        Digest::of_bytes(&self.0)
    }

    /// Returns the files, by ascending bytes of their paths.
    pub fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        let mut bytes_left = self.0.get(MAGIC.len()..).unwrap_or_default();
        std::iter::from_fn(move || read(&mut bytes_left))
    }

    /// Returns the listing without some files, by their paths, and without the time of the top, which changes when they
    /// are added or removed.
    #[must_use]
    pub fn without(&self, is_omitted: impl Fn(&Path) -> bool) -> Self {
        let mut draft = Draft::default();
        for entry in self.entries().filter(|entry| !is_omitted(entry.path)) {
            let first_name = entry.first_name.filter(|first| !is_omitted(first));
            let time = entry.time.filter(|_| !entry.path.as_os_str().is_empty());
            draft.push(&Entry { first_name, time, ..entry });
        }
        Self::from_drafts(&[draft])
    }

    /// Returns the listing as if all files belonged to root.
    #[must_use]
    pub fn of_root(&self) -> Self {
        let mut draft = Draft::default();
        self.entries().for_each(|entry| draft.push(&Entry { uid: 0, gid: 0, ..entry }));
        Self::from_drafts(&[draft])
    }

    /// Makes a listing from the drafts of a walk's threads.
    pub(super) fn from_drafts(drafts: &[Draft]) -> Self {
        let mut lines: Vec<(&[u8], &[u8])> = drafts.iter().flat_map(Draft::lines).collect();
        lines.sort_unstable();
        let first_names = names::first_names(drafts.iter().flat_map(Draft::several));
        let length = lines.iter().map(|(_, line)| line.len()).sum::<usize>();
        let mut bytes = Vec::with_capacity(MAGIC.len() + length);
        bytes.extend_from_slice(MAGIC);
        for (path, mut line) in lines {
            match first_names.get(path).and_then(|first| Some((first, read(&mut line)?))) {
                Some((first, entry)) => write(&mut bytes, &Entry { first_name: Some(first), ..entry }),
                None => bytes.extend_from_slice(line),
            }
        }
        Self(bytes)
    }
}

/// A part of a listing, in no order.
#[derive(Debug, Default)]
pub(super) struct Draft {
    bytes: Vec<u8>,
    /// The end of each line.
    ends: Vec<usize>,
    /// The lines of files with several names, each with the file's identity.
    several: Vec<(Identity, usize)>,
}

impl Draft {
    pub(super) fn push(&mut self, entry: &Entry<'_>) {
        write(&mut self.bytes, entry);
        self.ends.push(self.bytes.len());
    }

    /// Adds a file that has other names, in the tree or elsewhere.
    pub(super) fn push_one_of_several(&mut self, entry: &Entry<'_>, file: Identity) {
        self.several.push((file, self.ends.len()));
        self.push(entry);
    }

    /// Returns the paths of files with several names.
    fn several(&self) -> impl Iterator<Item = (Identity, &[u8])> {
        self.several.iter().filter_map(|(file, at)| {
            let start = at.checked_sub(1).map_or(0, |before| self.ends[before]);
            Some((*file, path_of(self.bytes.get(start..self.ends[*at])?)?))
        })
    }

    /// Returns the path and the whole line of each file.
    fn lines(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut start = 0;
        self.ends.iter().filter_map(move |end| {
            let line = self.bytes.get(start..*end)?;
            start = *end;
            Some((path_of(line)?, line))
        })
    }
}

impl Kind<'_> {
    fn letter(self) -> u8 {
        match self {
            Self::File(_) => b'f',
            Self::Directory => b'd',
            Self::Link(_) => b'l',
            Self::CharacterDevice(..) => b'c',
            Self::BlockDevice(..) => b'b',
            Self::Fifo => b'p',
            Self::Socket => b's',
        }
    }

    /// Whether both are of one type, whatever their contents.
    pub(super) fn is_like(self, other: Self) -> bool {
        self.letter() == other.letter()
    }
}

fn write(bytes: &mut Vec<u8>, entry: &Entry<'_>) {
    let more = [(entry.time.is_some(), HAS_TIME), (entry.first_name.is_some(), HAS_OTHER_NAME)];
    let more = more.iter().filter(|(has, _)| *has).fold(0, |more, (_, flag)| more | flag);
    let letter = if more == 0 { entry.kind.letter() } else { entry.kind.letter().to_ascii_uppercase() };
    bytes.push(if entry.attributes.is_some() { letter | HAS_ATTRIBUTES } else { letter });
    bytes.extend_from_slice(&entry.mode.to_le_bytes());
    put(bytes, entry.uid);
    put(bytes, entry.gid);
    put_path(bytes, entry.path);
    match entry.kind {
        Kind::File(digest) => bytes.extend_from_slice(digest.as_bytes()),
        Kind::Link(target) => put_path(bytes, target),
        Kind::CharacterDevice(major, minor) | Kind::BlockDevice(major, minor) => {
            put(bytes, major);
            put(bytes, minor);
        }
        Kind::Directory | Kind::Fifo | Kind::Socket => {}
    }
    if let Some(digest) = entry.attributes {
        bytes.extend_from_slice(digest.as_bytes());
    }
    if more != 0 {
        bytes.push(more);
    }
    if let Some(time) = entry.time {
        bytes.extend_from_slice(&time.to_le_bytes());
    }
    if let Some(first) = entry.first_name {
        put_path(bytes, first);
    }
}

/// Returns the path in a line.
fn path_of(line: &[u8]) -> Option<&[u8]> {
    let (_, mut bytes_left) = line.split_at_checked(HEAD - 4)?;
    Some(take_path(&mut bytes_left)?.as_os_str().as_bytes())
}

fn put(bytes: &mut Vec<u8>, number: u32) {
    bytes.extend_from_slice(&number.to_le_bytes());
}

fn put_path(bytes: &mut Vec<u8>, path: &Path) {
    let path = path.as_os_str().as_bytes();
    // No kernel returns a path of 4 GiB: it would have 16 million directories, one in the other.
    let length = u32::try_from(path.len()).unwrap_or(u32::MAX);
    put(bytes, length);
    bytes.extend_from_slice(path.get(..length as usize).unwrap_or(path));
}

fn read<'a>(bytes_left: &mut &'a [u8]) -> Option<Entry<'a>> {
    let [letter] = take(bytes_left)?;
    let mode = u16::from_le_bytes(take(bytes_left)?);
    let (uid, gid) = (number(bytes_left)?, number(bytes_left)?);
    let path = take_path(bytes_left)?;
    let plain = letter & !HAS_ATTRIBUTES;
    let kind = match plain.to_ascii_lowercase() {
        b'f' => Kind::File(Digest::from(take(bytes_left)?)),
        b'd' => Kind::Directory,
        b'l' => Kind::Link(take_path(bytes_left)?),
        b'c' => Kind::CharacterDevice(number(bytes_left)?, number(bytes_left)?),
        b'b' => Kind::BlockDevice(number(bytes_left)?, number(bytes_left)?),
        b'p' => Kind::Fifo,
        b's' => Kind::Socket,
        _ => return None,
    };
    let attributes = if letter & HAS_ATTRIBUTES == 0 { None } else { Some(Digest::from(take(bytes_left)?)) };
    let more = if plain.is_ascii_uppercase() { take::<1>(bytes_left)?[0] } else { 0 };
    let time = if more & HAS_TIME == 0 { None } else { Some(i64::from_le_bytes(take(bytes_left)?)) };
    let first_name = if more & HAS_OTHER_NAME == 0 { None } else { Some(take_path(bytes_left)?) };
    Some(Entry { path, kind, mode, uid, gid, attributes, time, first_name })
}

fn take<const N: usize>(bytes_left: &mut &[u8]) -> Option<[u8; N]> {
    let (first_bytes, others) = bytes_left.split_first_chunk::<N>()?;
    *bytes_left = others;
    Some(*first_bytes)
}

fn number(bytes_left: &mut &[u8]) -> Option<u32> {
    take(bytes_left).map(u32::from_le_bytes)
}

fn take_path<'a>(bytes_left: &mut &'a [u8]) -> Option<&'a Path> {
    let length = number(bytes_left)? as usize;
    let (path, others) = bytes_left.split_at_checked(length)?;
    *bytes_left = others;
    Some(Path::new(OsStr::from_bytes(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries() -> [Entry<'static>; 7] {
        let digest = Digest::of_bytes(b"content");
        let entry = |path: &'static [u8], kind| Entry {
            path: Path::new(OsStr::from_bytes(path)),
            kind,
            mode: 0o6755,
            uid: u32::MAX,
            gid: 70_000,
            attributes: (path.len().is_multiple_of(2)).then_some(digest),
            time: (path.len() == 1).then_some(-1),
            first_name: (path.len() > 2).then_some(Path::new("a")),
        };
        [
            entry(b"", Kind::Directory),
            entry(b"a", Kind::File(digest)),
            entry(b"a-b\n\xff", Kind::Link(Path::new("../target"))),
            entry(b"a/b", Kind::CharacterDevice(1, 1 << 19)),
            entry(b"b", Kind::BlockDevice(259, 3)),
            entry(b"cc", Kind::Fifo),
            entry(b"d", Kind::Socket),
        ]
    }

    fn listing<'a>(entries: impl IntoIterator<Item = &'a Entry<'static>>) -> Listing {
        let mut drafts = [Draft::default(), Draft::default()];
        for (at, entry) in entries.into_iter().enumerate() {
            drafts[at % 2].push(entry);
        }
        Listing::from_drafts(&drafts)
    }

    #[test]
    fn a_listing_is_read_back_in_order_whatever_the_order_of_the_walk() {
        let (one, other) = (listing(&entries()), listing(entries().iter().rev()));
        assert_eq!(one, other);
        assert_eq!(one.entries().collect::<Vec<_>>(), entries());
        assert_eq!(Listing::from_bytes(one.as_bytes().to_vec()), Some(one));
    }

    #[test]
    fn the_format_is_unchanged() {
        // A change of the format changes every key: raise the version of the listing and of the key then.
        let digest = Digest::of_bytes(b"x");
        let entry = |path, kind| Entry {
            path: Path::new(path),
            kind,
            mode: 0o755,
            uid: 1,
            gid: 2,
            attributes: None,
            time: None,
            first_name: None,
        };
        let file = Entry { attributes: Some(digest), ..entry("a", Kind::File(digest)) };
        let old = Entry { time: Some(7), ..entry("o", Kind::Fifo) };
        let again = Entry { first_name: Some(Path::new("o")), ..Entry { path: Path::new("p"), ..old } };
        let entries = [entry("", Kind::Directory), file, entry("n", Kind::BlockDevice(8, 1)), old, again];
        let expected = [
            b"runner listing 1\nd\xed\x01\x01\0\0\0\x02\0\0\0\0\0\0\0".as_slice(),
            b"\xe6\xed\x01\x01\0\0\0\x02\0\0\0\x01\0\0\0a",
            digest.as_bytes(),
            digest.as_bytes(),
            b"b\xed\x01\x01\0\0\0\x02\0\0\0\x01\0\0\0n\x08\0\0\0\x01\0\0\0",
            b"P\xed\x01\x01\0\0\0\x02\0\0\0\x01\0\0\0o\x01\x07\0\0\0\0\0\0\0",
            b"P\xed\x01\x01\0\0\0\x02\0\0\0\x01\0\0\0p\x03\x07\0\0\0\0\0\0\0\x01\0\0\0o",
        ];
        assert_eq!(listing(&entries).as_bytes(), expected.concat());
    }

    #[test]
    fn omitting_files_gives_the_listing_of_a_directory_without_them() {
        let all = entries();
        let omitted = all[2].path;
        let others = listing(all.iter().filter(|entry| entry.path != omitted));
        assert_eq!(listing(&all).without(|path| path == omitted), others);
        let first = all[1].path;
        let mut others: Vec<Entry<'_>> = all.iter().filter(|entry| entry.path != first).copied().collect();
        others.iter_mut().for_each(|entry| entry.first_name = None);
        assert_eq!(listing(&all).without(|path| path == first), listing(&others));
        assert_eq!(listing(&all).without(|_| false), listing(&all));
    }

    #[test]
    fn bytes_that_are_no_listing_are_refused() {
        let listing = listing(&entries());
        let whole = listing.as_bytes();
        let ends: Vec<usize> =
            (1..whole.len()).filter(|at| Listing::from_bytes(whole[..*at].to_vec()).is_some()).collect();
        // Only between two files; the digest shows that the others are missing.
        assert_eq!(ends.len(), entries().len());
        assert_eq!(Listing::from_bytes(b"foreign".to_vec()), None);
        let twice = [whole, &whole[MAGIC.len()..]].concat();
        assert_eq!(Listing::from_bytes(twice), None);
    }
}
