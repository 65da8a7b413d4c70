//! The export of a step: the files of the root that it writes to the host.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::Compression;
use crate::oci::ImageName;

/// The files that an export step writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// The form of the output.
    pub format: ExportFormat,
    /// The file or directory of the root; absolute and normalised.
    pub path: PathBuf,
    /// The file or directory of the host, absolute; with none the export is in the store alone, as where it is only pushed or a
    /// build is verified.
    pub output: Option<PathBuf>,
    /// The compression; of files none.
    pub compression: Compression,
    /// The compressor's level; none: its default.
    pub level: Option<u32>,
    /// Of an OCI image: its settings.
    pub oci: Option<Box<OciImage>>,
    /// Of an OCI image: the tag of a registry that it is pushed to.
    pub push: Option<ImageName>,
}

/// The settings of an OCI image.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OciImage {
    /// The output is an archive of the layout.
    pub is_archive: bool,
    /// The form of the layers.
    pub layers: OciLayers,
    /// Its name without the tag, in full, such as `docker.io/library/hello`, if it has one.
    pub name: Option<String>,
    /// Its tag in the layout.
    pub tag: String,
    /// The program and its first arguments.
    pub entrypoint: Option<Vec<String>>,
    /// The arguments after those.
    pub cmd: Option<Vec<String>>,
    /// The variables of the environment, beside `PATH`.
    pub env: BTreeMap<String, String>,
    /// The directory in which the program starts.
    pub cwd: Option<PathBuf>,
    /// The user, as the manifest writes it.
    pub user: Option<String>,
    /// The labels.
    pub labels: BTreeMap<String, String>,
    /// The signal that asks the program to end.
    pub stop_signal: Option<String>,
}

/// The form of the layers of an OCI image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OciLayers {
    /// Tar archives.
    #[default]
    Tar,
    /// Squashfs images.
    Squashfs,
}

/// The form of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportFormat {
    /// The file or directory itself.
    Files,
    /// A tar archive.
    Tar,
    /// A squashfs image of the whole directory.
    Squashfs,
    /// An EROFS image.
    Erofs,
    /// A cpio archive, as an initramfs is.
    Cpio,
    /// An OCI image.
    Oci,
}

impl Export {
    /// Returns whether its output is an image that a system may start from, rather than files.
    pub fn is_image(&self) -> bool {
        self.format != ExportFormat::Files
    }

    /// Returns whether its output may be a directory.
    pub fn may_be_directory(&self) -> bool {
        self.format == ExportFormat::Files || self.oci.as_ref().is_some_and(|image| !image.is_archive)
    }
}

/// The ends of names of archives that say their compression.
const ENDS: [(&str, Compression); 6] = [
    (".gz", Compression::Gzip),
    (".tgz", Compression::Gzip),
    (".zst", Compression::Zstd),
    (".tzst", Compression::Zstd),
    (".xz", Compression::Xz),
    (".txz", Compression::Xz),
];

impl ExportFormat {
    /// Returns the format of that name.
    pub fn named(name: &str) -> Option<Self> {
        let all = [Self::Files, Self::Tar, Self::Squashfs, Self::Erofs, Self::Cpio, Self::Oci];
        all.into_iter().find(|one| one.name() == name)
    }

    /// Returns the compression of an output that names none: of an archive that of its name, else the first of the format's.
    pub fn default_compression(&self, output: &str) -> Compression {
        let by_name = ENDS.iter().find(|(end, _)| output.ends_with(end)).map(|(_, compression)| *compression);
        let by_name = by_name.filter(|_| matches!(self, Self::Tar | Self::Cpio));
        by_name.or(self.compressions().first().copied()).unwrap_or(Compression::None)
    }

    /// Returns its name in the manifest.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Files => "files",
            Self::Tar => "tar",
            Self::Squashfs => "squashfs",
            Self::Erofs => "erofs",
            Self::Cpio => "cpio",
            Self::Oci => "oci",
        }
    }

    /// Returns the compressions that it can have, its default one first; none for a form that is not compressed.
    pub fn compressions(&self) -> &'static [Compression] {
        use Compression::{Gzip, Lz4, None, Xz, Zstd};
        match self {
            Self::Files => &[],
            Self::Tar | Self::Cpio => &[None, Gzip, Zstd, Xz],
            Self::Squashfs => &[Zstd, Gzip, Xz, Lz4, None],
            Self::Erofs => &[Lz4, None],
            Self::Oci => &[Gzip, Zstd, None],
        }
    }
}
