//! The export of a step, as the user writes it.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::scalar::{Named, Text, User};
use super::schema;

/// The files of the root that an export step writes to the host.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    expecting = "a map that describes an export, such as { format: files, path: /usr/bin/hello, output: out/hello }"
)]
#[schemars(rename = "Export", title = "export", transform = schema::export)]
pub struct ExportDef {
    /// The form in which the files are written.
    #[schemars(required, transform = schema::export_format, example = &"files")]
    pub format: Option<String>,
    /// The file or directory of the root that is exported: an absolute path inside the container. Symbolic links on the way to it
    /// are followed inside the root. Default: `/`.
    #[schemars(example = &"/usr/bin/hello", example = &"/opt/sdk")]
    pub path: Option<String>,
    /// The file or directory to write, relative to the manifest. It belongs to the user who called `sudo`, else to the user who
    /// runs runner. Runner replaces it when the new one is complete: a file always, a directory only where runner exported all files
    /// that are in it. Required, unless there is a `push`.
    #[schemars(example = &"out/product")]
    pub output: Option<String>,
    /// How the archive or image is compressed: tar and cpio by `none`, `gzip`, `zstd` or `xz`, erofs by `lz4` or `none`, squashfs by any of
    /// these; the layers of oci by `gzip`, `zstd` or `none`, of squashfs by any. Default: of tar and cpio by the end of the output's name (`.gz`, `.tgz`, `.zst`, `.xz` and the like), else `none`; of
    /// squashfs `zstd`, of erofs `lz4`, of oci `gzip`.
    #[schemars(transform = schema::compression, example = &"gzip")]
    pub compression: Option<String>,
    /// The level of the compression: of zstd 1 to 22, default 3; of gzip 1 to 9, default 6, of squashfs 9. The others have no level.
    #[schemars(example = 9)]
    pub level: Option<u32>,
    /// Of an OCI image: the settings with which it runs.
    #[schemars(example = json!({ "entrypoint": ["/usr/bin/hello"], "user": "1000:1000" }))]
    pub config: Option<OciConfigDef>,
    /// Of an OCI image: the form of its layers. Default: `tar`.
    #[schemars(transform = schema::oci_layers, example = &"tar")]
    pub layers: Option<String>,
    /// Of an OCI image: its tag in the layout, or a name and its tag: by the name, Docker and containerd know the image that they load
    /// from the layout. Default: `latest`.
    #[schemars(example = &"v1.2", example = &"hello:v1.2")]
    pub tag: Option<String>,
    /// Of an OCI image: its name in a registry, with a tag (default `latest`), as of `image` of a `rootfs` but without a digest. The image
    /// is pushed there when it is in the store and at its output. A later build asks the registry where the tag leads, and pushes the
    /// image again only where it leads elsewhere. Another name makes no step run again.
    #[schemars(example = &"ghcr.io/owner/hello:v1.2", example = &"localhost:5000/hello")]
    pub push: Option<String>,
}

/// The settings with which an OCI image runs.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map with entrypoint, cmd, env, cwd, user, labels and stop_signal")]
#[schemars(rename = "OciConfig", title = "settings of an OCI image")]
pub struct OciConfigDef {
    /// The program and its first arguments.
    #[schemars(example = json!(["/usr/bin/hello", "--port", 8080, true]))]
    pub entrypoint: Option<Vec<Text>>,
    /// The arguments after those of `entrypoint`, or the program and its arguments where there is none; a user may replace them.
    #[schemars(example = json!(["--greeting", "hi", 3, false]))]
    pub cmd: Option<Vec<Text>>,
    /// Variables of the environment, beside `PATH`.
    #[schemars(example = json!({ "LANG": "C.UTF-8", "PORT": 8080, "DEBUG": true }))]
    pub env: Option<Named<Text>>,
    /// The directory in which the program starts: an absolute path inside. Default: `/`.
    #[schemars(example = &"/data")]
    pub cwd: Option<String>,
    /// The user who runs the program: `UID[:GID]` or `USER[:GROUP]`. Default: root.
    #[schemars(example = &"1000:1000", example = 1000)]
    pub user: Option<User>,
    /// Labels, such as those of the OCI image specification.
    #[schemars(example = json!({ "org.opencontainers.image.source": "https://example.org/hello", "build": 7, "nightly": true }))]
    pub labels: Option<Named<Text>>,
    /// The signal that asks the program to end.
    #[schemars(example = &"SIGINT")]
    pub stop_signal: Option<String>,
}
