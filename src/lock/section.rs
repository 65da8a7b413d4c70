//! The section of a lock file for one manifest and one set of `--set` variables.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::difference::Difference;
use super::inputs::LockedInputs;
use super::packages::LockedPackages;
use crate::escape::word;

/// The manifest and the variables that a section is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SectionId {
    /// The manifest, from the directory of the lock file.
    path: String,
    /// The variables that the command line sets.
    set: BTreeMap<String, String>,
}

impl SectionId {
    /// Makes the id of a manifest in a lock file. Follows links to their directories, where they exist.
    pub fn new(lock: &Path, manifest: &Path, set: BTreeMap<String, String>) -> Self {
        let above = |path: &Path| {
            let above = path.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
            above.canonicalize().unwrap_or_else(|_| above.to_owned())
        };
        let path = relative(&above(lock), &above(manifest)).join(manifest.file_name().unwrap_or_default());
        Self { path: path.to_string_lossy().into_owned(), set }
    }
}

/// Shows it as the arguments of a command, from the directory of the lock file.
impl fmt::Display for SectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&word(&self.path))?;
        self.set.iter().try_for_each(|(name, value)| write!(f, " --set {}", word(&format!("{name}={value}"))))
    }
}

/// Returns the relative path from one directory to another one.
fn relative(from: &Path, to: &Path) -> PathBuf {
    let same = from.components().zip(to.components()).take_while(|(one, other)| one == other).count();
    let up = from.components().skip(same).map(|_| Component::ParentDir);
    up.chain(to.components().skip(same)).collect()
}

/// The digests that a build must have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Section {
    /// As in [`SectionId`].
    path: String,
    /// The version of the runner that wrote it.
    runner: String,
    /// As in [`SectionId`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    set: BTreeMap<String, String>,
    /// Rootfs sources, by container.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rootfs: Vec<LockedRootfs>,
    /// Snapshots, by step.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub snapshot: Vec<LockedSnapshot>,
}

/// The content of a rootfs source.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedRootfs {
    /// The container's name.
    pub container: String,
    /// `squashfs`, `erofs`, `tar`, `dir`, `oci`, `image`, `url` or `programs`.
    pub kind: String,
    /// Of an image of a registry: its whole name; of a URL: the URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The digest of the content; for a list of layers one each, the lowest first.
    pub digests: Vec<String>,
}

/// The result of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedSnapshot {
    /// The step's name.
    pub step: String,
    /// The digest of the image.
    pub digest: String,
    /// Of a Debian root: its packages.
    #[serde(default, skip_serializing_if = "LockedPackages::is_empty")]
    pub packages: LockedPackages,
    /// Its inputs; none where some of them cannot be known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inputs: Option<LockedInputs>,
}

impl Section {
    /// Makes a section of these entries, in order.
    pub fn new(id: SectionId, mut rootfs: Vec<LockedRootfs>, mut snapshot: Vec<LockedSnapshot>) -> Self {
        rootfs.sort();
        snapshot.sort();
        let SectionId { path, set } = id;
        Self { path, runner: env!("CARGO_PKG_VERSION").to_owned(), set, rootfs, snapshot }
    }

    /// Returns the id of its manifest.
    pub fn id(&self) -> SectionId {
        SectionId { path: self.path.clone(), set: self.set.clone() }
    }

    /// Returns the entry of a snapshot.
    pub fn snapshot(&self, step: &str) -> Option<&LockedSnapshot> {
        self.snapshot.iter().find(|locked| locked.step == step)
    }

    /// Returns the locked digest of a snapshot.
    pub fn digest_of(&self, step: &str) -> Option<&str> {
        self.snapshot(step).map(|locked| locked.digest.as_str())
    }

    /// Returns the locked digest of an image or a URL, if the lock is for the same name.
    pub fn image(&self, container: &str, kind: &str, name: &str) -> Option<&str> {
        let is_of = |locked: &&LockedRootfs| {
            locked.container == container && locked.kind == kind && locked.source.as_deref() == Some(name)
        };
        self.rootfs.iter().find(is_of)?.digests.first().map(String::as_str)
    }

    /// Returns a remark where another version of runner wrote it.
    pub fn other_runner(&self) -> Option<String> {
        let version = env!("CARGO_PKG_VERSION");
        (self.runner != version).then(|| format!("runner {} wrote the lock, and this is {version}", self.runner))
    }

    /// Returns the rootfs sources that differ from the lock.
    pub fn rootfs_differences(&self, found: &[LockedRootfs]) -> Vec<Difference> {
        let mut differences = Vec::new();
        for rootfs in found {
            let what = format!("the rootfs of container {}", rootfs.container);
            match self.rootfs.iter().find(|locked| locked.container == rootfs.container) {
                None => differences.push(Difference::NotLocked { what }),
                Some(locked) if locked != rootfs => {
                    let (locked, found) = (locked.text(), rootfs.text());
                    differences.push(Difference::Other { what, locked, found, causes: None });
                }
                Some(_) => {}
            }
        }
        differences
    }

    /// Returns the difference between the digest of a snapshot and the locked one, if there is one. Calls `causes` only
    /// then.
    pub fn snapshot_difference(
        &self,
        step: &str,
        digest: &str,
        causes: impl FnOnce(&LockedSnapshot) -> Vec<String>,
    ) -> Option<Difference> {
        let what = format!("snapshot {step}");
        let Some(locked) = self.snapshot(step) else { return Some(Difference::NotLocked { what }) };
        (locked.digest != digest).then(|| Difference::Other {
            what,
            locked: locked.digest.clone(),
            found: digest.to_owned(),
            causes: Some(causes(locked)),
        })
    }

    /// Returns the locked names that no container or step has any more.
    pub fn left_over(
        &self,
        is_container: impl Fn(&str) -> bool,
        is_snapshot: impl Fn(&str) -> bool,
    ) -> Vec<Difference> {
        let removed = |what: String| Difference::Gone { what };
        let rootfs = self.rootfs.iter().filter(|locked| !is_container(&locked.container));
        let rootfs = rootfs.map(|locked| removed(format!("the rootfs of container {}", locked.container)));
        let snapshots = self.snapshot.iter().filter(|locked| !is_snapshot(&locked.step));
        let snapshots = snapshots.map(|locked| removed(format!("snapshot {}", locked.step)));
        rootfs.chain(snapshots).collect()
    }
}

impl LockedRootfs {
    fn text(&self) -> String {
        match (&self.source, self.digests.as_slice()) {
            (Some(source), []) => format!("{} {source}", self.kind),
            (_, digests) => format!("{} {}", self.kind, digests.join(" + ")),
        }
    }
}
