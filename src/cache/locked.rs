//! The inputs of a snapshot, for a lock, and the reasons why they are not as they are locked.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::inputs::read_only_binds;
use super::own_files::real;
use super::{CacheCheckError, CacheChecker};
use crate::cache::key::{Fields, Reason};
use crate::content::{ContentError, Listing};
use crate::lock::{Inputs, LockedSnapshot};
use crate::model::{MountKind, StepId};

impl CacheChecker<'_> {
    /// The present inputs of a snapshot; none where some of them cannot be known.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn lock_inputs(&self, snapshot: StepId) -> Result<Option<Inputs>, CacheCheckError> {
        let Some(index) = self.segments.of_step(snapshot) else { return Ok(None) };
        Ok(self.known_inputs(index)?.map(|(_, inputs)| inputs))
    }

    /// Why a snapshot of which no result is known here was locked for other inputs, in words; empty where it was not, or where
    /// nobody can know. The content of a bind that a step of the same build may write is not compared: the build comes first.
    ///
    /// # Errors
    /// Where an input cannot be read.
    pub fn other_inputs(&self, snapshot: StepId, locked: &LockedSnapshot) -> Result<Vec<String>, CacheCheckError> {
        let (Some(was), Some(index)) = (&locked.inputs, self.segments.of_step(snapshot)) else { return Ok(Vec::new()) };
        let Some((fields, now)) = self.known_inputs(index)? else { return Ok(Vec::new()) };
        let written = self.written_binds(index);
        let now = now.without_binds(&written);
        if !was.clone().without_binds(&written).differs_on_any_host(&now) {
            return Ok(Vec::new());
        }
        Ok(self.changes(index, was, &fields, &now))
    }

    /// The present inputs of a segment and the fields that they are from; none where some of them cannot be known.
    fn known_inputs(&self, index: usize) -> Result<Option<(Fields, Inputs)>, CacheCheckError> {
        match self.fields_now(index) {
            Err(CacheCheckError::Content(ContentError::MadeUp { .. })) => Ok(None),
            fields => {
                let fields = fields?;
                let inputs = self.inputs_now(index, &fields)?;
                Ok(Some((fields, inputs)))
            }
        }
    }

    /// The targets of the read-only binds of a segment whose sources a step of the build may write.
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
        let binds = read_only_binds(self.build.container(self.segments.get(index).container));
        binds.filter(|(_, source)| is_written(source)).map(|(target, _)| target.display().to_string()).collect()
    }

    /// Why a snapshot is not as it is locked, in words; empty where no input is another one. With the values and the files
    /// that differ, where the store has a record of the locked inputs and of what was in the binds.
    pub fn causes(&self, snapshot: StepId, locked: &LockedSnapshot) -> Vec<String> {
        let (Some(was), Some(index)) = (&locked.inputs, self.segments.of_step(snapshot)) else { return Vec::new() };
        let Ok(Some((fields, now))) = self.known_inputs(index) else { return Vec::new() };
        self.changes(index, was, &fields, &now)
    }

    /// How the inputs of a segment differ from the locked ones.
    fn changes(&self, index: usize, was: &Inputs, fields: &Fields, now: &Inputs) -> Vec<String> {
        let segment = self.segments.get(index);
        let is_locked = |old: &Fields| {
            let old = self.inputs_of(index, old, was.on.clone()).with_binds(was.binds.clone());
            // A lock of an earlier runner has no settings by name.
            old == *was || Inputs { named_settings: BTreeMap::new(), ..old } == *was
        };
        let name = segment.snapshot.map(|snapshot| self.build.step(snapshot).name.as_str());
        let old = self.store.zip(name);
        let old = old.and_then(|(store, name)| store.last_key_of_any(&self.build.name, name).find(is_locked));
        let mut causes = match old {
            None => was.changes(now),
            Some(old) => {
                let reasons = self.explained(segment, &old.without_below(), fields, None);
                let others = reasons.iter().filter(|reason| !matches!(reason, Reason::InputChanged { .. }));
                was.base_change(now).into_iter().chain(others.map(ToString::to_string)).collect()
            }
        };
        for (target, was, now) in was.changed_binds(now) {
            let (files, more) = self.files_between(was, now).unwrap_or_default();
            causes.push(Reason::InputChanged { target: target.to_owned(), files, more }.to_string());
        }
        causes
    }

    /// The snapshot of the plan that a snapshot is built on.
    pub fn below_snapshot(&self, snapshot: StepId) -> Option<StepId> {
        self.segments.built_on(self.build, self.segments.of_step(snapshot)?)
    }

    fn inputs_now(&self, index: usize, fields: &Fields) -> Result<Inputs, CacheCheckError> {
        let own: Vec<PathBuf> = self.options.own_files.iter().map(|path| real(path)).collect();
        let mut binds = BTreeMap::new();
        for (target, source) in read_only_binds(self.build.container(self.segments.get(index).container)) {
            let listing = without_own(&self.content(source)?.listing, source, &own);
            let digest = listing.digest();
            if let Some(listings) = &self.listings {
                // It only explains; a store that cannot be written to is reported by whatever must be written there.
                let _ = listings.put(&digest, &listing);
            }
            binds.insert(target.display().to_string(), digest.to_string());
        }
        Ok(self.inputs_of(index, fields, self.built_on(index)).with_binds(binds))
    }

    fn inputs_of(&self, index: usize, fields: &Fields, on: String) -> Inputs {
        let steps = self.segments.get(index).steps.iter();
        let names: Vec<&str> = steps.map(|step| self.build.step(*step).name.as_str()).collect();
        Inputs::of(fields, &names, on)
    }

    /// The snapshot or the rootfs that the steps of a segment start from.
    fn built_on(&self, index: usize) -> String {
        match self.segments.built_on(self.build, index) {
            Some(step) => format!("snapshot {}", self.build.step(step).name),
            None => super::base_name(&self.build.container(self.segments.get(index).container).name),
        }
    }
}

/// Without these files, and the directories on the way to them: a lock is of a build before it has written any.
fn without_own(listing: &Listing, source: &Path, own: &[PathBuf]) -> Listing {
    let source = source.canonicalize().unwrap_or_else(|_| source.to_owned());
    let own: Vec<&Path> = own.iter().filter_map(|path| path.strip_prefix(&source).ok()).collect();
    let is_on_the_way = |path: &Path| !path.as_os_str().is_empty() && own.iter().any(|own| own.starts_with(path));
    if own.is_empty() { listing.clone() } else { listing.without(is_on_the_way) }
}
