//! The segments of a session, each cached as a whole: the steps up to a snapshot, those after the last, and exports of layers. Pure; no
//! I/O.

use crate::model::{Action, Build, ContainerId, Role, Rootfs, Step, StepId};

use super::Plan;

/// A segment of a container's session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// The container.
    pub container: ContainerId,
    /// Its steps, in the plan's order; the snapshot, if there is one, is the last.
    pub steps: Vec<StepId>,
    /// The snapshot at its end; the steps after the last snapshot have none.
    pub snapshot: Option<StepId>,
    /// The plan ends before the snapshot that ends the segment in the manifest: the targets do not need it.
    pub is_cut: bool,
}

impl Segment {
    /// Returns whether it is an export of layers alone: no process of its container has run since the last snapshot.
    pub fn is_export_of_layers(&self, build: &Build) -> bool {
        matches!(self.steps.as_slice(), [step] if is_export(build, *step))
    }

    /// Returns its exports, in order.
    pub fn exports(&self, build: &Build) -> impl Iterator<Item = StepId> {
        self.steps.iter().copied().filter(|step| is_export(build, *step))
    }

    /// Returns the number of its first steps that an export follows, which has their result.
    pub fn exported_steps(&self, build: &Build) -> usize {
        self.steps.iter().rposition(|step| is_export(build, *step)).map_or(0, |last| last + 1)
    }

    /// Returns whether each of its steps waits for the one before it.
    pub fn is_sequence(&self, build: &Build) -> bool {
        self.steps.windows(2).all(|pair| build.step(pair[1]).needs.contains(&pair[0]))
    }
}

/// The segments of a plan. Each planned step is in one.
#[derive(Debug, Clone)]
pub struct Segments {
    all: Vec<Segment>,
    /// The index of each step's segment, if the step is planned.
    of_step: Vec<Option<usize>>,
    /// The indices of each container's segments, in order.
    of_container: Vec<Vec<usize>>,
    /// The position of each segment among those of its container.
    places: Vec<usize>,
}

impl Segments {
    /// Cuts each session of the plan after its snapshots. A snapshot is ordered with every other step of its
    /// container, so all steps before it in the plan also run before it. An export directly on layers is a segment of its own:
    /// another export, or a later step, does not make it run again.
    pub fn new(build: &Build, plan: &Plan) -> Self {
        let mut all = Vec::new();
        let mut snapshots = vec![0; build.containers.len()];
        // The state that tests start from is a snapshot only where a test is planned.
        let is_snapshot = |step: &&Step| matches!(step.action, Action::Snapshot(_)) && step.role == Role::Build;
        for step in build.steps.iter().filter(is_snapshot) {
            snapshots[step.container.0] += 1;
        }
        let mut of_container = vec![Vec::new(); build.containers.len()];
        for (index, of_container) in of_container.iter_mut().enumerate() {
            let container = ContainerId(index);
            let mut steps = Vec::new();
            for step in plan.session(container) {
                if steps.is_empty() && is_export(build, *step) {
                    of_container.push(all.len());
                    all.push(Segment { container, steps: vec![*step], snapshot: None, is_cut: false });
                    continue;
                }
                steps.push(*step);
                if matches!(build.step(*step).action, Action::Snapshot(_)) {
                    of_container.push(all.len());
                    let steps = std::mem::take(&mut steps);
                    all.push(Segment { container, steps, snapshot: Some(*step), is_cut: false });
                }
            }
            if !steps.is_empty() {
                // An unplanned snapshot comes after all planned steps, since it is ordered with every step.
                let planned = of_container.iter().filter(|index| all[**index].snapshot.is_some()).count();
                let is_cut = snapshots[index] > planned;
                of_container.push(all.len());
                all.push(Segment { container, steps, snapshot: None, is_cut });
            }
        }
        let mut of_step = vec![None; build.steps.len()];
        for (index, segment) in all.iter().enumerate() {
            for step in &segment.steps {
                of_step[step.0] = Some(index);
            }
        }
        let mut places = vec![0; all.len()];
        for (place, index) in of_container.iter().flat_map(|indices| indices.iter().enumerate()) {
            places[*index] = place;
        }
        Self { all, of_step, of_container, places }
    }

    /// Returns all segments.
    pub fn all(&self) -> &[Segment] {
        &self.all
    }

