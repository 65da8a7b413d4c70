//! The signs and colours of a graph's picture, for its legend.

use super::{Graph, Mark, Marks};

/// The signs of a picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Signs {
    /// A step that is not a snapshot.
    pub(super) step: bool,
    /// A snapshot.
    pub(super) snapshot: bool,
    /// A line from a step to a step of the same container that waits for it.
    pub(super) order: bool,
    /// A line from a step to a step of another container that waits for it.
    pub(super) need: bool,
    /// A line from a snapshot to a step of another container that takes its files.
    pub(super) files: bool,
    /// A line from a snapshot to a container.
    pub(super) root: bool,
    /// Each mark of a step, once.
    pub(super) marks: Vec<Mark>,
}

impl Signs {
    /// Returns the signs of a graph's picture.
    pub(super) fn of(graph: &Graph, marks: Marks<'_>) -> Self {
        let edges = graph.nodes.iter().flat_map(|node| {
            node.needs.iter().map(|need| (graph.nodes[*need].of, node.of, node.sources.contains(need)))
        });
        let is_marked = |mark: &Mark| (0..graph.nodes.len()).any(|node| graph.mark(node, marks) == Some(*mark));
        Self {
            step: graph.nodes.iter().any(|node| node.snapshot.is_none()),
            snapshot: graph.nodes.iter().any(|node| node.snapshot.is_some()),
            order: edges.clone().any(|(from, to, _)| from == to),
            need: edges.clone().any(|(from, to, is_files)| from != to && !is_files),
            files: edges.clone().any(|(from, to, is_files)| from != to && is_files),
            root: graph.boxes.iter().any(|container| container.below.is_some()),
            marks: Mark::ALL.into_iter().filter(is_marked).collect(),
        }
    }
}
