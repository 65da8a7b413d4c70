//! Finds mksquashfs(1), and its version.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Its name in PATH.
pub const MKSQUASHFS: &str = "mksquashfs";

/// Returns the file of mksquashfs that PATH leads to.
pub fn find_mksquashfs() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(MKSQUASHFS)).find(|file| file.is_file())
}

/// Returns the version that mksquashfs prints, such as `4.5.1`.
///
/// # Errors
/// Where it cannot be run, or prints none.
pub fn mksquashfs_version(program: &Path) -> io::Result<String> {
    let output = Command::new(program).arg("-version").stdin(Stdio::null()).output()?;
    // Some versions exit with 1, and the stream of the output has changed too.
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let version = said.lines().find_map(|line| line.strip_prefix("mksquashfs version "));
    let version = version.and_then(|rest| rest.split_whitespace().next()).map(str::to_owned);
    version.ok_or_else(|| io::Error::other("it does not print its version"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_this_hosts_mksquashfs_is_read() {
        let version = mksquashfs_version(&find_mksquashfs().unwrap()).unwrap();
        assert!(version.starts_with(|c: char| c.is_ascii_digit()), "{version}");
    }

    #[test]
    fn a_program_without_a_version_is_an_error() {
        let error = mksquashfs_version(Path::new("/bin/true")).unwrap_err();
        assert_eq!(error.to_string(), "it does not print its version");
    }
}
