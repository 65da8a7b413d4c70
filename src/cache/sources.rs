//! The files that segments take from snapshots: their contents, which are in the keys.
//!
//! A content is read from the mounted root of a snapshot, once for each chain of layers and path: the store has the digest from then
//! on, in `sources/`. So a segment stays fresh where the snapshot was built again and other files changed, and a check reads no file.
//! A whole root has the digest of its layers instead: nearly every change changes it, and reading all its files takes long. So has
//! every path where files have their real times, because a copy has them too.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::{Below, CacheCheckError, CacheChecker, base, lock};
use crate::cache::key::{Parents, Reason};
use crate::content::{Content, Contents, Listing};
use crate::digest::Digest;
use crate::fs::{atomic, regular};
use crate::model::{Action, Copy, CopySource, Mount, MountKind, StepId};
use crate::plan::Segment;
use crate::store::Store;

/// The age from which an unused digest is removed: its snapshot is probably no source any more.
const MAX_AGE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The content of a path that a snapshot does not have. The step that takes it fails.
const ABSENT: &str = "absent";

/// The most bytes of a stored digest.
const MAX_BYTES: u64 = 256;

/// The contents of mounts, by the step that has one for itself and by target.
pub(super) type MountedContents = BTreeMap<(Option<StepId>, PathBuf), String>;

/// A path of a snapshot's root.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SnapshotPath {
    /// The snapshot step.
    pub step: StepId,
    /// The absolute path.
    pub path: PathBuf,
}

/// The snapshots that are known, and contents of paths in them.
#[derive(Debug, Default)]
pub(super) struct Sources {
    parents: HashMap<StepId, Parents>,
    contents: HashMap<SnapshotPath, String>,
    is_swept: bool,
}

