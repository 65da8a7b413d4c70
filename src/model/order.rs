//! Checks of the order of steps: no cycle, and no snapshot of undefined content.

use std::collections::{HashMap, HashSet, VecDeque};

use petgraph::algo::{kosaraju_scc, toposort};
use petgraph::graph::{DiGraph, NodeIndex};

use super::build::{Action, Container};
use super::check::Check;
use super::steps::{Edge, EdgeReason, OrderedStep};
use crate::diagnostic::{Place, Problem, Trail};

/// The number of edges of a cycle, or of steps of a list, that a problem shows.
const MAX_SHOWN: usize = 30;
/// The number of cycles and of unordered snapshots that are reported.
const MAX_REPORTED: usize = 100;

impl Check<'_> {
    pub(super) fn order(&mut self, steps: &[OrderedStep], containers: &[Container]) {
        let mut graph = DiGraph::<(), ()>::with_capacity(steps.len(), steps.len());
        for _ in steps {
            graph.add_node(());
        }
        for (n, ordered) in steps.iter().enumerate() {
            for edge in &ordered.edges {
                graph.add_edge(NodeIndex::new(edge.on.0), NodeIndex::new(n), ());
            }
        }
        match toposort(&graph, None) {
            Ok(order) => {
                // An unknown `needs` could order the steps, so nothing can be reported then.
                if !steps.iter().any(|ordered| ordered.incomplete) {
                    let order: Vec<usize> = order.into_iter().map(NodeIndex::index).collect();
                    self.check_snapshot_order(steps, containers, &order);
                }
            }
            // Tarjan's algorithm in petgraph is recursive: a long chain would overflow the stack.
            Err(_) => {
                let mut groups: Vec<Vec<usize>> = kosaraju_scc(&graph)
                    .into_iter()
                    .map(|group| group.into_iter().map(NodeIndex::index).collect::<Vec<_>>())
                    .filter(|group| group.len() > 1 || steps[group[0]].edges.iter().any(|edge| edge.on.0 == group[0]))
                    .collect();
                groups.iter_mut().for_each(|group| group.sort_unstable());
                groups.sort_unstable();
                for group in groups.iter().take(MAX_REPORTED) {
                    self.cycle(steps, containers, group);
                }
            }
        }
    }

    /// Reports the shortest cycle through the first step of a group whose steps all wait for each other.
    fn cycle(&mut self, steps: &[OrderedStep], containers: &[Container], group: &[usize]) {
        let members: HashSet<usize> = group.iter().copied().collect();
        let start = group[0];
        let mut came_from: HashMap<usize, (usize, Edge)> = HashMap::new();
        let mut queue = VecDeque::from([start]);
        'search: while let Some(step) = queue.pop_front() {
            for edge in steps[step].edges.iter().filter(|edge| members.contains(&edge.on.0)) {
                if let std::collections::hash_map::Entry::Vacant(entry) = came_from.entry(edge.on.0) {
                    entry.insert((step, *edge));
                    queue.push_back(edge.on.0);
                }
                if edge.on.0 == start {
                    break 'search;
                }
            }
        }
        let mut cycle = Vec::new();
        let mut at = start;
        while let Some((from, edge)) = came_from.get(&at) {
            cycle.push((*from, *edge));
            at = *from;
            if at == start {
                break;
            }
        }
        cycle.reverse();
        let mut names: Vec<String> = cycle.iter().take(MAX_SHOWN).map(|(n, _)| step_label(steps, *n)).collect();
        if cycle.len() > MAX_SHOWN {
            names.push("…".to_owned());
        }
        names.push(step_label(steps, start));
        let mut edges = cycle.iter().take(MAX_SHOWN).map(|(n, edge)| edge_label(steps, containers, *n, *edge));
        let Some((place, label)) = edges.next() else { return };
        let message = match cycle.len() {
            1 => format!("step {} waits for itself", step_label(steps, start)),
            _ => format!("these steps wait for each other: {}", names.join(" → ")),
        };
        let problem =
            edges.fold(Problem::new(place, message).label(label), |p, (place, label)| p.related(place, label));
        self.problems.push(problem.help("remove one of these"));
    }

    /// Refuses a snapshot or an export without a defined place: it contains the changes of the steps before it and none of the
    /// steps after it, so every other step of its container must be one or the other.
    fn check_snapshot_order(&mut self, steps: &[OrderedStep], containers: &[Container], order: &[usize]) {
        let mut members: Vec<Vec<usize>> = vec![Vec::new(); containers.len()];
        for &step in order {
            if let Some(id) = steps[step].container.filter(|_| !steps[step].step.is_test()) {
                members[id.0].push(step);
            }
        }
        let is_snapshot = |step: &usize| matches!(steps[*step].step.action, Action::Snapshot(_) | Action::Export(_));
        let mut reported = 0;
        for (id, members) in members.iter().enumerate() {
            let waits = |pair: &[usize]| steps[pair[1]].edges.iter().any(|edge| edge.on.0 == pair[0]);
            // Nearly always, each step waits for the step before it.
            if !members.iter().any(is_snapshot) || members.windows(2).all(waits) {
                continue;
            }
            for snapshot in unordered(steps, order, members).into_iter().filter(is_snapshot) {
                if reported == MAX_REPORTED {
                    return;
                }
                reported += 1;
                self.unordered_snapshot(steps, &containers[id].name, members, snapshot);
            }
        }
    }

    fn unordered_snapshot(&mut self, steps: &[OrderedStep], container: &str, members: &[usize], snapshot: usize) {
        let before = reach(steps.len(), snapshot, |n| steps[n].edges.iter().map(|edge| edge.on.0).collect());
        let mut waiting: Vec<Vec<usize>> = vec![Vec::new(); steps.len()];
        for (n, ordered) in steps.iter().enumerate() {
            ordered.edges.iter().for_each(|edge| waiting[edge.on.0].push(n));
        }
        let after = reach(steps.len(), snapshot, |n| waiting[n].clone());
        let is_export = |n: &usize| matches!(steps[*n].step.action, Action::Export(_));
        let mut loose: Vec<usize> = members.iter().copied().filter(|n| !before[*n] && !after[*n]).collect();
        // Two exports read the same root, in any order.
        loose.retain(|n| !(is_export(&snapshot) && is_export(n)));
        if loose.is_empty() {
            return;
        }
        loose.sort_unstable();
        let kind = if is_export(&snapshot) { "export" } else { "snapshot" };
        let name = |n: usize| steps[n].step.name.as_str();
        let listed = |list: &[usize]| {
            let shown: Vec<_> = list.iter().take(MAX_SHOWN).map(|n| format!("`{}`", name(*n))).collect();
            shown.join(", ")
        };
        let wanted: Vec<&str> = {
            let named = steps[snapshot].edges.iter().filter(|edge| !edge.why.follows_from_use()).map(|edge| edge.on.0);
            // A step that another listed step waits for need not be named.
            let last = loose.iter().copied().filter(|n| !waiting[*n].iter().any(|w| loose.binary_search(w).is_ok()));
            named.chain(last).take(MAX_SHOWN).map(name).collect()
        };
        let steps_path = Trail::TOP.key("steps");
        let at = steps_path.index(snapshot);
        let message = format!(
            "it is not defined whether the {kind} `{}` contains the changes of {} in container `{container}`",
            name(snapshot),
            listed(&loose)
        );
        let problem = Problem::new(&at.key("name"), message).label("neither before nor after the others");
        let problem = loose.iter().take(MAX_SHOWN).fold(problem, |problem, n| {
            let other = steps_path.index(*n);
            problem.related(&other.key("name"), format!("may run before, while or after `{}`", name(snapshot)))
        });
        self.add(problem.help(format!(
            "write `needs: [{}]` in step `{}`, or `needs: [{}]` in {}",
            wanted.join(", "),
            name(snapshot),
            name(snapshot),
            listed(&loose)
        )));
    }
}

