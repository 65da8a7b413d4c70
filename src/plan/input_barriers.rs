//! The steps that a segment waits for before it is checked: those of the same build that may write files of the host
//! that it reads, and the snapshots whose files it takes. Pure; no I/O.

use crate::model::{Build, Mount, MountKind, StepId};

use super::host_paths::{PathMap, read, written};
use super::{Plan, Segment, Segments};

/// Returns, for each segment, the steps outside it that its steps need, if any step of the plan may write files that
/// it reads; and the snapshots that it takes files from.
///
/// A segment is checked when the first of its steps may begin, with the content of its binds at that time. A step that
/// a later one of its steps waits for could still change that content.
pub fn input_barriers(build: &Build, plan: &Plan, segments: &Segments) -> Vec<Vec<StepId>> {
    let written = PathMap::new(written(build, plan).map(|(step, path)| (path.to_owned(), step)));
    let of_segment = |index: usize| {
        let segment = segments.get(index);
        let container = build.container(segment.container);
        let mut outside: Vec<StepId> = sources(build, segment).collect();
        if !read(build, segment).any(|(_, path)| !written.overlapping(path).is_empty()) {
            outside.sort_unstable();
            outside.dedup();
            return outside;
        }
        // A later segment that is not fresh needs the files of a tmpfs or ramfs mount made again, so its check must be
        // known too.
        let is_memory = |mount: &Mount| matches!(mount.kind, MountKind::Tmpfs | MountKind::Kernel(..));
        let has_tmpfs = container.mounts.iter().any(is_memory);
        let after = if has_tmpfs { segments.after(index) } else { &[] };
        let steps = after.iter().chain([&index]).flat_map(|index| &segments.get(*index).steps);
        let needed = steps.flat_map(|step| &build.step(*step).needs);
        outside.extend(needed.filter(|step| build.step(**step).container != segment.container));
        outside.sort_unstable();
        outside.dedup();
        outside
    };
    (0..segments.all().len()).map(of_segment).collect()
}

/// Returns the snapshots that the steps of a segment take files from: these are in its key.
fn sources<'b>(build: &'b Build, segment: &'b Segment) -> impl Iterator<Item = StepId> + 'b {
    segment.steps.iter().flat_map(|step| build.sources(build.step(*step)))
}

#[cfg(test)]
mod tests {
    use super::super::fixture::build;
    use super::*;
    use crate::model::{Action, Compression, Rootfs, Snapshot, SnapshotMode};

    fn bind(source: &str, options: &[&str]) -> Mount {
        let options = options.iter().map(ToString::to_string).collect();
        Mount { kind: MountKind::Bind(source.into()), target: "/t".into(), options, ignored: false }
    }

    fn of(build: &Build) -> Vec<Vec<StepId>> {
        let plan = Plan::new(build, &[]);
        input_barriers(build, &plan, &Segments::new(build, &plan))
    }

    #[test]
    fn a_segment_that_reads_written_files_waits_for_all_needs_of_its_steps() {
        let mut build = build(&[("w", 0, &[]), ("a", 1, &[]), ("b", 1, &[0, 1])]);
        assert_eq!(of(&build), [vec![], vec![]]);
        build.containers[1].mounts.push(bind("/work/in", &["ro"]));
        assert_eq!(of(&build), [vec![], vec![]]);
        for (written, waits) in [("/work/in/deep", true), ("/work", true), ("/work/inner", false)] {
            build.containers[0].mounts = vec![bind(written, &[])];
            assert_eq!(of(&build)[1], if waits { vec![StepId(0)] } else { vec![] }, "{written}");
        }
        build.containers[0].mounts.clear();
        let output = Some("/work/in/image".into());
        let (mode, compression) = (SnapshotMode::Layer, Compression::Zstd);
        build.steps[0].action = Action::Snapshot(Snapshot { mode, output, compression, level: None, subtree: None });
        assert_eq!(of(&build)[1], [StepId(0)]);
        build.containers[1].mounts[0].ignored = true;
        assert_eq!(of(&build)[1], []);
        build.containers[1].rootfs = Rootfs::Squashfs(vec!["/work/base".into(), "/work/in/image".into()]);
        assert_eq!(of(&build)[1], [StepId(0)]);
    }
}
