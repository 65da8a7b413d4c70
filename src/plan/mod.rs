//! The plan: the steps to run, their order, and the needs between them. Pure; no I/O.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use petgraph::Direction;
use petgraph::graph::{DiGraph, NodeIndex};

use crate::model::{Build, ContainerId, StepId};

mod action;
#[cfg(test)]
pub(crate) mod fixture;
mod host_paths;
mod input_barriers;
mod layer_stack;
mod remaining_time;
mod segments;
mod unordered;
mod written_inputs;

pub use action::{MAX_COLUMNS, action, action_in_columns, copied, without_controls};
pub use host_paths::written_by;
pub use input_barriers::input_barriers;
pub use layer_stack::LayerStack;
pub use remaining_time::{RemainingWork, StepProgress, remaining_time};
pub use segments::{Segment, Segments};
pub use unordered::{Unordered, unordered};
pub use written_inputs::{WrittenInput, written_inputs};

/// The steps of a build that are to run, in order.
#[derive(Debug, Clone)]
pub struct Plan {
    /// An edge leads from a step to one that needs it. The nodes are added in the manifest's order.
    graph: DiGraph<StepId, ()>,
    /// The node of each step, if it is planned.
    nodes: Vec<Option<NodeIndex>>,
    order: Vec<StepId>,
    /// The planned steps of each container, in the order of the plan.
    sessions: Vec<Vec<StepId>>,
}

impl Plan {
    /// Plans these steps and all their needs; without targets, every step.
    ///
    /// Independent steps are in the manifest's order, tests after all others, so that the same build and targets give the
    /// same plan.
    pub fn new(build: &Build, targets: &[StepId]) -> Self {
        let needed_steps = needed_steps(build, targets);
        let mut graph = DiGraph::with_capacity(build.steps.len(), build.steps.len());
        let nodes: Vec<Option<NodeIndex>> = needed_steps
            .iter()
            .enumerate()
            .map(|(i, needed_steps)| needed_steps.then(|| graph.add_node(StepId(i))))
            .collect();
        for (step, node) in build.steps.iter().zip(&nodes) {
            for needed in &step.needs {
                if let (Some(needed), Some(node)) = (nodes[needed.0], *node) {
                    graph.add_edge(needed, node, ());
                }
            }
        }
        let order = topological(&graph, |step| build.step(step).is_test());
        let mut sessions = vec![Vec::new(); build.containers.len()];
        for id in &order {
            sessions[build.step(*id).container.0].push(*id);
        }
        Self { graph, nodes, order, sessions }
    }

    /// Returns the planned steps, each after all its needs; ties are in the manifest's order.
    pub fn order(&self) -> &[StepId] {
        &self.order
    }

    /// Returns whether the step is planned.
    pub fn contains(&self, step: StepId) -> bool {
        self.node(step).is_some()
    }

    /// Returns the steps that the step waits for, in the manifest's order; none for a step that is not planned.
    pub fn needs(&self, step: StepId) -> Vec<StepId> {
        self.neighbours(step, Direction::Incoming)
    }

    /// Returns the planned steps that wait for this one, in the manifest's order.
    pub fn dependents(&self, step: StepId) -> Vec<StepId> {
        self.neighbours(step, Direction::Outgoing)
    }

    /// Returns the container's planned steps, in the plan's order.
    ///
    /// The session opens at the first of them. Steps of one container may overlap, so the session ends when all of
    /// them have finished, and the last in this list need not be the last to finish.
    pub fn session(&self, container: ContainerId) -> &[StepId] {
        self.sessions.get(container.0).map_or(&[], Vec::as_slice)
    }

    /// Returns the first of the container's planned steps.
    pub fn first(&self, container: ContainerId) -> Option<StepId> {
        self.session(container).first().copied()
    }

    /// Returns the last of the container's planned steps.
    pub fn last(&self, container: ContainerId) -> Option<StepId> {
        self.session(container).last().copied()
    }

    /// Returns whether no planned step of the same container comes after this one.
    pub fn is_last(&self, build: &Build, step: StepId) -> bool {
        self.contains(step) && self.last(build.step(step).container) == Some(step)
    }

    fn node(&self, step: StepId) -> Option<NodeIndex> {
        self.nodes.get(step.0).copied().flatten()
    }

    fn neighbours(&self, step: StepId, direction: Direction) -> Vec<StepId> {
        let mut steps: Vec<StepId> = self.next_to(step, direction).collect();
        steps.sort_unstable();
        steps.dedup();
        steps
    }

    /// Returns the neighbours in no order, each as often as an edge names it.
    fn next_to(&self, step: StepId, direction: Direction) -> impl Iterator<Item = StepId> {
        let node = self.node(step);
        node.into_iter().flat_map(move |node| self.graph.neighbors_directed(node, direction)).map(|n| self.graph[n])
    }
}

