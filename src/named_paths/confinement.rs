//! Checks whether steps of a build could remove the directory that hides the store in a bind: that depends on the
//! runtime, the kernel, and the rights of the steps.
//!
//! A step can send a descriptor of a directory, or of a mount namespace, to another step. A receiver without the
//! sender's mounts could rename the directories above the store, or unmount the directory that hides it.

use std::fmt;

use crate::model::{Capability, Container, Mount};
use crate::runtime::spec;
use crate::seccomp::{Action, Architecture, compile, may_allow, number, status};
use crate::sys::{LEAST_LANDLOCK, landlock_version};

/// The mechanism that confines a step to the files below its root, for any descriptor that it receives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Confinement {
    /// Landlock, unless the step may mount.
    Landlock,
    /// None, because this kernel has no Landlock.
    NoLandlock,
    /// None, because an external runtime of this name runs the steps.
    External(String),
}

impl Confinement {
    /// Returns the confinement by an external runtime, or by the embedded one on this kernel.
    pub fn of(external: Option<&str>) -> Self {
        match external {
            Some(name) => Self::External(name.to_owned()),
            None if landlock_version().is_ok_and(|version| version >= LEAST_LANDLOCK) => Self::Landlock,
            None => Self::NoLandlock,
        }
    }

    /// Returns the change of runtime or kernel by which steps are confined.
    pub fn fix(&self) -> &'static str {
        match self {
            Self::External(_) => "use `--runtime embedded`",
            Self::Landlock | Self::NoLandlock => "boot Linux 5.19 or later with `landlock` in its `lsm=` list",
        }
    }
}

/// The setting that lets the steps of a container mount or unmount, or have a user namespace in which they may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Power {
    /// The capability.
    SysAdmin,
    /// No seccomp filter.
    Unconfined,
    /// A seccomp profile that permits this call.
    Profile(&'static str),
}

impl fmt::Display for Power {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SysAdmin => f.write_str("which has the capability SYS_ADMIN"),
            Self::Unconfined => f.write_str("which is `seccomp: unconfined`"),
            Self::Profile(call) => write!(f, "whose seccomp profile permits `{call}`"),
        }
    }
}

impl Power {
    /// Returns the power of a container, if it has one.
    pub fn of(container: &Container) -> Option<Self> {
        if container.capabilities.contains(&Capability::SysAdmin) {
            return Some(Self::SysAdmin);
        }
        // A container whose filter cannot be made is never opened.
        match spec::seccomp(container) {
            Ok(None) => Some(Self::Unconfined),
            Ok(Some(rules)) => compile(&rules).map_or(Some("mount"), |program| permitted(&program)).map(Self::Profile),
            Err(_) => None,
        }
    }
}

/// Returns the first call that a filter permits and by which a step could remove a directory that hides another.
fn permitted(program: &[u64]) -> Option<&'static str> {
    const CALLS: [&str; 5] = ["mount", "move_mount", "unshare", "setns", "clone3"];
    const NAMESPACES: [libc::c_int; 3] = [
        libc::CLONE_NEWUSER,
        libc::CLONE_NEWUSER | libc::SIGCHLD,
        libc::CLONE_NEWUSER | libc::CLONE_NEWNS | libc::SIGCHLD,
    ];
    let on = |call: &str, holds: &dyn Fn(Architecture, u32) -> bool| {
        Architecture::ALL.into_iter().any(|machine| number(machine, call).is_some_and(|number| holds(machine, number)))
    };
    let clones = |machine, number| {
        NAMESPACES.into_iter().any(|flags| {
            let answer = status(program, machine, number, &[flags as u64, 0, 0, 0, 0, 0]);
            matches!(answer, Action::Allow | Action::Log)
        })
    };
    let permitted = CALLS.into_iter().find(|call| on(call, &|machine, number| may_allow(program, machine, number)));
    permitted.or_else(|| on("clone", &clones).then_some("clone"))
}

/// The reason why the store does not stay hidden in a bind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShowsStore {
    /// A container of the build may unmount the hiding directory, in its own namespace or in one that it receives.
    Container(String, Power),
    /// The steps are not confined, and two of them can move the store.
    Unconfined(Confinement),
}

