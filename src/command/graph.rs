//! `runner graph`: the plan as a picture that shows which steps are in the store.

use super::annotated_plan::show_plan;
use super::command_error::CommandError;
use super::console::print;
use crate::cli::{Cli, GraphArgs, GraphFormat};
use crate::graph::{Graph, Mark, dot, mermaid, svg};
use crate::report::plan::Note;

/// Prints the graph of the plan.
pub fn graph(cli: &Cli, args: &GraphArgs) -> Result<(), CommandError> {
    let text = show_plan(cli, None, &args.manifest, &args.targets, |analysis, note, _| {
        let graph = Graph::new(analysis.build, &analysis.plan);
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
