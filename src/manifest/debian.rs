//! The definition of a Debian root.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

/// A root of Debian packages: their suite, and the options of mmdebstrap(1).
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map with suite, such as { suite: bookworm }")]
#[schemars(rename = "Debian", title = "Debian root")]
pub struct DebianDef {
    /// The suite, such as a release's code name.
    #[schemars(required, example = &"bookworm")]
    pub suite: Option<String>,
    /// The URL of the package archive. A dated one, as on snapshot.debian.org, gives the same packages for ever. Default: Debian's
    /// own archive, with its security updates.
    #[schemars(example = &"http://deb.debian.org/debian", example = &"http://snapshot.debian.org/archive/debian/20260701T000000Z")]
    pub mirror: Option<String>,
    /// The set of packages, see mmdebstrap(1): `essential`, `apt`, `required`, `minbase`, `buildd`, `important` or `standard`.
    /// Default: `minbase`.
    #[schemars(example = &"apt")]
    pub variant: Option<String>,
    /// More packages.
    #[schemars(example = json!(["ca-certificates", "locales"]))]
    pub include: Option<Vec<String>>,
    /// The components of the archive. Default: `main`.
    #[schemars(example = json!(["main", "non-free-firmware"]))]
    pub components: Option<Vec<String>>,
    /// The file of keys that the archive must be signed with: a path, relative to the manifest. Default: that of Debian's package
    /// debian-archive-keyring.
    #[schemars(example = &"keys/archive.gpg")]
    pub keyring: Option<String>,
}
