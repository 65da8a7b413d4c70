//! Unpacks a layer of an OCI image onto the layers below it.
//!
//! The destination is an overlay whose lower layers are those of the image, so a path leads through links of any layer, a hard
//! link may lead to a file of any layer, and the kernel notes what the layer removes. A layer removes files by entries of special
//! names (OCI image spec, "Representing Changes"): `.wh.NAME` removes `NAME`, and `.wh..wh..opq` removes all that the
//! layers below have in its directory. Files of the layer itself stay, whatever the order of its entries is.

use std::collections::HashSet;
use std::io::{self, BufRead, Read};
use std::os::fd::BorrowedFd;
use std::path::Path;

use super::{Bounds, Failure, Fault, Members, RootfsError, Source, read_members, unpack_member, unreadable};
use crate::digest::{Digest, Hasher};
use crate::rootfs::decompress::read_buffered;
use crate::rootfs::tree::{Tree, TreeError, normalise};

/// The beginning of the names that remove files.
const WHITEOUT: &[u8] = b".wh.";

/// The name that removes everything below in its directory.
const OPAQUE: &[u8] = b".wh..wh..opq";

/// The beginning of the names of aufs' own files, which are no content.
const AUFS: &[u8] = b".wh..wh.";

/// Unpacks an open layer, with the path `archive`, into `dest`, and returns the digest of its content without compression. The
/// lowest layer goes into an empty directory.
///
/// # Errors
/// Those of [`unpack`](super::unpack).
pub fn unpack_layer(
    archive: &Path,
    file: BorrowedFd<'_>,
    dest: BorrowedFd<'_>,
    is_lowest: bool,
    bounds: &Bounds<'_>,
) -> Result<Digest, RootfsError> {
    let work = |members: &mut Members<Hashed<Source>>| {
        members.allow_no_end();
        let tree = if is_lowest { Tree::new(dest) } else { Tree::onto(dest) };
        unpack_members(members, tree?, bounds)
    };
    let (mut hashed, compression) = read_members(archive, file, Hashed::new, work)?;
    // The bytes after the end mark count too.
    io::copy(&mut hashed, &mut io::sink()).map_err(|source| unreadable(archive, compression, None, source))?;
    Ok(hashed.hasher.finish())
}

fn unpack_members<R: BufRead>(members: &mut Members<R>, mut tree: Tree, bounds: &Bounds<'_>) -> Result<(), Failure> {
    let mut own = HashSet::new();
    while let Some(member) = members.next()? {
        bounds.entry()?;
        let refused = |problem: &str| Failure::Archive(Fault::Broken(problem.to_owned()));
        let path = normalise(&member.name).map_err(|problem| refused(&format!("its name {problem}")))?;
        let (directory, name) = match path.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => (&path[..slash], &path[slash + 1..]),
            None => (&path[..0], &path[..]),
        };
        if name == OPAQUE {
            hide_below(&mut tree, directory, &own)?;
        } else if name.starts_with(AUFS) {
            continue;
        } else if let Some(removed) = name.strip_prefix(WHITEOUT) {
            if matches!(removed, b"" | b"." | b"..") {
                return Err(refused("its name removes no file"));
            }
            let removed = joined(directory, removed);
            if own.contains(&removed) {
                hide_below(&mut tree, &removed, &own)?;
            } else {
                tree.remove_all(&removed)?;
            }
        } else {
            // With the directories above, which the layer has as well.
            let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
            own.extend(ends.map(|end| path[..end].to_vec()));
            own.insert(path.clone());
            unpack_member(members, member, &mut tree, bounds)?;
        }
    }
    Ok(tree.close()?)
}

/// Removes everything in a directory that the layer itself did not write.
fn hide_below(tree: &mut Tree, directory: &[u8], own: &HashSet<Vec<u8>>) -> Result<(), TreeError> {
    let mut remaining = vec![directory.to_vec()];
    while let Some(directory) = remaining.pop() {
        for (name, is_directory) in tree.names(&directory)? {
            let path = joined(&directory, &name);
            if !own.contains(&path) {
                tree.remove_all(&path)?;
            } else if is_directory {
                remaining.push(path);
            }
        }
    }
    Ok(())
}

fn joined(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, b"/", name].concat() }
}

/// A reader that hashes all bytes that are read from it.
struct Hashed<R> {
    inner: R,
    hasher: Hasher,
}

impl<R> Hashed<R> {
    fn new(inner: R) -> Self {
        Self { inner, hasher: Hasher::new() }
    }
}

impl<R: BufRead> BufRead for Hashed<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        // The buffer has the bytes, so nothing is read.
        if let Ok(bytes) = self.inner.fill_buf() {
            self.hasher.update(&bytes[..count.min(bytes.len())]);
        }
        self.inner.consume(count);
    }
}

impl<R: BufRead> Read for Hashed<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        read_buffered(self, into)
    }
}