impl CacheChecker<'_> {
    /// Notes a snapshot that is written or in the store, with all layers below it.
    pub fn note_snapshot(&self, step: StepId, parents: Parents) {
        let mut sources = lock(&self.sources);
        if sources.parents.get(&step) != Some(&parents) {
            sources.contents.retain(|source, _| source.step != step);
            sources.parents.insert(step, parents);
        }
    }

    /// Returns the paths of snapshots whose contents are in the key of a segment; none where it has no key.
    pub fn snapshot_paths(&self, index: usize) -> Vec<SnapshotPath> {
        if !self.has_key(index) {
            return Vec::new();
        }
        let copies = self.copies(self.segments.get(index));
        let from = copies.filter_map(|(_, copy)| Some((copy.snapshot()?, &copy.sources)));
        let copied =
            from.flat_map(|(step, sources)| sources.iter().map(move |path| SnapshotPath { step, path: path.clone() }));
        copied.chain(self.mounts(index).map(|(_, _, source)| source)).collect()
    }

    /// Returns the targets of the snapshots that a segment has mounted, each with the step that has it for itself, and the mounted
    /// paths.
    fn mounts(&self, index: usize) -> impl Iterator<Item = (Option<StepId>, &Path, SnapshotPath)> {
        self.all_mounts(index).filter_map(|(of, mount)| match &mount.kind {
            MountKind::Snapshot { step, path } => {
                Some((of, mount.target.as_path(), SnapshotPath { step: *step, path: path.clone() }))
            }
            _ => None,
        })
    }

    /// Returns the targets and the files of the images that a segment has mounted, each with the step that has it for itself.
    pub(super) fn images(&self, index: usize) -> impl Iterator<Item = (Option<StepId>, &Path, &Path)> {
        self.all_mounts(index).filter_map(|(of, mount)| match &mount.kind {
            MountKind::Image(source) => Some((of, mount.target.as_path(), source.as_path())),
            _ => None,
        })
    }

    fn all_mounts(&self, index: usize) -> impl Iterator<Item = (Option<StepId>, &Mount)> {
        let segment = self.segments.get(index);
        self.build.mounts_of(segment.container, &segment.steps)
    }

    /// Returns the contents of mounted snapshots and images, by target, each with the step that has it for itself.
    pub(super) fn mounted(&self, index: usize) -> Result<MountedContents, CacheCheckError> {
        let content = |(of, target, source): (Option<StepId>, &Path, SnapshotPath)| {
            let content = self.content_in_snapshot(&source);
            Ok(((of, target.to_owned()), content.ok_or(CacheCheckError::UnknownSource(source.step))?))
        };
        let image = |(of, target, source): (Option<StepId>, &Path, &Path)| {
            Ok(((of, target.to_owned()), self.contents.of_file(source)?.to_string()))
        };
        self.mounts(index).map(content).chain(self.images(index).map(image)).collect()
    }

    /// Returns whether the content of a path is known. The snapshot must have been noted.
    ///
    /// # Errors
    /// Those of reading the store.
    pub fn is_read(&self, source: &SnapshotPath) -> bool {
        self.content_in_snapshot(source).is_some()
    }

    /// Reads the content of a path of a snapshot that has been noted: the file that is open, or none where the root has no such file.
    ///
    /// # Errors
    /// Those of reading it.
    pub fn read(&self, source: &SnapshotPath, file: Option<&OwnedFd>) -> Result<(), CacheCheckError> {
        let text = match file {
            None => ABSENT.to_owned(),
            Some(file) => {
                let contents = Contents::without_cache().until(Arc::clone(&self.options.stop));
                let contents = contents.reporting(self.options.long_read.clone());
                let contents = contents.with_times_before(base::epoch(self.build));
                let Content { digest, listing, .. } = contents.of_mounted(file, &source.path)?;
                if let Some(listings) = &self.listings {
                    // The listing only serves explanations; the calls that must write to the store report one that is
                    // read-only.
                    let _ = listings.put(&digest, &listing);
                }
                digest.to_string()
            }
        };
        if let (Some(store), Some(name)) = (self.store, self.name_of(source)) {
            // Without it the next build reads the files again.
            let _ = atomic::write(&directory(store), &name, text.as_bytes());
        }
        lock(&self.sources).contents.insert(source.clone(), text);
        Ok(())
    }

    /// Returns the content of a path of a snapshot, as a field; none where the snapshot is not written yet, or the path was not read.
    fn content_in_snapshot(&self, source: &SnapshotPath) -> Option<String> {
        let parents = {
            let sources = lock(&self.sources);
            if let Some(content) = sources.contents.get(source) {
                return Some(content.clone());
            }
            sources.parents.get(&source.step)?.digest()?
        };
        let content = match self.name_of(source) {
            None => format!("layers {parents}"),
            Some(name) => self.stored(&name)?,
        };
        lock(&self.sources).contents.insert(source.clone(), content.clone());
        Some(content)
    }

    /// Returns the name under which the store has the content of a path; none where its layers stand for it.
    fn name_of(&self, source: &SnapshotPath) -> Option<String> {
        if source.path == Path::new("/") || self.build.source_date_epoch.is_none() {
            return None;
        }
        let parents = lock(&self.sources).parents.get(&source.step)?.digest()?;
        let epoch = base::epoch(self.build).unwrap_or_default();
        let mut name = format!("{parents} {epoch} ").into_bytes();
        name.extend_from_slice(source.path.as_os_str().as_encoded_bytes());
        Some(Digest::of_bytes(&name).hex())
    }

    /// Returns a digest that the store has, and notes its use.
    fn stored(&self, name: &str) -> Option<String> {
        let directory = directory(self.store?);
        if !std::mem::replace(&mut lock(&self.sources).is_swept, true) {
            atomic::sweep(&directory, Some(MAX_AGE));
        }
        let path = directory.join(name);
        let bytes = regular::read_all(regular::open(&path).ok()?, MAX_BYTES).ok()?;
        let text = String::from_utf8(bytes).ok().filter(|text| text == ABSENT || text.parse::<Digest>().is_ok())?;
        atomic::touch(&path);
        Some(text)
    }

    /// Returns the contents of the sources of a segment's copies.
    pub(super) fn copied(&self, index: usize) -> Result<BTreeMap<(usize, usize), String>, CacheCheckError> {
        let mut copied = BTreeMap::new();
        for (position, copy) in self.copies(self.segments.get(index)) {
            for (n, path) in copy.sources.iter().enumerate() {
                let content = match copy.from {
                    CopySource::Host => self.owned_by_root(&self.host_files(path)?.listing).to_string(),
                    CopySource::Snapshot(step) => self
                        .content_in_snapshot(&SnapshotPath { step, path: path.clone() })
                        .ok_or(CacheCheckError::UnknownSource(step))?,
                };
                copied.insert((position, n), content);
            }
        }
        Ok(copied)
    }

    /// Returns the digest of files of the host as their copies have them, whose owner is not that of the files.
    fn owned_by_root(&self, listing: &Listing) -> Digest {
        let listing = listing.of_root();
        let digest = listing.digest();
        if let Some(listings) = &self.listings {
            // As for any other content, the listing only serves explanations.
            let _ = listings.put(&digest, &listing);
        }
        digest
    }

    /// Returns the content of a path of the host that a step copies.
    ///
    /// # Errors
    /// Those of reading it.
    pub fn host_files(&self, path: &Path) -> Result<Arc<Content>, CacheCheckError> {
        self.content(path)
    }

    /// Returns the copies among the steps of a segment, with their positions.
    fn copies<'s>(&'s self, segment: &'s Segment) -> impl Iterator<Item = (usize, &'s Copy)> {
        segment.steps.iter().enumerate().filter_map(|(n, step)| match &self.build.step(*step).action {
            Action::Copy(copy) => Some((n, copy)),
            _ => None,
        })
    }

    /// Returns the paths of the host that a segment's steps copy.
    pub(super) fn copied_host_paths(&self, index: usize) -> impl Iterator<Item = &Path> {
        self.copies(self.segments.get(index)).flat_map(|(_, copy)| copy.host_paths()).map(PathBuf::as_path)
    }

    /// Returns the field with the content of a source, and the name of the source; `number` is the end of the field.
    pub(super) fn copied_source(&self, segment: &Segment, step: &str, number: &str) -> Option<(String, String)> {
        let mut copies = self.copies(segment);
        let (position, copy) = copies.find(|(n, _)| self.build.step(segment.steps[*n]).name == step)?;
        let source = copy.sources.get(number.parse::<usize>().ok()?)?;
        let name = match copy.from {
            CopySource::Snapshot(step) => format!("{}:{}", self.build.step(step).name, source.display()),
            CopySource::Host => source.strip_prefix(&self.build.directory).unwrap_or(source).display().to_string(),
        };
        Some((format!("step/{position:05}/content/{number}"), name))
    }

    /// Returns the reasons for which a segment is stale whatever the files are that it takes from a snapshot; if there are none, that
    /// it depends on these.
    pub(super) fn reasons_but_sources(
        &self,
        index: usize,
        step: StepId,
        below: &Below,
    ) -> Result<Vec<Reason>, CacheCheckError> {
        let Some(store) = self.store.filter(|_| self.options.unreadable.is_none()) else {
            return Ok(vec![self.without_store()]);
        };
        let below = match below {
            Below::Known(below) => below,
            Below::Unwritten(step) => {
                return Ok(vec![Reason::BelowIsBuilt { step: self.build.step(*step).name.clone() }]);
            }
        };
        let segment = self.segments.get(index);
        let last = segment.steps.last().map(|step| self.build.step(*step).name.as_str()).unwrap_or_default();
        let Some(old) = store.last_key(&self.build.name, &self.build.project, last) else {
            return Ok(vec![Reason::NeverBuilt]);
        };
        let changed = self.changed_below(&old, below);
        // The content that only one of two keys has is no reason: so those of mounts that steps have for themselves need not be left out.
        let targets: Vec<PathBuf> = self.mounts(index).map(|(_, target, _)| target.to_owned()).collect();
        let images = self.images(index).map(|(of, target, source)| -> Result<_, CacheCheckError> {
            Ok(((of, target.to_owned()), self.contents.of_file(source)?.to_string()))
        });
        let new = self.fields_with(index, BTreeMap::new(), images.collect::<Result<_, _>>()?)?;
        let reasons = self.explained(segment, &old.without_base().without_sources(&targets), &new, changed);
        let may_change = || vec![Reason::SourceMayChange { step: self.build.step(step).name.clone() }];
        Ok(if reasons.is_empty() { may_change() } else { reasons })
    }
}

fn directory(store: &Store) -> PathBuf {
    store.root().join("sources")
}
