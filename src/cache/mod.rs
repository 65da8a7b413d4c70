//! Checks which results of a build are in the store, and why the others are not: it makes keys from the host, and looks
//! them up.
//!
//! A segment is *fresh* if its key was built before and the store has the complete result. Its key contains a digest of
//! all its parents, so a segment above one that is still to be built cannot be checked yet; it is checked again when
//! the lower one is built, and may be fresh after all, if that gave the same layer.
//!
//! Files that a segment's steps leave in a tmpfs mount are in no layer. If there were such files, and a later segment
//! of the session is not fresh, the segment is not fresh either: the later steps could read the files.

mod base;
mod check;
mod forecast;
mod inputs;
pub mod key;
mod locked;
mod lookup;
mod outputs;
mod own_files;
mod restored;
mod sources;
mod status;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use rustix::fs::fstat;

pub use forecast::{Forecast, forecast};
pub use inputs::lacks_user_attributes;
pub use outputs::OutputState;
pub use own_files::OwnFile;
pub use status::{Below, CacheCheckError, CacheStatus, Resume, Since};

use crate::cache::key::Parents;
use crate::content::{Content, Contents, Listings, LongRead, State};
use crate::digest::Digest;
use crate::fs::dirfd::Dir;
use crate::fs::opened::OpenedPaths;
use crate::fs::output::OutputPlace;
use crate::model::{Action, Build, ContainerId, MountKind, SnapshotMode, StepId};
use crate::plan::Segments;
use crate::poison::lock;
use crate::pull::FoundImages;
use crate::runtime::Runtime;
use crate::session::RAMFS;
use crate::store::Store;
use own_files::Written;
pub use sources::SnapshotPath;
use sources::Sources;

/// The options of a checker.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Every segment counts as stale.
    pub no_cache: bool,
    /// Set to make the checker stop.
    pub stop: Arc<AtomicBool>,
    /// Gets reports of inputs that take long to read.
    pub long_read: LongRead,
    /// Steps that no snapshot follows are run, also those whose success is stored: the caller continues in their
    /// session.
    pub layers_only: bool,
    /// The opened host paths of the build. Before anything runs none is opened, and the checker uses the paths.
    pub opened: Arc<OpenedPaths>,
    /// The files that runner writes for the build, outputs and a lock: no inputs of a lock, even where they are in a
    /// bind.
    pub own_files: Vec<PathBuf>,
    /// The file to which runner writes events while the build runs.
    pub log: Option<PathBuf>,
    /// The files that runner writes at the end of the build.
    pub reports: Vec<PathBuf>,
    /// The reason for which the store cannot be read, if it exists: its contents are unknown.
    pub unreadable: Option<String>,
    /// The images that containers begin with, as far as they are known.
    pub images: Arc<FoundImages>,
    /// The runtime of the containers. A key's format covers the behaviour of the embedded runtime.
    pub runtime: Runtime,
}

/// Checks the segments of one plan.
#[derive(Debug)]
pub struct CacheChecker<'a> {
    build: &'a Build,
    segments: &'a Segments,
    /// None where the store does not exist yet: then no segment is fresh.
    store: Option<&'a Store>,
    contents: Contents,
    listings: Option<Listings>,
    options: Options,
    /// Facts about the host, each looked up once, until [`CacheChecker::forget`].
    facts: Mutex<HostFacts>,
    checked: Mutex<Checked>,
    sources: Mutex<Sources>,
    /// The parents of old keys, by their digests; none where the store has lost some.
    old_parents: Mutex<HashMap<Digest, Option<Parents>>>,
    /// By segment: see [`CacheChecker::bottom`].
    bottoms: Mutex<HashMap<usize, Option<ContainerId>>>,
}

/// The states of the inputs at the time when segments were checked.
#[derive(Debug, Default)]
struct Checked {
    /// By segment: the states of its read-only binds.
    binds: HashMap<usize, BindStates>,
    /// The states of rootfs sources.
    bases: HashMap<ContainerId, State>,
    /// By container: the source that its session has a copy of, in its state after the copy was made.
    copied: HashMap<ContainerId, Base>,
    written: Written,
}

/// The states of read-only binds, by their targets and the steps that have them for themselves.
type BindStates = BTreeMap<(Option<StepId>, PathBuf), State>;

/// A rootfs source as parents, and its state.
type Base = (Parents, State);

/// The facts that were looked up on the host.
#[derive(Debug, Default)]
struct HostFacts {
    /// The number of times that all facts were forgotten: a look that began before is not stored afterwards.
    forgotten: u64,
    /// By host path.
    contents: HashMap<PathBuf, Arc<Content>>,
    /// The programs that run the steps and write the images, by their paths.
    programs: HashMap<PathBuf, String>,
    /// Rootfs sources.
    bases: HashMap<ContainerId, Base>,
    /// By segment and the digest of its parents: whether it or one after it is stale.
    stale_from: HashMap<(usize, Option<Digest>), bool>,
}

