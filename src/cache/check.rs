//! Checks a segment: looks up its key, explains why it is stale, and finds inputs that changed since.

use std::path::{Path, PathBuf};

use super::{Below, BindStates, CacheCheckError, CacheChecker, CacheStatus, Since, base_name, is_memory, lock};
use crate::cache::key::{KeyFields, Parents, Reason};
use crate::content::ContentError;
use crate::model::{Checkpointing, Mount, MountKind, Role, Step, StepId};
use crate::plan::Segment;
use crate::store::CacheRecord;

/// Kernel filesystems that show no data of a disk or of another machine.
const KNOWN_FILESYSTEMS: [&str; 6] = ["proc", "sysfs", "mqueue", "devpts", "ramfs", "cgroup2"];

impl CacheChecker<'_> {
    /// Checks a segment, and those after it where they matter. `is_open`: steps before it have run in its session, so
    /// its tmpfs mounts may contain files.
    ///
    /// # Errors
    /// Those of reading the inputs of the key.
    pub fn check(&self, index: usize, below: &Below, is_open: bool) -> Result<CacheStatus, CacheCheckError> {
        let written = lock(&self.checked).written.len();
        let status = self.own_status(index, below)?;
        if !matches!(&status, CacheStatus::Stale { draft: None, checkpoints: None, .. }) {
            let binds = self.bind_states(index)?;
            let mut checked = lock(&self.checked);
            checked.binds.insert(index, binds);
            checked.written.checked(index, written);
        }
        let CacheStatus::Fresh(recorded) = &status else { return Ok(status) };
        if self.segments.get(index).is_export_of_layers(self.build) {
            // It reads no mount.
            return Ok(status);
        }
        let container = self.build.container(self.segments.get(index).container);
        let tmpfs = container.mounts.iter().filter(|mount| is_open && is_memory(&mount.kind));
        let mut targets: Vec<String> = tmpfs.map(|mount| mount.target.display().to_string()).collect();
        if targets.is_empty() {
            targets = texts(&recorded.tmpfs_left);
        }
        if !targets.is_empty() && self.is_any_after_stale(index, below, recorded)? {
            let draft = Some(recorded.fields.without_base());
            let reasons = vec![Reason::TmpfsNeeded { targets }];
            return Ok(CacheStatus::Stale { reasons, checkpoints: draft.clone(), draft, resume: None });
        }
        Ok(status)
    }

    /// Returns the states of a segment's binds at the time when its key was made.
    fn bind_states(&self, index: usize) -> Result<BindStates, CacheCheckError> {
        let images = self
            .images(index)
            .map(|(step, target, source)| Ok(((step, target.to_owned()), self.contents.of_file_with_state(source)?.1)));
        let inputs = self.host_inputs(index);
        let inputs = inputs.map(|input| Ok(((input.step, input.target.to_owned()), self.content(input.source)?.state)));
        images.chain(inputs).collect()
    }

    /// Returns the inputs of a key that have changed since it was made, if any did: the result that was built meanwhile
    /// is not stored then.
    ///
    /// # Errors
    /// Those of reading the inputs again.
    pub fn changed_since(
        &self,
        index: usize,
        draft: &KeyFields,
        below: &Parents,
    ) -> Result<Option<Since>, CacheCheckError> {
        self.forget();
        let bottom = self.bottom(index);
        let base = bottom.map(|container| self.base_below(index, container)).transpose()?;
        let now = base.as_ref().map_or_else(|| below.clone(), |(source, _)| below.on_source(source));
        let new = self.draft(index)?.unwrap_or_default();
        let (old, new) = (draft.with_base(below), new.with_base(&now));
        if old != new {
            let changed = now.changed_since(below);
            return Ok(Some(Since::Changed(self.explained(self.segments.get(index), &old, &new, changed))));
        }
        let (binds, checked) = (self.bind_states(index)?, lock(&self.checked));
        let old = checked.binds.get(&index);
        let touched = binds.iter().filter(|(bind, state)| old.is_some_and(|old| old.get(*bind) != Some(*state)));
        let mut inputs: Vec<String> = touched.map(|((_, target), _)| target.display().to_string()).collect();
        if let (Some(container), Some((_, state))) = (bottom, base)
            && checked.bases.get(&container).is_some_and(|old| *old != state)
        {
            inputs.push(base_name(&self.build.container(container).name));
        }
        Ok((!inputs.is_empty()).then_some(Since::ChangedBack(inputs)))
    }

    /// Whether a segment could be fresh once its parents are known: all its other inputs are those of its last build.
    pub fn may_be_fresh(&self, index: usize, draft: &KeyFields) -> bool {
        let last = self.segments.get(index).steps.last().map(|step| self.build.step(*step).name.as_str());
        let (Some(last), Some(store)) = (last, self.store) else { return false };
        let mut old = store.last_key_of_any(&self.build.name, last);
        old.any(|old| old.without_base() == *draft)
    }

    fn is_any_after_stale(&self, index: usize, below: &Below, recorded: &CacheRecord) -> Result<bool, CacheCheckError> {
        let Below::Known(below) = below else { return Ok(true) };
        let mut below = below.clone();
        let mut at = (self.segments.get(index).snapshot, recorded.layer.as_ref().map(|layer| layer.digest));
        let (mut fresh, mut is_stale) = (Vec::new(), false);
        let forgotten = lock(&self.facts).forgotten;
        let others = self.segments.after(index).iter();
        for after in others.filter(|after| !self.segments.get(**after).is_export_of_layers(self.build)) {
            let (Some(snapshot), Some(layer)) = at else { return Ok(true) };
            below = self.above(snapshot, &below, &layer);
            let from = (*after, below.digest());
            // Otherwise the check of each segment would look at all that follow.
            if let Some(known) = lock(&self.facts).stale_from.get(&from) {
                is_stale = *known;
                break;
            }
            fresh.push(from);
            match self.own_status(*after, &Below::Known(below.clone()))? {
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

    /// Whether the results of a segment, or checkpoints between its steps, may be stored under a key.
    pub(super) fn has_key(&self, index: usize) -> bool {
        let segment = self.segments.get(index);
        let container = self.build.container(segment.container);
        let is_stored = self.has_own_snapshot(segment) || self.is_cached_without_layer(segment);
        let has_checkpoints = segment.is_cut && container.checkpoint != Checkpointing::Off;
        let mounts = self.build.mounts_of(segment.container, &segment.steps);
        unknown(mounts).next().is_none() && (is_stored || has_checkpoints)
    }

    /// Whether a segment ends with a snapshot of the manifest.
    fn has_own_snapshot(&self, segment: &Segment) -> bool {
        segment.snapshot.is_some_and(|snapshot| self.build.step(snapshot).role == Role::Build)
    }

    /// Whether the success of a segment without a snapshot of the manifest is stored.
    fn is_cached_without_layer(&self, segment: &Segment) -> bool {
        let of_layers = segment.is_export_of_layers(self.build);
        let continues = self.options.layers_only && segment.snapshot.is_none() && !of_layers;
        let is_cached = |step: &Step| step.cache || step.role == Role::TestedState;
        let mut others = segment.steps.iter().skip(segment.exported_steps(self.build));
        !continues && others.all(|step| is_cached(self.build.step(*step)))
    }

    fn own_status(&self, index: usize, below: &Below) -> Result<CacheStatus, CacheCheckError> {
        let segment = self.segments.get(index);
        let mut reasons: Vec<Reason> = unknown(self.build.mounts_of(segment.container, &segment.steps)).collect();
        if !reasons.is_empty() {
            return Ok(CacheStatus::Stale { reasons, draft: None, checkpoints: None, resume: None });
        }
        let steps = || segment.steps.iter().map(|step| self.build.step(*step));
        if !self.has_own_snapshot(segment) && !self.is_cached_without_layer(segment) {
            reasons.push(Reason::NotKept);
            return self.cut_short(index, below, reasons);
        }
        if self.options.no_cache {
            reasons.push(Reason::NoCache);
        }
        let always = steps().filter(|step| step.always);
        reasons.extend(always.map(|step| Reason::Always { step: step.name.clone() }));
        let draft = match self.draft(index) {
            Err(CacheCheckError::UnknownSource(step)) => {
                if reasons.is_empty() {
                    reasons = self.reasons_but_sources(index, step, below)?;
                }
                return Ok(CacheStatus::Stale { reasons, draft: None, checkpoints: None, resume: None });
            }
            Err(CacheCheckError::Content(ContentError::MadeUp { path, .. })) => {
                reasons.push(Reason::UnknownInput { target: self.target_of(segment, &path) });
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
                match self.look_up(segment, draft.with_base(below), below)? {
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
            Err(CacheCheckError::Content(ContentError::MadeUp { .. }) | CacheCheckError::UnknownSource(_)) => None,
            draft => draft?,
        };
        let resume = checkpoints.as_ref().map_or(Ok(None), |fields| self.resume(segment, fields, below))?;
        Ok(CacheStatus::Stale { reasons, draft: None, checkpoints, resume })
    }

    /// Returns the reason for which a segment is not fresh where the store does not exist or cannot be read.
    pub(super) fn without_store(&self) -> Reason {
        self.options.unreadable.clone().map_or(Reason::NeverBuilt, |why| Reason::StoreUnreadable { why })
    }

    fn target_of(&self, segment: &Segment, source: &Path) -> String {
        let is_it = |mount: &&Mount| matches!(&mount.kind, MountKind::Bind(bound) if source.starts_with(bound));
        let mount = self.build.mounts_of(segment.container, &segment.steps).map(|(_, mount)| mount).find(is_it);
        mount.map_or(source, |mount| mount.target.as_path()).display().to_string()
    }
}

/// Returns reasons for the mounts whose content cannot be known.
fn unknown<'m>(mounts: impl Iterator<Item = (Option<StepId>, &'m Mount)>) -> impl Iterator<Item = Reason> {
    mounts.map(|(_, mount)| mount).filter(|mount| !mount.ignored).filter_map(|mount| {
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

fn texts(paths: &[PathBuf]) -> Vec<String> {
    paths.iter().map(|path| path.display().to_string()).collect()
}
