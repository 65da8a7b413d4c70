//! The pages that are made from the program's own words.

use runner::manual::{commands_page, manifest_page};

use crate::pages::read;

#[test]
fn the_page_of_the_manifest_is_the_one_of_the_schema() {
    let hint = "run `runner reference manifest > docs/src/manifest.md`";
    assert!(read("docs/src/manifest.md") == manifest_page(), "{hint}");
}

#[test]
fn the_page_of_the_commands_is_the_one_of_the_command_line() {
    let hint = "run `runner reference commands > docs/src/commands.md`";
    assert!(read("docs/src/commands.md") == commands_page(), "{hint}");
}
