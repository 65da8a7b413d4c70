//! OCI images: a layout with one layer for each layer of the root, so that images on the same base share its layers.
//!
//! The types of `oci-spec` are serialised with sorted keys, and all times are the epoch: the same root gives the same bytes. Only the
//! processor of this host is known, not that of the programs in the root.

mod layer;

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Write};
use std::os::fd::BorrowedFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use oci_spec::image::{
    Arch, ConfigBuilder, Descriptor, DescriptorBuilder, HistoryBuilder, ImageConfigurationBuilder, ImageIndexBuilder,
    ImageManifestBuilder, MediaType, OciLayoutBuilder, Os, PlatformBuilder, RootFsBuilder, SCHEMA_VERSION,
};
use serde::Serialize;

use super::watch::Watch;
use super::{Epoch, Lost};
use crate::digest::Digest;
use crate::fs::copy_tree::copy_tree;
use crate::model::{Compression, Export, OciImage, OciLayers};
use crate::snapshot::{ImageOptions, normalise, write_image};
use layer::LayerWriter;

/// The annotation with the tag.
const TAG: &str = "org.opencontainers.image.ref.name";

/// The annotation with the whole name, by which containerd and Docker know the image.
const NAME: &str = "io.containerd.image.name";

/// The media type of a squashfs layer, with its compression: the one of stacker.
const SQUASHFS: &str = "application/vnd.stacker.image.layer.squashfs";

/// The search path of an image that names none, as steps have it.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The layers of a root, the lowest first.
#[derive(Debug, Clone, Default)]
pub struct Layers {
    pub all: Vec<PathBuf>,
    /// The topmost one is the upper directory of a session that continues, and must not be changed.
    pub is_top_in_use: bool,
}

/// An image that is being written.
pub struct Layout<'a> {
    pub export: &'a Export,
    pub epoch: Epoch,
    pub interrupt: BorrowedFd<'a>,
    /// The directory that becomes the layout.
    directory: &'a Path,
    lost: Lost,
}

/// A layer in the layout.
struct Blob {
    descriptor: Descriptor,
    /// The digest of its content before it was compressed.
    diff_id: Digest,
}

impl<'a> Layout<'a> {
    /// Begins a layout in an empty directory.
    ///
    /// # Errors
    /// Those of making its directories.
    pub fn new(export: &'a Export, epoch: Epoch, interrupt: BorrowedFd<'a>, directory: &'a Path) -> io::Result<Self> {
        for below in ["", "blobs", "blobs/sha256"] {
            let path = directory.join(below);
            if !below.is_empty() {
                DirBuilder::new().mode(0o755).create(&path)?;
            }
            // Set explicitly, because the umask depends on how runner was started.
            fs::set_permissions(&path, Permissions::from_mode(0o755))?;
        }
        Ok(Self { export, epoch, interrupt, directory, lost: Lost::default() })
    }

    /// Writes an image of these layers.
    ///
    /// # Errors
    /// Those of reading the layers and writing; a name in them that means a deletion in an OCI image.
    pub fn write(mut self, image: &OciImage, layers: &Layers, watch: &mut Watch<'_>) -> io::Result<Lost> {
        let mut blobs = Vec::new();
        for (n, path) in layers.all.iter().enumerate() {
            let blob = match image.layers {
                OciLayers::Tar => self.tar(path, &layers.all[..n], watch)?,
                OciLayers::Squashfs => {
                    let is_in_use = layers.is_top_in_use && n + 1 == layers.all.len();
                    Some(self.squashfs(path, &layers.all[..n], is_in_use, n)?)
                }
            };
            blobs.extend(blob);
        }
        let mut manifest = self.manifest(image, &blobs)?;
        let name = image.name.as_ref().map(|name| (NAME.to_owned(), format!("{name}:{}", image.tag)));
        manifest.set_annotations(Some([(TAG.to_owned(), image.tag.clone())].into_iter().chain(name).collect()));
        let index = ImageIndexBuilder::default()
            .schema_version(SCHEMA_VERSION)
            .media_type(MediaType::ImageIndex)
            .manifests(vec![manifest])
            .build()
            .map_err(io::Error::other)?;
        self.file("index.json", &json(&index)?)?;
        let layout = OciLayoutBuilder::default().image_layout_version("1.0.0").build().map_err(io::Error::other)?;
        self.file("oci-layout", &json(&layout)?)?;
        Ok(self.lost)
    }

