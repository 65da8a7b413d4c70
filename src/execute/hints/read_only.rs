//! Names the cause of a read-only filesystem that a step wrote to.

use std::path::Path;

use super::{Failed, SessionFacts, mount_of, paths};
use crate::model::{Container, MountKind};

/// EROFS, in the words of programs.
const READ_ONLY: &[&str] = &["read-only file system", "erofs"];

/// Returns the cause for the read-only filesystem that the step named, or else the one that it started in.
pub(super) fn hint(container: &Container, failed: Failed<'_>, inside: &impl SessionFacts) -> Option<String> {
    let mut lines = failed.lines(READ_ONLY).peekable();
    lines.peek()?;
    lines.flat_map(paths).chain([failed.cwd]).find_map(|path| cause(container, path, inside))
}

fn cause(container: &Container, path: &Path, inside: &impl SessionFacts) -> Option<String> {
    if let Some(mount) = mount_of(container, path) {
        let target = mount.target.display();
        if let (MountKind::Bind(source), true) = (&mount.kind, inside.hides_store(path)) {
            return Some(format!(
                "{} is in the empty, read-only directory that hides runner's store, which {} contains; write elsewhere, or choose \
                 a store outside of it with `--store DIRECTORY`",
                path.display(),
                source.display()
            ));
        }
        return match &mount.kind {
            MountKind::Secret(_) => Some(format!("the secret {target} is read-only; write to another path")),
            MountKind::Snapshot { .. } => Some(format!(
                "the snapshot mounted at {target} is read-only; a `copy` step brings its files into the root"
            )),
            MountKind::Image(_) => {
                Some(format!("the image mounted at {target} is read-only; copy its files into the root to change them"))
            }
            _ if mount.is_read_only() => {
                let options = "leave `ro` out of its options, if the step is to write there";
                Some(format!("the mount at {target} is read-only (`ro`); {options}"))
            }
            MountKind::Bind(source) => {
                Some(format!("the mount at {target} is as read-only as its source on the host, {}", source.display()))
            }
            _ => None,
        };
    }
    if let Some(kernels) = ["/proc", "/sys"].into_iter().find(|kernels| path.starts_with(kernels)) {
        return Some(format!(
            "{} is the host kernel's, and read-only below {kernels} in every container",
            path.display()
        ));
    }
    let is_root = container.read_only && !path.starts_with("/dev");
    is_root.then(|| {
        "the root is read-only (`read_only: true` of the container); mount a tmpfs where the step writes, or leave that out"
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{TestSession, container, hinted};
    use super::*;
    use crate::model::Secret;

    #[test]
    fn the_directory_that_hides_the_store_is_not_named_as_a_mount_of_the_manifest() {
        let found = TestSession { hidden_store: Some("/src/store".into()), ..TestSession::default() };
        for options in [&[][..], &["ro"]] {
            let container = container(&[(MountKind::Bind("/work".into()), "/src", options)]);
            let hinted_for =
                |path: &str| hinted(&container, 0, &format!("touch: '{path}': Read-only file system"), &found).unwrap();
            let expected = "/src/store/x is in the empty, read-only directory that hides runner's store, which /work contains; \
                            write elsewhere, or choose a store outside of it with `--store DIRECTORY`";
            assert_eq!(hinted_for("/src/store/x"), expected);
            assert!(hinted_for("/src/storex").starts_with("the mount at /src is"));
        }
    }

    #[test]
    fn the_cause_of_a_read_only_filesystem_is_named() {
        let mut container = container(&[
            (MountKind::Bind("/work/src".into()), "/src", &["ro"]),
            (MountKind::Bind("/work/dvd".into()), "/dvd", &[]),
            (MountKind::Secret(Secret::Variable("T".into())), "/run/token", &[]),
            (MountKind::Tmpfs, "/tmp", &[]),
        ]);
        let hinted_for = |container: &Container, path: &str| {
            hinted(
                container,
                0,
                &format!("touch: cannot touch '{path}': Read-only file system"),
                &TestSession::default(),
            )
        };
        for (path, words) in [
            ("/src/x", "the mount at /src is read-only (`ro`); leave `ro` out"),
            ("/dvd/x", "as read-only as its source on the host, /work/dvd"),
            ("/run/token", "the secret /run/token is read-only"),
            ("/proc/sys/kernel/x", "/proc/sys/kernel/x is the host kernel's"),
        ] {
            let hint_text = hinted_for(&container, path).unwrap();
            assert!(hint_text.contains(words), "{path}: {hint_text}");
        }
        for path in ["/tmp/x", "/usr/x", "x"] {
            assert_eq!(hinted_for(&container, path), None, "{path}");
        }
        container.read_only = true;
        assert_eq!(hinted_for(&container, "/tmp/x").as_deref(), hinted_for(&container, "x").as_deref());
        assert!(hinted_for(&container, "/usr/x").unwrap().starts_with("the root is read-only (`read_only: true`"));
    }
}
