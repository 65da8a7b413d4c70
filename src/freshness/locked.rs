//! What a snapshot is made from, for a lock, and why it is not as it is locked.

use super::{Judge, JudgeError};
use crate::build::StepId;
use crate::content::ContentError;
use crate::key::Fields;
use crate::lock::{Inputs, LockedSnapshot};

impl Judge<'_> {
    /// What a snapshot is made from now; none where some of that cannot be known.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn lock_inputs(&self, snapshot: StepId) -> Result<Option<Inputs>, JudgeError> {
        let Some(index) = self.segments.of_step(snapshot) else { return Ok(None) };
        match self.draft(index) {
            Err(JudgeError::Content(ContentError::MadeUp { .. })) => Ok(None),
            draft => Ok(draft?.map(|draft| self.inputs_of(index, &draft, self.stands_on(index)))),
        }
    }

    /// Why a snapshot is not as it is locked, in words; empty where no input is another one. With the values and the files
    /// that differ, where the store has a record of the locked inputs.
    pub fn causes(&self, snapshot: StepId, locked: &LockedSnapshot) -> Vec<String> {
        let (Some(was), Some(index)) = (&locked.inputs, self.segments.of_step(snapshot)) else { return Vec::new() };
        let Ok(Some(draft)) = self.draft(index) else { return Vec::new() };
        let now = self.inputs_of(index, &draft, self.stands_on(index));
        let is_locked = |old: &Fields| self.inputs_of(index, old, was.on.clone()) == *was;
        let name = &self.build.step(snapshot).name;
        let old = self.store.and_then(|store| store.last_key_of_any(&self.build.name, name).find(is_locked));
        let Some(old) = old else { return was.changes(&now) };
        let reasons = self.explained(self.segments.get(index), &old.without_below(), &draft, &[]);
        was.base_change(&now).into_iter().chain(reasons.iter().map(ToString::to_string)).collect()
    }

    /// The snapshot of the plan that a snapshot is built on.
    pub fn below_snapshot(&self, snapshot: StepId) -> Option<StepId> {
        self.segments.stands_on(self.build, self.segments.of_step(snapshot)?)
    }

    fn inputs_of(&self, index: usize, fields: &Fields, on: String) -> Inputs {
        let steps = self.segments.get(index).steps.iter();
        let names: Vec<&str> = steps.map(|step| self.build.step(*step).name.as_str()).collect();
        Inputs::of(fields, &names, on)
    }

    /// The snapshot or the rootfs that the steps of a segment start from.
    fn stands_on(&self, index: usize) -> String {
        match self.segments.stands_on(self.build, index) {
            Some(step) => format!("snapshot {}", self.build.step(step).name),
            None => super::base_name(&self.build.container(self.segments.get(index).container).name),
        }
    }
}
