//! `runner graph`: the plan as a picture, with what is in the store already told apart.

use super::plan::noted;
use super::{Stop, print};
use crate::cli::{Cli, GraphArgs, GraphFormat};
use crate::graph::{Graph, Mark, dot, mermaid, svg};
use crate::plan::Note;

/// Prints the graph of the plan.
pub fn graph(cli: &Cli, args: &GraphArgs) -> Result<(), Stop> {
    let text = noted(cli, None, &args.manifest, &args.targets, |build, plan, note| {
        let graph = Graph::new(build, plan);
        let mark = |step| match note(step) {
            Note { fresh: true, .. } => Mark::Fresh,
            Note { unknown: true, .. } => Mark::Maybe,
            _ => Mark::Due,
        };
        match args.format {
            GraphFormat::Dot => dot(&graph, Some(&mark)),
            GraphFormat::Mermaid => mermaid(&graph, Some(&mark)),
            GraphFormat::Svg => svg(&graph, Some(&mark)),
        }
    })?;
    print(text.as_bytes())
}
