//! The writer of an export, as it is in a cache key: its version, and that of its compressor.

use std::path::PathBuf;

use super::erofs::find_mkfs;
use crate::model::{Compression, Export, ExportFormat};
use crate::snapshot::uses_mksquashfs;
use crate::squashfs;

/// The version of what runner's own writers of archives write. To be raised with each change of their bytes.
const ARCHIVES: u32 = 2;

/// The writer of an export.
pub enum Writer {
    /// Runner itself, with this version.
    Own(String),
    /// This program; none where the host lacks it.
    MkfsErofs(Option<PathBuf>),
    /// mksquashfs(1), which the environment requests.
    Mksquashfs,
}

/// Returns the writer of an export.
pub fn writer(export: &Export) -> Writer {
    match export.format {
        ExportFormat::Files => Writer::Own(squashfs::writer(Compression::Zstd)),
        ExportFormat::Squashfs if uses_mksquashfs() => Writer::Mksquashfs,
        ExportFormat::Squashfs => Writer::Own(squashfs::writer(export.compression)),
        ExportFormat::Erofs => Writer::MkfsErofs(find_mkfs()),
        ExportFormat::Oci => {
            let of_layers = squashfs::writer(export.compression);
            // The store has the image of a layout directory.
            Writer::Own(format!("oci {ARCHIVES} {of_layers} {}", squashfs::writer(Compression::None)))
        }
        ExportFormat::Tar | ExportFormat::Cpio => {
            Writer::Own(format!("{} {ARCHIVES}{}", export.format.name(), squashfs::compressor(export.compression)))
        }
    }
}
