//! The list in a lease's file: half-written files outside the store.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// A lease's file that lists more has not been written by a runner.
const MAX_BYTES: u64 = 64 << 20;

/// Returns the mark in the name of each half-written file of that lease. Ids are unique, so no other file has such a
/// name.
pub(super) fn mark(lease: &str) -> String {
    format!(".runner-{lease}-")
}

/// Appends a path, and returns when it is on the disk. The file is open for appending.
pub(super) fn append(mut file: &File, path: &Path) -> io::Result<()> {
    let mut record = path.as_os_str().as_bytes().to_vec();
    record.push(0);
    file.write_all(&record)?;
    file.sync_data()
}

/// Returns the listed paths. Omits a path that a crash cut short: its file was never created. Omits paths that cannot
/// be half-written files of the lease: no list, not even a forged one, can make runner remove another file.
pub(super) fn read(file: &File, lease: &str) -> io::Result<Vec<PathBuf>> {
    let size = file.metadata()?.len();
    if size > MAX_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is too long to be a lease"));
    }
    let mut bytes = vec![0; usize::try_from(size).unwrap_or_default()];
    file.read_exact_at(&mut bytes, 0)?;
    let mark = mark(lease);
    let whole = bytes.split_inclusive(|byte| *byte == 0).filter_map(|record| record.strip_suffix(&[0]));
    let paths = whole.map(|path| PathBuf::from(OsStr::from_bytes(path)));
    let ours = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().as_bytes();
        path.is_absolute() && name.starts_with(b".") && name.windows(mark.len()).any(|part| part == mark.as_bytes())
    };
    Ok(paths.filter(ours).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complete_paths_of_the_lease_are_read_and_others_are_omitted() {
        let file = tempfile::tempfile().unwrap();
        let names =
            ["/a/.x.runner-7-z-1", "/a\n/.runner-7-z-2", "/etc/passwd", ".x.runner-7-z-1", "/a/.x.runner-8-z-1"];
        for name in names {
            append(&file, Path::new(name)).unwrap();
        }
        append(&file, Path::new(OsStr::from_bytes(b"/\xff/.runner-7-z-3"))).unwrap();
        (&file).write_all(b"/a/.x.runner-7-z-9").unwrap();
        let expected = [names[0].as_bytes(), names[1].as_bytes(), b"/\xff/.runner-7-z-3"];
        assert_eq!(read(&file, "7-z").unwrap(), expected.map(|path| PathBuf::from(OsStr::from_bytes(path))));
    }
}
