//! Whether a program that no setting names may be run: only where no user but root and the caller can have written it.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Write permission of the group and of others.
const WRITABLE: u32 = 0o022;
const STICKY: u32 = 0o1000;

/// Returns why a program found in PATH is not run, where another user owns or may replace it.
pub(super) fn distrust(program: &Path) -> Option<String> {
    let caller = rustix::process::geteuid().as_raw();
    let real = match program.canonicalize() {
        Ok(real) => real,
        Err(error) => return Some(error.to_string()),
    };
    // The directories of PATH too: a user who may write to one may put another link there.
    let parents = program.ancestors().skip(1);
    real.ancestors().chain(parents).find_map(|path| {
        let found = match path.metadata() {
            Ok(found) => found,
            Err(error) => return Some(format!("{}: {error}", path.display())),
        };
        if ![0, caller].contains(&found.uid()) {
            return Some(format!("user {} owns {}", found.uid(), path.display()));
        }
        let is_guarded = found.is_dir() && found.mode() & STICKY != 0;
        let is_writable = found.mode() & WRITABLE != 0 && !is_guarded;
        is_writable.then(|| format!("others may write to {}", path.display()))
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    use super::*;

    #[test]
    fn a_program_that_others_could_have_written_is_not_trusted() {
        let directory = tempfile::tempdir().unwrap();
        let [bin, program] = ["bin", "bin/runc"].map(|name| directory.path().join(name));
        fs::create_dir(&bin).unwrap();
        fs::write(&program, "").unwrap();
        let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        mode(&program, 0o755);
        assert_eq!(distrust(&program), None);
        let assert_reason = |part: &str| {
            let reason = distrust(&program).unwrap();
            assert!(reason.contains(part), "{reason}");
        };
        mode(&program, 0o775);
        assert_reason(&format!("others may write to {}", program.display()));
        mode(&program, 0o755);
        mode(&bin, 0o777);
        assert_reason(&format!("others may write to {}", bin.display()));
        mode(&bin, 0o755);
        chown(&bin, Some(12345), None).unwrap();
        assert_reason(&format!("user 12345 owns {}", bin.display()));
        chown(&bin, Some(0), None).unwrap();
        chown(&program, Some(12345), None).unwrap();
        assert_reason(&format!("user 12345 owns {}", program.display()));
        fs::remove_file(&program).unwrap();
        assert_reason("No such file");
        // A link in another user's directory, to a program of root.
        let other = directory.path().join("other");
        fs::create_dir(&other).unwrap();
        symlink("/bin/sh", other.join("runc")).unwrap();
        assert_eq!(distrust(&other.join("runc")), None);
        chown(&other, Some(12345), None).unwrap();
        assert!(distrust(&other.join("runc")).unwrap().contains("user 12345 owns"));
    }
}
