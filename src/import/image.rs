//! Imports an OCI image: each of its layers becomes a layer of the store, under its chain id.
//!
//! A layer is unpacked onto an overlay of the layers below it. So what its paths, links and whiteouts mean is decided by the
//! kernel on the same files as later in a session, and the changes are a layer as that of a snapshot. The chain id names the
//! content of a layer and of all below; it is calculated from what was unpacked, and not taken from the image.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use rustix::fs::{Mode, OFlags};

use super::{Import, ImportError, Importer, Importing, fields, unpacked};
use crate::digest::Digest;
use crate::event::ImportMethod;
use crate::fs::dirfd::real_path;
use crate::fs::in_root::open_beneath;
use crate::mount::{FileNumbers, mount_overlay};
use crate::oci::{Blobs, Image, LayerBlob, LayerKind, OciError};
use crate::registry::each_layer;
use crate::rootfs;
use crate::session::{LowerLayer, Scratch, Workspace, copy_attributes};
use crate::snapshot;
use crate::store::LayerPin;

impl Importer<'_> {
    /// Returns the layers of an image, the lowest first, and imports those first that the store lacks. `name` names the image in
    /// listings, and `first` is the digest of its first document.
    ///
    /// # Errors
    /// A layer is broken or cannot be had; the store cannot be written.
    pub fn image<B>(
        &self,
        (name, method): (&str, ImportMethod),
        (first, image): (&Digest, &Image),
        blobs: &B,
        of: Importing<'_>,
    ) -> Result<Vec<(LowerLayer, LayerPin)>, ImportError>
    where
        B: Blobs + Sync,
        B::Error: Send,
        ImportError: From<B::Error>,
    {
        let names = image.layers.iter().enumerate().map(|(n, layer)| names(name, n, layer));
        let names: Vec<[String; 2]> = names.collect();
        let mut pins = Vec::new();
        for [source, _] in &names {
            pins.push(self.stored(&fields(source).key())?);
        }
        let missing: Vec<usize> = (0..pins.len()).filter(|n| pins[*n].is_none()).collect();
        let blobs_of: Vec<LayerBlob> = missing.iter().map(|n| image.layers[*n].clone()).collect();
        let size = blobs_of.iter().fold(0_u64, |sum, layer| sum.saturating_add(layer.size));
        let arrival = self.arrival(of, name.to_owned(), method).of(*first, Some(size));
        if !missing.is_empty() {
            arrival.begin();
        }
        let arrived = |number: usize, bytes: u64| arrival.arrived(number, bytes, None);
        each_layer::<B, ImportError>(blobs, &blobs_of, &|| self.blob_file(), &arrived, |number, file| {
            let n = missing[number];
            let below = mounted(&pins[..n], of.workspace)?;
            let [source, step] = names[n].clone();
            let import = Import { source, step, of, arrival: &arrival, is_on_others: n > 0 };
            // Its path before: a squashfs layer is moved into the store.
            let path = real_path(file.as_fd())?;
            let imported = self.one(&import, &image.layers[n], &file, &below);
            // Where it cannot be removed now, the end of the lease removes it.
            let _ = fs::remove_file(path);
            pins[n] = Some(imported?);
            Ok(())
        })?;
        arrival.done(first);
        let mut layers = Vec::new();
        for pin in pins.into_iter().flatten() {
            layers.push((of.workspace.image(pin.path())?, pin));
        }
        Ok(layers)
    }

    /// Makes a file for the bytes of a layer.
    pub(super) fn blob_file(&self) -> io::Result<File> {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let path = self.lease.temp_file(&format!("blob{number}")).map_err(io::Error::other)?;
        File::options().read(true).write(true).create_new(true).open(path)
    }

    fn one(
        &self,
        import: &Import<'_>,
        layer: &LayerBlob,
        blob: &File,
        below: &[LowerLayer],
    ) -> Result<LayerPin, ImportError> {
        if layer.kind == LayerKind::Squashfs {
            if layer.diff_id != layer.digest {
                return Err(wrong_content(layer, layer.digest));
            }
            let image = real_path(blob.as_fd())?;
            return self.put_image(import, &image, layer.digest, layer.size);
        }
        let pin = self.layer(import, |to, scratch| {
            self.unpack_layer(layer, blob, below, to, (scratch, import))?;
            Ok(true)
        })?;
        pin.ok_or_else(|| ImportError::Io(io::Error::other("the layer was not imported")))
    }

    fn unpack_layer(
        &self,
        layer: &LayerBlob,
        blob: &File,
        below: &[LowerLayer],
        to: BorrowedFd<'_>,
        (scratch, import): (&Scratch, &Import<'_>),
    ) -> Result<(), ImportError> {
        let name = PathBuf::from(format!("layer {}", layer.digest));
        let report = unpacked(import.arrival);
        let bounds = self.bounds(import, &report);
        let found = match below.split_last() {
            None => rootfs::unpack_layer(&name, blob.as_fd(), to, true, &bounds)?,
            Some((top, _)) => {
                let upper = real_path(to)?;
                let top =
                    rustix::fs::open(top.path(), OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
                copy_attributes(top.map_err(io::Error::from)?.as_fd(), Path::new("/"), &upper)?;
                let work = scratch.directory("work")?;
                let target = import.of.workspace.directory("import")?;
                let lowers: Vec<&Path> = below.iter().rev().map(LowerLayer::path).collect();
                let overlay = mount_overlay(&lowers, Some((&upper, &work)), &target, FileNumbers::Stable);
                let overlay = overlay.map_err(|error| {
                    let hint = error.hint();
                    io::Error::other(crate::error::error_chain_with_hint(&error, hint))
                })?;
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                let root = rustix::fs::open(overlay.path(), flags, Mode::empty()).map_err(io::Error::from)?;
                let unpacked = rootfs::unpack_layer(&name, blob.as_fd(), root.as_fd(), false, &bounds);
                drop(root);
                overlay.close()?;
                let found = unpacked?;
                snapshot::normalise(&upper, None, &|path| is_in(below, path))?;
                found
            }
        };
        if found == layer.diff_id { Ok(()) } else { Err(wrong_content(layer, found)) }
    }
}

/// Returns the source and the name in listings of a layer of an image.
/// Returns the id of a layer in a key. The same bytes may be an archive and an image.
pub(super) fn source(layer: &LayerBlob) -> String {
    match layer.kind {
        LayerKind::Tar => format!("oci layer {}", layer.chain_id),
        LayerKind::Squashfs => format!("oci squashfs layer {}", layer.chain_id),
    }
}

fn names(name: &str, n: usize, layer: &LayerBlob) -> [String; 2] {
    [source(layer), format!("{name} layer {}", n + 1)]
}

fn wrong_content(layer: &LayerBlob, found: Digest) -> ImportError {
    let problem =
        format!("the content of the layer {} has the digest {found}, and it says {}", layer.digest, layer.diff_id);
    ImportError::from(OciError::Document { name: "the configuration".to_owned(), problem })
}

/// Mounts the layers below, all of which are there.
fn mounted(pins: &[Option<LayerPin>], workspace: &Workspace) -> io::Result<Vec<LowerLayer>> {
    workspace.distinct(pins.iter().flatten().map(|pin| workspace.image(pin.path())).collect::<io::Result<_>>()?)
}

/// Whether one of these layers has a file at an absolute path.
fn is_in(layers: &[LowerLayer], path: &Path) -> bool {
    let below = path.strip_prefix("/").unwrap_or(path);
    layers.iter().any(|layer| {
        let top = rustix::fs::open(layer.path(), OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        let opened = top.and_then(|top| open_beneath(top, below, OFlags::PATH | OFlags::NOFOLLOW));
        // A path that cannot be opened may exist.
        !matches!(opened, Err(rustix::io::Errno::NOENT))
    })
}
