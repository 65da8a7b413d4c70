//! The source of a root filesystem, as the user writes it.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::debian::DebianDef;
use super::schema;

/// The source of a root filesystem.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map with one source, such as { squashfs: base.squashfs }")]
#[schemars(rename = "Rootfs", title = "source of a root filesystem", transform = schema::one_source)]
pub struct RootfsDef {
    /// A squashfs image, or images that are layers of one root, the lowest first: paths, relative to the manifest.
    #[schemars(example = &"images/debian.squashfs", example = json!(["base.squashfs", "sdk.squashfs"]))]
    pub squashfs: Option<LayersDef>,
    /// An EROFS image: a path, relative to the manifest. The kernel mounts it as it is, and must know EROFS.
    #[schemars(example = &"images/debian.erofs")]
    pub erofs: Option<String>,
    /// A tar archive, plain or compressed (gzip, xz, zstd, bzip2): a path, relative to the manifest.
    #[schemars(example = &"base.tar.zst")]
    pub tar: Option<String>,
    /// A directory of the host, relative to the manifest. Runner only reads it.
    #[schemars(example = &"root")]
    pub dir: Option<String>,
    /// A Debian root, or one of a distribution derived from it, that mmdebstrap(1) of the host makes in a container of its own: the
    /// steps `NAME.debian` and `NAME.root` before the steps of the container NAME.
    #[schemars(example = json!({ "suite": "bookworm", "include": ["ca-certificates"] }))]
    pub debian: Option<DebianDef>,
    /// An image in an OCI image layout, relative to the manifest: a directory or a tar archive of one, with the image's tag after a
    /// colon where the layout has several images.
    #[schemars(example = &"images/debian:12")]
    pub oci: Option<String>,
    /// An image of a registry, as in Compose. Runner asks the registry once where a tag leads, and from then on uses the image of
    /// the lock or of its store; `runner apply --pull` asks again.
    #[schemars(example = &"debian:12", example = &"ghcr.io/owner/name:1.0")]
    pub image: Option<String>,
    /// A squashfs image or a tar archive at a URL, https or http. Its digest must be known: by `digest`, or by the lock that
    /// `runner lock` writes.
    #[schemars(example = &"https://example.org/debian.tar.zst")]
    pub url: Option<String>,
    /// Of one squashfs or EROFS image, of an archive and of a URL: the digest of the file; of `image` and `oci`: that of the image's
    /// index or manifest. Other content is refused before any step runs. A list of layers, and every other source, has none.
    #[schemars(example = &"sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef")]
    pub digest: Option<String>,
    /// Of an image: the platform, where it is for several. Default: the host's.
    #[schemars(example = &"linux/arm64")]
    pub platform: Option<String>,
    /// Programs of the host, by path or by name in `PATH`, with the libraries and the loader that they need.
    #[schemars(example = json!(["/usr/bin/sh"]))]
    pub programs: Option<Vec<String>>,
    /// The name of a snapshot step of this manifest: the root as it was at that snapshot. The steps of this container wait for
    /// the snapshot.
    #[schemars(example = &"base-layer")]
    pub snapshot: Option<String>,
    /// `true`: an empty directory.
    #[schemars(extend("const" = true), example = true)]
    pub scratch: Option<bool>,
}

/// The images of a root filesystem.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "`squashfs` must be the path of an image, or a list of paths, the lowest layer first")]
#[schemars(rename = "Layers")]
pub enum LayersDef {
    /// One image.
    #[schemars(description = "An image of a whole root.", example = &"images/debian.squashfs")]
    One(String),
    /// Several layers.
    #[schemars(
        description = "Images that are mounted as layers, the lowest first: a file of a layer hides the file of that name below it.",
        extend("minItems" = 1),
        example = json!(["base.squashfs", "sdk.squashfs"])
    )]
    Stack(Vec<String>),
}
