//! The graph drawn as SVG 1.1 with a few lines of CSS, in light and in dark.

mod legend;

use std::fmt::Write;

use unicode_width::UnicodeWidthStr;

use crate::escape::markup;

use super::layout::{Edge, End, Layout, PORT, Point, Side, count, lay_out};
use super::{Graph, Marks};

use legend::Legend;

/// The width of a character in a fixed font of [`FONT`] pixels.
const CHARACTER: f64 = 7.3;
const FONT: f64 = 12.0;
/// The distance between two steps.
const ROW: f64 = 24.0;
/// The height above the first step: two lines of title.
const HEAD: f64 = 50.0;
/// The width left of a step's name: its dot, and curves that pass other steps.
const RAIL: f64 = 38.0;
const PADDING: f64 = 14.0;
const MARGIN: f64 = 16.0;
/// The width of a box with short names.
const MIN_WIDTH: f64 = 96.0;
/// The radius of the corners of edges.
const RADIUS: f64 = 5.0;
/// The distance of edges that leave a step to the left below its middle, at which edges enter it.
const BELOW: f64 = 4.0;

/// The style sheet; its classes begin with `g-`.
const STYLE: &str = "\
.g-text{font:12px ui-monospace,'DejaVu Sans Mono',monospace;fill:#1b1f24}.g-title{font-weight:bold}
.g-faint{fill:#656d76}.g-box{fill:#f6f8fa;stroke:#9aa4af}.g-edge{fill:none;stroke:#656d76;stroke-width:1.3}
.g-snapshot{stroke:#8250df;stroke-width:2}.g-need{stroke-dasharray:4 3}.g-files{stroke:#1a7f37}.g-head{fill:#656d76}
.g-snapshot-head{fill:#8250df}.g-dot{fill:#fff;stroke:#656d76;stroke-width:1.5}.g-fresh{fill:#0969da}.g-due{fill:#fff}
.g-maybe{fill:#bf8700}
.g-ran{fill:#1a7f37}.g-failed{fill:#cf222e}.g-skipped{fill:#6e7781}
@media(prefers-color-scheme:dark){.g-text{fill:#e6edf3}.g-faint{fill:#8d96a0}.g-box{fill:#161b22;stroke:#48505a}
.g-edge{stroke:#8d96a0}.g-snapshot{stroke:#a371f7}.g-head{fill:#8d96a0}.g-snapshot-head{fill:#a371f7}
.g-dot{fill:#0d1117;stroke:#8d96a0}.g-due{fill:#0d1117}.g-maybe{fill:#d29922}.g-fresh{fill:#58a6ff}.g-ran{fill:#3fb950}.g-failed{fill:#ff7b72}
.g-skipped{fill:#8b949e}}
";

/// Returns a complete document, which other documents can include unchanged.
pub fn svg(graph: &Graph, marks: Marks<'_>) -> String {
    let sizes: Vec<(f64, f64)> = (0..graph.boxes.len()).map(|number| size(graph, number)).collect();
    let first: Vec<usize> = graph.boxes.iter().map(|of| of.nodes.first().copied().unwrap_or_default()).collect();
    let (kinds, edges): (Vec<EdgeKind>, Vec<Edge>) = edges(graph).into_iter().unzip();
    let layout = lay_out(&sizes, &first, &edges);
    let (width, height) = (layout.width, layout.height);
    let mut drawing = Drawing { graph, marks, sizes, layout, out: String::new() };
    drawing.draw(&kinds);
    let legend = Legend::of(graph, marks, width);
    legend.draw(&mut drawing.out, height);
    let (width, height) = (width.max(legend.width) + 2.0 * MARGIN, height + legend.height + 2.0 * MARGIN);
    let body = drawing.out;
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

/// The meaning of an edge from a box to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EdgeKind {
    /// The other box's root is this snapshot.
    Snapshot,
    /// The other step waits for this one.
    Need,
    /// The other step takes files of this snapshot.
    Files,
}

impl EdgeKind {
    /// Returns the attributes of its line.
    fn look(self) -> &'static str {
        match self {
            Self::Snapshot => "class=\"g-edge g-snapshot\" marker-end=\"url(#g-snapshot-arrow)\"",
            Self::Files => "class=\"g-edge g-files\" marker-end=\"url(#g-arrow)\"",
            Self::Need => "class=\"g-edge g-need\" marker-end=\"url(#g-arrow)\"",
        }
    }
}

/// Returns the edges between boxes: snapshots, and needs of steps.
fn edges(graph: &Graph) -> Vec<(EdgeKind, Edge)> {
    let middle = |node: usize| middle(graph.nodes[node].row);
    let mut edges = Vec::new();
    for (number, container) in graph.boxes.iter().enumerate() {
        let Some(below) = container.below else { continue };
        let of = graph.nodes[below].of;
        // The edge leaves at the bottom if the box ends with the snapshot, otherwise at the side.
        let is_last = graph.boxes[of].nodes.last() == Some(&below);
        let (height, side) = if is_last { (middle(below), Side::Bottom) } else { (middle(below) + BELOW, Side::Left) };
        let to = End { of: number, height: 0.0, side: Side::Top };
        edges.push((EdgeKind::Snapshot, Edge { net: 2 * below, into: 0, from: End { of, height, side }, to }));
    }
    for (step, node) in graph.nodes.iter().enumerate() {
        for need in node.needs.iter().filter(|need| graph.nodes[**need].of != node.of) {
            let from = End { of: graph.nodes[*need].of, height: middle(*need) + BELOW, side: Side::Left };
            let to = End { of: node.of, height: middle(step), side: Side::Left };
            let kind = if node.sources.contains(need) { EdgeKind::Files } else { EdgeKind::Need };
            edges.push((kind, Edge { net: 2 * need + 1, into: step, from, to }));
        }
    }
    edges
}

fn size(graph: &Graph, number: usize) -> (f64, f64) {
    let container = &graph.boxes[number];
    let steps = container.nodes.iter().map(|node| {
        let node = &graph.nodes[*node];
        RAIL + length(&node.name) + node.snapshot.as_ref().map_or(0.0, |words| length(words) + 2.0 * CHARACTER)
    });
    let widest = steps.fold((PADDING + length(&container.name)).max(PADDING + length(&container.root)), f64::max);
    ((widest + PADDING).max(MIN_WIDTH), HEAD + ROW * count(container.nodes.len()) + PADDING / 2.0)
}

/// Returns the distance of the middle of a step below its box's top.
fn middle(row: usize) -> f64 {
    HEAD + ROW * (count(row) + 0.5)
}

fn length(text: &str) -> f64 {
    CHARACTER * count(text.width())
}

/// Writes a line of the document.
fn line(out: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "{line}");
}

/// Writes a text.
fn text(out: &mut String, x: f64, y: f64, class: &str, text: &str) {
    let text = markup(text);
    line(out, format_args!("<text class=\"g-text{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{text}</text>"));
}

/// Writes the sign of a step, or of a snapshot.
fn dot(out: &mut String, at: Point, is_snapshot: bool, class: &str, title: &str) {
    let Point { x, y } = at;
    if is_snapshot {
        let (left, top) = (x - 5.0, y - 5.0);
        let place = format_args!("x=\"{left:.1}\" y=\"{top:.1}\" width=\"10\" height=\"10\"");
        line(out, format_args!("<rect class=\"g-dot{class}\" {place}>{title}</rect>"));
    } else {
        line(out, format_args!("<circle class=\"g-dot{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"5\">{title}</circle>"));
    }
}

struct Drawing<'g> {
    graph: &'g Graph,
    marks: Marks<'g>,
    sizes: Vec<(f64, f64)>,
    layout: Layout,
    out: String,
}

impl Drawing<'_> {
    fn draw(&mut self, kinds: &[EdgeKind]) {
        for number in 0..self.graph.boxes.len() {
            self.container(number);
        }
        for (to, node) in self.graph.nodes.iter().enumerate() {
            for from in node.needs.iter().filter(|need| self.graph.nodes[**need].of == node.of) {
                self.inside(*from, to);
            }
        }
        for (kind, path) in kinds.iter().zip(&self.layout.paths) {
            line(&mut self.out, format_args!("<path {} d=\"{}\"/>", kind.look(), rounded(path)));
        }
        for node in 0..self.graph.nodes.len() {
            self.dot(node);
        }
    }

    fn container(&mut self, number: usize) {
        let (Point { x, y }, (width, height)) = (self.layout.corners[number], self.sizes[number]);
        let out = &mut self.out;
        line(
            out,
            format_args!(
                "<rect class=\"g-box\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" rx=\"6\"/>"
            ),
        );
        let container = &self.graph.boxes[number];
        text(out, x + PADDING, y + 20.0, " g-title", &container.name);
        text(out, x + PADDING, y + 36.0, " g-faint", &container.root);
        for node in &container.nodes {
            let step = &self.graph.nodes[*node];
            let baseline = y + middle(step.row) + FONT / 3.0;
            text(out, x + RAIL, baseline, "", &step.name);
            if let Some(words) = &step.snapshot {
                text(out, x + RAIL + length(&step.name) + 2.0 * CHARACTER, baseline, " g-faint", words);
            }
        }
    }

    /// Returns the position of a step's dot.
    fn place(&self, node: usize) -> Point {
        let node = &self.graph.nodes[node];
        let Point { x, y } = self.layout.corners[node.of];
        Point { x: x + PORT, y: y + middle(node.row) }
    }

    fn dot(&mut self, node: usize) {
        let mark = self.graph.mark(node, self.marks);
        let class = mark.map(|mark| format!(" g-{}", mark.word())).unwrap_or_default();
        let title = mark.map(|mark| format!("<title>{}</title>", mark.meaning())).unwrap_or_default();
        let place = self.place(node);
        dot(&mut self.out, place, self.graph.nodes[node].snapshot.is_some(), &class, &title);
    }

    /// Draws an edge along the rail; it passes other steps in a curve.
    fn inside(&mut self, from: usize, to: usize) {
        let (Point { x, y: above }, Point { y: below, .. }) = (self.place(from), self.place(to));
        let path = if below - above < ROW * 1.5 {
            format!("M{x:.1} {above:.1}V{below:.1}")
        } else {
            let (aside, begin, end) = (x - 16.0, above + ROW / 2.0, below - ROW / 2.0);
            format!("M{x:.1} {above:.1}C{aside:.1} {begin:.1} {aside:.1} {end:.1} {x:.1} {below:.1}")
        };
        line(&mut self.out, format_args!("<path class=\"g-edge\" d=\"{path}\"/>"));
    }
}

/// Returns a path through these points, with round corners.
fn rounded(points: &[Point]) -> String {
    let mut path = String::new();
    if let Some(Point { x, y }) = points.first() {
        path.push_str(&format!("M{x:.1} {y:.1}"));
    }
    for corner in points.windows(3) {
        let (before, after) = (towards(corner[1], corner[0]), towards(corner[1], corner[2]));
        path.push_str(&format!(
            "L{:.1} {:.1}Q{:.1} {:.1} {:.1} {:.1}",
            before.x, before.y, corner[1].x, corner[1].y, after.x, after.y
        ));
    }
    if let [.., Point { x, y }] = points {
        path.push_str(&format!("L{x:.1} {y:.1}"));
    }
    path
}

/// Returns a point near a corner on the way to another point, at most half of the way.
fn towards(corner: Point, other: Point) -> Point {
    let part = |from: f64, to: f64| from + ((to - from) / 2.0).clamp(-RADIUS, RADIUS);
    Point { x: part(corner.x, other.x), y: part(corner.y, other.y) }
}

#[cfg(test)]
mod tests;
