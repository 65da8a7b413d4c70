//! Where each box goes, and the way of each edge: boxes stand in rows, and edges run only where no box is.
//!
//! A box stands in a row below all boxes that it comes after. Above each row, and below the last, is a channel, which has
//! a track for each net that runs along it; left of each box, and right of a row's last, is a gutter, which has a track
//! for each net that passes. A net is all edges from one end; they share their tracks. An edge leaves its box to the left
//! or at the bottom, and enters the other from the left or from the top, so whatever lies inside a box right of
//! [`PORT`] is crossed by none.

mod route;
mod rows;

use route::Routes;
use rows::Rows;

/// From a box's left side to the port that edges leave and enter by.
pub(super) const PORT: f64 = 26.0;
/// From a track to the next.
const TRACK: f64 = 8.0;
/// So many tracks are as far apart as that.
const MAX_SPACED: usize = 24;
/// From the boxes beside a channel or a gutter to its tracks; an arrow has room in it.
const CLEARANCE: f64 = 16.0;
/// From the port of a box by which edges leave to the one by which they enter from above.
const ENTRY: f64 = 18.0;
/// From an end in a box to its port: what is drawn there has that radius.
const RADIUS: f64 = 6.0;

/// A place in the picture; y grows downwards.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Point {
    pub(super) x: f64,
    pub(super) y: f64,
}

/// By which side an edge leaves a box or enters it.
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
    /// Below the box's top.
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
    /// Of each box, its top left.
    pub(super) corners: Vec<Point>,
    /// Of each edge, the corners that it turns at, its ends included.
    pub(super) paths: Vec<Vec<Point>>,
    pub(super) width: f64,
    pub(super) height: f64,
}

/// Lays out boxes of these widths and heights; an edge to a box that comes before its other one runs upwards. `first` is
/// the place of each box in the order.
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

/// From the first of so many tracks to the last.
fn across(tracks: usize) -> f64 {
    spacing(tracks) * count(tracks.saturating_sub(1))
}

/// From one of so many tracks to the next: many are closer together.
fn spacing(tracks: usize) -> f64 {
    if tracks > MAX_SPACED { TRACK * count(MAX_SPACED) / count(tracks) } else { TRACK }
}

/// The width of a gutter, or the height of a channel, with so many tracks.
fn gap(tracks: usize) -> f64 {
    2.0 * CLEARANCE + across(tracks)
}

/// A number of things as a length.
pub(super) fn count(number: usize) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests;
