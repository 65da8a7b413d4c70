//! The layers below a step's session when the step begins: snapshots, and a rootfs source below them. Pure.

use crate::model::{Action, Build, ContainerId, Rootfs, SnapshotMode, StepId};

use super::Plan;

/// The layers below a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerStack {
    /// The container whose rootfs source is the lowest layer; none if a full image is.
    pub base: Option<ContainerId>,
    /// The snapshots above it, the lowest first.
    pub snapshots: Vec<StepId>,
}

impl LayerStack {
    /// Returns the layers below a planned step.
    pub fn of(build: &Build, plan: &Plan, step: StepId) -> Self {
        let is_snapshot = |step: &&StepId| matches!(build.step(**step).action, Action::Snapshot(_));
        let (mut at, mut container) = (step, build.step(step).container);
        let mut snapshots = Vec::new();
        let base = loop {
            // A snapshot is ordered with every other step of its container, so all steps before it in the plan run
            // before it.
            let session = plan.session(container);
            let before = session.iter().position(|other| *other == at).unwrap_or(session.len());
            let last = session[..before].iter().rfind(is_snapshot).copied();
            let next = match (last, &build.container(container).rootfs) {
                (Some(last), _) => last,
                (None, Rootfs::Snapshot(other)) => *other,
                (None, _) => break Some(container),
            };
            snapshots.push(next);
            if matches!(&build.step(next).action, Action::Snapshot(snapshot) if snapshot.mode == SnapshotMode::Full) {
                break None;
            }
            (at, container) = (next, build.step(next).container);
        };
        snapshots.reverse();
        Self { base, snapshots }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::build;
    use super::*;
    use crate::model::{Compression, Snapshot};

    fn snapshot(mode: SnapshotMode) -> Action {
        Action::Snapshot(Snapshot { mode, output: None, compression: Compression::Zstd, level: None, subtree: None })
    }

    #[test]
    fn the_stack_of_a_step_has_the_snapshots_before_it_and_those_of_the_containers_below() {
        // Container 0: a, S1, b, S2, c; container 1 on S1: d, F (full), e; container 2 on F: f.
        let mut build = build(&[
            ("a", 0, &[]),
            ("s1", 0, &[0]),
            ("b", 0, &[1]),
            ("s2", 0, &[2]),
            ("c", 0, &[3]),
            ("d", 1, &[1]),
            ("full", 1, &[5]),
            ("e", 1, &[6]),
            ("f", 2, &[6]),
        ]);
        for (step, mode) in [(1, SnapshotMode::Layer), (3, SnapshotMode::Layer), (6, SnapshotMode::Full)] {
            build.steps[step].action = snapshot(mode);
        }
        build.containers[1].rootfs = Rootfs::Snapshot(StepId(1));
        build.containers[2].rootfs = Rootfs::Snapshot(StepId(6));
        let plan = Plan::new(&build, &[]);
        let of = |step| {
            let LayerStack { base, snapshots } = LayerStack::of(&build, &plan, StepId(step));
            (base.map(|base| base.0), snapshots.iter().map(|step| step.0).collect::<Vec<_>>())
        };
        assert_eq!(of(0), (Some(0), vec![]));
        assert_eq!(of(2), (Some(0), vec![1]));
        assert_eq!(of(4), (Some(0), vec![1, 3]));
        assert_eq!(of(5), (Some(0), vec![1]));
        assert_eq!(of(7), (None, vec![6]));
        assert_eq!(of(8), (None, vec![6]));
    }
}
