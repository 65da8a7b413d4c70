//! Looks up the result of a segment in the store, and explains why there is none.

use super::{CacheCheckError, CacheChecker, Resume, lock};
use crate::cache::key::{KeyFields, Link, Parents, Reason, reasons};
use crate::content::Changed;
use crate::digest::Digest;
use crate::model::{Action, Build, Checkpointing, Step};
use crate::plan::Segment;
use crate::store::{CacheRecord, LayerState, Store};

impl CacheChecker<'_> {
    /// Returns the last checkpoint from which a stale segment can continue.
    pub(super) fn resume(
        &self,
        segment: &Segment,
        draft: &KeyFields,
        below: &Parents,
    ) -> Result<Option<Box<Resume>>, CacheCheckError> {
        let mut steps = segment.steps.iter().map(|step| self.build.step(*step));
        let Some(store) = self.store else { return Ok(None) };
        if self.build.container(segment.container).checkpoint == Checkpointing::Off || self.options.no_cache {
            return Ok(None);
        }
        // The last step of a segment runs: that of a snapshot, or a requested one. A session that is opened after it
        // needs only its changes.
        let runs_last = !(segment.is_cut && self.options.layers_only);
        let is_begun = |step: &Step| step.always || matches!(step.action, Action::Export(_));
        let most = steps.position(is_begun).unwrap_or(segment.steps.len() - usize::from(runs_last));
        let is_known = |number: &usize| {
            let step = self.build.step(segment.steps[*number - 1]);
            store.has_checkpoint(&self.build.name, &step.name)
        };
        for steps in (1..=most).rev().filter(is_known) {
            let recorded = store.recorded(&draft.of_checkpoint(steps).with_base(below).key());
            if let Some(layer) = recorded.and_then(|recorded| recorded.layer)
                && matches!(store.look_at_layer(&layer.digest, layer.size)?, LayerState::Whole(_))
            {
                return Ok(Some(Box::new(Resume { steps, layer })));
            }
        }
        Ok(None)
    }

    /// Returns the result of a key, or the reasons for which there is none.
    pub(super) fn look_up(
        &self,
        segment: &Segment,
        fields: KeyFields,
        below: &Parents,
    ) -> Result<Result<CacheRecord, Vec<Reason>>, CacheCheckError> {
        let Some(store) = self.store else { return Ok(Err(vec![self.without_store()])) };
        if let Some(recorded) = store.recorded(&fields.key()) {
            if let Some(reason) = self.missing_export(store, segment, &recorded)? {
                return Ok(Err(vec![reason]));
            }
            let Some(layer) = &recorded.layer else { return Ok(Ok(recorded)) };
            return Ok(match store.look_at_layer(&layer.digest, layer.size)? {
                LayerState::Whole(_) => Ok(recorded),
                LayerState::Missing => Err(vec![Reason::Collected]),
                LayerState::Damaged => Err(vec![Reason::Damaged { digest: layer.digest.to_string() }]),
            });
        }
        let Build { name, project, .. } = self.build;
        let last = segment.steps.last().and_then(|step| store.last_key(name, project, &self.build.step(*step).name));
        let Some(old) = last else { return Ok(Err(vec![Reason::NeverBuilt])) };
        let changed = self.changed_below(&old, below);
        let mut reasons = self.explained(segment, &old, &fields, changed);
        if reasons.is_empty() {
            reasons.push(Reason::Collected);
        }
        Ok(Err(reasons))
    }

    /// Returns the reason for which an export of a record cannot be used, if there is one.
    pub(super) fn missing_export(
        &self,
        store: &Store,
        segment: &Segment,
        recorded: &CacheRecord,
    ) -> Result<Option<Reason>, CacheCheckError> {
        if recorded.exports.len() != segment.exports(self.build).count() {
            return Ok(Some(Reason::Collected));
        }
        for export in &recorded.exports {
            match store.look_at_export(export)? {
                LayerState::Whole(_) => {}
                LayerState::Missing => return Ok(Some(Reason::Collected)),
                LayerState::Damaged => return Ok(Some(Reason::Damaged { digest: export.digest.to_string() })),
            }
        }
        Ok(None)
    }

    /// Returns the differences of two keys of a segment, with the files that differ. `below` is the name of the parent
    /// that changed, if one did.
    pub(super) fn explained(
        &self,
        segment: &Segment,
        old: &KeyFields,
        new: &KeyFields,
        below: Option<String>,
    ) -> Vec<Reason> {
        let names: Vec<&str> = segment.steps.iter().map(|step| self.build.step(*step).name.as_str()).collect();
        let mut reasons = reasons(old, new, below, &names);
        for reason in &mut reasons {
            match reason {
                Reason::InputChanged { target, files, more } => {
                    (*files, *more) = self.changed_files_of(target, old, new).unwrap_or_default();
                }
                Reason::CopyChanged { step, source, files, more } => {
                    if let Some((field, name)) = self.copied_source(segment, step, source) {
                        (*files, *more) = self.changed_files(&field, old, new).unwrap_or_default();
                        *source = name;
                    }
                }
                _ => {}
            }
        }
        reasons
    }

    /// Returns the name of the lowest parent that differs from those of an old key.
    pub(super) fn changed_below(&self, old: &KeyFields, new: &Parents) -> Option<String> {
        let old_parents = match old.below() {
            _ if old.below() == new.digest() => return None,
            None => Some(old.listed_below()),
            Some(digest) => self.old_parents(&digest),
        };
        // Where the store has lost the old parents, only the fact that they differ is known.
        old_parents.map_or_else(|| new.top().map(|top| top.name.clone()), |old| new.changed_since(&old))
    }

    /// Returns the parents of that digest; none where the store lacks some of them. Reads each once, because the
    /// segments of a session share most of them.
    fn old_parents(&self, digest: &Digest) -> Option<Parents> {
        let mut read = lock(&self.old_parents);
        let (mut added, mut next) = (Vec::new(), Some(*digest));
        let mut parents = loop {
            match next {
                None => break Some(Parents::default()),
                Some(digest) if read.contains_key(&digest) => break read[&digest].clone(),
                Some(digest) => {
                    let Some(record) = self.store.and_then(|store| store.parent(&digest)) else { break None };
                    next = record.below;
                    added.push((digest, record.id));
                }
            }
        };
        for (digest, id) in added.into_iter().rev() {
            parents = parents.map(|parents| parents.with(Link { name: String::new(), id }));
            read.insert(digest, parents.clone());
        }
        parents
    }

    /// Returns the files that differ between the old and the new content of a bind, where the store has both listings.
    fn changed_files_of(&self, target: &str, old: &KeyFields, new: &KeyFields) -> Option<(Vec<String>, u64)> {
        // The bind may be that of a step for itself.
        let name = format!("content/{target}");
        let is_it = |field: &str| field == name || field.strip_suffix(&name).is_some_and(|of| of.starts_with("step/"));
        let mut values = new.iter().filter(|(field, _)| is_it(field));
        let (old, new) = values.find_map(|(field, new)| Some((old.get(field).filter(|old| *old != new)?, new)))?;
        self.files_between(old, new)
    }

    /// Returns the files that differ between the old and the new content in a field, where the store has both listings.
    fn changed_files(&self, field: &str, old: &KeyFields, new: &KeyFields) -> Option<(Vec<String>, u64)> {
        self.files_between(old.get(field)?, new.get(field)?)
    }

    /// Returns the files that differ between two contents, by their digests, where the store has both listings.
    pub(super) fn files_between(&self, old: &str, new: &str) -> Option<(Vec<String>, u64)> {
        let listing = |digest: &str| self.listings.as_ref()?.get(&digest.parse().ok()?);
        let Changed { first, more } = Changed::between(&listing(old)?, &listing(new)?);
        Some((first.iter().map(ToString::to_string).collect(), more))
    }
}
