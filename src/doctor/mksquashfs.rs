//! mksquashfs(1), which writes images if `RUNNER_MKSQUASHFS=1`: checks that it exists and is recent enough.

use super::Check;
use super::trusted::distrust;
use crate::snapshot::{MKSQUASHFS, find_mksquashfs, mksquashfs_version, uses_mksquashfs};

const FIX: &str = "unset RUNNER_MKSQUASHFS, or apt-get install squashfs-tools";

/// The first version whose images of a directory and SOURCE_DATE_EPOCH are always equal.
const OLDEST: (u32, u32) = (4, 5);

pub(super) fn check() -> Check {
    let program = find_mksquashfs();
    if !uses_mksquashfs() {
        let found = program.map_or("not in PATH".to_owned(), |program| program.display().to_string());
        return Check::ok(MKSQUASHFS, format!("{found}; runner writes images itself and does not need it"));
    }
    let Some(program) = program else { return Check::missing(MKSQUASHFS, "not in PATH", FIX) };
    if let Some(reason) = distrust(&program) {
        let detail = format!("{} is not asked for its version: {reason}", program.display());
        return Check::warning(
            MKSQUASHFS,
            detail,
            "unset RUNNER_MKSQUASHFS, or take that directory out of PATH: a build runs that program as root",
        );
    }
    match mksquashfs_version(&program) {
        Ok(version) => of(&version),
        Err(error) => Check::missing(MKSQUASHFS, format!("{} cannot be used: {error}", program.display()), FIX),
    }
}

pub(super) fn of(version: &str) -> Check {
    match numbers(version) {
        Some(numbers) if numbers < OLDEST => {
            Check::missing(MKSQUASHFS, format!("{version} is older than 4.5"), format!("{FIX}; Debian 12 has 4.5.1"))
        }
        Some(_) => Check::ok(MKSQUASHFS, version),
        None => Check::warning(
            MKSQUASHFS,
            format!("its version is {version}, which has no number"),
            format!("see that it is 4.5 or later; {FIX}"),
        ),
    }
}

/// Returns the first two numbers of a version.
fn numbers(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.split(['.', '-']).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    #[test]
    fn versions_of_all_ages_are_read() {
        let versions = [("4.3-git", (4, 3)), ("4.4", (4, 4)), ("4.5.1", (4, 5)), ("4.10-e1b2c3", (4, 10))];
        for (version, expected) in versions {
            assert_eq!(numbers(version), Some(expected));
        }
        for version in ["", "x.y", "4", "4."] {
            assert_eq!(numbers(version), None, "{version}");
        }
    }

    #[test]
    fn an_old_version_is_refused() {
        assert_eq!(of("4.4").status, Status::Missing);
        assert_eq!(of("4.10"), Check::ok(MKSQUASHFS, "4.10"));
        assert_eq!(of("no").status, Status::Warning);
    }
}
