//! The end of a step's log, as lines that may be shown.

use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use super::sanitize::sanitize;
use super::words;
use crate::fs::regular;

/// The last lines of the log, at most so many bytes of it; where there were more, a line that says so.
pub(super) fn last_lines(log: &Path, most: u64) -> Vec<String> {
    match read(log, most) {
        Ok(lines) => lines,
        Err(error) => vec![format!("(the log {} cannot be read: {error})", log.display())],
    }
}

fn read(log: &Path, most: u64) -> io::Result<Vec<String>> {
    let mut file = regular::open(log)?;
    let left_out = file.metadata()?.len().saturating_sub(most);
    file.seek(SeekFrom::Start(left_out))?;
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let mut lines: Vec<String> = text.lines().map(|line| sanitize(line).into_owned()).collect();
    if left_out > 0 {
        // The first line most likely lacks its beginning.
        let note = format!("(the first {} are in {})", words::size(left_out), log.display());
        match lines.first_mut() {
            Some(first) if lines_end(&text) => *first = note,
            _ => lines.insert(0, note),
        }
    }
    Ok(lines)
}

/// Whether there is more than one line.
fn lines_end(text: &str) -> bool {
    text.trim_end_matches('\n').contains('\n')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_long_log_is_kept_and_the_rest_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        std::fs::write(&path, "first\nsecond\n\u{1b}[31mthird\u{1b}[0m\nlast").unwrap();
        assert_eq!(last_lines(&path, 1000), ["first", "second", "third", "last"]);
        let note = format!("(the first 11 B are in {})", path.display());
        assert_eq!(last_lines(&path, 21), [note.as_str(), "third", "last"]);
        assert_eq!(last_lines(&path, 3).len(), 2);
        assert!(last_lines(&folder.path().join("none"), 3)[0].contains("cannot be read"));
    }
}
