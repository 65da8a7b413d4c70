//! Names the filesystem that was full, and the way to get more space.

use std::path::Path;

use super::{Failed, SessionFacts, mount_of, paths};
use crate::model::{Container, Mount, MountKind, Scratch, size_text};
use crate::session::{Space, scratch_files};

/// ENOSPC, in the words of the C library and of JavaScript.
const FULL: &[&str] = &["no space left on device", "enospc"];

const SHM: &str = "/dev/shm";

/// A filesystem that a step writes to.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Filesystem<'a> {
    Root,
    Mount(&'a Mount),
    /// `/dev/shm`, of which each step has its own: it does not exist any more.
    Shm,
}

/// Returns the hint for the full filesystem: one that the step named in its output or its command, or else the one that
/// it started in, or else any.
pub(super) fn hint(container: &Container, failed: Failed<'_>, inside: &impl SessionFacts) -> Option<String> {
    let mut lines = failed.lines(FULL).peekable();
    lines.peek()?;
    let found: Vec<Option<Filesystem<'_>>> = lines.flat_map(paths).map(|path| filesystem(container, path)).collect();
    let named = found.iter().flatten().copied();
    let start = filesystem(container, failed.cwd);
    let mounts = container.mounts.iter().filter(|mount| !mount.is_read_only()).map(Filesystem::Mount);
    let is_full = |filesystem: &Filesystem<'_>| {
        *filesystem == Filesystem::Shm || space(*filesystem, inside).is_some_and(|space| space.is_full())
    };
    let of_command = paths(failed.command).filter_map(|path| filesystem(container, path));
    let mut all = named.clone().chain(of_command).chain(start).chain([Filesystem::Root]).chain(mounts);
    let full = all.find(is_full);
    // The step may have removed the file that did not fit. A device that the step named has no filesystem.
    let likely = if found.is_empty() { start } else { named.clone().next() };
    advice(container, full.or(likely)?, inside)
}

fn filesystem<'a>(container: &'a Container, path: &Path) -> Option<Filesystem<'a>> {
    if let Some(mount) = mount_of(container, path) {
        return Some(Filesystem::Mount(mount));
    }
    if path.starts_with(SHM) {
        return Some(Filesystem::Shm);
    }
    let is_none = ["/proc", "/sys", "/dev"].iter().any(|kernels| path.starts_with(kernels));
    (!is_none).then_some(Filesystem::Root)
}

fn space(filesystem: Filesystem<'_>, inside: &impl SessionFacts) -> Option<Space> {
    match filesystem {
        Filesystem::Root => inside.space(None),
        Filesystem::Mount(mount) => inside.space(Some(&mount.target)),
        Filesystem::Shm => None,
    }
}

fn advice(container: &Container, filesystem: Filesystem<'_>, inside: &impl SessionFacts) -> Option<String> {
    const OF_STORE: &str = "make room there with `runner store gc`, or choose another store with `--store DIRECTORY`";
    let free_space = || space(filesystem, inside).map_or_else(|| "no room".to_owned(), free_space);
    let mount = match filesystem {
        Filesystem::Root => {
            return Some(match container.scratch {
                Scratch::Default => "the root may change by half of the memory that runner may use, at most 10 GiB; \
                                     `scratch: {disk: true}` or `scratch: {tmpfs: SIZE}` gives more"
                    .to_owned(),
                Scratch::Tmpfs(bytes) => format!(
                    "the changes of the steps may take {} in memory and be {} files; `scratch: {{disk: true}}` or a larger \
                     `tmpfs` there gives more",
                    size_text(bytes),
                    scratch_files(bytes)
                ),
                Scratch::Disk => {
                    format!(
                        "the changes of the steps are in the store, whose filesystem has {} left; {OF_STORE}",
                        free_space()
                    )
                }
            });
        }
        Filesystem::Shm => {
            let mount = "`{type: tmpfs, target: /dev/shm, options: [size=SIZE]}`";
            return Some(format!("{SHM} takes 64MiB; a mount of the container, {mount}, takes more"));
        }
        Filesystem::Mount(mount) => mount,
    };
    let target = mount.target.display();
    Some(match &mount.kind {
        MountKind::Tmpfs => {
            let is_of_files = space(filesystem, inside).is_some_and(|space| space.has_no_files())
                && mount.options.iter().any(|option| option.starts_with("nr_inodes="));
            let option = if is_of_files { "nr_inodes=NUMBER" } else { "size=SIZE" };
            format!(
                "the tmpfs mounted at {target} has {} left; `options: [{option}]` of that mount gives more",
                free_space()
            )
        }
        MountKind::Cache(_) => {
            format!(
                "the cache mounted at {target} is in the store, whose filesystem has {} left; {OF_STORE}",
                free_space()
            )
        }
        MountKind::Bind(source) => {
            let source = source.display();
            format!(
                "the bind mounted at {target} is on a filesystem of the host that has {} left; make room in {source}",
                free_space()
            )
        }
        MountKind::Kernel(kind, _) => format!("the {kind} mounted at {target} has {} left", free_space()),
        MountKind::Secret(_) | MountKind::Ssh(_) | MountKind::Snapshot { .. } | MountKind::Image(_) => return None,
    })
}

