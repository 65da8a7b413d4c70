//! The page of promises: each line names tests or a figure of the benchmark, and all of them exist.

use std::fs;
use std::path::Path;

use crate::pages::{read, top};

/// Collects the text of all Rust files below a directory.
fn sources(directory: &Path, text: &mut String) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.is_symlink() {
            sources(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&fs::read_to_string(path).unwrap());
        }
    }
}

/// Returns the rows of the tables of the page: a promise, and the names between backticks in its last column.
fn promises(page: &str) -> Vec<(String, Vec<String>)> {
    let rows = page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| ---"));
    let cells = rows.map(|row| row.trim_matches('|').rsplit_once('|').unwrap());
    let cells = cells.filter(|(_, proof)| !proof.trim().starts_with("test"));
    cells
        .map(|(promise, proof)| {
            let names = proof.split('`').skip(1).step_by(2).map(str::to_owned).collect();
            (promise.trim().to_owned(), names)
        })
        .collect()
}

/// Returns whether a name is that of a test function, of an attack, or of a figure that the benchmark prints.
fn exists(name: &str, tests: &str, attacks: &str, figures: &str) -> bool {
    let is_attack = || attacks.contains(&format!("\"{name}\""));
    tests.contains(&format!("fn {name}(")) || is_attack() || (name.contains(' ') && figures.contains(name))
}

#[test]
fn each_promise_names_a_test_an_attack_or_a_figure_that_exists() {
    let (mut tests, mut attacks, mut figures) = (String::new(), String::new(), String::new());
    for directory in ["src", "tests"] {
        sources(&top().join(directory), &mut tests);
    }
    sources(&top().join("tests/attacks"), &mut attacks);
    sources(&top().join("benches/speed"), &mut figures);
    let promises = promises(&read("docs/promises.md"));
    assert!(promises.len() > 40, "{}", promises.len());
    for (promise, names) in promises {
        assert!(!names.is_empty(), "nothing proves: {promise}");
        for name in names {
            assert!(exists(&name, &tests, &attacks, &figures), "{promise}: there is no test or figure `{name}`");
        }
    }
}

#[test]
fn a_name_that_no_test_has_is_found() {
    let tests = "fn a_test_of_something() {}";
    assert!(exists("a_test_of_something", tests, "", ""));
    assert!(!exists("a_test_of", tests, "", ""));
    assert!(exists("own-limits", "", "(\"own-limits\", attack)", ""));
    assert!(!exists("limits", "", "(\"own-limits\", attack)", ""));
    assert!(exists("a step's overhead", "", "", "Row::new(\"a step's overhead (`true`)\")"));
}

/// The names of tests in SECURITY.md, whose table is of the same form.
#[test]
fn each_test_that_the_page_of_security_names_exists() {
    let mut tests = String::new();
    for directory in ["src", "tests"] {
        sources(&top().join(directory), &mut tests);
    }
    let page = read("SECURITY.md");
    let (_, table) = page.split_once("## Each attack and its test").unwrap();
    let rows: Vec<_> = promises(table);
    assert!(rows.len() > 40, "{}", rows.len());
    for (attack, names) in rows {
        for name in names.iter().filter(|name| name.contains('_') || name.contains('-')) {
            let is_there = tests.contains(&format!("fn {name}(")) || tests.contains(&format!("\"{name}\""));
            assert!(is_there, "{attack}: there is no test `{name}`");
        }
    }
}
