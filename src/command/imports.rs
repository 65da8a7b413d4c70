//! The rules of imports in `src/command`, checked in its source text: only `mod.rs` imports the file of a command, and the
//! files form no circle.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The commands: each has a file, or a directory whose files belong to the command.
const COMMANDS: [&str; 12] =
    ["apply", "complete", "doctor", "graph", "lock", "man", "plan", "run", "shell", "store", "validate", "verify"];

/// The imports of each file. A file is named by its module's path below `command`; `mod.rs` is the empty path.
type Imports = BTreeMap<String, BTreeSet<String>>;

/// Returns the source text of each file below the directory of `module`, without the tests at the end of a file.
fn sources(directory: &Path, module: &str, all: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let name = if module.is_empty() { stem.clone() } else { format!("{module}::{stem}") };
        if path.is_dir() {
            sources(&path, &name, all);
        } else if path.extension().is_some_and(|extension| extension == "rs") && name != "imports" {
            let text = fs::read_to_string(&path).unwrap();
            let text = text.split_once("#[cfg(test)]\nmod tests {").map_or(text.as_str(), |(before, _)| before);
            all.insert(if stem == "mod" { module.to_owned() } else { name }, text.to_owned());
        }
    }
}

/// Returns the imports of each file: the modules that its paths begin with, and the modules that it declares.
fn imports(sources: &BTreeMap<String, String>) -> Imports {
    let imports = |(module, text): (&String, &String)| {
        let is_directory = module.is_empty() || sources.keys().any(|other| other.starts_with(&format!("{module}::")));
        let paths = paths(text).into_iter().filter_map(|path| resolve(&path, module, is_directory, sources));
        (module.clone(), paths.filter(|path| path != module).collect())
    };
    sources.iter().map(imports).collect()
}

/// Returns the paths of all `use` and `mod` declarations, and those that the code writes in full.
fn paths(text: &str) -> Vec<String> {
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
            let is_relative = |word: &&str| word.starts_with("super::") || word.starts_with("crate::command::");
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

/// Returns the file below `command` that a path leads to, if it leads to one.
fn resolve(path: &str, module: &str, is_directory: bool, sources: &BTreeMap<String, String>) -> Option<String> {
    let mut at: Vec<&str> = module.split("::").filter(|name| !name.is_empty()).collect();
    let mut names = path.split("::").peekable();
    if names.peek() == Some(&"crate") {
        names.next();
        if names.next() != Some("command") {
            return None;
        }
        at.clear();
    } else if names.peek() == Some(&"self") {
        names.next();
    } else if names.peek() == Some(&"super") {
        while names.next_if_eq(&"super").is_some() {
            // Above `command` there is nothing of interest.
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

/// Returns the command that a file belongs to.
fn command_of(module: &str) -> Option<&str> {
    module.split("::").next().filter(|name| COMMANDS.contains(name))
}

/// Returns every import of a command's file by a file that is neither of the same command nor `mod.rs`.
fn imports_of_commands(imports: &Imports) -> Vec<String> {
    let edges = imports.iter().flat_map(|(from, all)| all.iter().map(move |to| (from, to)));
    let is_wrong = |(from, to): &(&String, &String)| {
        !from.is_empty() && command_of(to).is_some() && command_of(from) != command_of(to)
    };
    edges.filter(is_wrong).map(|(from, to)| format!("{from} imports {to}")).collect()
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

fn imports_of(files: &[(&str, &str)]) -> Imports {
    imports(&files.iter().map(|(module, text)| ((*module).to_owned(), (*text).to_owned())).collect())
}

#[test]
fn no_command_is_imported_and_no_files_form_a_circle() {
    let mut all = BTreeMap::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/command"), "", &mut all);
    let imports = imports(&all);
    for command in COMMANDS {
        assert!(imports[""].contains(command), "mod.rs does not import {command}");
    }
    assert!(imports["apply"].contains("build_run") && imports["build_run"].contains("plan_run"), "{imports:?}");
    assert_eq!(imports_of_commands(&imports), Vec::<String>::new());
    assert_eq!(circles(&imports), Vec::<String>::new());
}

#[test]
fn an_import_of_another_command_is_found_in_each_way_of_writing_it() {
    for text in [
        "use super::plan::noted;",
        "use super::{target, plan};",
        "use crate::command::{target::{a, b}, plan::{c}};",
        "use crate::command::plan as other;",
        "fn a() { super::plan::noted(); }",
        "use std::io;\n\npub use super::\n{\n    target,\n    plan::noted,\n};",
    ] {
        let imports = imports_of(&[("", "mod graph;"), ("graph", text), ("plan", ""), ("target", "")]);
        assert_eq!(imports_of_commands(&imports), ["graph imports plan"], "{text}");
    }
}

#[test]
fn a_command_may_import_its_own_files_and_shared_ones() {
    let imports = imports_of(&[
        ("", "mod lock;\nmod target;"),
        ("lock", "mod check;\nuse super::target::steps;\nuse crate::lock;"),
        ("lock::check", "use super::super::target;\nuse crate::plan::Plan;"),
        ("target", ""),
    ]);
    assert_eq!(imports["lock"], BTreeSet::from(["lock::check".into(), "target".into()]));
    assert_eq!(imports["lock::check"], BTreeSet::from(["target".into()]));
    assert_eq!(imports_of_commands(&imports), Vec::<String>::new());
    assert_eq!(circles(&imports), Vec::<String>::new());
}

#[test]
fn a_circle_is_found_over_other_files_and_over_the_file_that_declares_its_files() {
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
