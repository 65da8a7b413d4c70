//! Reads an archive member by member.
//!
//! The tar crate parses headers, but not the sequence of members: its iterator reads extended headers as lines of
//! text, so an attribute with a newline hides a member's true size, and with it the place of the next header.

use std::io::{self, BufRead};

use rustix::fs::{FileType, makedev};
use tar::Header;

use super::header::{checksum_matches, device_numbers, meta, stored_size, unsigned, until_nul};
use super::pax::Overrides;
use super::sparse::{LeadingMap, Segment, SparseMap, push};
use crate::rootfs::tree::Meta;

const BLOCK: usize = 512;

/// The longest extended header or long name, in bytes: far more than the attributes and names of Linux need, and
/// little enough to hold in memory.
const MAX_EXTENSION: u64 = 16 << 20;

/// A member of an archive.
#[derive(Debug)]
pub(super) struct Member {
    /// The name, as it is in the archive.
    pub(super) name: Vec<u8>,
    pub(super) kind: MemberKind,
    pub(super) meta: Meta,
}

#[derive(Debug)]
pub(super) enum MemberKind {
    /// A regular file. Its content, of that many bytes, is read next.
    File(u64),
    /// A sparse file. Its runs of content are read next, one after the other.
    Sparse(SparseMap),
    Directory,
    Symlink(Vec<u8>),
    HardLink(Vec<u8>),
    Node(FileType, u64),
}

/// The reason why reading an archive stops.
#[derive(Debug)]
pub(super) enum Fault {
    /// The file cannot be read or decompressed.
    Read(io::Error),
    /// The problem of the current member.
    Broken(String),
    /// The problem of the bytes after the current member, or at the beginning.
    After(String),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Read(error)
    }
}

pub(super) fn broken<T>(problem: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Broken(problem.into()))
}

fn after<T>(problem: &str) -> Result<T, Fault> {
    Err(Fault::After(problem.to_owned()))
}

/// The members of an archive.
pub(super) struct Members<R> {
    reader: R,
    /// The bytes of the current member's content and padding that are not yet read.
    content: u64,
    padding: u64,
    global: Overrides,
    /// The current member's name, if it is known, for messages.
    name: Option<Vec<u8>>,
    /// Whether the archive may end without its end mark and its last padding.
    may_lack_end: bool,
}

impl<R: BufRead> Members<R> {
    pub(super) fn new(reader: R) -> Self {
        Self { reader, content: 0, padding: 0, global: Overrides::default(), name: None, may_lack_end: false }
    }

    /// Accepts an archive without an end mark, whose caller checks the digest of all its bytes: several tools write no end
    /// into layers of images.
    pub(super) fn allow_no_end(&mut self) {
        self.may_lack_end = true;
    }

    /// Returns the name of the member that was being read, to which the last fault belongs.
    pub(super) fn current(&self) -> Option<&[u8]> {
        self.name.as_deref()
    }

    pub(super) fn into_inner(self) -> R {
        self.reader
    }

    /// Returns the next member, or `None` at the mark that ends an archive. An archive without that mark was cut off,
    /// even if it ends between two members.
    pub(super) fn next(&mut self) -> Result<Option<Member>, Fault> {
        self.skip_content()?;
        let mut extended: Option<Overrides> = None;
        let (mut long_name, mut long_link, mut problem) = (None, None, None);
        loop {
            let mut header = Header::new_old();
            match self.block(header.as_mut_bytes())? {
                Read::Whole => {}
                Read::Nothing
                    if self.may_lack_end && extended.is_none() && long_name.is_none() && long_link.is_none() =>
                {
                    return Ok(None);
                }
                Read::Nothing => return after("the archive has no end mark, so it is cut off"),
                Read::Part => return after("the archive is cut off in the header"),
            }
            if header.as_bytes().iter().all(|byte| *byte == 0) {
                if extended.is_some() || long_name.is_some() || long_link.is_some() {
                    return after("an extended header has no entry");
                }
                return Ok(None);
            }
            if !checksum_matches(&header) {
                return after("a header with a wrong checksum follows");
            }
            let kind = header.as_old().linkflag[0];
            if let b'x' | b'X' | b'g' | b'L' | b'K' = kind {
                let records = self.extension(&header)?;
                let twice = match kind {
                    b'g' => {
                        self.global.apply(&records).map_err(Fault::After)?;
                        false
                    }
                    b'L' => long_name.replace(until_nul(&records).to_vec()).is_some(),
                    b'K' => long_link.replace(until_nul(&records).to_vec()).is_some(),
                    _ => {
                        let mut overrides = self.global.clone();
                        // The problem is reported once the name of its entry is known.
                        problem = overrides.apply(&records).err();
                        extended.replace(overrides).is_some()
                    }
                };
                if twice {
                    return after("two headers extend the same entry");
                }
                continue;
            }
            let mut overrides = extended.take().unwrap_or_else(|| self.global.clone());
            overrides.path = overrides.path.or(long_name.take());
            overrides.link = overrides.link.or(long_link.take());
            // A volume label names the archive, and is not an entry.
            if kind == b'V' {
                self.begin(stored_size(&header, &overrides)?)?;
                self.skip_content()?;
                continue;
            }
            let name = overrides.sparse.name.clone().or(overrides.path.clone());
            self.name = Some(name.unwrap_or_else(|| header.path_bytes().into_owned()));
            return match problem {
                Some(problem) => Err(Fault::Broken(problem)),
                None => self.member(&header, kind, overrides).map(Some),
            };
        }
    }

