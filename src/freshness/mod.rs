//! What of a build is in the store already, and why the rest is not: keys made from what is on the host, and looked up.
//!
//! A segment is *fresh* if its key was built before and what it gave is in the store, whole. Its key holds the digests
//! of all that it stands on, so a segment above one that is still to be built cannot be told; it is judged again when that
//! has been built, and may be fresh after all, if the same came out.
//!
//! Files that a segment's steps leave in a tmpfs mount are in no layer. Where there were some, and a later segment of the
//! session is not fresh, the segment is not either: the later steps could read them.

mod base;
mod forecast;
mod inputs;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use thiserror::Error;

pub use forecast::{Forecast, forecast};

use crate::build::{Action, Build, Container, ContainerId, Mount, MountKind, SnapshotMode, StepId};
use crate::content::{Changed, Content, ContentError, Contents, Listings};
use crate::digest::Digest;
use crate::key::{Fields, Link, Reason, reasons};
use crate::plan::{Segment, Segments};
use crate::rootfs::RootfsError;
use crate::runtime::Runtime;
use crate::session::RAMFS;
use crate::store::{LayerState, Recorded, RecordedLayer, Store, StoreError};

/// Kernel filesystems that show nothing of a disk or of another machine.
const KNOWN_FILESYSTEMS: [&str; 6] = ["proc", "sysfs", "mqueue", "devpts", "ramfs", "cgroup2"];

/// Why nothing can be said of a segment.
#[derive(Debug, Error)]
pub enum JudgeError {
    /// What is in a host path cannot be told.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// A device of the host cannot be looked at.
    #[error("look at the device {}", path.display())]
    Device {
        /// The device.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A root of programs cannot be made.
    #[error(transparent)]
    Rootfs(#[from] RootfsError),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// mksquashfs cannot be asked.
    #[error("mksquashfs {0}")]
    Mksquashfs(String),
}

impl JudgeError {
    /// What mends it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Content(error) => error.hint(),
            Self::Rootfs(error) => error.hint(),
            Self::Store(error) => error.hint(),
            Self::Device { .. } => None,
            Self::Mksquashfs(_) => Some("apt-get install squashfs-tools".into()),
        }
    }
}

/// What is to be done about a segment.
#[derive(Debug, Clone)]
pub enum Verdict {
    /// Nothing: it was built before, and what it gave is there.
    Fresh(Box<Recorded>),
    /// Its steps are to be run.
    Stale {
        /// Why; at least one.
        reasons: Vec<Reason>,
        /// The fields of the key under which what it gives is kept, but for what it stands on; none where they cannot
        /// be told, and nothing is kept.
        draft: Option<Fields>,
        /// A checkpoint from which its steps can go on.
        resume: Option<Box<Resume>>,
    },
}

/// A checkpoint in the store.
#[derive(Debug, Clone)]
pub struct Resume {
    /// How many of the segment's first steps it holds the changes of.
    pub steps: usize,
    /// Its layer: what they changed.
    pub layer: RecordedLayer,
}

/// What a segment stands on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Below {
    /// All of it is known.
    Known(Vec<Link>),
    /// The layer that this snapshot step is to write is not.
    Unwritten(StepId),
}

/// How a judge judges.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Nothing is taken from the store.
    pub no_cache: bool,
    /// Set where nothing more is to be found out.
    pub stop: Arc<AtomicBool>,
    /// Steps that no snapshot follows are run, also those whose success is kept: their session is gone on in.
    pub layers_only: bool,
    /// What runs the containers. What the embedded runtime makes of a step is part of what a key's format stands for.
    pub runtime: Runtime,
}

/// Judges the segments of one plan.
#[derive(Debug)]
pub struct Judge<'a> {
    build: &'a Build,
    segments: &'a Segments,
    /// None where there is none yet: then nothing is fresh.
    store: Option<&'a Store>,
    contents: Contents,
    listings: Option<Listings>,
    options: Options,
    mksquashfs: OnceLock<String>,
    /// Looked at once, until [`Judge::forget`].
    seen: Mutex<Seen>,
}

/// What was found on the host.
#[derive(Debug, Default)]
struct Seen {
    /// How often all was forgotten: what was looked at before is not remembered after.
    forgotten: u64,
    /// By host path.
    contents: HashMap<PathBuf, Arc<Content>>,
    /// The links of rootfs sources.
    bases: HashMap<ContainerId, Link>,
}

