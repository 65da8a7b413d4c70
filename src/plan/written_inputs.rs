//! The steps that may write files of the host that a segment reads, before the segment begins: its cache status is
//! unknown until they have ended. Pure; no I/O.

use std::collections::HashSet;

use crate::model::{Build, StepId};

use super::host_paths::{PathMap, read, written};
use super::{Plan, Segments};

/// An input of a segment that steps before it may write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenInput {
    /// The target of a read-only bind, or the rootfs.
    pub name: String,
    /// The steps, in the plan's order.
    pub steps: Vec<StepId>,
}

/// Returns, for each segment, its inputs that planned steps before one of its own may write.
pub fn written_inputs(build: &Build, plan: &Plan, segments: &Segments) -> Vec<Vec<WrittenInput>> {
    let written = PathMap::new(written(build, plan).map(|(step, path)| (path.to_owned(), step)));
    let of_segment = |index: usize| {
        let segment = segments.get(index);
        let container = build.container(segment.container);
        let mut before = None;
        let mut inputs = Vec::new();
        for (target, path) in read(build, segment) {
            let mut steps = written.overlapping(path);
            steps.retain(|step| build.step(*step).container != segment.container);
            steps.dedup();
            if !steps.is_empty() {
                let before = before.get_or_insert_with(|| all_before(build, &segment.steps));
                steps.retain(|step| before.contains(step));
            }
            if !steps.is_empty() {
                let rootfs = || format!("the rootfs of {}", container.name);
                let name = target.map_or_else(rootfs, |target| target.display().to_string());
                inputs.push(WrittenInput { name, steps });
            }
        }
        inputs
    };
    (0..segments.all().len()).map(of_segment).collect()
}

/// Returns all steps that any of these steps waits for, directly or indirectly.
fn all_before(build: &Build, steps: &[StepId]) -> HashSet<StepId> {
    let (mut found, mut open) = (HashSet::new(), steps.to_vec());
    while let Some(step) = open.pop() {
        open.extend(build.step(step).needs.iter().filter(|needed| found.insert(**needed)));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::fixture::build;
    use super::*;
    use crate::model::{Mount, MountKind};

    fn bind(source: &str, target: &str, options: &[&str]) -> Mount {
        let options = options.iter().map(ToString::to_string).collect();
        Mount { kind: MountKind::Bind(source.into()), target: target.into(), options, ignored: false }
    }

    #[test]
    fn a_step_before_a_segment_that_may_write_its_bind_is_found() {
        // `b` waits for `w` through `m`; `x` has no order.
        let mut build = build(&[("w", 0, &[]), ("m", 1, &[0]), ("a", 2, &[]), ("b", 2, &[1, 2]), ("x", 3, &[])]);
        build.containers[2].mounts.push(bind("/work/in", "/in", &["ro"]));
        build.containers[3].mounts.push(bind("/work/in", "/in", &[]));
        let of = |build: &Build| {
            let plan = Plan::new(build, &[]);
            written_inputs(build, &plan, &Segments::new(build, &plan))
        };
        assert!(of(&build).iter().all(Vec::is_empty));
        for (written, is_written) in [("/work/in/deep", true), ("/work", true), ("/work/inner", false)] {
            build.containers[0].mounts = vec![bind(written, "/out", &[])];
            let steps = vec![WrittenInput { name: "/in".into(), steps: vec![StepId(0)] }];
            assert_eq!(of(&build)[2], if is_written { steps } else { vec![] }, "{written}");
        }
        build.containers[0].mounts = vec![bind("/work", "/out", &["ro"])];
        assert!(of(&build).iter().all(Vec::is_empty));
    }
}