/// Returns for each step whether it is a target or a target needs it.
fn needed_steps(build: &Build, targets: &[StepId]) -> Vec<bool> {
    if targets.is_empty() {
        return vec![true; build.steps.len()];
    }
    let mut needed_steps = vec![false; build.steps.len()];
    let mut open = targets.to_vec();
    while let Some(step) = open.pop() {
        if !std::mem::replace(&mut needed_steps[step.0], true) {
            open.extend(&build.step(step).needs);
        }
    }
    needed_steps
}

/// Sorts by Kahn's algorithm with a heap: petgraph's own sort does not promise an order of independent steps.
fn topological(graph: &DiGraph<StepId, ()>, is_test: impl Fn(StepId) -> bool) -> Vec<StepId> {
    let mut waits: Vec<usize> =
        graph.node_indices().map(|node| graph.edges_directed(node, Direction::Incoming).count()).collect();
    let entry = |node: NodeIndex| Reverse((is_test(graph[node]), graph[node], node));
    let mut ready: BinaryHeap<_> = graph.node_indices().filter(|node| waits[node.index()] == 0).map(entry).collect();
    let mut order = Vec::with_capacity(graph.node_count());
    while let Some(Reverse((_, step, node))) = ready.pop() {
        order.push(step);
        for next in graph.neighbors_directed(node, Direction::Outgoing) {
            let waits = &mut waits[next.index()];
            *waits -= 1;
            if *waits == 0 {
                ready.push(entry(next));
            }
        }
    }
    debug_assert_eq!(order.len(), graph.node_count(), "a checked build has no cycle");
    order
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::fixture::{any_build, build};
    use super::*;

    fn ids(order: &[usize]) -> Vec<StepId> {
        order.iter().copied().map(StepId).collect()
    }

    #[test]
    fn independent_steps_keep_the_manifests_order() {
        let build = build(&[("a", 0, &[3]), ("b", 1, &[]), ("c", 0, &[]), ("d", 1, &[])]);
        assert_eq!(Plan::new(&build, &[]).order(), ids(&[1, 2, 3, 0]));
    }

    #[test]
    fn targets_are_planned_with_their_needs_and_no_other_steps() {
        let build = build(&[("a", 0, &[]), ("b", 0, &[0]), ("c", 1, &[0]), ("d", 1, &[2])]);
        let plan = Plan::new(&build, &ids(&[2]));
        assert_eq!(plan.order(), ids(&[0, 2]));
        assert!(!plan.contains(StepId(1)) && !plan.contains(StepId(99)));
        assert_eq!(plan.dependents(StepId(0)), ids(&[2]));
        assert_eq!(plan.needs(StepId(3)), ids(&[]));
    }

    #[test]
    fn a_session_goes_from_its_containers_first_planned_step_to_its_last() {
        let build = build(&[("a", 0, &[]), ("b", 1, &[]), ("c", 0, &[0]), ("d", 0, &[2])]);
        let plan = Plan::new(&build, &ids(&[1, 2]));
        assert_eq!(plan.session(ContainerId(0)), ids(&[0, 2]));
        assert_eq!((plan.first(ContainerId(0)), plan.last(ContainerId(0))), (Some(StepId(0)), Some(StepId(2))));
        assert!(plan.is_last(&build, StepId(2)) && plan.is_last(&build, StepId(1)));
        assert!(!plan.is_last(&build, StepId(0)) && !plan.is_last(&build, StepId(3)));
        assert_eq!(plan.first(ContainerId(7)), None);
    }

    #[test]
    fn an_empty_build_has_an_empty_plan() {
        assert_eq!(Plan::new(&build(&[]), &[]).order(), []);
    }

    proptest! {
        #[test]
        fn every_order_respects_needs_and_is_closed((build, targets) in any_build()) {
            let plan = Plan::new(&build, &targets);
            let position = |step: StepId| plan.order().iter().position(|planned| *planned == step);
            for (at, id) in plan.order().iter().enumerate() {
                for needed in &build.step(*id).needs {
                    prop_assert!(position(*needed).is_some_and(|before| before < at));
                    prop_assert!(plan.dependents(*needed).contains(id));
                }
                prop_assert_eq!(&plan.needs(*id), &build.step(*id).needs);
            }
            for target in &targets {
                prop_assert!(plan.contains(*target));
            }
            let mut once = plan.order().to_vec();
            once.sort();
            once.dedup();
            prop_assert_eq!(once.len(), plan.order().len());
            if targets.is_empty() {
                prop_assert_eq!(plan.order().len(), build.steps.len());
            }
        }

        #[test]
        fn the_same_build_and_targets_give_the_same_plan((build, mut targets) in any_build()) {
            let plan = Plan::new(&build, &targets);
            targets.reverse();
            let again = Plan::new(&build, &targets);
            prop_assert_eq!(plan.order(), again.order());
            for step in plan.order() {
                prop_assert_eq!(plan.needs(*step), again.needs(*step));
            }
        }
    }
}
