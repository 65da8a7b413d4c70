//! The graph drawn as SVG 1.1 with a few lines of CSS, in light and in dark.

use std::collections::BTreeSet;
use std::fmt::Write;

use unicode_width::UnicodeWidthStr;

use crate::escape::markup;

use super::layout::{Corner, place};
use super::{Graph, Marks};

/// Of a character in a fixed font of [`FONT`] pixels.
const CHARACTER: f64 = 7.3;
const FONT: f64 = 12.0;
/// From a step to the next.
const ROW: f64 = 24.0;
/// Above the first step: two lines of title.
const HEAD: f64 = 50.0;
/// Left of a step's name: its dot, and curves that pass other steps by.
const RAIL: f64 = 38.0;
const DOT: f64 = 26.0;
const PADDING: f64 = 14.0;
const MARGIN: f64 = 16.0;
/// How far a curve goes straight on before it turns.
const LEAN: f64 = 36.0;

/// How it looks; its classes begin with `g-`.
pub const STYLE: &str = "\
.g-text{font:12px ui-monospace,'DejaVu Sans Mono',monospace;fill:#1b1f24}.g-title{font-weight:bold}
.g-faint{fill:#656d76}.g-box{fill:#f6f8fa;stroke:#9aa4af}.g-edge{fill:none;stroke:#656d76;stroke-width:1.3}
.g-snapshot{stroke:#8250df;stroke-width:2}.g-need{stroke-dasharray:4 3}.g-head{fill:#656d76}
.g-snapshot-head{fill:#8250df}.g-dot{fill:#fff;stroke:#656d76;stroke-width:1.5}.g-fresh{fill:#0969da}.g-due{fill:#fff}
.g-maybe{fill:#bf8700}
.g-ran{fill:#1a7f37}.g-failed{fill:#cf222e}.g-skipped{fill:#6e7781}
@media(prefers-color-scheme:dark){.g-text{fill:#e6edf3}.g-faint{fill:#8d96a0}.g-box{fill:#161b22;stroke:#48505a}
.g-edge{stroke:#8d96a0}.g-snapshot{stroke:#a371f7}.g-head{fill:#8d96a0}.g-snapshot-head{fill:#a371f7}
.g-dot{fill:#0d1117;stroke:#8d96a0}.g-due{fill:#0d1117}.g-maybe{fill:#d29922}.g-fresh{fill:#58a6ff}.g-ran{fill:#3fb950}.g-failed{fill:#ff7b72}
.g-skipped{fill:#8b949e}}
";

/// A whole document, which other documents may take in as it is.
pub fn svg(graph: &Graph, marks: Marks<'_>) -> String {
    let sizes: Vec<(f64, f64)> = (0..graph.boxes.len()).map(|number| size(graph, number)).collect();
    let (corners, width, height) = place(&sizes, &edges(graph));
    let drawing = Drawing { graph, marks, sizes, corners, out: String::new() };
    let (width, height) = (width + 2.0 * MARGIN, height + 2.0 * MARGIN);
    let body = drawing.draw();
    let name = markup(&graph.name);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" viewBox=\"{:.0} {:.0} \
         {width:.0} {height:.0}\" role=\"img\" aria-label=\"{name}\">\n<title>{name}</title>\n<style>\n{STYLE}</style>\n\
         <defs>{}{}</defs>\n{body}</svg>\n",
        -MARGIN,
        -MARGIN,
        arrow("g-arrow", "g-head"),
        arrow("g-snapshot-arrow", "g-snapshot-head"),
    )
}

fn arrow(id: &str, class: &str) -> String {
    format!(
        "<marker id=\"{id}\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"8\" markerHeight=\"8\" \
         markerUnits=\"userSpaceOnUse\" orient=\"auto\"><path class=\"{class}\" d=\"M0 0L8 4L0 8z\"/></marker>"
    )
}

/// From box to box, by snapshots and by what steps wait for.
fn edges(graph: &Graph) -> BTreeSet<(usize, usize)> {
    let mut edges = BTreeSet::new();
    for (number, container) in graph.boxes.iter().enumerate() {
        edges.extend(container.below.map(|below| (graph.nodes[below].of, number)));
    }
    for node in &graph.nodes {
        edges.extend(node.needs.iter().map(|need| (graph.nodes[*need].of, node.of)));
    }
    edges.retain(|(from, to)| from != to);
    edges
}

fn size(graph: &Graph, number: usize) -> (f64, f64) {
    let container = &graph.boxes[number];
    let steps = container.nodes.iter().map(|node| {
        let node = &graph.nodes[*node];
        RAIL + length(&node.name) + node.snapshot.as_ref().map_or(0.0, |words| length(words) + 2.0 * CHARACTER)
    });
    let widest = steps.fold((PADDING + length(&container.name)).max(PADDING + length(&container.root)), f64::max);
    (widest + PADDING, HEAD + ROW * count(container.nodes.len()) + PADDING / 2.0)
}

fn length(text: &str) -> f64 {
    CHARACTER * count(text.width())
}

fn count(number: usize) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}

struct Drawing<'g> {
    graph: &'g Graph,
    marks: Marks<'g>,
    sizes: Vec<(f64, f64)>,
    corners: Vec<Corner>,
    out: String,
}

impl Drawing<'_> {
    fn draw(mut self) -> String {
        for number in 0..self.graph.boxes.len() {
            self.container(number);
        }
        let graph = self.graph;
        for (number, container) in graph.boxes.iter().enumerate() {
            if let Some(below) = container.below {
                self.snapshot(below, number);
            }
        }
        for (to, node) in graph.nodes.iter().enumerate() {
            for from in &node.needs {
                if graph.nodes[*from].of == node.of { self.inside(*from, to) } else { self.across(*from, to) }
            }
        }
        for node in 0..graph.nodes.len() {
            self.dot(node);
        }
        self.out
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.out, "{line}");
    }

    fn text(&mut self, x: f64, y: f64, class: &str, text: &str) {
        self.line(format_args!("<text class=\"g-text{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{}</text>", markup(text)));
    }

    fn container(&mut self, number: usize) {
        let (Corner { x, y }, (width, height)) = (self.corners[number], self.sizes[number]);
        self.line(format_args!(
            "<rect class=\"g-box\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" rx=\"6\"/>"
        ));
        let graph = self.graph;
        let container = &graph.boxes[number];
        self.text(x + PADDING, y + 20.0, " g-title", &container.name);
        self.text(x + PADDING, y + 36.0, " g-faint", &container.root);
        for node in &container.nodes {
            let step = &graph.nodes[*node];
            let (_, middle) = self.middle(*node);
            self.text(x + RAIL, middle + FONT / 3.0, "", &step.name);
            if let Some(words) = &step.snapshot {
                let after = x + RAIL + length(&step.name) + 2.0 * CHARACTER;
                self.text(after, middle + FONT / 3.0, " g-faint", words);
            }
        }
    }

    /// Where a step's dot is.
    fn middle(&self, node: usize) -> (f64, f64) {
        let node = &self.graph.nodes[node];
        let Corner { x, y } = self.corners[node.of];
        (x + DOT, y + HEAD + ROW * (count(node.row) + 0.5))
    }

    fn dot(&mut self, node: usize) {
        let (x, y) = self.middle(node);
        let mark = self.graph.mark(node, self.marks);
        let class = mark.map(|mark| format!(" g-{}", mark.word())).unwrap_or_default();
        let title = mark.map(|mark| format!("<title>{}</title>", mark.word())).unwrap_or_default();
        match self.graph.nodes[node].snapshot {
            Some(_) => self.line(format_args!(
                "<rect class=\"g-dot{class}\" x=\"{:.1}\" y=\"{:.1}\" width=\"10\" height=\"10\">{title}</rect>",
                x - 5.0,
                y - 5.0
            )),
            None => self.line(format_args!(
                "<circle class=\"g-dot{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"5\">{title}</circle>"
            )),
        }
    }

    /// Along the rail; past other steps in a curve.
    fn inside(&mut self, from: usize, to: usize) {
        let ((x, above), (_, below)) = (self.middle(from), self.middle(to));
        if below - above < ROW * 1.5 {
            self.line(format_args!("<path class=\"g-edge\" d=\"M{x:.1} {above:.1}V{below:.1}\"/>"));
        } else {
            let aside = x - 16.0;
            self.line(format_args!(
                "<path class=\"g-edge\" d=\"M{x:.1} {above:.1}C{aside:.1} {:.1} {aside:.1} {:.1} {x:.1} {below:.1}\"/>",
                above + ROW / 2.0,
                below - ROW / 2.0
            ));
        }
    }

    fn snapshot(&mut self, step: usize, to: usize) {
        let of = self.graph.nodes[step].of;
        let Corner { x, y } = self.corners[of];
        // Out at the bottom where the box ends with the snapshot, else at the side.
        let last = self.graph.boxes[of].nodes.last() == Some(&step);
        let (begin, lean) = if last {
            ((x + self.sizes[of].0 / 2.0, y + self.sizes[of].1), (0.0, LEAN))
        } else {
            let (side, away) = self.side(of, to);
            ((side, self.middle(step).1), (away, 0.0))
        };
        let (x, y) = (self.corners[to].x + self.sizes[to].0 / 2.0, self.corners[to].y);
        self.line(format_args!(
            "<path class=\"g-edge g-snapshot\" marker-end=\"url(#g-snapshot-arrow)\" d=\"M{:.1} {:.1}C{:.1} {:.1} {x:.1} \
             {:.1} {x:.1} {y:.1}\"/>",
            begin.0,
            begin.1,
            begin.0 + lean.0,
            begin.1 + lean.1,
            y - LEAN,
        ));
    }

    /// From the side of a box to the side of another.
    fn across(&mut self, from: usize, to: usize) {
        let (of, into) = (self.graph.nodes[from].of, self.graph.nodes[to].of);
        let ((_, y), (_, end)) = (self.middle(from), self.middle(to));
        let ((x, lean), (side, back)) = (self.side(of, into), self.side(into, of));
        self.line(format_args!(
            "<path class=\"g-edge g-need\" marker-end=\"url(#g-arrow)\" d=\"M{x:.1} {y:.1}C{:.1} {y:.1} {:.1} {end:.1} \
             {side:.1} {end:.1}\"/>",
            x + lean,
            side + back,
        ));
    }

    /// The side of a box that is nearer to another, and which way is out there.
    fn side(&self, of: usize, to: usize) -> (f64, f64) {
        let middle = |number: usize| self.corners[number].x + self.sizes[number].0 / 2.0;
        let left = self.corners[of].x;
        if middle(to) < middle(of) || (middle(to) == middle(of) && to < of) {
            (left, -LEAN)
        } else {
            (left + self.sizes[of].0, LEAN)
        }
    }
}
