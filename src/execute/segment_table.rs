//! The state of each segment in a run: the result of its cache check, the layers below it, the layer that its snapshot wrote.
//!
//! A segment is recorded by what it was checked by. Asked for again, these could be others: a base can be replaced while the
//! segment runs.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use super::step_context::Written;
use crate::cache::key::{KeyFields, Parents, Reason};
use crate::cache::{Below, CacheChecker, CacheStatus};
use crate::digest::Digest;
use crate::event::milliseconds;
use crate::execute::message::{CheckOutcome, Stale};
use crate::model::{Build, Checkpointing, StepId};
use crate::plan::Segments;
use crate::poison::lock;
use crate::store::{BuildLock, CacheRecord, LayerPin, RecordedExport, RecordedLayer};

/// By snapshot: its layer and all layers below it, where all of them are known.
#[derive(Debug, Default)]
pub struct LayerChains(Mutex<HashMap<StepId, Parents>>);

impl LayerChains {
    /// Returns that of a snapshot which is written or in the store.
    pub fn get(&self, snapshot: StepId) -> Option<Parents> {
        self.lock().get(&snapshot).cloned()
    }

    fn insert(&self, snapshot: StepId, parents: Parents) {
        self.lock().insert(snapshot, parents);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<StepId, Parents>> {
        lock(&self.0)
    }
}

/// The result of a cache check.
#[derive(Debug)]
pub struct Checked {
    /// The status.
    pub status: CacheStatus,
    /// The layers below, by which it was checked.
    pub below: Below,
    /// The lock on its key, where it is stale and its key is known.
    pub building: Option<BuildLock>,
    /// The store may have it: that is known when this snapshot is written.
    pub until: Option<StepId>,
    /// Its layer, where it is fresh and has one: pinned, so that no collection removes it.
    pub pin: Option<LayerPin>,
}

/// A checkpoint after a step, should it be due.
#[derive(Debug, Clone)]
pub struct CheckpointPlan {
    /// Of this segment.
    pub of: Arc<CheckpointedSegment>,
    /// How many steps of the segment have been done then.
    pub steps: usize,
    /// The snapshot comes next: the checkpoint is of use only where that does not begin.
    pub is_before_snapshot: bool,
}

/// A segment with checkpoints between its steps.
#[derive(Debug)]
pub struct CheckpointedSegment {
    pub segment: usize,
    /// The fields of the keys, without the number of steps and the layers below.
    pub draft: KeyFields,
    pub below: Parents,
}

/// A segment that has run and is to be recorded.
#[derive(Debug)]
pub struct ToRecord {
    pub segment: usize,
    pub draft: KeyFields,
    pub below: Parents,
    pub recorded: CacheRecord,
    /// Unlocked when all is recorded.
    pub building: Option<BuildLock>,
}

/// The work of recording a segment.
#[derive(Debug)]
pub struct ToCommit {
    /// The segments above that run already, with the fields of their keys: these become known with the layers below them, and
    /// are to be locked before others can know them.
    pub above: Vec<(usize, KeyFields)>,
    /// The parents of what is built on the segment's layer.
    pub parents: Parents,
    pub record: Option<ToRecord>,
}

#[derive(Debug)]
enum Entry {
    Unknown,
    Fresh(Arc<CacheRecord>, Option<LayerPin>),
    Stale(Box<StaleSegment>),
}

#[derive(Debug)]
struct StaleSegment {
    reasons: Vec<Reason>,
    draft: Option<KeyFields>,
    /// The fields under whose key checkpoints are stored.
    checkpoints: Option<KeyFields>,
    /// The same with all that is below, once a step has asked for it.
    checkpointed: Option<Arc<CheckpointedSegment>>,
    building: Option<BuildLock>,
    begun: Instant,
    written: Option<Written>,
    exported: HashMap<StepId, RecordedExport>,
}

/// All segments of a plan.
#[derive(Debug)]
pub struct SegmentTable<'a> {
    build: &'a Build,
    segments: &'a Segments,
    chains: &'a LayerChains,
    entries: Vec<Entry>,
    /// By segment: the layers below by which it was checked, where they were known.
    below: Vec<Option<Parents>>,
    /// By snapshot: the segments directly above its layer.
    above: HashMap<StepId, Vec<usize>>,
}

impl<'a> SegmentTable<'a> {
    /// Returns one in which nothing is known.
    pub fn new(build: &'a Build, segments: &'a Segments, chains: &'a LayerChains) -> Self {
        let entries = segments.all().iter().map(|_| Entry::Unknown).collect();
        let mut above: HashMap<StepId, Vec<usize>> = HashMap::new();
        for index in 0..segments.all().len() {
            if let Some(snapshot) = segments.built_on(build, index) {
                above.entry(snapshot).or_default().push(index);
            }
        }
        Self { build, segments, chains, entries, below: vec![None; segments.all().len()], above }
    }

