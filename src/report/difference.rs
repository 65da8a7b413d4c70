//! A difference between two trees as a line of text.

use std::path::Path;

use super::sanitize::sanitize;
use crate::difference::{Difference, DifferenceKind};

/// Returns the line of a difference: `+` for an added file, `-` for a removed one, `~` for a changed one.
pub fn difference_line(difference: &Difference) -> String {
    let path = shown_path(&difference.path);
    match &difference.how {
        DifferenceKind::Added(kind) => format!("+ {path}  {kind}\n"),
        DifferenceKind::Removed(kind) => format!("- {path}  {kind}\n"),
        DifferenceKind::Changed(aspects) => {
            let aspects: Vec<String> =
                aspects.iter().map(|aspect| sanitize(&aspect.to_string()).into_owned()).collect();
            format!("~ {path}  {}\n", aspects.join("; "))
        }
    }
}

/// Returns the path from the root on, with control characters escaped, so that it stays on one line.
fn shown_path(path: &Path) -> String {
    let text = Path::new("/").join(path).display().to_string();
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}
