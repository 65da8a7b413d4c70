//! The graph in Mermaid's language, which GitHub and GitLab draw inside Markdown.

use std::fmt::Write;

use super::legend::Signs;
use super::{Graph, Mark, Marks};

/// Returns a flowchart; see <https://mermaid.js.org/syntax/flowchart.html>.
pub fn mermaid(graph: &Graph, marks: Marks<'_>) -> String {
    let mut text = "flowchart TB\n".to_owned();
    let mut line = |indent: usize, line: String| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{:indent$}{line}", "");
    };
    for (number, container) in graph.boxes.iter().enumerate() {
        let title = format!("{} ({})", container.name, container.root);
        line(2, format!("subgraph c{number}[\"{}\"]", escaped(&title)));
        for node in &container.nodes {
            let step = &graph.nodes[*node];
            let class = graph.mark(*node, marks).map(|mark| format!(":::{}", mark.word())).unwrap_or_default();
            line(
                4,
                match &step.snapshot {
                    Some(snapshot) => {
                        format!("s{node}[(\"{}<br/>{}\")]{class}", escaped(&step.name), escaped(snapshot))
                    }
                    None => format!("s{node}[\"{}\"]{class}", escaped(&step.name)),
                },
            );
        }
        line(2, "end".to_owned());
    }
    for (number, container) in graph.boxes.iter().enumerate() {
        if let Some(below) = container.below {
            line(2, format!("s{below} ==> c{number}"));
        }
    }
    for (to, node) in graph.nodes.iter().enumerate() {
        for from in &node.needs {
            let arrow = if node.sources.contains(from) { "-.->|\"files\"|" } else { "-->" };
            line(2, format!("s{from} {arrow} s{to}"));
        }
    }
    legend(graph, marks).into_iter().for_each(|(indent, entry)| line(indent, entry));
    if marks.is_some() {
        for (mark, look) in [
            (Mark::Fresh, "fill:#cfe2ff,stroke:#3b6fb6,color:#000"),
            (Mark::Due, "fill:#fff,stroke:#666,color:#000"),
            (Mark::Maybe, "fill:#fff3c4,stroke:#8a6d00,color:#000"),
            (Mark::Ran, "fill:#d3f0d8,stroke:#2e7d43,color:#000"),
            (Mark::Failed, "fill:#ffd6d6,stroke:#b3261e,color:#000"),
            (Mark::Skipped, "fill:#e8e8e8,stroke:#888,color:#000"),
        ] {
            line(2, format!("classDef {} {look}", mark.word()));
        }
    }
    text
}

/// Returns the lines of the legend, each with its indent.
fn legend(graph: &Graph, marks: Marks<'_>) -> Vec<(usize, String)> {
    let signs = Signs::of(graph, marks);
    if graph.nodes.is_empty() {
        return Vec::new();
    }
    let mut lines = vec![(2, "subgraph legend[\"Legend\"]".to_owned())];
    let mut entry = |is_used: bool, line: &str| {
        if is_used {
            lines.push((4, line.to_owned()));
        }
    };
    entry(signs.step, "l_step[\"step\"]");
    entry(signs.snapshot, "l_snapshot[(\"snapshot\")]");
    entry(signs.step && signs.snapshot, "l_step -->|\"before\"| l_snapshot");
    entry(signs.root, "l_snapshot ==>|\"root of\"| l_container[\"container\"]");
    for mark in signs.marks {
        entry(true, &format!("l_{}[\"{}\"]:::{}", mark.word(), mark.meaning(), mark.word()));
    }
    lines.push((2, "end".to_owned()));
    lines
}

/// Returns the text with the entity codes of all characters that Mermaid or, later, HTML would interpret.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' | '#' | '&' | '<' | '>' | ';' | '`' | '\\' => escaped.push_str(&format!("#{};", u32::from(c))),
            _ => escaped.push(c),
        }
    }
    escaped
}
