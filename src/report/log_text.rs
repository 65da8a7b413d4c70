//! The end of a step's log, as lines that are safe to show.

use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use super::sanitize::sanitize;
use super::words;
use crate::fs::regular;

/// Returns the lines of the last `most` bytes of the log. If the log is longer, the first line says so.
pub(super) fn last_lines(log: &Path, most: u64) -> Vec<String> {
    match read(log, most) {
        Ok(lines) => lines,
        Err(error) => vec![format!("(the log {} cannot be read: {error})", log.display())],
    }
}

fn read(log: &Path, most: u64) -> io::Result<Vec<String>> {
    let mut file = regular::open(log)?;
    let omitted = file.metadata()?.len().saturating_sub(most);
    file.seek(SeekFrom::Start(omitted))?;
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let mut lines: Vec<String> = text.lines().map(|line| sanitize(line).into_owned()).collect();
    if omitted > 0 {
        // The first line is most likely cut at its beginning.
        let note = format!("(the first {} are in {})", words::size(omitted), log.display());
        match lines.first_mut() {
            Some(first) if has_several_lines(&text) => *first = note,
            _ => lines.insert(0, note),
        }
    }
    Ok(lines)
}

/// Returns whether the text has more than one line.
fn has_several_lines(text: &str) -> bool {
    text.trim_end_matches('\n').contains('\n')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_log_is_cut_to_its_end_and_the_first_line_says_so() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        std::fs::write(&path, "first\nsecond\n\u{1b}[31mthird\u{1b}[0m\nlast").unwrap();
        assert_eq!(last_lines(&path, 1000), ["first", "second", "third", "last"]);
        let note = format!("(the first 11 B are in {})", path.display());
        assert_eq!(last_lines(&path, 21), [note.as_str(), "third", "last"]);
        assert_eq!(last_lines(&path, 3).len(), 2);
        assert!(last_lines(&directory.path().join("none"), 3)[0].contains("cannot be read"));
    }
}
