//! The facts about a build that its reporters get before it begins.

use std::collections::HashMap;

use crate::diagnostic::{At, Path, YamlPlaces};
use crate::fs::regular;
use crate::graph::Graph;
use crate::manifest;
use crate::model::Build;
use crate::plan::Plan;
use crate::report::ReportContext;

/// Returns the graph of the plan and the manifest line of each step. `manifest` is the shown path of the manifest. If the
/// file cannot be read any more, no step has a line.
pub fn report_context(build: &Build, plan: &Plan, manifest: String) -> ReportContext {
    let text = regular::read_text(&build.manifest, manifest::MAX_BYTES as u64).unwrap_or_default();
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    ReportContext { graph: Graph::new(build, plan), manifest, lines: lines(build, plan, text) }
}

fn lines(build: &Build, plan: &Plan, text: &str) -> HashMap<String, usize> {
    let places = YamlPlaces::read(text);
    let starts: Vec<usize> = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
    let line = |index: usize| {
        let path = Path::top().then("steps").then(index).then("name");
        let place = places.find(text, &path, &At::Value)?;
        Some(starts.partition_point(|start| *start <= place.start))
    };
    let steps = plan.order().iter().filter_map(|id| Some((build.step(*id).name.clone(), line(id.0)?)));
    steps.collect()
}
