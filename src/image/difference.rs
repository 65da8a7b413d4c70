//! The differences of two images.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Serialize;

use super::Change;
use super::facts::FileFacts;
use super::package_changes::{PackageChanges, changes};
use super::sizes::{SizeSums, Sizes};
use crate::difference::{self, Aspect, DifferenceError, Node};
use crate::packages;

/// The files that are listed.
const MAX_LISTED: usize = 20_000;

/// The bytes of the names in a list: a path has no limit, and a link's target one of 4,096 bytes.
const MAX_LISTED_BYTES: usize = 8 << 20;

/// The differences of several pairs of images, as `runner diff --format json` prints them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Images {
    /// The version of this document's form. A later version of the same form may have more keys.
    pub version: u32,
    /// Whether any pair differs.
    pub different: bool,
    /// The pairs.
    pub images: Vec<ImageDifference>,
}

/// The differences of two images. Times of modification are not compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ImageDifference {
    /// The snapshot step, if two results of one step are compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// The old image; none for a step that was built once.
    pub old: Option<Side>,
    /// The new image.
    pub new: Side,
    /// Whether a file, a package or a privilege differs.
    pub different: bool,
    /// The parts that could not be compared, with the reasons.
    pub warnings: Vec<String>,
    /// The packages that differ.
    pub packages: PackageChanges,
    /// The programs with set-uid, set-gid or file capabilities that differ, also in their content.
    pub privileges: Privileges,
    /// The sizes.
    pub sizes: Sizes,
    /// The files that differ.
    pub files: FileChanges,
}

/// One of the two images.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Side {
    /// The name on the command line, or the step.
    pub name: String,
    /// The digest of the topmost layer, if the store has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// The time at which it was built.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub built: Option<String>,
    /// The parts of its root, the lowest first: layers and rootfs sources with their digests, or a path.
    pub layers: Vec<String>,
}

/// The privileges that differ.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Privileges {
    /// The programs, in the order of their paths.
    pub list: Vec<FileChange>,
    /// The number of programs that differ and are not listed.
    pub omitted: u64,
}

/// The files that differ.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct FileChanges {
    /// The number of files and directories that only the new image has.
    pub added: u64,
    /// The number of files and directories that only the old image has.
    pub removed: u64,
    /// The number of files and directories that differ.
    pub changed: u64,
    /// The number of files and directories that differ in their time of modification alone, which is no difference here.
    pub only_times: u64,
    /// The files: a directory, then the files in it, by the bytes of their names.
    pub list: Vec<FileChange>,
    /// The number of files that differ and are not listed.
    pub omitted: u64,
}

/// A file that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct FileChange {
    /// The path. Bytes that are not UTF-8 are replaced.
    pub path: String,
    /// How it differs.
    pub change: Change,
    /// The file in the old image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old: Option<FileFacts>,
    /// The file in the new image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new: Option<FileFacts>,
    /// The aspects in which it differs: `type`, `content`, `target`, `device`, `replaces`, `mode`, `owner`, `links` or
    /// `attributes`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub aspects: Vec<String>,
    /// The extended attributes that differ: `+NAME` was added, `-NAME` removed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attributes: Vec<String>,
    /// The files in a directory that only one image has. They are listed too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inside: Option<Nested>,
    /// Whether a directory above it is listed as added or removed.
    #[serde(skip)]
    pub is_inside: bool,
}

/// The files in a directory that only one image has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Nested {
    /// The number of files and directories.
    pub files: u64,
    /// The bytes of the files.
    pub size: u64,
}

/// A root that is compared: its top, open, and its description.
pub struct Root {
    pub top: OwnedFd,
    pub side: Side,
}

/// Compares two roots. The warnings are those of the caller, about the roots.
///
/// # Errors
/// A file cannot be read.
pub fn between(
    step: Option<String>,
    [old, new]: [Root; 2],
    mut warnings: Vec<String>,
) -> Result<ImageDifference, DifferenceError> {
    let found = [&old, &new].map(|root| packages::read(root.top.as_fd()));
    for (packages, name) in found.iter().zip(["old", "new"]) {
        let warning = |error| format!("in the {name} image: {}", crate::error::error_chain(error));
        warnings.extend(packages.errors.iter().map(|error| warning(error)));
    }
    // With the packages of one image alone, all of them would look added or removed.
    let package_changes = if found.iter().all(|packages| packages.errors.is_empty()) {
        changes(&found[0], &found[1])
    } else {
        PackageChanges::default()
    };
    let mut collector = Collector::default();
    let names = [&old, &new].map(|root| PathBuf::from(&root.side.name));
    difference::visit([(old.top.as_fd(), &names[0]), (new.top.as_fd(), &names[1])], &mut |path, nodes, aspects| {
        collector.visit(path, nodes, &aspects)
    })?;
    let Collector { sums, files, privileges, .. } = collector;
    let has_packages = package_changes.added + package_changes.removed + package_changes.changed > 0;
    Ok(ImageDifference {
        step,
        different: has_packages || files.added + files.removed + files.changed > 0,
        old: Some(old.side),
        new: new.side,
        warnings,
        packages: package_changes,
        privileges,
        sizes: sums.difference(),
        files,
    })
}

