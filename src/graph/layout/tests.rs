//! Tests of the layout with boxes and edges of any graph.

use proptest::prelude::*;

use super::*;

/// Generates boxes of any sizes in any order, and edges between any of them, upwards too.
fn any_boxes() -> impl Strategy<Value = (Vec<(f64, f64)>, Vec<usize>, Vec<Edge>)> {
    (2..30usize).prop_flat_map(|count| {
        let sizes = prop::collection::vec((96..400u16, 80..300u16).prop_map(|(w, h)| (w.into(), h.into())), count);
        let order = Just((0..count).collect::<Vec<_>>()).prop_shuffle();
        let edge = (0..count, 1..count, 0..3u8, 0..4u8).prop_map(move |(from, step, side, height)| {
            let to = (from + step) % count;
            let height = 60.0 + f64::from(height);
            let (out, into) = match side {
                0 => (Side::Left, Side::Left),
                1 => (Side::Left, Side::Top),
                _ => (Side::Bottom, Side::Top),
            };
            let entry = if into == Side::Top { 0.0 } else { height };
            Edge {
                net: 2 * from + usize::from(side > 0),
                into: to,
                from: End { of: from, height, side: out },
                to: End { of: to, height: entry, side: into },
            }
        });
        (sizes, order, prop::collection::vec(edge, 0..60))
    })
}

/// Returns whether a vertical or horizontal line has a part inside of these sides.
fn crosses(line: &[Point], (left, top): (f64, f64), (right, bottom): (f64, f64)) -> bool {
    let [a, b] = line else { panic!("{line:?}") };
    a.x.min(b.x) < right && a.x.max(b.x) > left && a.y.min(b.y) < bottom && a.y.max(b.y) > top
}

proptest! {
    #[test]
    fn boxes_do_not_overlap_and_edges_cross_none((sizes, first, edges) in any_boxes()) {
        let layout = lay_out(&sizes, &first, &edges);
        let boxes: Vec<_> = layout
            .corners
            .iter()
            .zip(&sizes)
            .map(|(corner, size)| ((corner.x, corner.y), (corner.x + size.0, corner.y + size.1)))
            .collect();
        for (number, (one, end)) in boxes.iter().enumerate() {
            prop_assert!(one.0 >= 0.0 && one.1 >= 0.0 && end.0 <= layout.width && end.1 <= layout.height);
            for (other, to) in &boxes[number + 1..] {
                prop_assert!(end.0 < other.0 || to.0 < one.0 || end.1 < other.1 || to.1 < one.1, "{:?}", boxes);
            }
        }
        for (edge, path) in edges.iter().zip(&layout.paths) {
            for line in path.windows(2) {
                prop_assert!((line[0].x == line[1].x) != (line[0].y == line[1].y), "{:?}", path);
                prop_assert!(line.iter().all(|point| point.x >= 0.0 && point.x <= layout.width));
                prop_assert!(line.iter().all(|point| point.y >= 0.0 && point.y <= layout.height));
                for (number, (corner, end)) in boxes.iter().enumerate() {
                    // An edge may cross its own boxes left of the port, or below the end.
                    let is_out = number == edge.from.of;
                    let is_own = is_out || number == edge.to.of;
                    let left = corner.0 + if is_own { PORT + 0.5 } else { 0.0 };
                    prop_assert!(!crosses(line, (left, corner.1), *end), "{:?} {:?}", path, boxes[number]);
                    if is_out {
                        let above = (end.0, corner.1 + edge.from.height);
                        let is_above = crosses(line, *corner, above) && number != edge.to.of;
                        prop_assert!(!is_above, "{:?} {:?}", path, boxes[number]);
                    }
                }
            }
        }
    }
}

#[test]
fn a_box_is_straight_below_the_one_that_it_is_built_on() {
    let end = |of, height, side| End { of, height, side };
    let edge = |to| Edge { net: 0, into: 0, from: end(0, 70.0, Side::Bottom), to: end(to, 0.0, Side::Top) };
    let layout = lay_out(&[(100.0, 80.0), (120.0, 80.0), (100.0, 80.0)], &[0, 1, 2], &[edge(1), edge(2)]);
    assert_eq!(layout.paths[0], [Point { x: PORT, y: 70.0 }, Point { x: PORT, y: layout.corners[1].y }]);
    assert_eq!(layout.corners[1].y, layout.corners[2].y);
    assert!(layout.corners[2].x >= 120.0 + gap(0));
}

#[test]
fn many_independent_boxes_are_in_several_rows() {
    let layout = lay_out(&vec![(200.0, 80.0); 100], &(0..100).collect::<Vec<_>>(), &[]);
    assert!(layout.width < 1600.0 && layout.height > 1000.0, "{} {}", layout.width, layout.height);
}
