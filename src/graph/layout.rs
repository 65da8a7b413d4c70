//! Where each box goes: containers in layers from top to bottom, each below what it is made from.

use std::collections::BTreeSet;

use rust_sugiyama::configure::Config;
use rust_sugiyama::from_vertices_and_edges;

/// Between two boxes, and between two rows of boxes.
const GAP: f64 = 48.0;

/// A box's corner at the top left.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Corner {
    pub(super) x: f64,
    pub(super) y: f64,
}

/// Boxes of these widths and heights, an edge from box to box: their corners, and the width and the height of all.
pub(super) fn place(sizes: &[(f64, f64)], edges: &BTreeSet<(usize, usize)>) -> (Vec<Corner>, f64, f64) {
    let small = |index: usize| u32::try_from(index).unwrap_or(u32::MAX);
    let vertices: Vec<(u32, (f64, f64))> =
        sizes.iter().enumerate().map(|(index, size)| (small(index), *size)).collect();
    let edges: Vec<(u32, u32)> = edges.iter().map(|(from, to)| (small(*from), small(*to))).collect();
    let config = Config { vertex_spacing: GAP, ..Config::default() };
    let mut parts: Vec<Vec<(usize, (f64, f64))>> =
        from_vertices_and_edges(&vertices, &edges, &config).into_iter().map(|(places, ..)| places).collect();
    // What hangs together comes in no order.
    parts.iter_mut().for_each(|part| part.sort_by_key(|(index, _)| *index));
    parts.sort_by_key(|part| part.first().map(|(index, _)| *index));
    let mut corners = vec![Corner { x: 0.0, y: 0.0 }; sizes.len()];
    let (mut right, mut height) = (0.0_f64, 0.0_f64);
    for part in parts {
        // Places are those of middles.
        let left = part.iter().map(|(index, (x, _))| x - sizes[*index].0 / 2.0).fold(f64::INFINITY, f64::min);
        let top = part.iter().map(|(index, (_, y))| y - sizes[*index].1 / 2.0).fold(f64::INFINITY, f64::min);
        let begin = if right > 0.0 { right + GAP } else { 0.0 };
        for (index, (x, y)) in part {
            let (wide, high) = sizes[index];
            let corner = Corner { x: begin + x - wide / 2.0 - left, y: y - high / 2.0 - top };
            right = right.max(corner.x + wide);
            height = height.max(corner.y + high);
            corners[index] = corner;
        }
    }
    (corners, right, height)
}