impl ShowsStore {
    /// Returns the first of these containers that has a power. Of the many containers of a manifest, and of its tests, most have
    /// the same settings: each is looked at once.
    pub fn by_container<'b>(containers: impl Iterator<Item = &'b Container>) -> Option<Self> {
        let mut seen: Vec<&Container> = Vec::new();
        for container in containers {
            let is_known =
                |other: &&Container| other.capabilities == container.capabilities && other.seccomp == container.seccomp;
            if seen.iter().any(is_known) {
                continue;
            }
            if let Some(power) = Power::of(container) {
                return Some(Self::Container(container.name.clone(), power));
            }
            seen.push(container);
        }
        None
    }

    /// Returns the reason for a bind of a directory that contains the store, in a build that runs these containers;
    /// none if the store stays hidden. `by_container` is the reason that one of its containers gives.
    ///
    /// Nothing can be renamed through a descriptor of a read-only bind. So its store stays hidden without Landlock
    /// too, as long as the mounts of its namespace exist: those of an external runtime, see `pinned_mounts`.
    pub fn of(by_container: Option<Self>, bind: &Mount, confinement: &Confinement) -> Option<Self> {
        by_container.or_else(|| match confinement {
            Confinement::Landlock => None,
            Confinement::External(_) if bind.is_read_only() => None,
            Confinement::External(_) | Confinement::NoLandlock => Some(Self::Unconfined(confinement.clone())),
        })
    }

    /// Returns the fix other than another store.
    pub fn other_fix(&self) -> String {
        match self {
            Self::Container(name, Power::SysAdmin) => format!("leave SYS_ADMIN out of the capabilities of {name}"),
            Self::Container(name, Power::Unconfined) => format!("leave `seccomp: unconfined` out of {name}"),
            Self::Container(name, Power::Profile(call)) => format!("refuse `{call}` in the profile of {name}"),
            Self::Unconfined(confinement @ Confinement::External(_)) => {
                format!("bind it with `options: [ro]`, or {}", confinement.fix())
            }
            Self::Unconfined(confinement) => confinement.fix().to_owned(),
        }
    }
}

impl fmt::Display for ShowsStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Container(name, power) => {
                write!(f, "steps of the container {name}, {power}, could remove the directory that hides the store")
            }
            Self::Unconfined(Confinement::External(name)) => {
                write!(f, "two steps that {name} runs could move it away from the directory that hides it")
            }
            Self::Unconfined(_) => {
                f.write_str("on this kernel, which has no Landlock 2, two steps could move it away from the directory that hides it")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seccomp::{Kernel, Profile};

    fn of(text: &str) -> Option<&'static str> {
        program(&Profile::parse(text.as_bytes()).unwrap())
    }

    fn program(profile: &Profile) -> Option<&'static str> {
        let native = Architecture::native().unwrap();
        let rules = profile.resolve(&[], native, Kernel::of_release("6.1.0").unwrap()).unwrap();
        permitted(&compile(&rules).unwrap())
    }

    #[test]
    fn the_default_profile_permits_no_mount_and_no_namespace() {
        assert_eq!(program(Profile::standard()), None);
    }

    #[test]
    fn a_profile_that_permits_a_mount_or_a_namespace_is_recognised_by_the_call() {
        let without = |calls: &str| {
            format!(
                r#"{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{{"names":[{calls}],"action":"SCMP_ACT_ERRNO"}}]}}"#
            )
        };
        assert_eq!(of(&without(r#""keyctl""#)), Some("mount"));
        assert_eq!(of(&without(r#""mount","move_mount""#)), Some("unshare"));
        assert_eq!(of(&without(r#""mount","move_mount","unshare","setns""#)), Some("clone3"));
        assert_eq!(of(&without(r#""mount","move_mount","unshare","setns","clone3""#)), Some("clone"));
        assert_eq!(of(&without(r#""mount","move_mount","unshare","setns","clone3","clone""#)), None);
    }
}