fn edge_label(steps: &[OrderedStep], containers: &[Container], step: usize, edge: Edge) -> (Place, String) {
    let (waiter, on) = (step_label(steps, step), step_label(steps, edge.on.0));
    let top = Trail::TOP.key("steps");
    let at = top.index(step);
    let container = steps[step].container.map_or("", |id| containers[id.0].name.as_str());
    match edge.why {
        EdgeReason::Needs(n) => (Place::value(at.key("needs").index(n).path()), format!("{waiter} needs {on}")),
        EdgeReason::Before => (
            Place::value(at.key("name").path()),
            format!("{waiter} comes after {on}, the step before it in container `{container}`"),
        ),
        EdgeReason::Copy => (Place::value(at.key("copy").key("from").path()), format!("{waiter} copies files of {on}")),
        EdgeReason::Mount(n) => (
            Place::value(Trail::TOP.key("containers").key(container).key("mounts").index(n).path()),
            format!("{waiter} runs in container `{container}`, which has snapshot {on} mounted"),
        ),
        EdgeReason::OwnMount(n) => {
            (Place::value(at.key("mounts").index(n).path()), format!("{waiter} has snapshot {on} mounted"))
        }
        EdgeReason::Rootfs => (
            Place::value(Trail::TOP.key("containers").key(container).key("rootfs").key("snapshot").path()),
            format!("{waiter} runs in container `{container}`, whose rootfs is snapshot {on}"),
        ),
        EdgeReason::Tests => (
            Place::value(at.key("test").path()),
            format!("{waiter} is a test of container `{container}`, so it comes after {on}"),
        ),
    }
}

