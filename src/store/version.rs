//! Versions of programs: asked once for each file that a program has been.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::Store;
use crate::digest::Digest;
use crate::saved;

impl Store {
    /// The version of the program in that file: what `ask` said the last time, if the file is the same.
    ///
    /// # Errors
    /// Where the file is not there, and what `ask` gives. That it cannot be kept for the next time is no error.
    pub fn version(&self, program: &Path, ask: impl FnOnce() -> io::Result<String>) -> io::Result<String> {
        let name = identity(program)?.hex();
        if let Ok(version) = fs::read_to_string(self.root.join("versions").join(&name)) {
            return Ok(version);
        }
        let version = ask()?;
        // Without it, the program is asked the next time.
        let _ = saved::write(&self.root.join("versions"), &name, version.as_bytes());
        Ok(version)
    }
}

/// Changes when the file does: replaced, it has another inode or other times.
fn identity(program: &Path) -> io::Result<Digest> {
    let stat = fs::metadata(program)?;
    let numbers = [
        stat.dev(),
        stat.ino(),
        stat.size(),
        stat.mtime().cast_unsigned(),
        stat.mtime_nsec().cast_unsigned(),
        stat.ctime().cast_unsigned(),
        stat.ctime_nsec().cast_unsigned(),
    ];
    let mut bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    bytes.extend(program.as_os_str().as_bytes());
    Ok(Digest::of_bytes(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_asked_again_when_its_file_is_another() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store")).unwrap();
        let program = folder.path().join("program");
        fs::write(&program, "1").unwrap();
        let never = || -> io::Result<String> { panic!("asked again") };
        assert!(store.version(&program, || Err(io::Error::other("no"))).is_err());
        assert_eq!(store.version(&program, || Ok("one".into())).unwrap(), "one");
        assert_eq!(store.version(&program, never).unwrap(), "one");
        fs::write(&program, "22").unwrap();
        assert_eq!(store.version(&program, || Ok("two".into())).unwrap(), "two");
        assert!(store.version(&folder.path().join("none"), never).is_err());
    }
}
