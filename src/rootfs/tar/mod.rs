//! Unpacks a tar archive into a directory: a source of a root filesystem.
//!
//! Supported are v7, ustar, GNU and pax archives; plain or compressed by gzip, xz, zstd or bzip2, recognised by their
//! first bytes. Supported entries are regular files, directories, symlinks, hard links, devices and fifos, with owner
//! numbers (names are not looked up), modes, times to the nanosecond and extended attributes; and sparse files of all
//! GNU formats, whose holes stay holes.
//!
//! As in GNU tar:
//! - a later entry replaces an earlier one of its name: a file replaces an empty directory too, and a directory
//!   replaces a symlink to a directory; a directory on a directory keeps the files in it;
//! - bytes after the end mark are ignored;
//! - an absolute name starts from the root.
//!
//! Unlike in GNU tar, a name with `..`, an unknown type and a missing end mark are errors, because each of them means
//! that the root would differ from the one that the archive's maker meant; so are overlayfs' own attributes and its
//! whiteouts. Access control lists are ignored, because squashfs has none.

mod bounds;
mod header;
mod layer;
mod member;
mod pax;
mod sparse;

use std::fs::File;
use std::io::{self, BufRead, Seek, SeekFrom, Write};
use std::os::fd::BorrowedFd;
use std::path::Path;

use ::tar::Header;

pub use self::bounds::{Bounds, UnpackRoom};
pub use self::layer::unpack_layer;

use self::header::checksum_matches;
use self::member::{Fault, Member, MemberKind, Members};
use super::RootfsError;
use super::decompress::{Compression, Source};
use super::tree::{Tree, TreeError, normalise};
use crate::fs::regular;
use crate::mount::ImageFormat;

/// Unpacks an open archive, with the path `archive`, into an empty directory. Both may be `O_PATH` descriptors.
///
/// After an error the directory contains the files that were unpacked so far.
///
/// # Errors
/// The file cannot be read, is not an archive, is broken or cut off, or has an entry that is refused or cannot be
/// written; the error names the entry. [`RootfsError::TooLarge`], and [`RootfsError::Stopped`], by the
/// bounds.
pub fn unpack(
    archive: &Path,
    file: BorrowedFd<'_>,
    dest: BorrowedFd<'_>,
    bounds: &Bounds<'_>,
) -> Result<(), RootfsError> {
    let (mut source, compression) =
        read_members(archive, file, |source| source, |members| unpack_members(members, dest, bounds))?;
    source.finish().map_err(|source| unreadable(archive, compression, None, source))
}

/// Reads the members of an archive by `work`, and returns the rest of the bytes, which `wrap` may have wrapped.
fn read_members<R: BufRead>(
    archive: &Path,
    file: BorrowedFd<'_>,
    wrap: impl FnOnce(Source) -> R,
    work: impl FnOnce(&mut Members<R>) -> Result<(), Failure>,
) -> Result<(R, Option<Compression>), RootfsError> {
    let read = |source| RootfsError::Read { path: archive.to_owned(), source };
    let file = regular::reopen(file).map_err(read)?;
    let format = ImageFormat::of(&file).map_err(read)?;
    let (source, compression, start) = Source::new(file).map_err(read)?;
    if compression.is_none() {
        check_start(&start, format).map_err(|problem| RootfsError::Archive { archive: archive.to_owned(), problem })?;
    }
    let mut members = Members::new(wrap(source));
    work(&mut members).map_err(|error| {
        let entry = members.current().map(shown);
        match error {
            Failure::Stopped => RootfsError::Stopped,
            Failure::TooLarge(UnpackRoom { bytes, files }) => {
                RootfsError::TooLarge { archive: archive.to_owned(), bytes, files }
            }
            Failure::Archive(Fault::Read(source)) => unreadable(archive, compression, entry, source),
            Failure::Archive(Fault::Broken(problem)) => broken(archive, entry, problem),
            Failure::Archive(Fault::After(problem)) => {
                let place = if entry.is_some() { "after this entry" } else { "at its beginning" };
                broken(archive, entry, format!("{problem} {place}"))
            }
            Failure::Tree(TreeError { action, source }) => {
                let entry = entry.unwrap_or_else(|| "the root".to_owned());
                RootfsError::Write { archive: archive.to_owned(), entry, action, source }
            }
        }
    })?;
    Ok((members.into_inner(), compression))
}

fn broken(archive: &Path, entry: Option<String>, problem: String) -> RootfsError {
    match entry {
        Some(entry) => RootfsError::Entry { archive: archive.to_owned(), entry, problem },
        None => RootfsError::Archive { archive: archive.to_owned(), problem },
    }
}

fn unreadable(
    archive: &Path,
    compression: Option<Compression>,
    entry: Option<String>,
    source: io::Error,
) -> RootfsError {
    match compression {
        None => RootfsError::Read { path: archive.to_owned(), source },
        Some(compression) => broken(archive, entry, format!("its {} data is broken: {source}", compression.name())),
    }
}

/// The reason why unpacking stops.
enum Failure {
    Archive(Fault),
    Tree(TreeError),
    /// The caller stopped it.
    Stopped,
    /// It takes more room than this.
    TooLarge(UnpackRoom),
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self::Archive(fault)
    }
}