    /// Returns content of the current member, reading more if the buffer is empty; none at its end.
    pub(super) fn content(&mut self) -> Result<&[u8], Fault> {
        if self.content == 0 {
            return Ok(&[]);
        }
        let bytes = loop {
            match self.reader.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The borrow of a returned buffer would last longer than the loop.
                Err(error) => return Err(error.into()),
                Ok(_) => break self.reader.fill_buf()?,
            }
        };
        if bytes.is_empty() {
            return broken("the archive is cut off in its content");
        }
        let most = usize::try_from(self.content).unwrap_or(usize::MAX);
        Ok(&bytes[..bytes.len().min(most)])
    }

    /// Consumes that many bytes of the content that [`Members::content`] returned.
    pub(super) fn consume(&mut self, count: usize) {
        self.reader.consume(count);
        self.content = self.content.saturating_sub(count as u64);
    }

    fn member(&mut self, header: &Header, kind: u8, overrides: Overrides) -> Result<Member, Fault> {
        let name = self.name.clone().unwrap_or_default();
        // GNU tar stores no content with a hard link, even if its size is not 0.
        let stored = if kind == b'1' { 0 } else { stored_size(header, &overrides)? };
        let meta = meta(header, &overrides)?;
        let link = overrides.link.clone().or_else(|| header.link_name_bytes().map(|link| link.into_owned()));
        let link = link.unwrap_or_default();
        let kind = match kind {
            b'S' => {
                let (segments, size) = self.old_sparse_map(header)?;
                self.begin(stored)?;
                MemberKind::Sparse(
                    SparseMap::new(segments, size, stored).map_err(|problem| Fault::Broken(problem.into()))?,
                )
            }
            // Old archives have no type for directories, only names that end in `/`.
            0 | b'0' | b'7' if name.ends_with(b"/") => self.begin(stored).map(|()| MemberKind::Directory)?,
            0 | b'0' | b'7' => {
                self.begin(stored)?;
                match overrides.sparse.is_sparse() {
                    true => MemberKind::Sparse(self.pax_sparse_map(overrides)?),
                    false => MemberKind::File(stored),
                }
            }
            b'1' => self.begin(0).map(|()| MemberKind::HardLink(link))?,
            b'2' => self.begin(stored).map(|()| MemberKind::Symlink(link))?,
            b'3' | b'4' => {
                self.begin(stored)?;
                let (major, minor) = device_numbers(header, &overrides)?;
                let kind = if kind == b'3' { FileType::CharacterDevice } else { FileType::BlockDevice };
                if kind == FileType::CharacterDevice && (major, minor) == (0, 0) {
                    return broken("it is a character device 0:0, which overlayfs takes for a deleted file");
                }
                MemberKind::Node(kind, makedev(major, minor))
            }
            // In GNU tar's incremental archives, the content of a directory is a list of names.
            b'5' | b'D' => self.begin(stored).map(|()| MemberKind::Directory)?,
            b'6' => self.begin(stored).map(|()| MemberKind::Node(FileType::Fifo, 0))?,
            b'M' => return broken("it continues from another volume; archives of several volumes are not supported"),
            other => return broken(format!("its type `{}` is not known", other.escape_ascii())),
        };
        Ok(Member { name, kind, meta })
    }

    /// Reads the map in a header of the old GNU format and in the blocks after it.
    fn old_sparse_map(&mut self, header: &Header) -> Result<(Vec<Segment>, u64), Fault> {
        let Some(gnu) = header.as_gnu() else { return broken("it is a sparse file, but its header is not GNU tar's") };
        let size = unsigned(&gnu.realsize)?;
        let mut segments = Vec::new();
        let mut take = |offset: &[u8], length: &[u8]| -> Result<(), Fault> {
            // An unused entry of the table.
            if offset[0] == 0 || length[0] == 0 {
                return Ok(());
            }
            let segment = Segment { offset: unsigned(offset)?, length: unsigned(length)? };
            push(&mut segments, segment).map_err(|problem| Fault::Broken(format!("its sparse map {problem}")))
        };
        for place in &gnu.sparse {
            take(&place.offset, &place.numbytes)?;
        }
        let mut more = gnu.isextended[0] != 0;
        while more {
            let mut block = tar::GnuExtSparseHeader::new();
            if !matches!(self.block(block.as_mut_bytes())?, Read::Whole) {
                return broken("the archive is cut off in its sparse map");
            }
            for place in block.sparse() {
                take(&place.offset, &place.numbytes)?;
            }
            more = block.is_extended();
        }
        Ok((segments, size))
    }

    /// Reads the map in an extended header, or at the beginning of the content.
    fn pax_sparse_map(&mut self, overrides: Overrides) -> Result<SparseMap, Fault> {
        let size = overrides.sparse.size.unwrap_or(0);
        let mut segments = overrides.sparse.segments.clone();
        if overrides.sparse.map_is_in_content() {
            let mut map = LeadingMap::default();
            segments = loop {
                let mut block = [0; BLOCK];
                if self.content < BLOCK as u64 {
                    return broken("its sparse map is cut off");
                }
                if !matches!(self.block(&mut block)?, Read::Whole) {
                    return broken("the archive is cut off in its sparse map");
                }
                self.content -= BLOCK as u64;
                if let Some(segments) = map.add_block(&block).map_err(|problem| Fault::Broken(problem.into()))? {
                    break segments;
                }
            };
        }
        SparseMap::new(segments, size, self.content).map_err(|problem| Fault::Broken(problem.into()))
    }

    /// Begins a member whose content has that many bytes.
    fn begin(&mut self, stored: u64) -> Result<(), Fault> {
        self.content = stored;
        self.padding = stored.wrapping_neg() % BLOCK as u64;
        Ok(())
    }

    fn skip_content(&mut self) -> Result<(), Fault> {
        while self.content > 0 {
            let count = self.content()?.len();
            self.consume(count);
        }
        let padding = usize::try_from(std::mem::take(&mut self.padding)).unwrap_or(0);
        match self.block(&mut [0; BLOCK][..padding])? {
            Read::Whole => Ok(()),
            Read::Nothing | Read::Part if self.may_lack_end => Ok(()),
            Read::Nothing | Read::Part => broken("the archive is cut off after its content"),
        }
    }

    /// Reads the content of a header that extends the next one.
    fn extension(&mut self, header: &Header) -> Result<Vec<u8>, Fault> {
        let size = unsigned(&header.as_old().size)?;
        if size > MAX_EXTENSION {
            return after("an extended header of more than 16 MiB follows");
        }
        self.begin(size)?;
        let mut records = Vec::new();
        while self.content > 0 {
            let bytes = match self.content() {
                Err(Fault::Broken(_)) => return after("the archive is cut off in an extended header"),
                result => result?,
            };
            records.extend_from_slice(bytes);
            let count = bytes.len();
            self.consume(count);
        }
        self.skip_content()?;
        Ok(records)
    }

    fn block(&mut self, into: &mut [u8]) -> Result<Read, Fault> {
        let mut filled = 0;
        while filled < into.len() {
            match self.reader.read(&mut into[filled..]) {
                Ok(0) if filled == 0 => return Ok(Read::Nothing),
                Ok(0) => return Ok(Read::Part),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Read::Whole)
    }
}

enum Read {
    Whole,
    Part,
    Nothing,
}