    /// Adds the result of a cache check. Returns it as the scheduler needs it.
    pub fn add(&mut self, index: usize, checked: Checked) -> CheckOutcome {
        if let Some(until) = checked.until {
            return CheckOutcome::Unknown { until };
        }
        let has_parents = matches!(checked.below, Below::Known(_));
        if let Below::Known(below) = checked.below {
            self.below[index] = Some(below);
        }
        match checked.status {
            CacheStatus::Fresh(recorded) => {
                self.entries[index] = Entry::Fresh(Arc::from(recorded), checked.pin);
                CheckOutcome::Fresh
            }
            CacheStatus::Stale { reasons, draft, checkpoints, resume } => {
                let stale = Stale {
                    resumed: resume.map_or(0, |resume| resume.steps),
                    has_parents,
                    is_for_parent: reasons.iter().any(|reason| matches!(reason, Reason::BelowIsBuilt { .. })),
                    is_recordable: draft.is_some(),
                    is_locked: checked.building.is_some(),
                };
                self.entries[index] = Entry::Stale(Box::new(StaleSegment {
                    reasons,
                    draft,
                    checkpoints,
                    checkpointed: None,
                    building: checked.building,
                    begun: Instant::now(),
                    written: None,
                    exported: HashMap::new(),
                }));
                CheckOutcome::Stale(stale)
            }
        }
    }

    fn stale(&mut self, index: usize) -> Option<&mut StaleSegment> {
        match &mut self.entries[index] {
            Entry::Stale(stale) => Some(stale),
            _ => None,
        }
    }

    /// Returns the layers below a segment, as far as they are known: those by which it was checked, else those of a snapshot that
    /// was written since.
    fn below(&self, index: usize) -> Option<Parents> {
        self.below[index].clone().or_else(|| self.chains.get(self.segments.built_on(self.build, index)?))
    }

    /// Returns the reasons for which a step runs.
    pub fn reasons(&self, step: StepId) -> Vec<Reason> {
        match self.segments.of_step(step).map(|index| &self.entries[index]) {
            Some(Entry::Stale(stale)) => stale.reasons.clone(),
            _ => Vec::new(),
        }
    }

    /// Returns the checkpoint after a step that begins, where `open` steps of its segment have not ended; none where none can be
    /// taken: the container has none, or steps run side by side, so that there is no such moment.
    pub fn checkpoint(&mut self, step: StepId, open: usize) -> Option<CheckpointPlan> {
        let index = self.segments.of_step(step)?;
        let of = self.checkpointed(index)?;
        let segment = self.segments.get(index);
        // All before it in the sequence are done.
        let steps = segment.steps.len() + 1 - open;
        if segment.exports(self.build).any(|export| segment.steps[..steps].contains(&export)) {
            // A session that continued after an export would not write it.
            return None;
        }
        debug_assert_eq!(segment.steps.get(steps - 1), Some(&step));
        // Of steps that are cut off from their snapshot, more follow another time.
        let left = segment.steps.len().checked_sub(steps + usize::from(segment.snapshot.is_some()))?;
        let is_before_snapshot = left == 0 && segment.snapshot.is_some();
        (left > 0 || is_before_snapshot || segment.is_cut).then_some(CheckpointPlan { of, steps, is_before_snapshot })
    }

    /// Returns a segment's part of its checkpoints, made once: a segment may have a thousand steps, and its key names each.
    fn checkpointed(&mut self, index: usize) -> Option<Arc<CheckpointedSegment>> {
        let segment = self.segments.get(index);
        let stale = self.stale(index)?;
        if let Some(of) = &stale.checkpointed {
            return Some(Arc::clone(of));
        }
        let draft = stale.checkpoints.take()?;
        let is_off = self.build.container(segment.container).checkpoint == Checkpointing::Off;
        if is_off || !segment.is_sequence(self.build) {
            return None;
        }
        let Some(below) = self.below(index) else {
            self.stale(index)?.checkpoints = Some(draft);
            return None;
        };
        let of = Arc::new(CheckpointedSegment { segment: index, draft, below });
        self.stale(index)?.checkpointed = Some(Arc::clone(&of));
        Some(of)
    }

    /// Returns the record of a step's segment that is in the store, with the pin on its layer.
    pub fn take_fresh(&mut self, step: StepId) -> Option<(Arc<CacheRecord>, Option<LayerPin>)> {
        match &mut self.entries[self.segments.of_step(step)?] {
            Entry::Fresh(recorded, pin) => Some((Arc::clone(recorded), pin.take())),
            _ => None,
        }
    }

