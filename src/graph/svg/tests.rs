//! Tests of the drawings of any plan, read as a viewer of SVG reads them.

use proptest::prelude::*;

use super::*;
use crate::graph::Mark;
use crate::model::{Action, Build, Compression, Rootfs, Snapshot, SnapshotMode, StepId};
use crate::plan::{Plan, fixture};

/// Returns the number after `name="` in a line.
fn attribute(line: &str, name: &str) -> f64 {
    let (_, after) = line.split_once(&format!(" {name}=\"")).unwrap_or_else(|| panic!("{name}: {line}"));
    after.split('"').next().unwrap().parse().unwrap()
}

/// Returns a text's box: its left, top, right and bottom, as wide as in its font.
fn label(line: &str) -> (f64, f64, f64, f64) {
    let text = line.split(['>', '<']).nth(2).unwrap();
    let text = text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&").replace("&quot;", "\"");
    let (x, y) = (attribute(line, "x"), attribute(line, "y"));
    (x, y - FONT, x + length(&text), y + FONT / 4.0)
}

/// Returns the commands of a path, each a letter with its numbers.
fn commands(path: &str) -> Vec<(char, Vec<f64>)> {
    let starts: Vec<usize> = path.match_indices(char::is_alphabetic).map(|(at, _)| at).chain([path.len()]).collect();
    let command = |part: &str| {
        let numbers = part[1..].split(' ').map(|number| number.parse().unwrap());
        (part.chars().next().unwrap(), numbers.collect())
    };
    starts.windows(2).map(|pair| command(&path[pair[0]..pair[1]])).collect()
}

/// Returns points along an edge's path, close enough to be joined by straight lines.
fn points(line: &str) -> Vec<(f64, f64)> {
    let (_, after) = line.split_once(" d=\"").unwrap();
    let mut points: Vec<(f64, f64)> = Vec::new();
    for (letter, numbers) in commands(after.split('"').next().unwrap()) {
        let from = points.last().copied().unwrap_or_default();
        let ends: Vec<(f64, f64)> = match letter {
            'H' => vec![(numbers[0], from.1)],
            'V' => vec![(from.0, numbers[0])],
            _ => numbers.chunks(2).map(|pair| (pair[0], pair[1])).collect(),
        };
        // De Casteljau's algorithm gives the points of a curve.
        let begin = if points.is_empty() { Vec::new() } else { vec![from] };
        let through: Vec<(f64, f64)> = begin.into_iter().chain(ends).collect();
        for step in 1..=20 {
            let t = f64::from(step) / 20.0;
            let mut between = through.clone();
            while between.len() > 1 {
                let mix = |(a, b): (f64, f64), (c, d): (f64, f64)| (a + (c - a) * t, b + (d - b) * t);
                between = between.windows(2).map(|pair| mix(pair[0], pair[1])).collect();
            }
            points.extend(between);
        }
    }
    points
}

/// Returns whether a straight line has a part in a box.
fn crosses(from: (f64, f64), to: (f64, f64), (left, top, right, bottom): (f64, f64, f64, f64)) -> bool {
    // The part of the line, from 0 to 1, that is between the sides of each direction.
    let (mut begin, mut end) = (0.0_f64, 1.0_f64);
    for (from, to, low, high) in [(from.0, to.0, left, right), (from.1, to.1, top, bottom)] {
        if from == to {
            if from <= low || from >= high {
                return false;
            }
        } else {
            let (one, other) = ((low - from) / (to - from), (high - from) / (to - from));
            (begin, end) = (begin.max(one.min(other)), end.min(one.max(other)));
        }
    }
    begin < end
}

/// Checks that no line of an edge has a part in the box of a label.
fn edges_cross_no_label(svg: &str) -> Result<(), TestCaseError> {
    let labels: Vec<_> =
        svg.lines().filter(|line| line.starts_with("<text ")).map(|line| (label(line), line)).collect();
    prop_assert!(!labels.is_empty());
    for edge in svg.lines().filter(|line| line.starts_with("<path class=\"g-edge")) {
        for line in points(edge).windows(2) {
            for (sides, text) in &labels {
                prop_assert!(!crosses(line[0], line[1], *sides), "{}\n{}", edge, text);
            }
        }
    }
    Ok(())
}