/// Collects the differences in the order of the walk.
#[derive(Default)]
struct Collector {
    sums: SizeSums,
    files: FileChanges,
    privileges: Privileges,
    bytes: usize,
    /// The directory that only one image has, which the walk is in, and its place in the list.
    inside: Option<(PathBuf, Change, Option<usize>)>,
}

impl Collector {
    fn visit(&mut self, path: &Path, nodes: [Option<&Node>; 2], aspects: &[Aspect]) {
        for (side, node) in nodes.iter().enumerate() {
            if let Some(node) = node {
                self.sums.add(side, path, node);
            }
        }
        let change = Change::of(nodes.map(|node| node.is_some()));
        let aspects: Vec<&Aspect> = aspects.iter().filter(|aspect| !matches!(aspect, Aspect::Time(..))).collect();
        match change {
            Change::Added => self.files.added += 1,
            Change::Removed => self.files.removed += 1,
            Change::Changed if aspects.is_empty() => {
                self.files.only_times += u64::from(nodes[0].map(|node| node.time) != nodes[1].map(|node| node.time));
                return;
            }
            Change::Changed => self.files.changed += 1,
        }
        let is_inside = self.is_inside(path, change, nodes);
        let facts = nodes.map(|node| node.map(FileFacts::of));
        let is_privileged = facts.iter().flatten().any(FileFacts::is_privileged);
        let file = FileChange {
            path: Path::new("/").join(path).to_string_lossy().into_owned(),
            change,
            aspects: aspects.iter().map(|aspect| name(aspect).to_owned()).collect(),
            attributes: aspects.iter().flat_map(|aspect| attributes(aspect)).collect(),
            inside: None,
            is_inside,
            old: facts[0].clone(),
            new: facts[1].clone(),
        };
        if is_privileged {
            if self.has_room(&file, self.privileges.list.len()) {
                self.privileges.list.push(file.clone());
            } else {
                self.privileges.omitted += 1;
            }
        }
        let is_listed = self.has_room(&file, self.files.list.len());
        if !is_inside && change != Change::Changed && nodes.iter().flatten().any(|node| node.kind.is_directory()) {
            self.inside = Some((path.to_owned(), change, is_listed.then_some(self.files.list.len())));
        }
        if is_listed {
            self.files.list.push(file);
        } else {
            self.files.omitted += 1;
        }
    }

    /// Returns whether a directory above the file is added or removed as a whole, and counts the file there.
    fn is_inside(&mut self, path: &Path, change: Change, nodes: [Option<&Node>; 2]) -> bool {
        let Some((directory, of_directory, index)) = &self.inside else { return false };
        if *of_directory != change || !path.starts_with(directory) {
            self.inside = None;
            return false;
        }
        if let Some(directory) = index.and_then(|index| self.files.list.get_mut(index)) {
            let nested = directory.inside.get_or_insert_default();
            nested.files += 1;
            let files = nodes.iter().flatten().filter(|node| node.kind == difference::Kind::File);
            nested.size = files.fold(nested.size, |size, node| size.saturating_add(node.size));
        }
        true
    }

    /// Returns whether a list of that length may have one more file, and counts the file's bytes.
    fn has_room(&mut self, file: &FileChange, length: usize) -> bool {
        let target =
            |facts: &Option<FileFacts>| facts.as_ref().and_then(|facts| facts.target.as_ref()).map_or(0, String::len);
        let attributes: usize = file.attributes.iter().map(String::len).sum();
        let bytes = file.path.len() + target(&file.old) + target(&file.new) + attributes;
        if length >= MAX_LISTED || self.bytes + bytes > MAX_LISTED_BYTES {
            return false;
        }
        self.bytes += bytes;
        true
    }
}

fn name(aspect: &Aspect) -> &'static str {
    match aspect {
        Aspect::Type(..) => "type",
        Aspect::Content { .. } => "content",
        Aspect::Target(..) => "target",
        Aspect::Device(..) => "device",
        Aspect::Replaces(_) => "replaces",
        Aspect::Mode(..) => "mode",
        Aspect::Owner(..) => "owner",
        Aspect::Time(..) => "time",
        Aspect::Links(..) => "links",
        Aspect::Attributes(_) => "attributes",
    }
}

fn attributes(aspect: &Aspect) -> Vec<String> {
    match aspect {
        Aspect::Attributes(attributes) => attributes.iter().map(ToString::to_string).collect(),
        _ => Vec::new(),
    }
}

impl FileChange {
    /// Returns the file in the new image, or else in the old one.
    pub fn facts(&self) -> Option<&FileFacts> {
        self.new.as_ref().or(self.old.as_ref())
    }
}
