//! The layout: the place of each box, and the path of each edge. Boxes are in rows, and edges run only between boxes.
//!
//! A box is in a row below all boxes that it comes after. Above each row, and below the last, is a channel, with a
//! track for each net that runs along it; left of each box, and right of a row's last, is a gutter, with a track for
//! each net that passes. A net is all edges from one end; they share their tracks. An edge leaves its box to the left
//! or at the bottom, and enters the other from the left or from the top, so no edge crosses the inside of a box right
//! of [`PORT`].
mod route;
mod rows;

use route::Routes;
use rows::Rows;

/// The distance from a box's left side to the port at which edges leave and enter.
pub(super) const PORT: f64 = 26.0;
/// The distance between two tracks.
const TRACK: f64 = 8.0;
/// The most tracks that have this distance.
const MAX_SPACED: usize = 24;
/// The distance from the boxes beside a channel or a gutter to its tracks; it has room for an arrow.
const CLEARANCE: f64 = 16.0;
/// The distance from the port at which edges leave a box to the one at which they enter from above.
const ENTRY: f64 = 18.0;
/// The distance from an end in a box to its port: the radius of the sign that is drawn there.
const RADIUS: f64 = 6.0;

/// A point of the picture; y grows downwards.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Point {
    pub(super) x: f64,
    pub(super) y: f64,
}

/// The side at which an edge leaves or enters a box.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Top,
    Bottom,
}

/// An end of an edge.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct End {
    /// The box's number.
    pub(super) of: usize,
    /// The distance below the box's top.
    pub(super) height: f64,
    pub(super) side: Side,
}

/// An edge between two different boxes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Edge {
    /// Edges of the same net share their tracks.
    pub(super) net: usize,
    /// Edges into the same step share the track beside it.
    pub(super) into: usize,
    pub(super) from: End,
    pub(super) to: End,
}

/// The places of boxes and edges.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Layout {
    /// The top left corner of each box.
    pub(super) corners: Vec<Point>,
    /// The corners of each edge, its ends included.
    pub(super) paths: Vec<Vec<Point>>,
    pub(super) width: f64,
    pub(super) height: f64,
}

/// Lays out boxes of these widths and heights; an edge to a box that comes before its other one runs upwards. `first`
/// is the position of each box in the order.
pub(super) fn lay_out(sizes: &[(f64, f64)], first: &[usize], edges: &[Edge]) -> Layout {
    let rows = Rows::new(sizes, first, edges);
    let routes = Routes::new(&rows, sizes, edges);
    let lefts = rows.lefts(sizes, |row, gutter| routes.tracks(row, gutter));
    let (corners, paths, height) = routes.draw(&rows, sizes, edges, &lefts);
    let right = |(corner, (width, _)): (&Point, &(f64, f64))| corner.x + width;
    let points = paths.iter().flatten().map(|point| point.x);
    let width = corners.iter().zip(sizes).map(right).chain(points).fold(0.0, f64::max);
    Layout { corners, paths, width, height }
}

/// Returns the distance from the first of so many tracks to the last.
fn across(tracks: usize) -> f64 {
    spacing(tracks) * count(tracks.saturating_sub(1))
}

/// Returns the distance between two of so many tracks: many tracks are closer together.
fn spacing(tracks: usize) -> f64 {
    if tracks > MAX_SPACED { TRACK * count(MAX_SPACED) / count(tracks) } else { TRACK }
}

/// Returns the width of a gutter, or the height of a channel, with so many tracks.
fn gap(tracks: usize) -> f64 {
    2.0 * CLEARANCE + across(tracks)
}

/// Returns a count as a length.
pub(super) fn count(number: usize) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests;
