//! Returns a snapshot's inputs for a lock, and the reasons for which they differ from the locked ones.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::inputs::{name_of_input, read_binds};
use super::own_files::real;
use super::{CacheCheckError, CacheChecker};
use crate::cache::key::{KeyFields, Reason};
use crate::content::{ContentError, Listing};
use crate::digest::Digest;
use crate::lock::{LockedInputs, LockedSnapshot};
use crate::model::{MountKind, StepId};

impl CacheChecker<'_> {
    /// Returns the present inputs of a snapshot; none where some of them cannot be known.
    ///
    /// # Errors
    /// Those of reading the inputs.
    pub fn lock_inputs(&self, snapshot: StepId) -> Result<Option<LockedInputs>, CacheCheckError> {
        let Some(index) = self.segments.of_step(snapshot) else { return Ok(None) };
        Ok(self.known_inputs(index)?.map(|(_, inputs)| inputs))
    }

    /// Returns the reasons, in words, for which a snapshot without a result here was locked for other inputs; empty
    /// where it was not, or where that cannot be known. Does not compare the content of a bind that a step of the same
    /// build may write: that step runs first.
    ///
    /// # Errors
    /// Those of reading the inputs.
    pub fn other_inputs(&self, snapshot: StepId, locked: &LockedSnapshot) -> Result<Vec<String>, CacheCheckError> {
        let (Some(locked_inputs), Some(index)) = (&locked.inputs, self.segments.of_step(snapshot)) else {
            return Ok(Vec::new());
        };
        let Some((fields, now)) = self.known_inputs(index)? else { return Ok(Vec::new()) };
        let written = self.written_binds(index);
        let now = now.without_binds(&written);
        if !locked_inputs.clone().without_binds(&written).differs_on_any_host(&now) {
            return Ok(Vec::new());
        }
        Ok(self.changes(index, locked_inputs, &fields, &now))
    }

    /// Returns the present inputs of a segment and the fields that they are made from; none where some of them cannot
    /// be known.
    fn known_inputs(&self, index: usize) -> Result<Option<(KeyFields, LockedInputs)>, CacheCheckError> {
        match self.fields_now(index) {
            Err(CacheCheckError::Content(ContentError::MadeUp { .. }) | CacheCheckError::UnknownSource(_)) => Ok(None),
            fields => {
                let fields = fields?;
                let inputs = self.inputs_now(index, &fields)?;
                Ok(Some((fields, inputs)))
            }
        }
    }

    /// Returns the targets of the read-only binds of a segment whose sources a step of the build may write.
    fn written_binds(&self, index: usize) -> Vec<String> {
        let mounts = self.build.containers.iter().flat_map(|container| &container.mounts);
        let sources = mounts.filter(|mount| !mount.is_read_only()).filter_map(|mount| match &mount.kind {
            MountKind::Bind(source) => Some(real(source)),
            _ => None,
        });
        let sources: Vec<PathBuf> = sources.collect();
        let is_written = |read: &Path| {
            let read = real(read);
            sources.iter().any(|written| written.starts_with(&read) || read.starts_with(written))
        };
        let binds = read_binds(self.build, self.segments.get(index));
        binds.filter(|bind| is_written(bind.source)).map(|bind| bind.name(self.build)).collect()
    }

    /// Returns the reasons, in words, for which a snapshot, whose layer is `found`, differs from the locked one; empty where
    /// all inputs are equal. Adds the values and the files that differ, where the store has a record of the locked inputs
    /// and listings of the binds, and the packages that differ, where the lock has those of the root.
    pub fn causes(&self, snapshot: StepId, locked: &LockedSnapshot, found: &Digest) -> Vec<String> {
        let packages = self.store.and_then(|store| locked.packages.difference_from(&store.layer_path(found)));
        packages.into_iter().chain(self.input_causes(snapshot, locked)).collect()
    }

    fn input_causes(&self, snapshot: StepId, locked: &LockedSnapshot) -> Vec<String> {
        let (Some(locked_inputs), Some(index)) = (&locked.inputs, self.segments.of_step(snapshot)) else {
            return Vec::new();
        };
        let Ok(Some((fields, now))) = self.known_inputs(index) else { return Vec::new() };
        self.changes(index, locked_inputs, &fields, &now)
    }

    /// Returns the differences between the inputs of a segment and the locked ones.
    fn changes(
        &self,
        index: usize,
        locked_inputs: &LockedInputs,
        fields: &KeyFields,
        now: &LockedInputs,
    ) -> Vec<String> {
        let segment = self.segments.get(index);
        let is_locked = |old: &KeyFields| {
            let old = self.inputs_of(index, old, locked_inputs.on.clone()).with_binds(locked_inputs.binds.clone());
            // A lock of an earlier runner has no settings by name.
            old == *locked_inputs || LockedInputs { named_settings: BTreeMap::new(), ..old } == *locked_inputs
        };
        let name = segment.snapshot.map(|snapshot| self.build.step(snapshot).name.as_str());
        let old = self.store.zip(name);
        let old = old.and_then(|(store, name)| store.last_key_of_any(&self.build.name, name).find(is_locked));
        let mut causes = match old {
            None => locked_inputs.changes(now),
            Some(old) => {
                let reasons = self.explained(segment, &old.without_base(), fields, None);
                let others = reasons.iter().filter(|reason| !matches!(reason, Reason::InputChanged { .. }));
                locked_inputs.base_change(now).into_iter().chain(others.map(ToString::to_string)).collect()
            }
        };
        for (target, locked_inputs, now) in locked_inputs.changed_binds(now) {
            let (files, more) = self.files_between(locked_inputs, now).unwrap_or_default();
            causes.push(Reason::InputChanged { target: target.to_owned(), files, more }.to_string());
        }
        causes
    }

    /// Returns the snapshot of the plan that a snapshot is built on.
    pub fn below_snapshot(&self, snapshot: StepId) -> Option<StepId> {
        self.segments.built_on(self.build, self.segments.of_step(snapshot)?)
    }

    fn inputs_now(&self, index: usize, fields: &KeyFields) -> Result<LockedInputs, CacheCheckError> {
        let own: Vec<PathBuf> = self.options.own_files.iter().map(|path| real(path)).collect();
        let mut binds = BTreeMap::new();
        for bind in read_binds(self.build, self.segments.get(index)) {
            let listing = without_own(&self.content(bind.source)?.listing, bind.source, &own);
            let digest = listing.digest();
            if let Some(listings) = &self.listings {
                // The listing only serves explanations; the calls that must write to the store report one that is
                // read-only.
                let _ = listings.put(&digest, &listing);
            }
            binds.insert(bind.name(self.build), digest.to_string());
        }
        for ((step, target), content) in self.mounted(index)? {
            binds.insert(name_of_input(self.build, step, &target), content);
        }
        Ok(self.inputs_of(index, fields, self.start_of(index)).with_binds(binds))
    }

    fn inputs_of(&self, index: usize, fields: &KeyFields, on: String) -> LockedInputs {
        let steps = self.segments.get(index).steps.iter();
        let names: Vec<&str> = steps.map(|step| self.build.step(*step).name.as_str()).collect();
        LockedInputs::of(fields, &names, on)
    }

    /// Returns the snapshot or the rootfs that the steps of a segment start from.
    fn start_of(&self, index: usize) -> String {
        match self.segments.built_on(self.build, index) {
            Some(step) => format!("snapshot {}", self.build.step(step).name),
            None => super::base_name(&self.build.container(self.segments.get(index).container).name),
        }
    }
}

/// Returns a listing without these files, and without their parent directories: a lock describes a build before it has
/// written any of them.
fn without_own(listing: &Listing, source: &Path, own: &[PathBuf]) -> Listing {
    let source = source.canonicalize().unwrap_or_else(|_| source.to_owned());
    let own: Vec<&Path> = own.iter().filter_map(|path| path.strip_prefix(&source).ok()).collect();
    let is_own_or_above = |path: &Path| !path.as_os_str().is_empty() && own.iter().any(|own| own.starts_with(path));
    if own.is_empty() { listing.clone() } else { listing.without(is_own_or_above) }
}
