//! mksquashfs(1): whether it is there, and young enough.

use std::io::ErrorKind;
use std::process::{Command, Stdio};

use super::Check;

const NAME: &str = "mksquashfs";
const MEND: &str = "apt-get install squashfs-tools";

/// The first whose images of a folder and SOURCE_DATE_EPOCH come out equal every time.
const OLDEST: (u32, u32) = (4, 5);

pub(super) fn check() -> Check {
    match Command::new(NAME).arg("-version").stdin(Stdio::null()).output() {
        // Some versions end with 1, and which of the two they print to has changed too.
        Ok(output) => {
            of(&format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Check::missing(NAME, "not in PATH", MEND),
        Err(error) => Check::missing(NAME, format!("cannot be run: {error}"), MEND),
    }
}

fn of(said: &str) -> Check {
    match version(said) {
        Some((text, version)) if version < OLDEST => {
            Check::missing(NAME, format!("{text} is older than 4.5"), format!("{MEND}; Debian 12 has 4.5.1"))
        }
        Some((text, _)) => Check::ok(NAME, text),
        None => Check::warning(NAME, "does not tell its version", format!("see that it is 4.5 or later; {MEND}")),
    }
}

/// The version as it is written, and its first two numbers.
fn version(said: &str) -> Option<(&str, (u32, u32))> {
    let text = said.lines().find_map(|line| line.strip_prefix("mksquashfs version "))?.split_whitespace().next()?;
    let mut numbers = text.split(['.', '-']).map(str::parse);
    Some((text, (numbers.next()?.ok()?, numbers.next()?.ok()?)))
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    #[test]
    fn versions_of_all_ages_are_read() {
        for (line, text, numbers) in [
            ("mksquashfs version 4.3-git (2014/06/09)", "4.3-git", (4, 3)),
            ("mksquashfs version 4.4 (2019/08/29)", "4.4", (4, 4)),
            ("mksquashfs version 4.5.1 (2022/03/17)", "4.5.1", (4, 5)),
            ("mksquashfs version 4.6.1 (2023/03/25)", "4.6.1", (4, 6)),
            ("mksquashfs version 4.10-e1b2c3 (2030/01/01)", "4.10-e1b2c3", (4, 10)),
        ] {
            let said = format!("{line}\ncopyright (C) somebody\n");
            assert_eq!(version(&said), Some((text, numbers)));
        }
        for said in ["", "mksquashfs version ", "mksquashfs version x.y", "mksquashfs: invalid option", "version 4.5"] {
            assert_eq!(version(said), None, "{said}");
        }
    }

    #[test]
    fn an_old_version_is_refused() {
        assert_eq!(of("mksquashfs version 4.4 (2019/08/29)").status, Status::Missing);
        assert_eq!(of("mksquashfs version 4.10 (2030/01/01)"), Check::ok(NAME, "4.10"));
        assert_eq!(of("no").status, Status::Warning);
    }
}
