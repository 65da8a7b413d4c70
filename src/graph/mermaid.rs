//! The graph in Mermaid's language, which GitHub and GitLab draw inside Markdown.

use std::fmt::Write;

use super::{Graph, Mark, Marks};

/// A flowchart; <https://mermaid.js.org/syntax/flowchart.html>.
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
            line(2, format!("s{from} --> s{to}"));
        }
    }
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

/// Without anything that means something to Mermaid or, later, to HTML: by its entity codes.
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
