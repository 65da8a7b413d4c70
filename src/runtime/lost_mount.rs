//! Lists the mounts of a container that others can take away, and words the message for a lost one.
//!
//! A mount point can be removed or renamed by a process in whose mount namespace nothing is mounted on it. The kernel then takes
//! the mount away, or moves it along, in every mount namespace.

use std::path::Path;

use oci_spec::runtime::{Mount, Spec};

/// Returns the visible mounts that are lost when their mount point is removed: those that lie in a bind, which another container
/// may have too; and all of them where the steps of the container `may_unmount`, and then remove a mount point.
pub fn mounts_at_risk(spec: &Spec, may_unmount: bool) -> Vec<&Mount> {
    let mounts: Vec<&Mount> = spec.mounts().iter().flatten().collect();
    let is_at_risk = |(index, mount): &(usize, &&Mount)| {
        let lies_in = |other: &&&Mount| mount.destination().starts_with(other.destination());
        let is_bind = |other: &&&Mount| other.typ().as_deref() == Some("bind");
        let (before, after) = (&mounts[..*index], &mounts[index + 1..]);
        let in_bind = before.iter().filter(is_bind).any(|other| lies_in(&other));
        (may_unmount || in_bind) && !after.iter().any(|other| lies_in(&other))
    };
    mounts.iter().enumerate().filter(is_at_risk).map(|(_, mount)| *mount).collect()
}

/// Returns the message for a lost mount of a container.
pub fn message(target: &Path) -> String {
    format!(
        "its mount {} is gone: a step has removed or renamed the file or directory that it was on; mount it where no bind or \
         cache of another container is",
        target.display()
    )
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::{MountBuilder, SpecBuilder};

    use super::*;

    #[test]
    fn mounts_in_a_bind_are_at_risk_and_all_visible_ones_where_steps_may_unmount() {
        let mount =
            |(target, kind): (&str, &str)| MountBuilder::default().destination(target).typ(kind).build().unwrap();
        let mounts = [
            ("/dev", "tmpfs"),
            ("/dev/pts", "devpts"),
            ("/hidden/first", "bind"),
            ("/shared", "bind"),
            ("/shared-not", "bind"),
            ("/shared/below", "bind"),
            ("/shared/below/deep", "sysfs"),
            ("/hidden", "bind"),
        ];
        let spec = SpecBuilder::default().mounts(mounts.map(mount)).build().unwrap();
        let at_risk = |may_unmount| -> Vec<&Path> {
            mounts_at_risk(&spec, may_unmount).into_iter().map(|mount| mount.destination().as_path()).collect()
        };
        assert_eq!(at_risk(false), ["/shared/below", "/shared/below/deep"].map(Path::new));
        let seen = ["/dev", "/dev/pts", "/shared", "/shared-not", "/shared/below", "/shared/below/deep", "/hidden"];
        assert_eq!(at_risk(true), seen.map(Path::new));
    }
}