/// Returns a step's name, or its number if it has no name.
fn step_label(steps: &[OrderedStep], step: usize) -> String {
    match steps[step].step.name.as_str() {
        "" => format!("step {}", step + 1),
        name => format!("`{name}`"),
    }
}

/// Returns the steps that can be reached from `start`, `start` included.
fn reach(count: usize, start: usize, next: impl Fn(usize) -> Vec<usize>) -> Vec<bool> {
    let mut seen = vec![false; count];
    let mut stack = vec![start];
    while let Some(step) = stack.pop() {
        if !std::mem::replace(&mut seen[step], true) {
            stack.extend(next(step));
        }
    }
    seen
}

/// Returns the members (in a topological order) that are neither before nor after some other member. All members
/// before position `k` reach the member at `k` exactly if each of them reaches a next member at or before `k`: a path
/// from one to the next goes upwards and can only end there. The same is true downwards, so one pass over all steps is
/// enough.
fn unordered(steps: &[OrderedStep], order: &[usize], members: &[usize]) -> Vec<usize> {
    let position: HashMap<usize, usize> = members.iter().enumerate().map(|(k, step)| (*step, k)).collect();
    let (least, most) = (0, usize::MAX);
    // The nearest member at or after each step, and before it, along its edges.
    let mut next = vec![most; steps.len()];
    let mut previous: Vec<Option<usize>> = vec![None; steps.len()];
    for &step in order {
        for edge in &steps[step].edges {
            let on = edge.on.0;
            previous[step] = previous[step].max(position.get(&on).copied().or(previous[on]));
        }
    }
    for &step in order.iter().rev() {
        let reached = position.get(&step).copied().unwrap_or(next[step]);
        for edge in &steps[step].edges {
            next[edge.on.0] = next[edge.on.0].min(reached);
        }
    }
    let mut ordered = vec![true; members.len()];
    let mut latest_next = least;
    for (k, step) in members.iter().enumerate() {
        ordered[k] &= latest_next <= k;
        latest_next = latest_next.max(next[*step]);
    }
    let mut earliest_previous = most;
    for (k, step) in members.iter().enumerate().rev() {
        ordered[k] &= k + 1 == members.len() || (earliest_previous != least && earliest_previous > k);
        earliest_previous = earliest_previous.min(previous[*step].map_or(least, |p| p + 1));
    }
    members.iter().zip(ordered).filter(|(_, ordered)| !ordered).map(|(step, _)| *step).collect()
}