impl<'a> CacheChecker<'a> {
    /// Makes a checker for a plan's segments and that store.
    pub fn new(build: &'a Build, segments: &'a Segments, store: Option<&'a Store>, options: Options) -> Self {
        let directory = |name: &str| store.map(|store| store.root().join(name));
        Self {
            build,
            segments,
            store,
            contents: directory("stat")
                .map_or_else(Contents::without_cache, |directory| Contents::open(&directory))
                .until(Arc::clone(&options.stop))
                .reporting(options.long_read.clone())
                .with(Arc::clone(&options.opened))
                .with_times_before(base::epoch(build))
                .without(options.opened.hidden().or_else(|| Some(Dir::open(store?.root()).ok()?.identity()))),
            listings: directory("listings").map(|directory| Listings::open(&directory)),
            options,
            facts: Mutex::default(),
            checked: Mutex::default(),
            sources: Mutex::default(),
            old_parents: Mutex::default(),
            bottoms: Mutex::default(),
        }
    }

    /// Returns the project of the plan.
    pub fn project(&self) -> &'a Path {
        &self.build.project
    }

    /// Returns the segments.
    pub fn segments(&self) -> &'a Segments {
        self.segments
    }

    /// Returns the parents of a segment. `known` returns the parents including a snapshot that was written or is fresh.
    ///
    /// # Errors
    /// Those of reading a rootfs source.
    pub fn below(&self, index: usize, known: impl Fn(StepId) -> Option<Parents>) -> Result<Below, CacheCheckError> {
        let Some(on) = self.segments.built_on(self.build, index) else {
            let container = self.segments.get(index).container;
            let (source, state) = self.base_of(container)?;
            lock(&self.checked).bases.insert(container, state);
            return Ok(Below::Known(source));
        };
        Ok(known(on).map_or(Below::Unwritten(on), Below::Known))
    }

    /// Returns the parents including a snapshot, given those below it and its layer.
    pub fn above(&self, snapshot: StepId, below: &Parents, layer: &Digest) -> Parents {
        let step = self.build.step(snapshot);
        let whole = matches!(&step.action, Action::Snapshot(snapshot) if snapshot.mode == SnapshotMode::Full);
        let none = Parents::default();
        if whole { &none } else { below }.with_layer(&step.name, layer)
    }

    /// Whether an output exists and has that digest.
    pub fn is_file_of(&self, output: &OutputPlace, digest: &Digest, size: u64) -> bool {
        let is_file = || fstat(output.file().ok()?).ok().filter(|found| u64::try_from(found.st_size) == Ok(size));
        is_file().is_some() && self.contents.of_file(output.path()).is_ok_and(|found| found == *digest)
    }

    /// Forgets the contents of host paths: a step or runner has written a file that they may show.
    pub fn forget(&self) {
        let mut facts = lock(&self.facts);
        *facts = HostFacts { forgotten: facts.forgotten + 1, ..HostFacts::default() };
    }

    /// Returns the stored fact; where there is none, looks it up, and stores it unless all was forgotten meanwhile.
    fn stored_or<T: Clone>(
        &self,
        find: impl FnOnce(&HostFacts) -> Option<T>,
        look: impl FnOnce() -> Result<T, CacheCheckError>,
        remember: impl FnOnce(&mut HostFacts, T),
    ) -> Result<T, CacheCheckError> {
        let (found, forgotten) = {
            let facts = lock(&self.facts);
            (find(&facts), facts.forgotten)
        };
        if let Some(found) = found {
            return Ok(found);
        }
        let found = look()?;
        let mut facts = lock(&self.facts);
        if facts.forgotten == forgotten {
            remember(&mut facts, found.clone());
        }
        Ok(found)
    }

    /// Stores the digests of host files, so that the next build need not read the files.
    ///
    /// # Errors
    /// Those of writing: the next build is slower then, but as correct.
    pub fn close(self) -> Result<(), CacheCheckError> {
        if self.store.is_some() { Ok(self.contents.close()?) } else { Ok(()) }
    }
}

/// Returns the name of a container's rootfs source for reasons.
fn base_name(container: &str) -> String {
    format!("the rootfs of {container}")
}

/// Whether files in such a mount last as long as the session, and are in no layer.
pub fn is_memory(kind: &MountKind) -> bool {
    match kind {
        MountKind::Kernel(kind, _) => kind == RAMFS,
        kind => *kind == MountKind::Tmpfs,
    }
}
