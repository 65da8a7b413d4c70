//! The book's page of the manifest's keys.

use std::fmt::Write as _;

use super::example::{flow, yaml};
use super::{Form, Key, Link, Reference, Section};
use crate::manifest;

const HEAD: &str = "\
# The manifest

<!-- Generated: runner reference manifest > docs/src/manifest.md -->

A manifest is a YAML file. Each key below has an example, and runner's tests read every example. `runner schema` prints
the JSON Schema that this page is made from; [Editors](install.md#editors) says how an editor uses it.

In a path, `NAME` is a name that you choose, and `[]` is an entry of a list. Paths of files are relative to the directory of
the manifest. Any value may contain `${{ NAME }}` for a variable of [`vars`](#manifest-vars).
";

/// Returns the text of `docs/src/manifest.md`.
pub fn manifest_page() -> String {
    let reference = Reference::new(&manifest::schema());
    let mut page = HEAD.to_owned();
    for section in &reference.sections {
        write_section(&mut page, section);
    }
    page
}

fn write_section(page: &mut String, section: &Section) {
    // Writing to a string cannot fail, here and below.
    let _ = write!(page, "\n## {}\n\n{}\n", section.name, section.description);
    if !section.paths.is_empty() {
        let paths: Vec<String> = section.paths.iter().map(|path| format!("`{path}`")).collect();
        let _ = write!(page, "\nWritten at {}.\n", paths.join(" and "));
    }
    let links = section.keys.iter().map(|key| {
        let mark = if key.is_required { " (required)" } else { "" };
        format!("[`{}`](#{}){mark}", key.name, anchor(section, key))
    });
    let _ = write!(page, "\nKeys: {}.\n", links.collect::<Vec<_>>().join(", "));
    if !section.one_of.is_empty() {
        let keys: Vec<String> = section.one_of.iter().map(|key| format!("`{key}`")).collect();
        let _ = write!(page, "\nWrite exactly one of {}.\n", keys.join(", "));
    }
    section.keys.iter().for_each(|key| write_key(page, section, key));
}

fn write_key(page: &mut String, section: &Section, key: &Key) {
    let _ = write!(page, "\n### {}: `{}`\n\n{}\n", section.name, key.name, key.description);
    if let Some(Link { section, is_of_entries }) = &key.section {
        let of = if *is_of_entries { "each entry" } else { "its keys" };
        let _ = write!(page, "\nFor {of}, see [{section}](#{section}).\n");
    } else if let Some(kind) = &key.kind {
        let _ = write!(page, "\nType: {kind}.\n");
    }
    if !key.forms.is_empty() {
        page.push_str("\n| value | meaning |\n| --- | --- |\n");
        for form in &key.forms {
            let (value, meaning) = match form {
                Form::Value(value, meaning) => (format!("`{value}`"), meaning),
                Form::Other(meaning, examples) => {
                    let examples: Vec<String> = examples.iter().map(|example| format!("`{}`", flow(example))).collect();
                    (format!("another value, such as {}", examples.join(", ")), meaning)
                }
            };
            let _ = writeln!(page, "| {value} | {meaning} |");
        }
    }
    page.push_str("\n```yaml\n");
    for (number, example) in key.examples.iter().enumerate() {
        page.push_str(if number == 0 { "" } else { "# or\n" });
        page.push_str(&yaml(&key.name, example));
    }
    page.push_str("```\n");
}

/// Returns the anchor of a key's heading in its page.
fn anchor(section: &Section, key: &Key) -> String {
    format!("{}-{}", section.name, key.name)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn every_example_on_the_page_is_read_as_the_example_of_the_schema() {
        let page = manifest_page();
        let reference = Reference::new(&manifest::schema());
        let mut count = 0;
        for section in &reference.sections {
            for key in &section.keys {
                let heading = format!("\n### {}: `{}`\n", section.name, key.name);
                let (_, after) = page.split_once(&heading).unwrap_or_else(|| panic!("no {heading}"));
                let (_, block) = after.split_once("\n```yaml\n").unwrap();
                let read: Vec<Value> = block
                    .split_once("```\n")
                    .unwrap()
                    .0
                    .split("# or\n")
                    .map(|text| serde_yaml::from_str(text).unwrap())
                    .collect();
                let expected: Vec<Value> = key.examples.iter().map(|value| json!({ &*key.name: value })).collect();
                assert_eq!(read, expected, "{heading}");
                assert!(!read.is_empty(), "{heading}");
                count += read.len();
            }
        }
        assert!(count > 70, "{count}");
    }
}
