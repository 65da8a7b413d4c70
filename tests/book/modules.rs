//! The map of the code: each module has its line in ARCHITECTURE.md, and each line its module.

use std::collections::BTreeSet;

use crate::pages::read;

/// Returns the modules that the crate declares.
fn declared() -> BTreeSet<String> {
    let text = read("src/lib.rs");
    let names = text.lines().filter_map(|line| {
        let declaration = line.strip_prefix("pub ").unwrap_or(line);
        declaration.strip_prefix("mod ")?.strip_suffix(';').map(str::to_owned)
    });
    // Programs of their own.
    names.chain(["main".to_owned(), "init".to_owned()]).collect()
}

/// Returns the modules in the first column of the table of modules.
fn listed(architecture: &str) -> BTreeSet<String> {
    let table = architecture.split("| module | job |").nth(1).unwrap_or_default();
    let rows = table.lines().skip(1).take_while(|line| line.starts_with('|'));
    let columns = rows.filter_map(|row| row.split('|').nth(1));
    columns.flat_map(|column| column.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>()).collect()
}

#[test]
fn each_module_has_its_line_in_the_map_and_each_line_its_module() {
    assert_eq!(listed(&read("ARCHITECTURE.md")), declared());
}

#[test]
fn the_names_of_a_tables_first_column_are_its_modules() {
    let table = "x\n| module | job |\n| --- | --- |\n| `a`, `b` | of `c` |\n| `d` | e |\n\n| `f` | g |\n";
    assert_eq!(listed(table), ["a", "b", "d"].map(str::to_owned).into());
}