    /// Returns the record of a step's segment that is in the store.
    pub fn fresh(&self, step: StepId) -> Option<Arc<CacheRecord>> {
        match &self.entries[self.segments.of_step(step)?] {
            Entry::Fresh(recorded, _) => Some(Arc::clone(recorded)),
            _ => None,
        }
    }

    /// Returns the content of an export that the store had.
    pub fn stored_export(&self, step: StepId) -> Option<Digest> {
        let exports = self.segments.get(self.segments.of_step(step)?).exports(self.build);
        let recorded = self.fresh(step)?;
        exports.zip(&recorded.exports).find(|(id, _)| *id == step).map(|(_, export)| export.digest)
    }

    /// Adds the content of an export.
    pub fn add_exported(&mut self, step: StepId, exported: RecordedExport) {
        let index = self.segments.of_step(step);
        if let Some(stale) = index.and_then(|index| self.stale(index)) {
            stale.exported.insert(step, exported);
        }
    }

    /// Returns the layer of a snapshot that the store had.
    pub fn stored_layer(&self, snapshot: StepId) -> Option<Digest> {
        let index = self.segments.of_step(snapshot)?;
        match &self.entries[index] {
            _ if self.segments.get(index).snapshot != Some(snapshot) => None,
            Entry::Fresh(recorded, _) => recorded.layer.as_ref().map(|layer| layer.digest),
            _ => None,
        }
    }

    /// Adds the layer that a snapshot wrote.
    pub fn add_written(&mut self, snapshot: StepId, written: Written) {
        let index = self.segments.of_step(snapshot);
        if let Some(stale) = index.and_then(|index| self.stale(index)) {
            stale.written = Some(written);
        }
    }

    /// Adds a segment's layer to the chains.
    pub fn link(&mut self, index: usize, checker: &CacheChecker<'_>) {
        let Some(snapshot) = self.segments.get(index).snapshot else { return };
        let digest = match &self.entries[index] {
            Entry::Fresh(recorded, _) => recorded.layer.as_ref().map(|layer| layer.digest),
            Entry::Stale(stale) => stale.written.as_ref().map(|written| written.digest),
            Entry::Unknown => None,
        };
        if let (Some(below), Some(digest)) = (self.below(index), digest) {
            self.chains.insert(snapshot, checker.above(snapshot, &below, &digest));
        }
    }

    /// Drops what can be recorded of a segment, and unlocks its key.
    pub fn abandon(&mut self, index: usize) {
        if let Some(stale) = self.stale(index) {
            (stale.draft, stale.checkpoints, stale.checkpointed, stale.building) = (None, None, None, None);
        }
    }

    /// Adds a lock on the key of a segment that runs already. Returns whether it is of any use still.
    pub fn add_lock(&mut self, index: usize, lock: BuildLock) -> bool {
        match self.stale(index) {
            Some(stale) if stale.draft.is_some() => {
                stale.building = Some(lock);
                true
            }
            _ => false,
        }
    }

    /// Returns the work of recording a segment.
    pub fn take_commit(&mut self, index: usize) -> ToCommit {
        let segment = self.segments.get(index);
        let parents = segment.snapshot.and_then(|snapshot| self.chains.get(snapshot)).unwrap_or_default();
        let others = segment.snapshot.and_then(|snapshot| self.above.get(&snapshot)).into_iter().flatten();
        let unlocked = others.filter_map(|other| match &self.entries[*other] {
            Entry::Stale(stale) if stale.building.is_none() => Some((*other, stale.draft.clone()?)),
            _ => None,
        });
        let above = unlocked.collect();
        // On all below it without itself, which is nothing for a full image.
        let record = self.take_record(index, &parents.below());
        ToCommit { above, parents, record }
    }

    fn take_record(&mut self, index: usize, under_layer: &Parents) -> Option<ToRecord> {
        let segment = self.segments.get(index);
        let below = self.below(index)?;
        let build = self.build;
        let stale = self.stale(index)?;
        let draft = stale.draft.take()?;
        let written = stale.written.as_ref();
        let recorded = CacheRecord {
            fields: draft.with_base(&below),
            build: build.name.clone(),
            container: build.container(segment.container).name.clone(),
            steps: segment.steps.iter().map(|step| build.step(*step).name.clone()).collect(),
            duration_ms: milliseconds(stale.begun.elapsed()),
            time: humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string(),
            exports: segment.exports(build).filter_map(|step| stale.exported.get(&step).cloned()).collect(),
            layer: written.map(|written| RecordedLayer::on(under_layer, written.digest, written.size)),
            tmpfs_left: written.map(|written| written.tmpfs_left.clone()).unwrap_or_default(),
        };
        Some(ToRecord { segment: index, draft, below, recorded, building: stale.building.take() })
    }
}