    /// Returns the segment of that index.
    pub fn get(&self, index: usize) -> &Segment {
        &self.all[index]
    }

    /// Returns the index of a step's segment; none for a step that is not planned.
    pub fn of_step(&self, step: StepId) -> Option<usize> {
        self.of_step.get(step.0).copied().flatten()
    }

    /// Returns the indices of a container's segments, in order.
    pub fn of_container(&self, container: ContainerId) -> &[usize] {
        self.of_container.get(container.0).map_or(&[], Vec::as_slice)
    }

    /// Returns the snapshot that a segment continues: the one before it in its container, if any.
    pub fn before(&self, index: usize) -> Option<StepId> {
        let of_container = &self.of_container(self.all[index].container)[..self.places[index]];
        of_container.iter().rev().find_map(|before| self.all[*before].snapshot)
    }

    /// Returns the snapshot that a segment is built on: the one before it in its container, or else the one that is
    /// its root, if any.
    pub fn built_on(&self, build: &Build, index: usize) -> Option<StepId> {
        self.before(index).or(match build.container(self.all[index].container).rootfs {
            Rootfs::Snapshot(step) => Some(step),
            _ => None,
        })
    }

    /// Returns the segments of the same container after this one.
    pub fn after(&self, index: usize) -> &[usize] {
        &self.of_container(self.all[index].container)[self.places[index] + 1..]
    }
}

fn is_export(build: &Build, step: StepId) -> bool {
    matches!(build.step(step).action, Action::Export(_))
}

#[cfg(test)]
mod tests {
    use super::super::fixture::build;
    use super::*;
    use crate::model::{Compression, Snapshot, SnapshotMode};

    fn snapshot() -> Action {
        let mode = SnapshotMode::Layer;
        Action::Snapshot(Snapshot { mode, output: None, compression: Compression::Zstd, level: None, subtree: None })
    }

    #[test]
    fn a_session_is_cut_after_its_snapshots() {
        let mut build = build(&[
            ("a", 0, &[]),
            ("s", 0, &[0]),
            ("other", 1, &[]),
            ("b", 0, &[1]),
            ("t", 0, &[3]),
            ("tail", 0, &[4]),
        ]);
        for step in [1, 4] {
            build.steps[step].action = snapshot();
        }
        let segments = Segments::new(&build, &Plan::new(&build, &[]));
        let of = |index: usize| segments.get(index).steps.iter().map(|step| step.0).collect::<Vec<_>>();
        assert_eq!(segments.of_container(ContainerId(0)), [0, 1, 2]);
        assert_eq!((of(0), of(1), of(2), of(3)), (vec![0, 1], vec![3, 4], vec![5], vec![2]));
        assert_eq!(segments.get(1).snapshot, Some(StepId(4)));
        assert_eq!((segments.get(2).snapshot, segments.get(3).snapshot), (None, None));
        assert_eq!(
            (segments.before(0), segments.before(1), segments.before(2)),
            (None, Some(StepId(1)), Some(StepId(4)))
        );
        assert_eq!((segments.after(0), segments.after(2)), (&[1, 2][..], &[][..]));
        assert_eq!(segments.of_step(StepId(5)), Some(2));
    }

    #[test]
    fn an_unplanned_step_is_in_no_segment() {
        let mut build = build(&[("a", 0, &[]), ("s", 0, &[0]), ("tail", 0, &[1])]);
        build.steps[1].action = snapshot();
        let segments = Segments::new(&build, &Plan::new(&build, &[StepId(1)]));
        assert_eq!((segments.all().len(), segments.of_step(StepId(2))), (1, None));
    }

    #[test]
    fn a_segment_whose_snapshot_is_not_planned_is_cut() {
        let mut build = build(&[("a", 0, &[]), ("b", 0, &[0]), ("s", 0, &[1]), ("tail", 0, &[2])]);
        build.steps[2].action = snapshot();
        let cut = |targets: &[StepId]| {
            let segments = Segments::new(&build, &Plan::new(&build, targets));
            segments.all().iter().map(|segment| segment.is_cut).collect::<Vec<_>>()
        };
        assert_eq!((cut(&[]), cut(&[StepId(1)])), (vec![false, false], vec![true]));
        assert_eq!(cut(&[StepId(3)]), [false, false]);
    }
}
