//! Names the key that allows a user namespace to mount a proc(5) of its own, which the kernel refuses where parts of
//! /proc are hidden.

use super::Failed;
use crate::model::{Container, Unmask};

/// EPERM in the words of the C library, in small letters.
const REFUSED: &[&str] = &["operation not permitted", "permission denied"];

/// Returns the hint, where a program could not mount a /proc and may make user namespaces.
pub(super) fn hint(container: &Container, failed: Failed<'_>) -> Option<String> {
    let is_mount = |line: &str| line.to_lowercase().contains("mount") && line.contains("proc");
    failed.lines(REFUSED).find(|line| is_mount(line))?;
    (container.seccomp.profile().is_none() && container.unmask != Unmask::All).then(|| {
        format!(
            "in a user namespace no /proc can be mounted while parts of the container's are hidden; `unmask: all` in container \
             {} shows them all",
            container.name
        )
    })
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{TestSession, container, hinted};
    use super::*;
    use crate::model::Seccomp;

    #[test]
    fn a_refused_mount_of_proc_gives_the_hint_unmask_where_only_that_is_missing() {
        let mut container = container(&[]);
        let printed = "bwrap: Can't mount proc on /newroot/proc: Operation not permitted";
        assert_eq!(hinted(&container, 0, printed, &TestSession::default()), None);
        container.seccomp = Seccomp::Unconfined;
        let hint = hinted(&container, 0, printed, &TestSession::default()).unwrap();
        assert!(hint.contains("`unmask: all` in container "), "{hint}");
        assert_eq!(hinted(&container, 0, "chown: Operation not permitted", &TestSession::default()), None);
        container.unmask = Unmask::All;
        assert_eq!(hinted(&container, 0, printed, &TestSession::default()), None);
    }
}
