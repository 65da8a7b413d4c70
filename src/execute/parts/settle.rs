//! What becomes known of segments as their snapshots are written, and what can be recorded then.

use super::{Chains, Parts, State, ToRecord};
use crate::build::StepId;
use crate::execute::milliseconds;
use crate::freshness::{Judge, JudgeError};
use crate::key::Link;
use crate::store::{Recorded, RecordedLayer, Store};

impl Parts<'_> {
    /// Finds out what has become known since the last time: gives what can be recorded, and the steps that may begin.
    pub fn settle(
        &mut self,
        judge: &Judge<'_>,
        chains: &Chains,
        store: &Store,
    ) -> Result<(Vec<ToRecord>, Vec<StepId>), JudgeError> {
        // What stands on a layer that has just become known becomes known in the next round.
        while self.link_written(judge, chains, store)? {}
        let mut to_record = Vec::new();
        for index in 0..self.states.len() {
            to_record.extend(self.take_record(index, chains));
        }
        let (ready, waiting): (Vec<_>, _) =
            self.waiting.drain(..).partition(|(_, snapshot)| chains.get(*snapshot).is_some());
        self.waiting = waiting;
        let is_settled = |step: &StepId| self.segments.of_step(*step).is_none_or(|index| self.is_settled(index));
        let (settled, early): (Vec<_>, _) = self.early.iter().copied().partition(is_settled);
        self.early = early;
        Ok((to_record, ready.into_iter().map(|(step, _)| step).chain(settled).collect()))
    }

    /// Links one snapshot that was written and stands on what is known; whether there was one.
    fn link_written(&mut self, judge: &Judge<'_>, chains: &Chains, store: &Store) -> Result<bool, JudgeError> {
        for index in 0..self.states.len() {
            let State::Runs(runs) = &self.states[index] else { continue };
            let (Some(written), Some(snapshot)) = (&runs.written, self.segments.get(index).snapshot) else { continue };
            if chains.get(snapshot).is_some() {
                continue;
            }
            let Some(below) = self.below(index, chains) else { continue };
            let links = judge.above(snapshot, &below, &written.digest);
            self.claim_above(snapshot, &links, store)?;
            chains.insert(snapshot, links);
            return Ok(true);
        }
        Ok(false)
    }

    /// Takes the right to build what runs above a snapshot already, before that is recorded and others see it.
    fn claim_above(&mut self, snapshot: StepId, links: &[Link], store: &Store) -> Result<(), JudgeError> {
        for index in 0..self.states.len() {
            let stands_on_it = self.segments.stands_on(self.build, index) == Some(snapshot);
            if let State::Runs(runs) = &mut self.states[index]
                && stands_on_it
                && runs.building.is_none()
                && let Some(draft) = &runs.draft
            {
                runs.building = store.try_building(&draft.on(links).key())?;
            }
        }
        Ok(())
    }

    fn take_record(&mut self, index: usize, chains: &Chains) -> Option<ToRecord> {
        let segment = self.segments.get(index);
        let below = self.below(index, chains)?;
        let State::Runs(runs) = &mut self.states[index] else { return None };
        if runs.open > 0 || runs.written.is_none() && segment.snapshot.is_some() {
            return None;
        }
        let draft = runs.draft.take()?;
        let written = runs.written.as_ref();
        let layers =
            |links: &[Link]| links.iter().filter_map(|link| link.id.strip_prefix("layer ")?.parse().ok()).collect();
        let above = segment.snapshot.and_then(|snapshot| chains.get(snapshot)).unwrap_or_default();
        let recorded = Recorded {
            fields: draft.on(&below),
            build: self.build.name.clone(),
            container: self.build.container(segment.container).name.clone(),
            steps: segment.steps.iter().map(|step| self.build.step(*step).name.clone()).collect(),
            duration_ms: milliseconds(runs.begun.elapsed()),
            time: humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string(),
            layer: written.map(|written| RecordedLayer {
                digest: written.digest,
                size: written.size,
                // All that it stands on but itself, which is nothing for a full image.
                below: layers(&above[..above.len().saturating_sub(1)]),
            }),
            tmpfs_left: written.map(|written| written.tmpfs_left.clone()).unwrap_or_default(),
        };
        Some(ToRecord { segment: index, draft, below, recorded, building: runs.building.take() })
    }
}