/// Generates any plan with snapshots among its steps, and containers on some of these.
fn any_graph() -> impl Strategy<Value = Graph> {
    let names = prop::collection::vec("[a-z._-]{1,30}", 40);
    (fixture::any_build(), prop::collection::vec(any::<bool>(), 40), names).prop_map(|((build, targets), is, names)| {
        let build = with_snapshots(build, &is, &names);
        Graph::new(&build, &Plan::new(&build, &targets))
    })
}

fn with_snapshots(mut build: Build, is_snapshot: &[bool], names: &[String]) -> Build {
    for (step, name) in build.steps.iter_mut().zip(names) {
        step.name.clone_from(name);
    }
    for step in (0..build.steps.len()).filter(|step| is_snapshot[*step]) {
        let output = Some(format!("/work/out/{}.squashfs", names[step]).into());
        let level = None;
        let mode = SnapshotMode::Layer;
        build.steps[step].action =
            Action::Snapshot(Snapshot { mode, output, compression: Compression::Zstd, level, subtree: None });
    }
    // A container is built on a snapshot that all of its steps wait for.
    for container in 0..build.containers.len() {
        let steps: Vec<usize> =
            (0..build.steps.len()).filter(|step| build.steps[*step].container.0 == container).collect();
        let below = (0..build.steps.len()).find(|below| {
            is_snapshot[*below] && steps.iter().all(|step| build.steps[*step].needs.contains(&StepId(*below)))
        });
        if let (Some(below), false) = (below, steps.is_empty()) {
            build.containers[container].rootfs = Rootfs::Snapshot(StepId(below));
        }
    }
    build
}

proptest! {
    #[test]
    fn no_edge_crosses_a_label_in_the_picture_of_any_plan(graph in any_graph(), is_marked in any::<bool>()) {
        let mark = |StepId(step): StepId| Mark::ALL[step % Mark::ALL.len()];
        let marks: Marks<'_> = if is_marked { Some(&mark) } else { None };
        edges_cross_no_label(&svg(&graph, marks))?;
    }
}

/// A chain of containers, each on a snapshot in the middle of the one before, and steps that wait for others far above.
#[test]
fn edges_that_pass_rows_and_leave_boxes_in_their_middle_cross_no_label() {
    let needs: Vec<(String, usize, Vec<usize>)> = (0..40usize)
        .map(|step| {
            let own = if step % 4 == 0 { step.checked_sub(3) } else { step.checked_sub(1) };
            let far = (step % 3 == 2).then_some(step / 2);
            (format!("step-{step}"), step / 4, own.into_iter().chain(far).collect())
        })
        .collect();
    let steps: Vec<(&str, usize, &[usize])> =
        needs.iter().map(|(name, container, needs)| (name.as_str(), *container, needs.as_slice())).collect();
    let names: Vec<String> = needs.iter().map(|(name, ..)| name.clone()).collect();
    let mut build =
        with_snapshots(fixture::build(&steps), &(0..40).map(|step| step % 4 == 1).collect::<Vec<_>>(), &names);
    for container in 1..10 {
        build.containers[container].rootfs = Rootfs::Snapshot(StepId(container * 4 - 3));
    }
    let graph = Graph::new(&build, &Plan::new(&build, &[]));
    let svg = svg(&graph, None);
    edges_cross_no_label(&svg).unwrap();
    assert!(svg.matches("g-edge g-snapshot").count() == 10 && svg.matches("g-edge g-need").count() > 10, "{svg}");
}

#[test]
fn a_line_through_a_label_is_found() {
    let line = "<text class=\"g-text\" x=\"10.0\" y=\"20.0\">abc</text>";
    for (path, is_found) in [
        ("M0.0 15.0L40.0 15.0", true),
        ("M0.0 30.0H40.0", false),
        ("M20.0 0.0V40.0", true),
        ("M5.0 0.0V40.0", false),
        ("M0.0 0.0C0.0 30.0 40.0 30.0 40.0 0.0", true),
        ("M0.0 0.0Q0.0 8.0 -10.0 8.0", false),
    ] {
        let svg = format!("{line}\n<path class=\"g-edge\" d=\"{path}\"/>\n");
        assert_eq!(edges_cross_no_label(&svg).is_err(), is_found, "{path}");
    }
}
