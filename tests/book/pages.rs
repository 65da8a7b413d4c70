//! The pages of the documentation for people, as text.

use std::fs;
use std::path::{Path, PathBuf};

/// A page: its path from the top of the repository, and its text.
pub struct Page {
    pub path: PathBuf,
    pub text: String,
}

/// Returns the top of the repository.
pub fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the text of one file.
pub fn read(path: &str) -> String {
    fs::read_to_string(top().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Returns the pages of the book, and those beside it that people read.
pub fn pages() -> Vec<Page> {
    let beside = [
        "README.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "docs/promises.md",
        "docs/containers.md",
    ];
    let in_book = fs::read_dir(top().join("docs/src")).unwrap();
    let in_book = in_book.map(|entry| Path::new("docs/src").join(entry.unwrap().file_name()));
    let mut paths: Vec<PathBuf> = beside.into_iter().map(PathBuf::from).chain(in_book).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    paths.sort();
    paths.into_iter().map(|path| Page { text: read(path.to_str().unwrap()), path }).collect()
}

/// Returns the text of a page without its blocks of code.
pub fn without_code(text: &str) -> String {
    let mut is_code = false;
    let lines = text.lines().filter(|line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    });
    lines.map(|line| format!("{line}\n")).collect()
}

/// Returns the blocks of code of a language, each with the number of its first line.
pub fn code<'t>(text: &'t str, language: &str) -> Vec<(usize, String)> {
    let (mut blocks, mut open): (Vec<(usize, String)>, Option<&'t str>) = (Vec::new(), None);
    for (number, line) in text.lines().enumerate() {
        match (open, line.trim_start().strip_prefix("```")) {
            (None, Some(name)) => {
                open = Some(name);
                if name == language {
                    blocks.push((number + 2, String::new()));
                }
            }
            (Some(_), Some(_)) => open = None,
            (Some(name), None) if name == language => {
                let (_, block) = blocks.last_mut().unwrap();
                block.push_str(line);
                block.push('\n');
            }
            _ => {}
        }
    }
    blocks
}
