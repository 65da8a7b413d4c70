//! The kernel: checks its release alone. Other checks try the features that can be tried.

use super::Check;
use crate::seccomp::Kernel;

/// The first with mount_setattr(2), which makes mounts read-only with all below them.
const OLDEST: Kernel = Kernel { version: 5, revision: 12 };

/// Features of later kernels: without them a build continues, or reports the missing one.
const ADDED: [(Kernel, &str); 2] = [
    (Kernel { version: 6, revision: 6 }, "user.* attributes on tmpfs scratch"),
    (Kernel { version: 6, revision: 7 }, "chains of more than about 200 layers"),
];

pub(super) fn check() -> Check {
    of(&rustix::system::uname().release().to_string_lossy())
}

pub(super) fn of(text: &str) -> Check {
    let name = "kernel";
    let Some(release) = Kernel::of_release(text) else {
        return Check::warning(name, format!("{text}: its age is unknown"), "see that it is 5.12 or later");
    };
    if release < OLDEST {
        let fix = "boot a later one; Debian 12 has 6.1, as linux-image-amd64";
        return Check::missing(name, format!("{text} is older than 5.12"), fix);
    }
    let lacks: Vec<String> = ADDED
        .iter()
        .filter(|(since, _)| release < *since)
        .map(|(Kernel { version, revision }, feature)| format!("{feature} ({version}.{revision})"))
        .collect();
    if lacks.is_empty() {
        Check::ok(name, text)
    } else {
        Check::ok(name, format!("{text}; without {}", lacks.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    #[test]
    fn an_old_kernel_is_refused_and_a_recent_one_lacks_nothing() {
        assert_eq!(of("5.11.9").status, Status::Missing);
        assert_eq!(
            of("5.12.0").detail,
            "5.12.0; without user.* attributes on tmpfs scratch (6.6), chains of more than about 200 layers (6.7)"
        );
        assert_eq!(of("6.6.1").detail, "6.6.1; without chains of more than about 200 layers (6.7)");
        assert_eq!(of("6.12.0"), Check::ok("kernel", "6.12.0"));
        assert_eq!(of("unknown").status, Status::Warning);
    }
}
