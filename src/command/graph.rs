//! `runner graph`: the plan as a picture.

use super::{Stop, loaded, print};
use crate::cli::{GraphArgs, GraphFormat, targets};
use crate::graph::{Graph, dot, mermaid, svg};
use crate::plan::Plan;

/// Prints the graph of the plan.
pub fn graph(args: &GraphArgs) -> Result<(), Stop> {
    let build = loaded(&args.manifest.manifest, &args.manifest.sets)?;
    let plan = Plan::new(&build, &targets(&build, &args.targets)?);
    let graph = Graph::new(&build, &plan);
    let text = match args.format {
        GraphFormat::Dot => dot(&graph, None),
        GraphFormat::Mermaid => mermaid(&graph, None),
        GraphFormat::Svg => svg(&graph, None),
    };
    print(text.as_bytes())
}
