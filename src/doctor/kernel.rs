//! The kernel: what its release says, and nothing else. What can be tried is tried elsewhere.

use super::Check;

/// mount_setattr(2), which makes mounts read-only with all below them.
const OLDEST: Release = Release { major: 5, minor: 12 };

/// What later kernels add; without it a build goes on, or says what it lacks.
const ADDED: [(Release, &str); 2] = [
    (Release { major: 6, minor: 6 }, "user.* attributes on tmpfs scratch"),
    (Release { major: 6, minor: 7 }, "chains of more than about 200 layers"),
];

/// The first two numbers of a kernel's release; what comes after is the distribution's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Release {
    major: u32,
    minor: u32,
}

impl Release {
    /// Of what uname(2) gives, such as `6.1.0-25-amd64`.
    fn parse(text: &str) -> Option<Self> {
        let (major, rest) = text.split_once('.')?;
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        Some(Self { major: major.parse().ok()?, minor: rest[..digits].parse().ok()? })
    }
}

pub(super) fn check() -> Check {
    of(&rustix::system::uname().release().to_string_lossy())
}

pub(super) fn of(text: &str) -> Check {
    let name = "kernel";
    let Some(release) = Release::parse(text) else {
        return Check::warning(name, format!("{text}: cannot tell its age"), "see that it is 5.12 or later");
    };
    if release < OLDEST {
        let mend = "boot a later one; Debian 12 has 6.1, as linux-image-amd64";
        return Check::missing(name, format!("{text} is older than 5.12"), mend);
    }
    let lacks: Vec<String> = ADDED
        .iter()
        .filter(|(since, _)| release < *since)
        .map(|(Release { major, minor }, what)| format!("{what} ({major}.{minor})"))
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
    fn releases_of_all_makers_are_read() {
        for (text, major, minor) in [
            ("6.1.0-25-amd64", 6, 1),
            ("5.15.167.4-microsoft-standard-WSL2", 5, 15),
            ("5.4.0-150-generic", 5, 4),
            ("6.9-rc3", 6, 9),
            ("4.18.0-553.el8_10.x86_64", 4, 18),
            ("7.0", 7, 0),
        ] {
            assert_eq!(Release::parse(text), Some(Release { major, minor }), "{text}");
        }
        for text in ["", "6", "x.1", "6.", "6.x", "99999999999.1"] {
            assert_eq!(Release::parse(text), None, "{text}");
        }
    }

    #[test]
    fn an_old_kernel_is_refused_and_a_young_one_lacks_nothing() {
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
