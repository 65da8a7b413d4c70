//! Digests of programs: a program's file is read once, and again only when another file has replaced it.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::Store;
use crate::digest::Digest;
use crate::fs::atomic;
use crate::fs::regular;

impl Store {
    /// Returns the digest of the program in that file. The program is not run: a plan runs nothing.
    ///
    /// # Errors
    /// Those of reading the file. A failure to store the digest for the next time is no error.
    pub fn program_digest(&self, program: &Path) -> io::Result<Digest> {
        let directory = self.root.join("programs");
        let name = identity(program)?.hex();
        let stored = regular::read_text(&directory.join(&name), 1 << 10).ok().and_then(|text| text.parse().ok());
        if let Some(digest) = stored {
            return Ok(digest);
        }
        let digest = Digest::of_file(&regular::open(program)?)?;
        // Without it, the file is read again the next time.
        let _ = atomic::write(&directory, &name, digest.to_string().as_bytes());
        Ok(digest)
    }
}

/// Returns a value that changes when the file does: a file that replaces it has another inode or other times.
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
    fn a_program_is_read_again_when_its_file_is_another() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("store")).unwrap();
        let program = directory.path().join("program");
        assert!(store.program_digest(&program).is_err());
        fs::write(&program, "1").unwrap();
        assert_eq!(store.program_digest(&program).unwrap(), Digest::of_bytes(b"1"));
        // The second answer comes from the store.
        let stored = fs::read_dir(store.root().join("programs")).unwrap().next().unwrap().unwrap().path();
        fs::write(&stored, Digest::of_bytes(b"stored").to_string()).unwrap();
        assert_eq!(store.program_digest(&program).unwrap(), Digest::of_bytes(b"stored"));
        fs::write(&program, "22").unwrap();
        assert_eq!(store.program_digest(&program).unwrap(), Digest::of_bytes(b"22"));
        // A stored text that is no digest is ignored.
        fs::write(&stored, "4.5.1").unwrap();
        assert!(store.program_digest(&program).is_ok());
    }
}
