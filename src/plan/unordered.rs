//! Containers that read a directory of the host which steps of another container write, without an order between them:
//! the result depends on their timing. Pure; no I/O.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use crate::model::{Build, ContainerId, StepId};

use super::Plan;
use super::host_paths::{PathMap, bound};

/// A container that reads files that another one writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unordered {
    /// The container with the read-only bind.
    pub reader: ContainerId,
    /// The target of the read-only bind.
    pub target: PathBuf,
    /// The source of the read-only bind.
    pub source: PathBuf,
    /// The container with the writable bind.
    pub writer: ContainerId,
    /// The steps of the writer that none of its other steps waits for.
    pub last: Vec<StepId>,
    /// The first step of the reader.
    pub first: StepId,
}

/// Returns all such pairs of containers of a plan, each once. `real` returns a path without links. Any order between
/// steps of the two, in either direction, counts as intended.
pub fn unordered(build: &Build, plan: &Plan, real: impl Fn(&Path) -> PathBuf) -> Vec<Unordered> {
    let binds = |is_read_only: bool| -> Vec<(ContainerId, &Path, &Path, PathBuf)> {
        let planned = build.containers.iter().enumerate().filter(|(id, _)| !plan.session(ContainerId(*id)).is_empty());
        planned
            .flat_map(|(id, _)| {
                build
                    .mounts_of(ContainerId(id), plan.session(ContainerId(id)))
                    .map(move |(_, mount)| (ContainerId(id), mount))
            })
            .filter(|(_, mount)| mount.is_read_only() == is_read_only && !mount.ignored)
            .filter_map(|(id, mount)| Some((id, mount.target.as_path(), bound(mount)?)))
            .map(|(id, target, source)| (id, target, source, real(source)))
            .collect()
    };
    let written = PathMap::new(binds(false).into_iter().map(|(writer, _, _, path)| (path, writer)));
    if written.is_empty() {
        return Vec::new();
    }
    let (mut pairs, mut found) = (HashSet::new(), Vec::new());
    for (reader, target, source, read) in binds(true) {
        let mut related = None;
        for writer in written.overlapping(&read) {
            let pair = (build.origin(reader), build.origin(writer));
            if pair.0 == pair.1 || pairs.contains(&pair) {
                continue;
            }
            let related = related.get_or_insert_with(|| related_to(plan, plan.session(reader)));
            let steps = plan.session(writer);
            let Some(first) = plan.first(reader).filter(|_| steps.iter().all(|step| !related.contains(step))) else {
                continue;
            };
            let is_last = |step: &&StepId| plan.dependents(**step).iter().all(|after| !steps.contains(after));
            pairs.insert(pair);
            found.push(Unordered {
                reader,
                target: target.to_owned(),
                source: source.to_owned(),
                writer,
                last: steps.iter().filter(is_last).copied().collect(),
                first,
            });
        }
    }
    found
}

/// Returns all steps that are ordered before or after one of these.
fn related_to(plan: &Plan, steps: &[StepId]) -> HashSet<StepId> {
    let mut related = HashSet::new();
    for next in [Plan::needs, Plan::dependents] {
        let (mut seen, mut open) = (HashSet::new(), steps.to_vec());
        while let Some(step) = open.pop() {
            open.extend(next(plan, step).into_iter().filter(|next| seen.insert(*next)));
        }
        related.extend(seen);
    }
    related
}

#[cfg(test)]
mod tests {
    use super::super::fixture::build;
    use super::*;
    use crate::model::{Mount, MountKind};

    fn bind(source: &str, options: &[&str]) -> Mount {
        let options = options.iter().map(ToString::to_string).collect();
        Mount { kind: MountKind::Bind(source.into()), target: "/t".into(), options, ignored: false }
    }

    fn of(build: &Build) -> Vec<Unordered> {
        unordered(build, &Plan::new(build, &[]), |path| {
            path.strip_prefix("/link").map_or(path.into(), |rest| Path::new("/work").join(rest))
        })
    }

    /// Returns a build in which container 0 writes in steps 0 and 1, and container 1 reads in steps 2 and 3.
    fn two(needs_of_reader: &[usize], needs_of_writer: &[usize]) -> Build {
        let mut build =
            build(&[("w1", 0, needs_of_writer), ("w2", 0, &[0]), ("r1", 1, &[]), ("r2", 1, needs_of_reader)]);
        build.containers[0].mounts.push(bind("/work/stage", &[]));
        build.containers[1].mounts.push(bind("/work/stage", &["ro"]));
        build
    }

    #[test]
    fn an_unordered_reader_and_writer_of_one_directory_are_found_once() {
        let mut build = two(&[2], &[]);
        build.containers[1].mounts.push(bind("/work/stage/deep", &["ro"]));
        let found = of(&build);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].reader, found[0].writer), (ContainerId(1), ContainerId(0)));
        assert_eq!((found[0].first, found[0].last.as_slice()), (StepId(2), &[StepId(1)][..]));
        for (written, is_found) in
            [("/work", true), ("/work/stage/deep", true), ("/link/stage", true), ("/work/stages", false)]
        {
            build.containers[0].mounts = vec![bind(written, &[])];
            assert_eq!(!of(&build).is_empty(), is_found, "{written}");
        }
    }

    #[test]
    fn an_order_or_a_mount_that_is_no_input_is_no_conflict() {
        assert_eq!(of(&two(&[0, 2], &[])), []);
        assert_eq!(of(&two(&[2], &[2])), []);
        let mut build = two(&[2], &[]);
        build.containers[1].mounts[0].ignored = true;
        assert_eq!(of(&build), []);
        build.containers[1].mounts[0] = bind("/work/stage", &[]);
        assert_eq!(of(&build), []);
        let mut build = two(&[2], &[]);
        build.containers[0].mounts[0].ignored = true;
        assert_eq!(of(&build), []);
        let mut build = two(&[2], &[]);
        build.containers[0].mounts.push(bind("/work/stage", &["ro"]));
        assert_eq!(of(&build).len(), 1);
        // A plan without the writer has no such pair.
        let build = two(&[2], &[]);
        assert_eq!(unordered(&build, &Plan::new(&build, &[StepId(3)]), Path::to_owned), []);
    }
}
