//! Which steps a segment waits for before it is judged: those of the same build that may write what it reads of the host.
//! Pure; no I/O.

use std::path::{Path, PathBuf};
use std::slice;

use crate::build::{Action, Build, Container, Mount, MountKind, Rootfs, StepId};

use super::{Plan, Segments};

/// By segment, the steps outside it that its steps need, where any step of the plan may write what its container reads.
///
/// A segment is judged when the first of its steps may begin, by what is in its binds then. What a later one of its steps
/// waits for could still change that.
pub fn late(build: &Build, plan: &Plan, segments: &Segments) -> Vec<Vec<StepId>> {
    let written = written(build, plan);
    let of_segment = |index: usize| {
        let segment = segments.get(index);
        let container = build.container(segment.container);
        let is_written = |read: &Path| written.iter().any(|path| path.starts_with(read) || read.starts_with(path));
        if !read(container).any(is_written) {
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

/// What of the host is in the keys of a container's segments.
fn read(container: &Container) -> impl Iterator<Item = &Path> {
    let root = match &container.rootfs {
        Rootfs::Squashfs(layers) => layers.as_slice(),
        Rootfs::Tar(path) | Rootfs::Dir(path) => slice::from_ref(path),
        Rootfs::Programs(_) | Rootfs::Snapshot(_) | Rootfs::Scratch => &[],
    };
    let is_read = |mount: &&Mount| mount.is_read_only() && !mount.ignored;
    root.iter().map(PathBuf::as_path).chain(container.mounts.iter().filter(is_read).filter_map(bound))
}

/// The paths of the host that steps of the plan may write.
fn written<'a>(build: &'a Build, plan: &'a Plan) -> Vec<&'a Path> {
    let outputs = plan.order().iter().filter_map(|step| match &build.step(*step).action {
        Action::Snapshot(snapshot) => snapshot.output.as_deref(),
        _ => None,
    });
    let containers = build.containers.iter();
    let mounts = containers.flat_map(|container| &container.mounts).filter(|mount| !mount.is_read_only());
    outputs.chain(mounts.filter_map(bound)).collect()
}

fn bound(mount: &Mount) -> Option<&Path> {
    match &mount.kind {
        MountKind::Bind(source) => Some(source),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::build;
    use super::*;
    use crate::build::{Compression, Snapshot, SnapshotMode};

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
