//! The graph in Graphviz's language.

use std::fmt::Write;

use super::legend::Signs;
use super::{Graph, Mark, Marks};

/// Returns a text for `dot -Tsvg`, for example; see <https://graphviz.org/doc/info/lang.html>.
pub fn dot(graph: &Graph, marks: Marks<'_>) -> String {
    let mut text = format!("digraph {} {{\n", quoted(&graph.name));
    text.push_str("  compound=true;\n  fontname=\"monospace\";\n");
    text.push_str("  node [shape=box, style=\"rounded,filled\", fillcolor=white, fontname=\"monospace\"];\n");
    let mut line = |indent: usize, line: String| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{:indent$}{line}", "");
    };
    for (number, container) in graph.boxes.iter().enumerate() {
        line(2, format!("subgraph cluster_{number} {{"));
        line(4, format!("label={};", quoted(&format!("{}\n{}", container.name, container.root))));
        for node in &container.nodes {
            let step = &graph.nodes[*node];
            let label = match &step.snapshot {
                Some(snapshot) => format!("{}\n{snapshot}", step.name),
                None => step.name.clone(),
            };
            let shape = if step.snapshot.is_some() { ", shape=cylinder, style=filled" } else { "" };
            let mark = graph.mark(*node, marks);
            let mark = mark.map(|mark| format!(", fillcolor={}, tooltip={}", colour(mark), quoted(mark.meaning())));
            line(4, format!("s{node} [label={}{shape}{}];", quoted(&label), mark.unwrap_or_default()));
        }
        line(2, "}".to_owned());
    }
    for (number, container) in graph.boxes.iter().enumerate() {
        if let (Some(below), Some(first)) = (container.below, container.nodes.first()) {
            line(2, format!("s{below} -> s{first} [lhead=cluster_{number}, style=bold];"));
        }
    }
    for (to, node) in graph.nodes.iter().enumerate() {
        for from in &node.needs {
            let files = if node.sources.contains(from) { " [label=\"files\", style=dashed]" } else { "" };
            line(2, format!("s{from} -> s{to}{files};"));
        }
    }
    legend(graph, marks).into_iter().for_each(|(indent, entry)| line(indent, entry));
    text.push_str("}\n");
    text
}

/// Returns the lines of the legend, each with its indent.
fn legend(graph: &Graph, marks: Marks<'_>) -> Vec<(usize, String)> {
    let signs = Signs::of(graph, marks);
    if graph.nodes.is_empty() {
        return Vec::new();
    }
    let mut lines = vec![(2, "subgraph cluster_legend {".to_owned()), (4, "label=\"Legend\";".to_owned())];
    let mut entry = |is_used: bool, line: &str| {
        if is_used {
            lines.push((4, line.to_owned()));
        }
    };
    entry(signs.step, "l_step [label=\"step\"];");
    entry(signs.snapshot, "l_snapshot [label=\"snapshot\", shape=cylinder, style=filled];");
    entry(signs.root, "l_container [label=\"container\", style=filled];");
    entry(signs.step && signs.snapshot, "l_step -> l_snapshot [label=\"before\"];");
    entry(signs.root, "l_snapshot -> l_container [label=\"root of\", style=bold];");
    for mark in signs.marks {
        let (word, meaning) = (mark.word(), quoted(mark.meaning()));
        entry(true, &format!("l_{word} [label={meaning}, fillcolor={}];", colour(mark)));
    }
    lines.push((2, "}".to_owned()));
    lines
}

fn colour(mark: Mark) -> &'static str {
    match mark {
        Mark::Fresh => "lightblue",
        Mark::Due => "white",
        Mark::Maybe => "lightyellow",
        Mark::Ran => "palegreen",
        Mark::Failed => "lightpink",
        Mark::Skipped => "lightgrey",
    }
}

/// Returns the text as a string of the language, in which `\n` is a line end and a backslash begins other escapes.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}