impl<'a> Judge<'a> {
    /// Of a plan's segments, by what is in the store.
    pub fn new(build: &'a Build, segments: &'a Segments, store: Option<&'a Store>, options: Options) -> Self {
        let folder = |name: &str| store.map(|store| store.root().join(name));
        Self {
            build,
            segments,
            store,
            contents: folder("stat")
                .map_or_else(Contents::without_cache, |folder| Contents::open(&folder))
                .until(Arc::clone(&options.stop)),
            listings: folder("listings").map(|folder| Listings::open(&folder)),
            options,
            mksquashfs: OnceLock::new(),
            seen: Mutex::default(),
        }
    }

    /// The segments.
    pub fn segments(&self) -> &'a Segments {
        self.segments
    }

    /// What a segment stands on; `known` gives what stands below and with a snapshot that was written or is fresh.
    ///
    /// # Errors
    /// Where what is in a rootfs source cannot be told.
    pub fn below(&self, index: usize, known: impl Fn(StepId) -> Option<Vec<Link>>) -> Result<Below, JudgeError> {
        let container = self.build.container(self.segments.get(index).container);
        let on = match self.segments.stands_on(self.build, index) {
            Some(on) => on,
            None => {
                let id = self.segments.get(index).container;
                let link = self.remembered(
                    |seen| seen.bases.get(&id).cloned(),
                    || self.base(&container.name, &container.rootfs),
                    |seen, link| drop(seen.bases.insert(id, link)),
                )?;
                return Ok(Below::Known(vec![link]));
            }
        };
        Ok(known(on).map_or(Below::Unwritten(on), Below::Known))
    }

    /// What stands above and with a snapshot, given what stands below it and its layer.
    pub fn above(&self, snapshot: StepId, below: &[Link], layer: &Digest) -> Vec<Link> {
        let step = self.build.step(snapshot);
        let whole = matches!(&step.action, Action::Snapshot(snapshot) if snapshot.mode == SnapshotMode::Full);
        let mut links = if whole { Vec::new() } else { below.to_vec() };
        links.push(Link { name: step.name.clone(), id: format!("layer {layer}") });
        links
    }

    /// Judges a segment, and those after it as far as that matters. `is_open`: steps before it have run in its session,
    /// so its tmpfs mounts need not be empty.
    ///
    /// # Errors
    /// Where something that the key is made from cannot be told.
    pub fn judge(&self, index: usize, below: &Below, is_open: bool) -> Result<Verdict, JudgeError> {
        let verdict = self.alone(index, below)?;
        let Verdict::Fresh(recorded) = &verdict else { return Ok(verdict) };
        let container = self.build.container(self.segments.get(index).container);
        let tmpfs = container.mounts.iter().filter(|mount| is_open && is_memory(&mount.kind));
        let mut targets: Vec<String> = tmpfs.map(|mount| mount.target.display().to_string()).collect();
        if targets.is_empty() {
            targets = texts(&recorded.tmpfs_left);
        }
        if !targets.is_empty() && self.is_any_after_stale(index, below, recorded)? {
            let draft = Some(recorded.fields.without_below());
            return Ok(Verdict::Stale { reasons: vec![Reason::TmpfsNeeded { targets }], draft, resume: None });
        }
        Ok(verdict)
    }

    /// What of all that a key was made from has changed since, if anything: what was built meanwhile is not kept.
    ///
    /// # Errors
    /// Where that cannot be told any more.
    pub fn changed_since(
        &self,
        index: usize,
        draft: &Fields,
        below: &[Link],
    ) -> Result<Option<Vec<Reason>>, JudgeError> {
        self.forget();
        let now = match self.below(index, |_| Some(below.to_vec()))? {
            Below::Known(links) => links,
            Below::Unwritten(_) => below.to_vec(),
        };
        let new = self.draft(index)?.unwrap_or_default();
        let (old, new) = (draft.on(below), new.on(&now));
        Ok((old != new).then(|| self.explained(self.segments.get(index), &old, &new, &now)))
    }

    /// Whether a segment could be fresh once what it stands on is known: all else is as it was when it was last built.
    pub fn may_be_fresh(&self, index: usize, draft: &Fields) -> bool {
        let last = self.segments.get(index).steps.last().map(|step| self.build.step(*step).name.as_str());
        let old = last.and_then(|step| self.store?.last_key(&self.build.name, step));
        old.is_some_and(|old| old.without_below() == *draft)
    }

    /// Whether a file of the host is there and has that digest.
    pub fn is_file_of(&self, path: &Path, digest: &Digest, size: u64) -> bool {
        let is_file = path.symlink_metadata().is_ok_and(|metadata| metadata.is_file() && metadata.len() == size);
        is_file && self.contents.of_file(path).is_ok_and(|found| found == *digest)
    }

    /// Forgets what is in host paths: something was written that they may show.
    pub fn forget(&self) {
        let mut seen = lock(&self.seen);
        *seen = Seen { forgotten: seen.forgotten + 1, ..Seen::default() };
    }

    /// What was found before; else looks, and remembers that unless all was forgotten meanwhile.
    fn remembered<T: Clone>(
        &self,
        find: impl FnOnce(&Seen) -> Option<T>,
        look: impl FnOnce() -> Result<T, JudgeError>,
        remember: impl FnOnce(&mut Seen, T),
    ) -> Result<T, JudgeError> {
        let (found, forgotten) = {
            let seen = lock(&self.seen);
            (find(&seen), seen.forgotten)
        };
        if let Some(found) = found {
            return Ok(found);
        }
        let found = look()?;
        let mut seen = lock(&self.seen);
        if seen.forgotten == forgotten {
            remember(&mut seen, found.clone());
        }
        Ok(found)
    }

    /// Writes what was learnt about host files, so that the next build need not read them.
    ///
    /// # Errors
    /// Where it cannot be written: the next build is slower, and no less right.
    pub fn close(self) -> Result<(), JudgeError> {
        if self.store.is_some() { Ok(self.contents.close()?) } else { Ok(()) }
    }

    fn is_any_after_stale(&self, index: usize, below: &Below, recorded: &Recorded) -> Result<bool, JudgeError> {
        let mut links = match below {
            Below::Known(links) => links.clone(),
            Below::Unwritten(_) => return Ok(true),
        };
        let mut at = (self.segments.get(index).snapshot, recorded.layer.as_ref().map(|layer| layer.digest));
        for after in self.segments.after(index) {
            let (Some(snapshot), Some(layer)) = at else { return Ok(true) };
            links = self.above(snapshot, &links, &layer);
            match self.alone(*after, &Below::Known(links.clone()))? {
                Verdict::Stale { .. } => return Ok(true),
                Verdict::Fresh(recorded) => {
                    at = (self.segments.get(*after).snapshot, recorded.layer.map(|layer| layer.digest));
                }
            }
        }
        Ok(false)
    }

    fn alone(&self, index: usize, below: &Below) -> Result<Verdict, JudgeError> {
        let segment = self.segments.get(index);
        let container = self.build.container(segment.container);
        let mut reasons: Vec<Reason> = unknown(container).collect();
        if !reasons.is_empty() {
            return Ok(Verdict::Stale { reasons, draft: None, resume: None });
        }
        let steps = || segment.steps.iter().map(|step| self.build.step(*step));
        if segment.snapshot.is_none() && (self.options.layers_only || !steps().all(|step| step.cache)) {
            return Ok(Verdict::Stale { reasons: vec![Reason::NotKept], draft: None, resume: None });
        }
        if self.options.no_cache {
            reasons.push(Reason::NoCache);
        }
        let always = steps().filter(|step| step.always);
        reasons.extend(always.map(|step| Reason::Always { step: step.name.clone() }));
        let draft = match self.draft(index) {
            Err(JudgeError::Content(ContentError::MadeUp { path, .. })) => {
                reasons.push(Reason::UnknownInput { target: self.target_of(container, &path) });
                return Ok(Verdict::Stale { reasons, draft: None, resume: None });
            }
            draft => draft?,
        };
        match (below, &draft) {
            (Below::Unwritten(step), _) => {
                reasons.push(Reason::BelowIsBuilt { step: self.build.step(*step).name.clone() });
            }
            (Below::Known(below), Some(draft)) if reasons.is_empty() => {
                match self.look_up(segment, draft.on(below), below)? {
                    Ok(recorded) => return Ok(Verdict::Fresh(Box::new(recorded))),
                    Err(why) => reasons = why,
                }
            }
            (Below::Known(_), Some(_)) => {}
            (Below::Known(_), None) => reasons.push(Reason::NeverBuilt),
        }
        let resume = match (below, &draft) {
            (Below::Known(below), Some(draft)) => self.resume(segment, draft, below)?,
            _ => None,
        };
        Ok(Verdict::Stale { reasons, draft, resume })
    }

    /// The last checkpoint that a stale segment can go on from.
    fn resume(&self, segment: &Segment, draft: &Fields, below: &[Link]) -> Result<Option<Box<Resume>>, JudgeError> {
        let steps = || segment.steps.iter().map(|step| self.build.step(*step));
        let (Some(store), Some(last)) = (self.store, steps().next_back()) else { return Ok(None) };
        if self.build.container(segment.container).checkpoint.is_none() || self.options.no_cache {
            return Ok(None);
        }
        let most = steps().position(|step| step.always).unwrap_or(segment.steps.len() - 1);
        let known = store.checkpoints(&self.build.name, &last.name);
        for steps in known.into_iter().rev().filter(|steps| (1..=most).contains(steps)) {
            let recorded = store.recorded(&draft.of_checkpoint(steps).on(below).key());
            if let Some(layer) = recorded.and_then(|recorded| recorded.layer)
                && matches!(store.look_at_layer(&layer.digest, layer.size)?, LayerState::Whole(_))
            {
                return Ok(Some(Box::new(Resume { steps, layer })));
            }
        }
        Ok(None)
    }

    /// What is under a key, or why that is nothing.
    fn look_up(
        &self,
        segment: &Segment,
        fields: Fields,
        below: &[Link],
    ) -> Result<Result<Recorded, Vec<Reason>>, JudgeError> {
        let Some(store) = self.store else { return Ok(Err(vec![Reason::NeverBuilt])) };
        if let Some(recorded) = store.recorded(&fields.key()) {
            let Some(layer) = &recorded.layer else { return Ok(Ok(recorded)) };
            return Ok(match store.look_at_layer(&layer.digest, layer.size)? {
                LayerState::Whole(_) => Ok(recorded),
                LayerState::Missing => Err(vec![Reason::Collected]),
                LayerState::Damaged => Err(vec![Reason::Damaged { digest: layer.digest.to_string() }]),
            });
        }
        let last = segment.steps.last().and_then(|step| store.last_key(&self.build.name, &self.build.step(*step).name));
        let Some(old) = last else { return Ok(Err(vec![Reason::NeverBuilt])) };
        let mut reasons = self.explained(segment, &old, &fields, below);
        if reasons.is_empty() {
            reasons.push(Reason::Collected);
        }
        Ok(Err(reasons))
    }

    /// What tells two keys of a segment apart, with the files that differ. `below` is what the new one stands on.
    fn explained(&self, segment: &Segment, old: &Fields, new: &Fields, below: &[Link]) -> Vec<Reason> {
        let names: Vec<&str> = segment.steps.iter().map(|step| self.build.step(*step).name.as_str()).collect();
        let mut reasons = reasons(old, new, below, &names);
        for reason in &mut reasons {
            if let Reason::InputChanged { target, files, more } = reason {
                (*files, *more) = self.changed_files(target, old, new).unwrap_or_default();
            }
        }
        reasons
    }

    /// The files that differ between what was in a bind and what is, where both are known.
    fn changed_files(&self, target: &str, old: &Fields, new: &Fields) -> Option<(Vec<String>, u64)> {
        let listing = |fields: &Fields| {
            let digest = fields.get(&format!("content/{target}"))?.parse().ok()?;
            self.listings.as_ref()?.get(&digest)
        };
        let Changed { first, more } = Changed::between(&listing(old)?, &listing(new)?);
        Some((first.iter().map(ToString::to_string).collect(), more))
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

/// The mounts of which nobody can say what is in them.
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

/// Whether files left in such a mount last as long as the session, and are in no layer.
pub fn is_memory(kind: &MountKind) -> bool {
    match kind {
        MountKind::Kernel(kind, _) => kind == RAMFS,
        kind => *kind == MountKind::Tmpfs,
    }
}

fn texts(paths: &[PathBuf]) -> Vec<String> {
    paths.iter().map(|path| path.display().to_string()).collect()
}
