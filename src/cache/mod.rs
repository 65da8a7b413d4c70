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
mod forecast;
mod inputs;
pub mod key;
mod locked;
mod lookup;
mod own_files;
mod status;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::fstat;

pub use forecast::{Forecast, forecast};
pub use own_files::OwnFile;
pub use status::{Below, CacheCheckError, CacheStatus, Resume, Since};

use crate::cache::key::{Fields, Parents, Reason};
use crate::content::{Content, ContentError, Contents, Listings, LongRead, State};
use crate::digest::Digest;
use crate::fs::dirfd::Dir;
use crate::fs::opened::OpenedPaths;
use crate::fs::output::OutputPlace;
use crate::model::{Action, Build, Checkpointing, Container, ContainerId, Mount, MountKind, SnapshotMode, StepId};
use crate::plan::Segments;
use crate::runtime::Runtime;
use crate::session::RAMFS;
use crate::store::{CacheRecord, Store};
use own_files::Written;

/// Kernel filesystems that show no data of a disk or of another machine.
const KNOWN_FILESYSTEMS: [&str; 6] = ["proc", "sysfs", "mqueue", "devpts", "ramfs", "cgroup2"];

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
    /// The parents of old keys, by their digests; none where the store has lost some.
    old_parents: Mutex<HashMap<Digest, Option<Parents>>>,
    /// By segment: see [`CacheChecker::bottom`].
    bottoms: Mutex<HashMap<usize, Option<ContainerId>>>,
}

