//! A layer of an OCI image: a tar archive in which files named `.wh.NAME` mean deletions, made of overlayfs' own marks.
//!
//! | overlayfs | archive |
//! | --- | --- |
//! | a character device with the numbers 0, 0 | an empty file `.wh.NAME` |
//! | `trusted.overlay.opaque` of a directory that hides files of a layer below | an empty file `.wh..wh..opq` in it |
//! | other `trusted.overlay.*` | nothing: they belong to one mount |
//!
//! The lowest layer has nothing to delete.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{FileType, Mode, OFlags};

use crate::digest::{Digest, Hasher};
use crate::export::Epoch;
use crate::export::archive::tar::TarWriter;
use crate::export::archive::{self, Archive, Entry};
use crate::export::compress::Compressed;
use crate::export::watch::Watch;
use crate::fs::in_root::open_beneath;
use crate::model::Compression;

/// The beginning of the names that mean deletions.
const DELETED: &[u8] = b".wh.";

/// The name that hides all files of the layers below.
const OPAQUE: &str = ".wh..wh..opq";

/// The mark of overlayfs for the same.
const OVERLAY_OPAQUE: &[u8] = b"trusted.overlay.opaque";

/// How a layer is written.
#[derive(Clone, Copy)]
pub struct LayerWriter<'a> {
    pub epoch: Epoch,
    /// The layers below it.
    pub below: &'a [PathBuf],
}

/// A layer that was written.
pub struct WrittenLayer {
    /// The digest of the archive.
    pub diff_id: Digest,
    /// The digest and the size of the compressed archive.
    pub digest: Digest,
    pub size: u64,
    /// It has nothing but its root directory.
    pub is_empty: bool,
    pub sockets: u64,
}

/// Writes a layer to a file.
///
/// # Errors
/// Those of reading and writing; a file of the layer whose name means a deletion.
pub fn write(
    layer: &Path,
    writer: LayerWriter<'_>,
    to: File,
    (compression, level): (Compression, Option<u32>),
    watch: &mut Watch<'_>,
) -> io::Result<WrittenLayer> {
    let (packed, packed_sum) = Hashing::new(to);
    let (plain, plain_sum) = Hashing::new(Compressed::new(packed, compression, level)?);
    let mut archive = LayerArchive { tar: TarWriter::new(plain, writer.epoch), writer, entries: 0 };
    archive::walk(layer, &mut archive, watch)?;
    let LayerArchive { tar, entries, .. } = archive;
    let sockets = tar.left_out;
    tar.finish()?.to.finish()?;
    let (diff_id, _) = plain_sum.finish();
    let (digest, size) = packed_sum.finish();
    Ok(WrittenLayer { diff_id, digest, size, is_empty: entries <= 1, sockets })
}

/// Returns whether one of these layers has something at a path.
pub fn exists_in(layers: &[PathBuf], path: &Path) -> bool {
    let below = path.strip_prefix("/").unwrap_or(path);
    let has = |layer: &PathBuf| {
        let top = rustix::fs::open(layer, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        let found = top.and_then(|top| open_beneath(top, below, OFlags::PATH | OFlags::NOFOLLOW));
        // A path that cannot be opened may exist.
        !matches!(found, Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR))
    };
    layers.iter().any(has)
}

struct LayerArchive<'a, W: Write> {
    tar: TarWriter<W>,
    writer: LayerWriter<'a>,
    entries: u64,
}

impl<W: Write> Archive for LayerArchive<'_, W> {
    fn entry(&mut self, entry: &Entry<'_>, watch: &mut Watch<'_>) -> io::Result<()> {
        self.entries += 1;
        let name = entry.path.file_name().unwrap_or_default();
        if name.as_bytes().starts_with(DELETED) {
            let why = "its name begins with `.wh.`, which means a deletion in an OCI image; remove or rename it";
            return Err(io::Error::other(why));
        }
        let is_lowest = self.writer.below.is_empty();
        if entry.kind == FileType::CharacterDevice && entry.stat.st_rdev == 0 {
            if is_lowest {
                return Ok(());
            }
            let mut deleted = DELETED.to_vec();
            deleted.extend(name.as_bytes());
            let path = entry.path.with_file_name(std::ffi::OsStr::from_bytes(&deleted));
            return self.tar.empty_file(&path, entry.time(self.writer.epoch));
        }
        let is_opaque = entry.attributes.iter().any(|(name, value)| name == OVERLAY_OPAQUE && value == b"y");
        let mut plain = entry.clone();
        plain.attributes.retain(|(name, _)| !name.starts_with(b"trusted.overlay."));
        self.tar.entry(&plain, watch)?;
        if is_opaque && !is_lowest && exists_in(self.writer.below, entry.path) {
            self.tar.empty_file(&entry.path.join(OPAQUE), entry.time(self.writer.epoch))?;
        }
        Ok(())
    }
}

/// Hashes what is written through it.
struct Hashing<W: Write> {
    to: W,
    sum: Rc<Sum>,
}

/// The digest of what was written so far.
struct Sum {
    hasher: Cell<Option<Hasher>>,
    bytes: Cell<u64>,
}

impl Sum {
    fn finish(&self) -> (Digest, u64) {
        (self.hasher.take().unwrap_or_default().finish(), self.bytes.get())
    }
}

impl<W: Write> Hashing<W> {
    fn new(to: W) -> (Self, Rc<Sum>) {
        let sum = Rc::new(Sum { hasher: Cell::new(Some(Hasher::new())), bytes: Cell::new(0) });
        (Self { to, sum: Rc::clone(&sum) }, sum)
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.to.write(bytes)?;
        if let Some(mut hasher) = self.sum.hasher.take() {
            hasher.update(&bytes[..count]);
            self.sum.hasher.set(Some(hasher));
        }
        self.sum.bytes.set(self.sum.bytes.get() + count as u64);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}