    /// Writes the configuration and the manifest. Returns the manifest's descriptor.
    fn manifest(&self, image: &OciImage, blobs: &[Blob]) -> io::Result<Descriptor> {
        let created = self.created();
        let mut config = ConfigBuilder::default();
        let mut env: Vec<String> = image.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
        if !image.env.contains_key("PATH") {
            env.insert(0, PATH.to_owned());
        }
        config = config.env(env);
        if let Some(entrypoint) = &image.entrypoint {
            config = config.entrypoint(entrypoint.clone());
        }
        if let Some(cmd) = &image.cmd {
            config = config.cmd(cmd.clone());
        }
        if let Some(cwd) = &image.cwd {
            config = config.working_dir(cwd.display().to_string());
        }
        if let Some(user) = &image.user {
            config = config.user(user.clone());
        }
        if let Some(signal) = &image.stop_signal {
            config = config.stop_signal(signal.clone());
        }
        if !image.labels.is_empty() {
            config = config.labels(image.labels.clone().into_iter().collect::<std::collections::HashMap<_, _>>());
        }
        let history = (1..=blobs.len()).map(|n| {
            let by = format!("runner: layer {n} of {}", blobs.len());
            HistoryBuilder::default().created(created.clone()).created_by(by).build().map_err(io::Error::other)
        });
        let diff_ids: Vec<String> = blobs.iter().map(|blob| blob.diff_id.to_string()).collect();
        let root = RootFsBuilder::default().typ("layers").diff_ids(diff_ids).build().map_err(io::Error::other)?;
        let configuration = ImageConfigurationBuilder::default()
            .created(created.clone())
            .architecture(Arch::default())
            .os(Os::Linux)
            .config(config.build().map_err(io::Error::other)?)
            .rootfs(root)
            .history(history.collect::<io::Result<Vec<_>>>()?)
            .build()
            .map_err(io::Error::other)?;
        let config = self.blob(MediaType::ImageConfig, &json(&configuration)?)?;
        if image.is_archive && image.layers == OciLayers::Tar {
            self.file("manifest.json", &docker_manifest(image, &config, blobs)?)?;
        }
        let manifest = ImageManifestBuilder::default()
            .schema_version(SCHEMA_VERSION)
            .media_type(MediaType::ImageManifest)
            .config(config)
            .layers(blobs.iter().map(|blob| blob.descriptor.clone()).collect::<Vec<_>>())
            .build()
            .map_err(io::Error::other)?;
        let mut manifest = self.blob(MediaType::ImageManifest, &json(&manifest)?)?;
        let platform = PlatformBuilder::default().architecture(Arch::default()).os(Os::Linux);
        manifest.set_platform(Some(platform.build().map_err(io::Error::other)?));
        Ok(manifest)
    }

    /// Writes a tar layer; none where it changes nothing of those below it.
    fn tar(&mut self, layer: &Path, below: &[PathBuf], watch: &mut Watch<'_>) -> io::Result<Option<Blob>> {
        let Export { compression, level, .. } = *self.export;
        let temp = self.directory.join("blobs/sha256/layer");
        let file = File::create_new(&temp)?;
        let written = layer::write(layer, LayerWriter { epoch: self.epoch, below }, file, (compression, level), watch)?;
        self.lost.sockets += written.sockets;
        if written.is_empty && !below.is_empty() {
            fs::remove_file(&temp)?;
            return Ok(None);
        }
        let media_type = match compression {
            Compression::Gzip => MediaType::ImageLayerGzip,
            Compression::Zstd => MediaType::ImageLayerZstd,
            _ => MediaType::ImageLayer,
        };
        let descriptor = self.named(&temp, media_type, written.digest, written.size)?;
        Ok(Some(Blob { descriptor, diff_id: written.diff_id }))
    }

