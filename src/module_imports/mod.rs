//! The imports between the files of a directory of `src`, read from their source text, and the circles that they form.

mod command;
mod execute;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The imports of each file. A file is named by its module's path below the directory; `mod.rs` is the empty path.
type Imports = BTreeMap<String, BTreeSet<String>>;

/// Returns the source text of each file below the directory of `module`, without the tests at the end of a file.
fn sources(directory: &Path, module: &str, all: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let name = if module.is_empty() { stem.clone() } else { format!("{module}::{stem}") };
        if path.is_dir() {
            sources(&path, &name, all);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            all.insert(if stem == "mod" { module.to_owned() } else { name }, without_tests(&text).to_owned());
        }
    }
}

/// Returns the text before the first module of tests that is written out in it.
fn without_tests(text: &str) -> &str {
    let begins = text.match_indices("#[cfg(test)]\nmod ").find(|(at, begin)| {
        let name = &text[at + begin.len()..];
        name.lines().next().is_some_and(|line| line.ends_with('{'))
    });
    begins.map_or(text, |(at, _)| &text[..at])
}

/// Returns the imports of each file: the modules that its paths begin with, and the modules that it declares.
fn imports(root: &str, sources: &BTreeMap<String, String>) -> Imports {
    let imports = |(module, text): (&String, &String)| {
        let is_directory = module.is_empty() || sources.keys().any(|other| other.starts_with(&format!("{module}::")));
        let paths = paths(root, text).into_iter();
        let paths = paths.filter_map(|path| resolve(root, &path, module, is_directory, sources));
        (module.clone(), paths.filter(|path| path != module).collect())
    };
    sources.iter().map(imports).collect()
}

/// Returns the paths of all `use` and `mod` declarations, and those that the code writes in full.
fn paths(root: &str, text: &str) -> Vec<String> {
    let from_root = format!("crate::{root}::");
    let lines = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    let code: Vec<&str> = lines.filter(|line| !line.trim_start().starts_with("#[")).collect();
    let mut paths = Vec::new();
    for statement in code.join("\n").split(';') {
        let statement = statement.trim_start();
        let declaration =
            ["pub ", "pub(crate) ", "pub(super) "].iter().find_map(|prefix| statement.strip_prefix(prefix));
        let declaration = declaration.unwrap_or(statement);
        if let Some(tree) = declaration.strip_prefix("use ") {
            expand("", tree, &mut paths);
        } else if let Some(name) = declaration.strip_prefix("mod ") {
            paths.push(format!("self::{name}"));
        } else {
            let words = statement.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'));
            let is_relative = |word: &&str| word.starts_with("super::") || word.starts_with(&from_root);
            paths.extend(words.filter(is_relative).map(str::to_owned));
        }
    }
    paths
}

/// Expands the braces of a `use` declaration.
fn expand(prefix: &str, tree: &str, paths: &mut Vec<String>) {
    let tree = tree.trim();
    let Some((head, rest)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap_or_default();
        return paths.push(format!("{prefix}{path}"));
    };
    let rest = rest.trim_end().strip_suffix('}').unwrap();
    let (mut depth, mut start) = (0, 0);
    for (at, c) in rest.char_indices().chain([(rest.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                if !rest[start..at].trim().is_empty() {
                    expand(&format!("{prefix}{}", head.trim()), &rest[start..at], paths);
                }
                start = at + 1;
            }
            _ => {}
        }
    }
}

/// Returns the file below the directory that a path leads to, if it leads to one.
fn resolve(
    root: &str,
    path: &str,
    module: &str,
    is_directory: bool,
    sources: &BTreeMap<String, String>,
) -> Option<String> {
    let mut at: Vec<&str> = module.split("::").filter(|name| !name.is_empty()).collect();
    let mut names = path.split("::").peekable();
    if names.peek() == Some(&"crate") {
        names.next();
        if names.next() != Some(root) {
            return None;
        }
        at.clear();
    } else if names.peek() == Some(&"self") {
        names.next();
    } else if names.peek() == Some(&"super") {
        while names.next_if_eq(&"super").is_some() {
            // Above the directory there is nothing of interest.
            at.pop()?;
        }
    } else if !is_directory {
        return None;
    }
    let mut found = at.join("::");
    if path.starts_with("self") || path.starts_with("super") || path.starts_with("crate") {
        // A path may end in the directory's own file.
    } else if !names.peek().is_some_and(|name| sources.contains_key(&joined(&found, name))) {
        return None;
    }
    while let Some(name) = names.next_if(|name| sources.contains_key(&joined(&found, name))) {
        found = joined(&found, name);
    }
    sources.contains_key(&found).then_some(found)
}

fn joined(module: &str, name: &str) -> String {
    if module.is_empty() { name.to_owned() } else { format!("{module}::{name}") }
}

/// Returns the files of all circles, and those between two circles: the files that remain when each file is removed that
/// imports no remaining file, or that no remaining file imports.
fn circles(imports: &Imports) -> Vec<String> {
    let mut remaining = imports.clone();
    loop {
        let before = remaining.len();
        let names: BTreeSet<String> = remaining.keys().cloned().collect();
        let imported: BTreeSet<String> = remaining.values().flatten().cloned().collect();
        remaining.retain(|name, all| imported.contains(name) && all.intersection(&names).next().is_some());
        if remaining.len() == before {
            return remaining.into_keys().collect();
        }
    }
}

/// Returns the imports of all files below a directory of `src`.
fn imports_below(root: &str) -> Imports {
    let mut all = BTreeMap::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(root), "", &mut all);
    imports(root, &all)
}

/// Returns the imports of files of `src/command` with these texts.
fn imports_of(files: &[(&str, &str)]) -> Imports {
    imports("command", &files.iter().map(|(module, text)| ((*module).to_owned(), (*text).to_owned())).collect())
}

#[test]
fn circles_through_other_files_and_through_the_declaring_file_are_found() {
    let imports = imports_of(&[
        ("a", "use super::b::x;"),
        ("b", "use crate::command::c;"),
        ("c", "use super::a;"),
        ("d", "use super::a;"),
    ]);
    assert_eq!(circles(&imports), ["a", "b", "c"]);
    let imports = imports_of(&[("", "mod a;\nstruct Stop;"), ("a", "use super::Stop;")]);
    assert_eq!(circles(&imports), ["", "a"]);
}
