//! Which steps a segment waits for before it is checked: those of the same build that may write what it reads of the host.
//! Pure; no I/O.

use crate::model::{Build, Mount, MountKind, StepId};

use super::host_paths::{PathMap, read, written};
use super::{Plan, Segments};

/// By segment, the steps outside it that its steps need, where any step of the plan may write what its container reads.
///
/// A segment is checked when the first of its steps may begin, by what is in its binds then. What a later one of its steps
/// waits for could still change that.
pub fn late(build: &Build, plan: &Plan, segments: &Segments) -> Vec<Vec<StepId>> {
    let written = PathMap::new(written(build, plan).map(|(step, path)| (path.to_owned(), step)));
    let of_segment = |index: usize| {
        let segment = segments.get(index);
        let container = build.container(segment.container);
        if !read(container).any(|(_, path)| !written.meeting(path).is_empty()) {
            return Vec::new();
        }
        // Files in a tmpfs mount, or a ramfs, are made again for a later part that is not fresh, so that is to be known as well.
        let is_memory = |mount: &Mount| matches!(mount.kind, MountKind::Tmpfs | MountKind::Kernel(..));
        let has_tmpfs = container.mounts.iter().any(is_memory);
        let after = if has_tmpfs { segments.after(index) } else { &[] };
        let steps = after.iter().chain([&index]).flat_map(|index| &segments.get(*index).steps);
        let needed = steps.flat_map(|step| &build.step(*step).needs);
        let mut outside: Vec<StepId> =
            needed.filter(|step| build.step(**step).container != segment.container).copied().collect();
        outside.sort_unstable();
        outside.dedup();
        outside
    };
    (0..segments.all().len()).map(of_segment).collect()
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
        late(build, &plan, &Segments::new(build, &plan))
    }

    #[test]
    fn a_part_that_reads_what_is_written_waits_for_all_that_its_steps_wait_for() {
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
        build.steps[0].action = Action::Snapshot(Snapshot { mode, output, compression, level: None });
        assert_eq!(of(&build)[1], [StepId(0)]);
        build.containers[1].mounts[0].ignored = true;
        assert_eq!(of(&build)[1], []);
        build.containers[1].rootfs = Rootfs::Squashfs(vec!["/work/base".into(), "/work/in/image".into()]);
        assert_eq!(of(&build)[1], [StepId(0)]);
    }
}
