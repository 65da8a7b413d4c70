//! Tests: each gets a container of its own, on the root that the other steps of its container leave.
//!
//! So a test sees no other test, has a session and a segment of its own, and is judged alone. If the last of the other steps
//! is a snapshot, the tests start from that. If not, a snapshot without an output is added after them: runner's own layer
//! with the state that is tested.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use super::build::{Action, Compression, Container, ContainerId, Role, Rootfs, Snapshot, SnapshotMode, Step, StepId};
use super::steps::{Edge, EdgeReason, OrderedStep};

/// Adds the edges of tests: each waits for those of the other steps of its container that no other one of them waits for,
/// and without any for the snapshot that is the container's root.
pub(super) fn add_edges(ordered: &mut [OrderedStep], containers: &[Container]) {
    let tested = tested(ordered);
    for test in ordered.iter_mut().filter(|ordered| ordered.step.is_test()) {
        let Some(id) = test.container else { continue };
        let last = tested.get(&id).map_or(&[][..], Vec::as_slice);
        test.edges.extend(last.iter().map(|on| Edge { on: *on, why: EdgeReason::Tests }));
        if let (true, Rootfs::Snapshot(on)) = (last.is_empty(), &containers[id.0].rootfs) {
            test.edges.push(Edge { on: *on, why: EdgeReason::Rootfs });
        }
    }
}

/// Moves each test of a checked manifest into a container of its own.
pub(super) fn separate(containers: &mut Vec<Container>, ordered: &mut Vec<OrderedStep>) {
    let mut states: HashMap<ContainerId, Option<StepId>> = HashMap::new();
    let mut last: Vec<(ContainerId, Vec<StepId>)> = tested(ordered).into_iter().collect();
    last.sort_unstable_by_key(|(id, _)| *id);
    for (id, last) in last {
        let container = &containers[id.0];
        // The steps of a read-only container change nothing of its root.
        let state = (!last.is_empty() && !container.read_only).then(|| {
            last_snapshot(ordered, id, &last).unwrap_or_else(|| {
                ordered.push(state_of(&container.name, id, &last));
                StepId(ordered.len() - 1)
            })
        });
        states.insert(id, state);
    }
    for test in ordered.iter_mut().filter(|ordered| ordered.step.is_test()) {
        let Some(id) = test.container else { continue };
        let mut container = Container { variant_of: Some(id), ..containers[id.0].clone() };
        if let Some(state) = states.get(&id).copied().flatten() {
            container.rootfs = Rootfs::Snapshot(state);
            test.edges.retain(|edge| edge.why != EdgeReason::Tests);
            test.edges.push(Edge { on: state, why: EdgeReason::Rootfs });
        }
        let own = ContainerId(containers.len());
        containers.push(container);
        (test.container, test.step.container) = (Some(own), own);
    }
}

/// Returns, for each container with a test, those of its other steps that no other one of them waits for directly.
fn tested(ordered: &[OrderedStep]) -> HashMap<ContainerId, Vec<StepId>> {
    let tests = ordered.iter().filter(|ordered| ordered.step.is_test());
    let mut last: HashMap<ContainerId, Vec<StepId>> =
        tests.filter_map(|test| Some((test.container?, Vec::new()))).collect();
    if last.is_empty() {
        return last;
    }
    let mut is_awaited = vec![false; ordered.len()];
    for waiting in ordered.iter().filter(|ordered| !ordered.step.is_test()) {
        for edge in waiting.edges.iter().filter(|edge| ordered[edge.on.0].container == waiting.container) {
            is_awaited[edge.on.0] = true;
        }
    }
    for (index, step) in ordered.iter().enumerate() {
        if let Some(last) = step.container.and_then(|id| last.get_mut(&id))
            && !step.step.is_test()
            && !is_awaited[index]
        {
            last.push(StepId(index));
        }
    }
    last
}

/// Returns the snapshot that comes after all other steps of the container, except its tests and exports, which change nothing.
fn last_snapshot(ordered: &[OrderedStep], id: ContainerId, last: &[StepId]) -> Option<StepId> {
    let is_snapshot = |step: &StepId| matches!(ordered[step.0].step.action, Action::Snapshot(_));
    let is_export = |step: &OrderedStep| matches!(step.step.action, Action::Export(_));
    let (mut ends, mut open) = (Vec::new(), last.to_vec());
    let mut seen = HashSet::new();
    while let Some(step) = open.pop() {
        let at = &ordered[step.0];
        if !seen.insert(step) {
            continue;
        }
        if is_export(at) {
            open.extend(at.edges.iter().map(|edge| edge.on).filter(|on| ordered[on.0].container == Some(id)));
        } else {
            ends.push(step);
        }
    }
    ends.into_iter().filter(is_snapshot).find(|snapshot| {
        let (mut before, mut open) = (vec![false; ordered.len()], vec![*snapshot]);
        while let Some(step) = open.pop() {
            if !std::mem::replace(&mut before[step.0], true) {
                open.extend(ordered[step.0].edges.iter().map(|edge| edge.on));
            }
        }
        let mut others = ordered.iter().zip(before);
        others.all(|(step, before)| before || step.container != Some(id) || step.step.is_test() || is_export(step))
    })
}

/// Returns the snapshot of a container's state after these steps. No step of a manifest can have its name.
fn state_of(container: &str, id: ContainerId, last: &[StepId]) -> OrderedStep {
    let (mode, output): (_, Option<PathBuf>) = (SnapshotMode::Layer, None);
    let step = Step {
        name: format!("{container}:tested"),
        container: id,
        action: Action::Snapshot(Snapshot {
            mode,
            output,
            compression: Compression::Zstd,
            level: Some(1),
            subtree: None,
        }),
        needs: Vec::new(),
        env: Default::default(),
        cwd: None,
        user: None,
        shell: None,
        timeout: None,
        grace: Step::DEFAULT_GRACE,
        retries: 0,
        always: false,
        cache: false,
        role: Role::TestedState,
        settings: None,
    };
    let edges = last.iter().map(|on| Edge { on: *on, why: EdgeReason::Before }).collect();
    OrderedStep { step, container: Some(id), edges, incomplete: false, own: None }
}
