//! The `copy` of a step as the user writes it.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::scalar::{Mode, User};

/// The files that a step copies into the container's root.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map that describes a copy, with from, source and target")]
#[schemars(rename = "Copy", title = "copy")]
pub struct CopyDef {
    /// The root that the files come from: the name of a snapshot step, which the step then waits for; or `host`.
    #[schemars(required, example = &"base-layer", example = &"host")]
    pub from: Option<String>,
    /// A file or a directory, or a list of them. Of a snapshot: absolute paths in its root. Of the host: paths relative to the
    /// manifest; files that a `.runnerignore` names are left out. A source that is a link is followed inside its root; links in a
    /// directory are copied as links.
    #[schemars(required, example = &"/usr/local/bin/hello", example = json!(["/usr/lib/libhello.so.1", "/etc/hello"]))]
    pub source: Option<CopySourcesDef>,
    /// The place in the container's root: an absolute path. With a `/` at its end, or with a list of sources, it is a directory, and
    /// each source goes into it under its own name. Otherwise the source gets this path: a file becomes this file, and the content of
    /// a directory the content of this directory. Runner makes missing directories.
    #[schemars(required, example = &"/usr/local/bin/", example = &"/opt/hello")]
    pub target: Option<String>,
    /// The owner of the copies: `UID[:GID]` or `USER[:GROUP]`; names are looked up in the container's root. Default: the owner in the
    /// snapshot; `0:0` for files of the host.
    #[schemars(example = &"www-data:www-data", example = 1000)]
    pub owner: Option<User>,
    /// Permission bits of the copied files, in octal, quoted. A copied directory can also be searched by whoever can read it: `0644`
    /// gives it 0755. Default: those of the source.
    #[schemars(example = &"0644")]
    pub mode: Option<Mode>,
}

/// The sources of a copy.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "`source` must be a path, or a list of paths")]
#[schemars(rename = "CopySources")]
pub enum CopySourcesDef {
    /// One path.
    #[schemars(description = "A file or a directory.", example = &"/usr/local/bin/hello")]
    One(String),
    /// Several paths.
    #[schemars(
        description = "Files and directories, which go into the directory `target`.",
        extend("minItems" = 1),
        example = json!(["/usr/lib/libhello.so.1", "/etc/hello"])
    )]
    Several(Vec<String>),
}