impl From<TreeError> for Failure {
    fn from(error: TreeError) -> Self {
        Self::Tree(error)
    }
}

fn unpack_members<R: BufRead>(
    members: &mut Members<R>,
    dest: BorrowedFd<'_>,
    bounds: &Bounds<'_>,
) -> Result<(), Failure> {
    let mut tree = Tree::new(dest)?;
    while let Some(member) = members.next()? {
        bounds.entry()?;
        unpack_member(members, member, &mut tree, bounds)?;
    }
    Ok(tree.close()?)
}

fn unpack_member<R: BufRead>(
    members: &mut Members<R>,
    member: Member,
    tree: &mut Tree,
    bounds: &Bounds<'_>,
) -> Result<(), Failure> {
    let Member { name, kind, meta } = member;
    let refused = |problem: &str| Failure::Archive(Fault::Broken(problem.to_owned()));
    let path = normalise(&name).map_err(|problem| refused(&format!("its name {problem}")))?;
    if path.is_empty() && !matches!(kind, MemberKind::Directory) {
        return Err(refused("it would replace the root by a file that is not a directory"));
    }
    match kind {
        MemberKind::Directory => tree.directory(&path, &meta)?,
        MemberKind::Symlink(target) => tree.symlink(&path, &target, &meta)?,
        MemberKind::HardLink(target) => {
            let target = normalise(&target).map_err(|problem| refused(&format!("its target {problem}")))?;
            tree.hard_link(&path, &target)?;
        }
        MemberKind::Node(kind, device) => tree.node(&path, kind, device, &meta)?,
        MemberKind::File(size) => {
            let mut file = tree.file(&path)?;
            copy(members, &mut file, size, bounds)?;
            Tree::finish(&file, &meta)?;
        }
        MemberKind::Sparse(map) => {
            let mut file = tree.file(&path)?;
            let written = |source| TreeError { action: "write its content".to_owned(), source };
            file.set_len(map.size).map_err(written)?;
            for segment in map.segments.iter().filter(|segment| segment.length > 0) {
                file.seek(SeekFrom::Start(segment.offset)).map_err(written)?;
                copy(members, &mut file, segment.length, bounds)?;
            }
            Tree::finish(&file, &meta)?;
        }
    }
    Ok(())
}

/// Copies that many bytes of the current member's content.
fn copy<R: BufRead>(
    members: &mut Members<R>,
    file: &mut File,
    mut remaining: u64,
    bounds: &Bounds<'_>,
) -> Result<(), Failure> {
    while remaining > 0 {
        let bytes = members.content()?;
        let most = usize::try_from(remaining).unwrap_or(usize::MAX);
        let bytes = &bytes[..bytes.len().min(most)];
        bounds.bytes(bytes.len())?;
        file.write_all(bytes).map_err(|source| TreeError { action: "write its content".to_owned(), source })?;
        let count = bytes.len();
        if count == 0 {
            // Sizes and maps were checked against the stored size before.
            return Err(Fault::Broken("its content is shorter than its size".to_owned()).into());
        }
        members.consume(count);
        remaining -= count as u64;
    }
    Ok(())
}

/// Returns a name as it can be shown in one line.
fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(name).escape_debug().to_string()
}

/// Checks that an uncompressed file starts like an archive. The error describes its first bytes.
fn check_start(start: &[u8], format: Option<ImageFormat>) -> Result<(), String> {
    if start.is_empty() {
        return Err("it is empty".to_owned());
    }
    // The zeros before its superblock would be an empty archive.
    if format == Some(ImageFormat::Erofs) && start.iter().all(|byte| *byte == 0) {
        return Err("it is an EROFS image: use `erofs` in place of `tar`".to_owned());
    }
    if start.len() == 512 {
        let header = Header::from_byte_slice(start);
        if checksum_matches(header) || start.iter().all(|byte| *byte == 0) {
            return Ok(());
        }
    }
    let known: [(&[u8], &str); 15] = [
        (b"PK\x03\x04", "a zip archive"),
        (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
        (b"Rar!", "a rar archive"),
        (b"\x04\x22\x4d\x18", "lz4, which is not supported"),
        (b"LZIP", "lzip, which is not supported"),
        (b"\x5d\0\0", "lzma without xz, which is not supported"),
        (b"\x89LZO", "lzop, which is not supported"),
        (b"\x1f\x9d", "compress (.Z), which is not supported"),
        (b"hsqs", "a squashfs image: use `squashfs` in place of `tar`"),
        (b"070701", "a cpio archive"),
        (b"!<arch>\n", "an ar archive, such as a Debian package"),
        (b"\xed\xab\xee\xdb", "an rpm package"),
        (b"\x7fELF", "an ELF file"),
        (b"<", "a web page or XML"),
        (b"{", "JSON"),
    ];
    let looks = known.iter().find(|(magic, _)| start.starts_with(magic)).map(|(_, what)| *what);
    let bytes = start[..start.len().min(8)].iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ");
    match looks {
        Some(looks) => Err(format!("it is not a tar archive; it starts with `{bytes}`, which looks like {looks}")),
        None => Err(format!(
            "it is not a tar archive, plain or compressed by gzip, xz, zstd or bzip2; it starts with `{bytes}`"
        )),
    }
}

#[cfg(test)]
mod tests;
