//! The manifests and the commands on the pages: the program accepts each of them.

use std::collections::BTreeMap;
use std::path::Path;

use clap::Parser as _;
use runner::cli::Cli;
use runner::manifest::{parse, schema};
use serde_json::{Value, json};

use crate::pages::{code, pages};

/// Returns the manifests of a page: those in blocks of YAML, and those that a shell writes with `<<'END'`.
fn manifests(text: &str) -> Vec<(usize, String)> {
    // Some blocks include a file or show one comment.
    let is_own = |block: &str| block.lines().any(|line| !line.starts_with('#') && !line.starts_with("{{#include"));
    let whole = code(text, "yaml").into_iter().filter(|(_, block)| is_own(block));
    let written = code(text, "sh").into_iter().filter_map(|(line, block)| {
        let (_, after) = block.split_once("build.yaml <<'END'\n").or_else(|| block.split_once(".yaml <<'END'\n"))?;
        Some((line, after.split_once("\nEND\n")?.0.to_owned()))
    });
    whole.chain(written).collect()
}

#[test]
fn every_manifest_on_a_page_fits_the_schema_and_is_read() {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    let mut count = 0;
    // The examples of the reference are those of the schema, and tested there.
    for page in pages().into_iter().filter(|page| !page.path.ends_with("manifest.md")) {
        for (line, text) in manifests(&page.text) {
            let place = format!("{}:{line}", page.path.display());
            let mut value: Value = serde_yaml::from_str(&text).unwrap_or_else(|error| panic!("{place}: {error}"));
            // A part of a manifest is completed.
            let map = value.as_object_mut().unwrap();
            map.entry("version").or_insert(json!(1));
            map.entry("containers").or_insert(json!({ "c": { "rootfs": { "scratch": true } } }));
            let text = value.to_string();
            let errors: Vec<String> = validator.iter_errors(&value).map(|error| error.to_string()).collect();
            assert_eq!(errors, Vec::<String>::new(), "{place}");
            assert!(parse(&text, &BTreeMap::new()).is_ok(), "{place}");
            count += 1;
        }
    }
    assert!(count >= 12, "{count}");
}

/// Returns a line of the shell as words, up to a pipe, a redirection or another command.
fn words(line: &str) -> Vec<String> {
    let stops = ["|", ">", "&&", "||", "<", ">>", "#"];
    line.split_whitespace()
        .take_while(|word| !stops.contains(word))
        .map(|word| word.trim_end_matches(';').to_owned())
        .collect()
}

#[test]
fn every_command_of_runner_on_a_page_is_accepted() {
    let mut count = 0;
    for page in pages() {
        let lines = ["sh", "console"].into_iter().flat_map(|language| code(&page.text, language));
        for (line, block) in lines {
            for command in block.lines().map(|line| line.trim_start_matches("# ")) {
                let Some(at) = command.find("runner ").filter(|at| *at == 0 || command[..*at].ends_with("-- ")) else {
                    continue;
                };
                let words = words(&command[at..]);
                // A sentence of a comment is no command.
                let is_command = words.get(1).is_some_and(|word| word.chars().all(|c| c.is_ascii_lowercase()));
                if !is_command || Path::new(command).is_absolute() {
                    continue;
                }
                let parsed = Cli::try_parse_from(&words);
                assert!(parsed.is_ok(), "{}:{line}: {command}: {}", page.path.display(), parsed.unwrap_err());
                count += 1;
            }
        }
    }
    assert!(count > 40, "{count}");
}
