//! The facts about a build that reporters have before its first event: its graph, and the manifest line of each step.

use std::collections::HashMap;

use crate::graph::Graph;

/// The graph of a build's plan, and the lines of its steps in the manifest.
#[derive(Debug, Clone)]
pub struct ReportContext {
    /// The planned steps.
    pub graph: Graph,
    /// The manifest's path, as reports show it.
    pub manifest: String,
    /// The line of each step in the manifest, by the step's name, counted from 1.
    pub lines: HashMap<String, usize>,
}
