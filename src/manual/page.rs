//! The manual page runner.yaml(5).

use std::fmt::Write as _;

use super::example::{flow, yaml};
use super::{Form, Key, Reference, Section};
use crate::manifest;

/// Returns the text of `runner.yaml.5`.
pub fn manual_page() -> String {
    let reference = Reference::new(&manifest::schema());
    let mut page = format!(
        ".TH runner.yaml 5 \"\" \"runner {}\" \"runner\"\n.SH NAME\nrunner.yaml \\- the manifest of a build of root filesystems\n",
        env!("CARGO_PKG_VERSION")
    );
    page.push_str(".SH DESCRIPTION\n");
    page.push_str(&paragraphs(
        "runner(1) reads a manifest, by default the file build.yaml of the working directory. It is YAML.\n\nIn a path, `NAME` is a name that \
         you choose, and `[]` is an entry of a list. Paths of files are relative to the directory of the manifest. Any value \
         may contain `${{ NAME }}` for a variable of `vars`.",
    ));
    reference.sections.iter().for_each(|section| write_section(&mut page, section));
    page.push_str(".SH SEE ALSO\n.BR runner (1),\n.BR runner-apply (1),\n.BR runner-validate (1)\n");
    page
}

fn write_section(page: &mut String, section: &Section) {
    // Writing to a string cannot fail, here and below.
    let _ = write!(page, ".SH \"KEYS OF A {}\"\n{}", section.name.to_uppercase(), paragraphs(&section.description));
    if !section.paths.is_empty() {
        let paths: Vec<String> = section.paths.iter().map(|path| format!("`{path}`")).collect();
        page.push_str(&paragraphs(&format!("Written at {}.", paths.join(" and "))));
    }
    if !section.one_of.is_empty() {
        let keys: Vec<String> = section.one_of.iter().map(|key| format!("`{key}`")).collect();
        page.push_str(&paragraphs(&format!("Write exactly one of {}.", keys.join(", "))));
    }
    section.keys.iter().for_each(|key| write_key(page, key));
}

fn write_key(page: &mut String, key: &Key) {
    let mark = if key.is_required { " (required)" } else { "" };
    let _ = write!(page, ".TP\n\\fB{}\\fR{mark}\n{}", escaped(&key.name), indented(&key.description));
    for form in &key.forms {
        let line = match form {
            Form::Value(value, meaning) => format!("`{value}`: {meaning}"),
            Form::Other(meaning, examples) => {
                let examples: Vec<String> = examples.iter().map(|example| format!("`{}`", flow(example))).collect();
                format!("Another value, such as {}: {meaning}", examples.join(", "))
            }
        };
        let _ = write!(page, ".IP\n{}", line_of(&line));
    }
    page.push_str(".IP\n.EX\n");
    for (number, example) in key.examples.iter().enumerate() {
        page.push_str(if number == 0 { "" } else { "# or\n" });
        yaml(&key.name, example).lines().for_each(|line| page.push_str(&format!("{}\n", escaped(line))));
    }
    page.push_str(".EE\n");
}

/// Returns the page's own paragraphs.
fn paragraphs(text: &str) -> String {
    text.split("\n\n").map(|paragraph| format!(".PP\n{}", line_of(paragraph))).collect()
}

/// Returns the paragraphs of a key: the first belongs to its name.
fn indented(text: &str) -> String {
    text.split("\n\n").map(line_of).collect::<Vec<_>>().join(".IP\n")
}

/// Returns a line of text, with the words between backticks in bold.
fn line_of(text: &str) -> String {
    let parts = text.split('`').enumerate();
    let parts = parts.map(|(number, part)| match number % 2 {
        0 => escaped(part),
        _ => format!("\\fB{}\\fR", escaped(part)),
    });
    // The first character of a line might be one that roff acts on.
    format!("\\&{}\n", parts.collect::<String>())
}

/// Returns text with escapes for the characters that roff acts on. A line of an example that begins with a dot or a quote is no
/// request.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-").replace('\n', " ");
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_each_key_and_no_text_is_a_request_of_roff() {
        let page = manual_page();
        for section in Reference::new(&manifest::schema()).sections {
            for key in section.keys {
                assert!(page.contains(&format!("\n.TP\n\\fB{}\\fR", key.name)), "{}", key.name);
            }
        }
        let requests = page.lines().filter(|line| line.starts_with(['.', '\'']));
        for request in requests {
            let name = request.split(' ').next().unwrap_or_default();
            assert!([".TH", ".SH", ".PP", ".TP", ".IP", ".EX", ".EE", ".BR"].contains(&name), "{request}");
        }
    }

    #[test]
    fn characters_that_roff_acts_on_are_escaped() {
        assert_eq!(line_of("a `b-c` \\ d"), "\\&a \\fBb\\-c\\fR \\e d\n");
        assert_eq!(escaped(".so /etc/passwd"), "\\&.so /etc/passwd");
    }
}
