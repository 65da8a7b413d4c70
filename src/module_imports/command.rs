//! The rules of imports in `src/command`: only `mod.rs` imports the file of a command, and the files form no circle.

use std::collections::BTreeSet;

use super::{Imports, circles, imports_below, imports_of};

/// The commands: each has a file, or a directory whose files belong to the command.
const COMMANDS: [&str; 13] = [
    "apply", "complete", "doctor", "graph", "lock", "man", "plan", "run", "shell", "store", "test", "validate",
    "verify",
];

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

#[test]
fn no_command_is_imported_and_no_files_form_a_circle() {
    let imports = imports_below("command");
    for command in COMMANDS {
        assert!(imports[""].contains(command), "mod.rs does not import {command}");
    }
    assert!(imports["build_options"].contains("build_run") && imports["build_run"].contains("plan_run"), "{imports:?}");
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
