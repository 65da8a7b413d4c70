//! What reporters know of a build before its first event: its graph, and where in the manifest its steps stand.

use std::collections::HashMap;

use crate::graph::Graph;

/// Of one manifest.
#[derive(Debug, Clone)]
pub struct Outline {
    /// The planned steps.
    pub graph: Graph,
    /// The manifest's path, as it is to be shown.
    pub manifest: String,
    /// By step: its line in the manifest, from 1.
    pub lines: HashMap<String, usize>,
}
