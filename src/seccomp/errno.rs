//! The numbers of errors by their names, as errno(3) has them; the same on each architecture that a filter can be for.

use nix::errno::Errno;

/// The second names of errors.
const ALIASES: [(&str, Errno); 3] =
    [("EWOULDBLOCK", Errno::EAGAIN), ("EDEADLOCK", Errno::EDEADLK), ("ENOTSUP", Errno::EOPNOTSUPP)];

/// The greatest number that has a name.
const LAST: i32 = Errno::EHWPOISON as i32;

/// Returns the number of an error, such as 1 for `EPERM`.
pub(super) fn number(name: &str) -> Option<u32> {
    let aliased = ALIASES.iter().find(|(alias, _)| *alias == name).map(|(_, errno)| *errno);
    let named =
        (1..=LAST).map(Errno::from_raw).find(|errno| *errno != Errno::UnknownErrno && format!("{errno:?}") == name);
    aliased.or(named).map(|errno| (errno as i32).unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn a_name_has_the_number_of_its_error_and_a_wrong_one_none() {
        for (name, expected) in [
            ("EPERM", libc::EPERM),
            ("ENOSYS", libc::ENOSYS),
            ("EWOULDBLOCK", libc::EAGAIN),
            ("EHWPOISON", 133),
            ("ENOTSUP", libc::ENOTSUP),
        ] {
            assert_eq!(number(name), Some(expected.unsigned_abs()), "{name}");
        }
        for name in ["", "1", "eperm", "EPERM ", "UnknownErrno", "EPREM"] {
            assert_eq!(number(name), None, "{name}");
        }
    }
}