fn free_space(space: Space) -> String {
    let bytes = format!("{} of {}", size_text(space.free_bytes), size_text(space.bytes));
    match space.files {
        0 => bytes,
        files => format!("{bytes} and {} of {files} files", space.free_files),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{TestSession, container, hinted};
    use super::*;
    use crate::model::CacheMount;

    const FREE: Space = Space { bytes: 8 << 20, free_bytes: 4 << 20, files: 2048, free_files: 2000 };

    fn mounts() -> Container {
        let mut container = container(&[
            (MountKind::Tmpfs, "/tmp", &["size=8m"]),
            (MountKind::Tmpfs, "/few", &["nr_inodes=9"]),
            (MountKind::Cache(CacheMount::shared("apt")), "/cache", &[]),
            (MountKind::Bind("/work/src".into()), "/src", &[]),
            (MountKind::Bind("/work/ro".into()), "/ro", &["ro"]),
        ]);
        container.scratch = Scratch::Tmpfs(8 << 20);
        container
    }

    fn found(full: Option<&str>) -> TestSession {
        let mut found = TestSession::default();
        for target in ["/tmp", "/few", "/cache", "/src", "/ro", ""] {
            let target = (!target.is_empty()).then(|| target.into());
            found.spaces.insert(target, FREE);
        }
        found.spaces.insert(Some("/ro".into()), Space { free_bytes: 0, ..FREE });
        if let Some(full) = full {
            found.spaces.insert((!full.is_empty()).then(|| full.into()), Space { free_bytes: 4096, ..FREE });
        }
        found
    }

    const WRITE: &str = "sh: write error: No space left on device";

    #[test]
    fn the_full_filesystem_is_named_with_the_way_to_more_space() {
        for (full, begin, end) in [
            (
                "/tmp",
                "the tmpfs mounted at /tmp has 4KiB of 8MiB and 2000 of 2048 files left",
                "`options: [size=SIZE]` of that mount gives more",
            ),
            ("/cache", "the cache mounted at /cache is in the store", "with `--store DIRECTORY`"),
            (
                "/src",
                "the bind mounted at /src is on a filesystem of the host that has 4KiB of 8MiB",
                "make room in /work/src",
            ),
            ("", "the changes of the steps may take 8MiB in memory and be 2048 files;", "gives more"),
        ] {
            let advice = hinted(&mounts(), 0, WRITE, &found(Some(full))).unwrap();
            assert!(advice.starts_with(begin) && advice.ends_with(end), "{full}: {advice}");
        }
        let mut disk = mounts();
        disk.scratch = Scratch::Disk;
        let advice = hinted(&disk, 0, WRITE, &found(Some(""))).unwrap();
        assert!(
            advice.starts_with("the changes of the steps are in the store, whose filesystem has 4KiB of 8MiB"),
            "{advice}"
        );
    }

    #[test]
    fn of_several_full_filesystems_the_one_that_the_command_names_is_reported() {
        let mut found = found(Some("/tmp"));
        found.spaces.insert(Some("/src".into()), Space { free_bytes: 0, ..FREE });
        let user = super::super::fixture::user(0);
        let advice = |command| {
            let failed = Failed { user: &user, cwd: Path::new("/"), command, printed: WRITE };
            hint(&mounts(), failed, &found).unwrap()
        };
        assert!(advice("cat x > /src/f").starts_with("the bind mounted at /src"));
        assert!(advice("cat x > /tmp/f; rm /usr/x").starts_with("the tmpfs mounted at /tmp"));
    }

    #[test]
    fn a_tmpfs_without_free_inodes_gives_the_hint_nr_inodes() {
        let mut found = found(None);
        found.spaces.insert(Some("/few".into()), Space { free_files: 0, ..FREE });
        found.spaces.insert(Some("/tmp".into()), Space { free_files: 0, ..FREE });
        let advice =
            |path| hinted(&mounts(), 0, &format!("touch: cannot touch '{path}': No space left on device"), &found);
        assert!(advice("/few/f").unwrap().contains("0 of 2048 files left; `options: [nr_inodes=NUMBER]`"));
        assert!(advice("/tmp/f").unwrap().contains("0 of 2048 files left; `options: [size=SIZE]`"));
    }

    #[test]
    fn without_a_full_filesystem_the_one_that_the_step_named_or_started_in_is_reported() {
        let at = |path| hinted(&mounts(), 0, &format!("as: {path}: No space left on device"), &found(None)).unwrap();
        assert!(at("/tmp/x.o").starts_with("the tmpfs mounted at /tmp has 4MiB of 8MiB"));
        assert!(at("/usr/x.o").starts_with("the changes of the steps may take 8MiB"));
        assert!(
            at("/dev/shm/x")
                .starts_with("/dev/shm takes 64MiB; a mount of the container, `{type: tmpfs, target: /dev/shm,")
        );
        let printed = "Error: ENOSPC: no space left on device, write";
        let failed = Failed { user: &super::super::fixture::user(0), cwd: Path::new("/cache/x"), command: "", printed };
        assert!(hint(&mounts(), failed, &found(None)).unwrap().starts_with("the cache mounted at /cache"));
    }

    #[test]
    fn no_filesystem_is_named_for_the_kernels_own_files_or_another_error() {
        assert_eq!(hinted(&mounts(), 0, "/tmp/x: No such file or directory", &found(Some("/tmp"))), None);
        assert_eq!(hinted(&mounts(), 0, "dd: error writing '/dev/x': No space left on device", &found(None)), None);
        let printed = "/sys/fs/cgroup/x: No space left on device";
        let failed = Failed { user: &super::super::fixture::user(0), cwd: Path::new("/proc"), command: "", printed };
        assert_eq!(hint(&mounts(), failed, &found(None)), None);
    }
}