    /// Writes a squashfs layer, with the marks of overlayfs.
    fn squashfs(&self, layer: &Path, below: &[PathBuf], is_in_use: bool, n: usize) -> io::Result<Blob> {
        let Export { compression, level, .. } = *self.export;
        let temp = self.directory.join("blobs/sha256/layer");
        let copy = self.directory.with_extension(format!("copy{n}"));
        let root = if is_in_use {
            // A layer has fewer marks and times than the upper directory of a mounted overlay.
            DirBuilder::new().mode(0o700).create(&copy)?;
            copy_tree(layer, &copy, &mut |_| Ok(()))?;
            normalise(&copy, self.epoch, &|path| layer::exists_in(below, path))?;
            copy.as_path()
        } else {
            layer
        };
        let options = ImageOptions { compression, level, source_date_epoch: self.epoch };
        let written = write_image(root, &temp, options, self.interrupt, &mut |_| {}).map_err(io::Error::other);
        if is_in_use {
            crate::fs::remove_tree::remove_tree(&copy)?;
        }
        written?;
        let file = File::open(&temp)?;
        let (digest, size) = (Digest::of_file(&file)?, file.metadata()?.len());
        let media_type = MediaType::Other(match compression {
            Compression::None => SQUASHFS.to_owned(),
            compression => format!("{SQUASHFS}+{}", compression.name()),
        });
        let descriptor = self.named(&temp, media_type, digest, size)?;
        Ok(Blob { descriptor, diff_id: digest })
    }

    fn blob(&self, media_type: MediaType, bytes: &[u8]) -> io::Result<Descriptor> {
        let temp = self.directory.join("blobs/sha256/new");
        fs::write(&temp, bytes)?;
        self.named(&temp, media_type, Digest::of_bytes(bytes), bytes.len() as u64)
    }

    /// Gives a blob the name of its digest. Returns its descriptor.
    fn named(&self, temp: &Path, media_type: MediaType, digest: Digest, size: u64) -> io::Result<Descriptor> {
        fs::set_permissions(temp, Permissions::from_mode(0o644))?;
        crate::fs::atomic::rename(temp, &self.directory.join("blobs/sha256").join(digest.hex()))?;
        let oci: oci_spec::image::Digest = digest.to_string().parse().map_err(io::Error::other)?;
        DescriptorBuilder::default().media_type(media_type).digest(oci).size(size).build().map_err(io::Error::other)
    }

    fn file(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.directory.join(name);
        File::create_new(&path)?.write_all(bytes)?;
        fs::set_permissions(&path, Permissions::from_mode(0o644))
    }

    /// Returns the time of the image, RFC 3339.
    fn created(&self) -> String {
        let epoch = self.epoch.and_then(|seconds| UNIX_EPOCH.checked_add(Duration::from_secs(seconds)));
        humantime::format_rfc3339_seconds(epoch.unwrap_or_else(SystemTime::now)).to_string()
    }
}

/// Returns the file by which `docker load` finds the image in an archive, as `docker save` writes it beside the layout: versions of
/// Docker before 25 know no layout.
fn docker_manifest(image: &OciImage, config: &Descriptor, blobs: &[Blob]) -> io::Result<Vec<u8>> {
    let path = |blob: &Descriptor| format!("blobs/sha256/{}", blob.digest().digest());
    let layers: Vec<String> = blobs.iter().map(|blob| path(&blob.descriptor)).collect();
    let names = image.name.as_ref().map(|name| vec![format!("{name}:{}", image.tag)]);
    json(&[serde_json::json!({ "Config": path(config), "RepoTags": names, "Layers": layers })])
}

/// Returns a value as JSON with sorted keys: some of the types have maps in no order.
fn json(value: &impl Serialize) -> io::Result<Vec<u8>> {
    Ok(serde_json::to_vec(&serde_json::to_value(value)?)?)
}
