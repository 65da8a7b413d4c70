//! The rule of imports in `src/execute`: its files and directories form no circle, and the scheduler
//! imports nothing but messages.

use std::collections::BTreeSet;

use super::{Imports, circles, imports_below};

/// Returns the imports with each directory as one, since its `mod.rs` and its other files are parts of one thing.
fn by_directory(imports: Imports) -> Imports {
    let directory = |file: &String| file.split("::").next().unwrap_or_default().to_owned();
    let mut by_directory = Imports::new();
    for (file, all) in imports {
        let from = directory(&file);
        let all = all.iter().map(directory).filter(|to| *to != from).collect::<BTreeSet<_>>();
        by_directory.entry(from).or_default().extend(all);
    }
    by_directory
}

#[test]
fn no_files_and_directories_form_a_circle() {
    let imports = imports_below("execute");
    assert!(imports["dispatcher"].contains("scheduler") && imports["scheduler"].contains("message"), "{imports:?}");
    assert_eq!(circles(&by_directory(imports)), Vec::<String>::new());
}

#[test]
fn the_scheduler_imports_its_own_files_and_messages() {
    for (file, imports) in imports_below("execute").iter().filter(|(file, _)| file.starts_with("scheduler")) {
        let others: BTreeSet<&String> = imports.iter().filter(|import| !import.starts_with("scheduler")).collect();
        assert!(others.iter().all(|import| *import == "message"), "{file} imports {others:?}");
    }
}
