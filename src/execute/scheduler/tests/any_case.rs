//! Any plan: containers, segments, snapshots, exports and tests, with needs between them.

use std::collections::BTreeSet;

use proptest::prelude::*;

use crate::model::{Action, Build, Compression, Export, ExportFormat, Role, Rootfs, Snapshot, SnapshotMode, StepId};
use crate::plan::fixture::build;
use crate::plan::{Plan, Segments};

/// A build of some containers, whose steps and snapshots are as `validate` wants them, with needs between containers.
#[derive(Debug, Clone)]
pub struct Case {
    pub build: Build,
    pub barriers: Vec<Vec<StepId>>,
    pub sees: BTreeSet<(usize, usize)>,
    pub jobs: usize,
    pub keep_going: bool,
    /// Decides the outcomes and their order.
    pub dice: Vec<u32>,
}

fn snapshot() -> Action {
    let mode = SnapshotMode::Layer;
    Action::Snapshot(Snapshot { mode, output: None, compression: Compression::Zstd, level: None, subtree: None })
}

fn export() -> Action {
    let (format, compression) = (ExportFormat::Files, Compression::None);
    Action::Export(Export { format, path: "/".into(), output: None, compression, level: None, oci: None, push: None })
}

/// By container, segments of some steps side by side, each with a snapshot or not.
pub fn any_case() -> impl Strategy<Value = Case> {
    let segments = prop::collection::vec((1..4usize, any::<bool>()), 1..4);
    let containers = prop::collection::vec((segments, prop::option::of(0..100usize)), 1..5);
    let extra = (
        prop::collection::vec((0..100usize, 0..100usize), 0..8),
        prop::collection::vec((0..100usize, 0..100usize), 0..4),
        prop::collection::vec((0..5usize, 0..100usize), 0..4),
        prop::collection::vec(0..100usize, 0..4),
    );
    (containers, extra, 1..5usize, any::<bool>(), prop::collection::vec(any::<u32>(), 400)).prop_map(
        |(containers, (needs, barriers, sees, tests), jobs, keep_going, dice)| {
            let mut steps: Vec<(usize, Vec<usize>, bool)> = Vec::new();
            let mut snapshots: Vec<usize> = Vec::new();
            let mut roots = Vec::new();
            for (container, (segments, root)) in containers.iter().enumerate() {
                let root = root.filter(|_| !snapshots.is_empty()).map(|root| snapshots[root % snapshots.len()]);
                roots.push(root);
                let mut before: Vec<usize> = root.into_iter().collect();
                for (count, has_snapshot) in segments {
                    let of_segment: Vec<usize> = (steps.len()..steps.len() + count).collect();
                    steps.extend(of_segment.iter().map(|_| (container, before.clone(), false)));
                    before = of_segment;
                    if *has_snapshot {
                        snapshots.push(steps.len());
                        steps.push((container, before.clone(), true));
                        before = vec![steps.len() - 1];
                    }
                }
            }
            for (from, to) in needs {
                let (from, to) = (from % steps.len(), to % steps.len());
                // From an earlier step to a later one, so that there is no cycle.
                if from < to && !steps[to].1.contains(&from) {
                    steps[to].1.push(from);
                }
            }
            let listed: Vec<(String, usize, Vec<usize>)> = steps
                .iter()
                .enumerate()
                .map(|(n, (container, needs, _))| (format!("s{n}"), *container, needs.clone()))
                .collect();
            let listed: Vec<(&str, usize, &[usize])> =
                listed.iter().map(|(name, container, needs)| (name.as_str(), *container, needs.as_slice())).collect();
            let mut build = build(&listed);
            for (n, (_, _, is_snapshot)) in steps.iter().enumerate() {
                if *is_snapshot {
                    build.steps[n].action = snapshot();
                } else if n % 4 == 3 {
                    build.steps[n].action = export();
                }
            }
            // Neither a snapshot nor an export is a test.
            let is_run = |test: &usize| matches!(build.steps[*test].action, Action::Run(_));
            let tests: Vec<usize> = tests.into_iter().map(|test| test % steps.len()).filter(is_run).collect();
            for test in tests {
                build.steps[test].role = Role::Test;
            }
            for (container, root) in roots.into_iter().enumerate() {
                if let Some(root) = root {
                    build.containers[container].rootfs = Rootfs::Snapshot(StepId(root));
                }
            }
            let plan = Plan::new(&build, &[]);
            let segments = Segments::new(&build, &plan);
            let mut by_segment = vec![Vec::new(); segments.all().len()];
            for (segment, step) in barriers {
                let (segment, step) = (segment % by_segment.len(), StepId(step % steps.len()));
                if segments.of_step(step) != Some(segment) {
                    by_segment[segment].push(step);
                }
            }
            let sees = sees
                .into_iter()
                .filter(|_| !snapshots.is_empty())
                .map(|(container, snapshot)| (container, snapshots[snapshot % snapshots.len()]));
            Case { sees: sees.collect(), barriers: by_segment, build, jobs, keep_going, dice }
        },
    )
}
