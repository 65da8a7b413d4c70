//! The owner of the files that runner puts on the host: the user who called runner.

use std::ffi::OsString;

/// An owner and a group of files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// The number of the user.
    pub user: u32,
    /// The number of the group.
    pub group: u32,
}

/// Returns the user and the group who called sudo(8), which sets two variables; none where runner runs as a user's own program.
pub fn caller() -> Option<Owner> {
    rustix::process::geteuid().is_root().then(|| of(|name| std::env::var_os(name))).flatten()
}

fn of(env: impl Fn(&str) -> Option<OsString>) -> Option<Owner> {
    // The last number means that an owner stays as it is, see chown(2).
    let number = |name: &str| env(name)?.to_str()?.parse().ok().filter(|number| *number != u32::MAX);
    Some(Owner { user: number("SUDO_UID")?, group: number("SUDO_GID")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_is_the_user_of_both_variables() {
        let env = |user: &'static str, group: &'static str| {
            move |name: &str| Some(OsString::from(if name == "SUDO_UID" { user } else { group }))
        };
        assert_eq!(of(env("1000", "100")), Some(Owner { user: 1000, group: 100 }));
        assert_eq!(of(env("1000", "")), None);
        assert_eq!(of(env("-1", "0")), None);
        assert_eq!(of(env("4294967295", "0")), None);
        assert_eq!(of(|_| None), None);
    }
}
