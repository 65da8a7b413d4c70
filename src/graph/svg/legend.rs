//! The legend below a drawing: each of its signs and colours, with its meaning.

use crate::graph::layout::{Point, count};
use crate::graph::legend::Signs;
use crate::graph::{Graph, Mark, Marks};

use super::{EdgeKind, FONT, dot, length, line, text};

/// The distance from the drawing to the legend, and between two of its lines.
const LINE: f64 = 24.0;
/// The width of a line before its meaning.
const EDGE: f64 = 30.0;
/// The width of a dot before its meaning.
const DOT: f64 = 16.0;
/// The distance between a meaning and the next sign.
const SPACE: f64 = 24.0;
/// The width up to which a legend has one line, even if the drawing is narrower.
const MIN_WIDTH: f64 = 480.0;

/// A sign of the drawing.
#[derive(Debug, Clone, Copy)]
enum Sign {
    Step,
    Snapshot,
    Order,
    Edge(EdgeKind),
    Mark(Mark),
}

impl Sign {
    /// Returns its width, with the space before its meaning.
    fn width(self) -> f64 {
        match self {
            Self::Step | Self::Snapshot | Self::Mark(_) => DOT,
            Self::Order | Self::Edge(_) => EDGE,
        }
    }
}

/// The signs with their meanings, each with its horizontal position and its line.
pub(super) struct Legend {
    entries: Vec<(Sign, &'static str, f64, usize)>,
    pub(super) width: f64,
    pub(super) height: f64,
}

impl Legend {
    /// Returns the legend of a graph, in lines as wide as its drawing.
    pub(super) fn of(graph: &Graph, marks: Marks<'_>, width: f64) -> Self {
        let wide = width.max(MIN_WIDTH);
        let mut legend = Self { entries: Vec::new(), width: 0.0, height: 0.0 };
        let (mut x, mut row) = (0.0, 0);
        for (sign, meaning) in signs(graph, marks) {
            let length = sign.width() + length(meaning);
            if x + length > wide && x > 0.0 {
                (x, row) = (0.0, row + 1);
            }
            legend.entries.push((sign, meaning, x, row));
            x += length + SPACE;
            legend.width = legend.width.max(x - SPACE);
            legend.height = LINE * count(row + 2);
        }
        legend
    }

    /// Writes the legend below a drawing of that height.
    pub(super) fn draw(&self, out: &mut String, height: f64) {
        for (sign, meaning, x, row) in &self.entries {
            let at = Point { x: x + 5.0, y: height + LINE * (count(*row) + 1.5) };
            let (y, end) = (at.y, x + EDGE - 8.0);
            match sign {
                Sign::Step => dot(out, at, false, "", ""),
                Sign::Snapshot => dot(out, at, true, "", ""),
                Sign::Mark(mark) => dot(out, at, false, &format!(" g-{}", mark.word()), ""),
                Sign::Order => line(out, format_args!("<path class=\"g-edge\" d=\"M{x:.1} {y:.1}H{end:.1}\"/>")),
                Sign::Edge(kind) => line(out, format_args!("<path {} d=\"M{x:.1} {y:.1}H{end:.1}\"/>", kind.look())),
            }
            text(out, x + sign.width(), y + FONT / 3.0, " g-faint", meaning);
        }
    }
}

/// Returns the signs of a drawing, in a fixed order.
fn signs(graph: &Graph, marks: Marks<'_>) -> Vec<(Sign, &'static str)> {
    let used = Signs::of(graph, marks);
    let signs = [
        // If steps have colours, the colours are explained instead.
        (used.step && marks.is_none(), Sign::Step, "step"),
        (used.snapshot, Sign::Snapshot, "snapshot"),
        (used.order, Sign::Order, "order in a container"),
        (used.root, Sign::Edge(EdgeKind::Snapshot), "snapshot is the root of"),
        (used.need, Sign::Edge(EdgeKind::Need), "needed by"),
        (used.files, Sign::Edge(EdgeKind::Files), "files used by"),
    ];
    let signs = signs.into_iter().filter(|(is_used, ..)| *is_used).map(|(_, sign, meaning)| (sign, meaning));
    signs.chain(used.marks.into_iter().map(|mark| (Sign::Mark(mark), mark.meaning()))).collect()
}