/// The states of the inputs at the time when segments were checked.
#[derive(Debug, Default)]
struct Checked {
    /// By segment: the states of its read-only binds, by their targets.
    binds: HashMap<usize, BTreeMap<PathBuf, State>>,
    /// The states of rootfs sources.
    bases: HashMap<ContainerId, State>,
    /// By container: the source that its session has a copy of, in its state after the copy was made.
    copied: HashMap<ContainerId, Base>,
    written: Written,
}

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

    /// Checks a segment, and those after it where they matter. `is_open`: steps before it have run in its session, so
    /// its tmpfs mounts may contain files.
    ///
    /// # Errors
    /// Those of reading the inputs of the key.
    pub fn check(&self, index: usize, below: &Below, is_open: bool) -> Result<CacheStatus, CacheCheckError> {
        let written = lock(&self.checked).written.len();
        let status = self.alone(index, below)?;
        if !matches!(&status, CacheStatus::Stale { draft: None, checkpoints: None, .. }) {
            let binds = self.bind_states(index)?;
            let mut checked = lock(&self.checked);
            checked.binds.insert(index, binds);
            checked.written.checked(index, written);
        }
        let CacheStatus::Fresh(recorded) = &status else { return Ok(status) };
        let container = self.build.container(self.segments.get(index).container);
        let tmpfs = container.mounts.iter().filter(|mount| is_open && is_memory(&mount.kind));
        let mut targets: Vec<String> = tmpfs.map(|mount| mount.target.display().to_string()).collect();
        if targets.is_empty() {
            targets = texts(&recorded.tmpfs_left);
        }
        if !targets.is_empty() && self.is_any_after_stale(index, below, recorded)? {
            let draft = Some(recorded.fields.without_below());
            let reasons = vec![Reason::TmpfsNeeded { targets }];
            return Ok(CacheStatus::Stale { reasons, checkpoints: draft.clone(), draft, resume: None });
        }
        Ok(status)
    }

    /// Returns the states of a segment's binds at the time when its key was made.
    fn bind_states(&self, index: usize) -> Result<BTreeMap<PathBuf, State>, CacheCheckError> {
        let binds = inputs::read_only_binds(self.build.container(self.segments.get(index).container));
        binds.map(|(target, source)| Ok((target.to_owned(), self.content(source)?.state))).collect()
    }

    /// Returns the inputs of a key that have changed since it was made, if any did: the result that was built meanwhile
    /// is not stored then.
    ///
    /// # Errors
    /// Those of reading the inputs again.
    pub fn changed_since(
        &self,
        index: usize,
        draft: &Fields,
        below: &Parents,
    ) -> Result<Option<Since>, CacheCheckError> {
        self.forget();
        let bottom = self.bottom(index);
        let base = bottom.map(|container| self.base_below(index, container)).transpose()?;
        let now = base.as_ref().map_or_else(|| below.clone(), |(source, _)| below.on_source(source));
        let new = self.draft(index)?.unwrap_or_default();
        let (old, new) = (draft.on(below), new.on(&now));
        if old != new {
            let changed = now.changed_since(below);
            return Ok(Some(Since::Changed(self.explained(self.segments.get(index), &old, &new, changed))));
        }
        let (binds, checked) = (self.bind_states(index)?, lock(&self.checked));
        let old = checked.binds.get(&index);
        let touched = binds.iter().filter(|(target, state)| old.is_some_and(|old| old.get(*target) != Some(*state)));
        let mut inputs: Vec<String> = touched.map(|(target, _)| target.display().to_string()).collect();
        if let (Some(container), Some((_, state))) = (bottom, base)
            && checked.bases.get(&container).is_some_and(|old| *old != state)
        {
            inputs.push(base_name(&self.build.container(container).name));
        }
        Ok((!inputs.is_empty()).then_some(Since::ChangedBack(inputs)))
    }

    /// Whether a segment could be fresh once its parents are known: all its other inputs are those of its last build.
    pub fn may_be_fresh(&self, index: usize, draft: &Fields) -> bool {
        let last = self.segments.get(index).steps.last().map(|step| self.build.step(*step).name.as_str());
        let (Some(last), Some(store)) = (last, self.store) else { return false };
        let mut old = store.last_key_of_any(&self.build.name, last);
        old.any(|old| old.without_below() == *draft)
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

    fn is_any_after_stale(&self, index: usize, below: &Below, recorded: &CacheRecord) -> Result<bool, CacheCheckError> {
        let Below::Known(below) = below else { return Ok(true) };
        let mut below = below.clone();
        let mut at = (self.segments.get(index).snapshot, recorded.layer.as_ref().map(|layer| layer.digest));
        let (mut fresh, mut is_stale) = (Vec::new(), false);
        let forgotten = lock(&self.facts).forgotten;
        for after in self.segments.after(index) {
            let (Some(snapshot), Some(layer)) = at else { return Ok(true) };
            below = self.above(snapshot, &below, &layer);
            let from = (*after, below.digest());
            // Otherwise the check of each segment would look at all that follow.
            if let Some(known) = lock(&self.facts).stale_from.get(&from) {
                is_stale = *known;
                break;
            }
            fresh.push(from);
            match self.alone(*after, &Below::Known(below.clone()))? {
                CacheStatus::Stale { .. } => {
                    is_stale = true;
                    break;
                }
                CacheStatus::Fresh(recorded) => {
                    at = (self.segments.get(*after).snapshot, recorded.layer.map(|layer| layer.digest));
                }
            }
        }
        let mut facts = lock(&self.facts);
        if facts.forgotten == forgotten {
            facts.stale_from.extend(fresh.into_iter().map(|from| (from, is_stale)));
        }
        Ok(is_stale)
    }

    fn alone(&self, index: usize, below: &Below) -> Result<CacheStatus, CacheCheckError> {
        let segment = self.segments.get(index);
        let container = self.build.container(segment.container);
        let mut reasons: Vec<Reason> = unknown(container).collect();
        if !reasons.is_empty() {
            return Ok(CacheStatus::Stale { reasons, draft: None, checkpoints: None, resume: None });
        }
        let steps = || segment.steps.iter().map(|step| self.build.step(*step));
        if segment.snapshot.is_none() && (self.options.layers_only || !steps().all(|step| step.cache)) {
            reasons.push(Reason::NotKept);
            return self.cut_short(index, below, reasons);
        }
        if self.options.no_cache {
            reasons.push(Reason::NoCache);
        }
        let always = steps().filter(|step| step.always);
        reasons.extend(always.map(|step| Reason::Always { step: step.name.clone() }));
        let draft = match self.draft(index) {
            Err(CacheCheckError::Content(ContentError::MadeUp { path, .. })) => {
                reasons.push(Reason::UnknownInput { target: self.target_of(container, &path) });
                return Ok(CacheStatus::Stale { reasons, draft: None, checkpoints: None, resume: None });
            }
            draft => draft?,
        };
        match (below, &draft) {
            _ if self.options.unreadable.is_some() => reasons.push(self.without_store()),
            (Below::Unwritten(step), _) => {
                reasons.push(Reason::BelowIsBuilt { step: self.build.step(*step).name.clone() });
            }
            (Below::Known(below), Some(draft)) if reasons.is_empty() => {
                match self.look_up(segment, draft.on(below), below)? {
                    Ok(recorded) => return Ok(CacheStatus::Fresh(Box::new(recorded))),
                    Err(why) => reasons = why,
                }
            }
            (Below::Known(_), Some(_)) => {}
            (Below::Known(_), None) => reasons.push(self.without_store()),
        }
        let resume = match (below, &draft) {
            (Below::Known(below), Some(draft)) => self.resume(segment, draft, below)?,
            _ => None,
        };
        Ok(CacheStatus::Stale { reasons, checkpoints: draft.clone(), draft, resume })
    }

    /// Returns the status of steps whose results are not stored: they may be the first of a segment with a snapshot,
    /// and be in a checkpoint.
    fn cut_short(&self, index: usize, below: &Below, reasons: Vec<Reason>) -> Result<CacheStatus, CacheCheckError> {
        let segment = self.segments.get(index);
        let has_checkpoints =
            segment.is_cut && self.build.container(segment.container).checkpoint != Checkpointing::Off;
        let (Below::Known(below), true) = (below, has_checkpoints) else {
            return Ok(CacheStatus::Stale { reasons, draft: None, checkpoints: None, resume: None });
        };
        let checkpoints = match self.draft(index) {
            Err(CacheCheckError::Content(ContentError::MadeUp { .. })) => None,
            draft => draft?,
        };
        let resume = checkpoints.as_ref().map_or(Ok(None), |fields| self.resume(segment, fields, below))?;
        Ok(CacheStatus::Stale { reasons, draft: None, checkpoints, resume })
    }

    /// Returns the reason for which a segment is not fresh where the store does not exist or cannot be read.
    fn without_store(&self) -> Reason {
        self.options.unreadable.clone().map_or(Reason::NeverBuilt, |why| Reason::StoreUnreadable { why })
    }

    fn target_of(&self, container: &Container, source: &Path) -> String {
        let is_it = |mount: &&Mount| matches!(&mount.kind, MountKind::Bind(bound) if source.starts_with(bound));
        let mount = container.mounts.iter().find(is_it);
        mount.map_or(source, |mount| mount.target.as_path()).display().to_string()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the name of a container's rootfs source for reasons.
fn base_name(container: &str) -> String {
    format!("the rootfs of {container}")
}

/// Returns reasons for the mounts whose content cannot be known.
fn unknown(container: &Container) -> impl Iterator<Item = Reason> {
    container.mounts.iter().filter(|mount| !mount.ignored).filter_map(|mount| {
        let target = mount.target.display().to_string();
        match &mount.kind {
            MountKind::Bind(_) if !mount.is_read_only() => Some(Reason::WritableBind { target }),
            MountKind::Kernel(kind, _) if !KNOWN_FILESYSTEMS.contains(&kind.as_str()) => {
                Some(Reason::UnknownInput { target })
            }
            _ => None,
        }
    })
}

/// Whether files in such a mount last as long as the session, and are in no layer.
pub fn is_memory(kind: &MountKind) -> bool {
    match kind {
        MountKind::Kernel(kind, _) => kind == RAMFS,
        kind => *kind == MountKind::Tmpfs,
    }
}

fn texts(paths: &[PathBuf]) -> Vec<String> {
    paths.iter().map(|path| path.display().to_string()).collect()
}
