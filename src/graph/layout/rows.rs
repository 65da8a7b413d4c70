//! The rows: the row of each box, and its position in the row.

use super::{CLEARANCE, Edge, Side, across, gap};

/// The width up to which boxes that need not be below each other fill a row.
const MAX_WIDTH: f64 = 1600.0;

/// The boxes, row by row from top to bottom and from left to right.
pub(super) struct Rows {
    pub(super) rows: Vec<Vec<usize>>,
    /// The row of each box, and its position in the row.
    pub(super) at: Vec<(usize, usize)>,
    /// The boxes that each box must be below.
    above: Vec<Vec<usize>>,
}

impl Rows {
    pub(super) fn new(sizes: &[(f64, f64)], first: &[usize], edges: &[Edge]) -> Self {
        let mut before: Vec<Vec<usize>> = vec![Vec::new(); sizes.len()];
        let mut built_on: Vec<Vec<usize>> = vec![Vec::new(); sizes.len()];
        for edge in edges.iter().filter(|edge| first[edge.from.of] < first[edge.to.of]) {
            before[edge.to.of].push(edge.from.of);
            if edge.to.side == Side::Top {
                built_on[edge.to.of].push(edge.from.of);
            }
        }
        let mut order: Vec<usize> = (0..sizes.len()).collect();
        order.sort_by_key(|number| first[*number]);
        let mut ranks = vec![0; sizes.len()];
        for number in &order {
            ranks[*number] = before[*number].iter().map(|other| ranks[*other] + 1).max().unwrap_or(0);
        }
        let above = before.into_iter().zip(built_on);
        let above = above.map(|(before, built_on)| if built_on.is_empty() { before } else { built_on }).collect();
        let mut rows = Self { rows: Vec::new(), at: vec![(0, 0); sizes.len()], above };
        let mut lefts = vec![0.0; sizes.len()];
        order.sort_by_key(|number| ranks[*number]);
        for rank in order.chunk_by(|one, other| ranks[*one] == ranks[*other]) {
            rows.add(rank, sizes, &mut lefts);
        }
        rows
    }

    /// Adds boxes as a row, or as several if they are too wide for one; `lefts` gets their left sides, and later boxes
    /// are placed below those.
    fn add(&mut self, boxes: &[usize], sizes: &[(f64, f64)], lefts: &mut [f64]) {
        let mut boxes: Vec<(f64, usize)> =
            boxes.iter().map(|number| (self.left_below(*number, lefts), *number)).collect();
        boxes.sort_by(|(one, _), (other, _)| one.total_cmp(other));
        let (mut row, mut width) = (Vec::new(), 0.0);
        for (_, number) in boxes {
            width += sizes[number].0 + gap(0);
            if width > MAX_WIDTH && !row.is_empty() {
                self.push(std::mem::take(&mut row), sizes, lefts);
                width = sizes[number].0 + gap(0);
            }
            row.push(number);
        }
        self.push(row, sizes, lefts);
    }

    fn push(&mut self, row: Vec<usize>, sizes: &[(f64, f64)], lefts: &mut [f64]) {
        for (place, number) in row.iter().enumerate() {
            self.at[*number] = (self.rows.len(), place);
        }
        self.place(&row, sizes, lefts, |gutter| if gutter == 0 { 0.0 } else { gap(0) });
        self.rows.push(row);
    }

    /// Returns the left sides of all boxes, if gutters have so many tracks, by row and position.
    pub(super) fn lefts(&self, sizes: &[(f64, f64)], tracks: impl Fn(usize, usize) -> usize) -> Vec<f64> {
        // The leftmost boxes are below each other, for any number of edges that pass one of them.
        let margin = match (0..self.rows.len()).map(|row| tracks(row, 0)).max() {
            None | Some(0) => 0.0,
            Some(most) => CLEARANCE + across(most),
        };
        let mut lefts = vec![margin; sizes.len()];
        for (row, boxes) in self.rows.iter().enumerate() {
            let gap = |gutter| if gutter == 0 { margin } else { gap(tracks(row, gutter)) };
            self.place(boxes, sizes, &mut lefts, gap);
        }
        lefts
    }

    /// Places a row: each box below those that it comes after, or right of there if it has no room.
    fn place(&self, row: &[usize], sizes: &[(f64, f64)], lefts: &mut [f64], gap: impl Fn(usize) -> f64) {
        let mut right = 0.0;
        for (place, number) in row.iter().enumerate() {
            let left = self.left_below(*number, lefts).max(right + gap(place));
            lefts[*number] = left;
            right = left + sizes[*number].0;
        }
    }

    /// Returns the left side of a box that is straight below those that it comes after.
    fn left_below(&self, number: usize, lefts: &[f64]) -> f64 {
        let above = &self.above[number];
        match above.len() {
            0 => 0.0,
            len => above.iter().map(|other| lefts[*other]).sum::<f64>() / super::count(len),
        }
    }
}
