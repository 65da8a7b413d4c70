//! The missing quotes of a value in which a `: ` makes YAML read a map, as in `run: echo "note: this"`; pure.

use serde_yaml::Value;

/// The longest value that a suggestion repeats.
const MAX_SHOWN: usize = 200;

/// Returns the text in single quotes, in which no character has a special meaning.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Returns the fix of a line in which YAML cannot continue at that byte: a `:` inside a value without quotes.
pub(super) fn fix_of_line(line: &str, at: usize) -> Option<String> {
    let (before, after) = line.split_at_checked(at)?;
    if !after.starts_with(':') {
        return None;
    }
    // The key whose value contains the colon: the last key before it with a space after its own colon.
    let (to_key, from_value) = before.rsplit_once(": ")?;
    let key = to_key.rsplit(['{', ',', '-', ' ']).next().filter(|key| is_key(key))?;
    let in_braces = to_key.trim_end_matches(key).trim_end().ends_with(['{', ',']);
    let rest = if in_braces { &after[..end_in_braces(after)] } else { after };
    fix(key, format!("{from_value}{rest}").trim(), in_braces)
}

/// Returns the fix of a map in the place of a text: its one key and value were meant to be the text.
pub(super) fn fix_of_map(key: Option<&str>, found: &Value) -> Option<String> {
    let Value::Mapping(map) = found else { return None };
    let (Some((name, value)), 1) = (map.iter().next(), map.len()) else { return None };
    let value = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Bool(yes) => yes.to_string(),
        Value::Null => String::new(),
        _ => return None,
    };
    let text = format!("{}: {value}", name.as_str()?);
    match key {
        Some(key) => fix(key, text.trim_end(), false),
        None => shown(text.trim_end()).map(|text| format!("the `: ` makes it a map; with quotes it is a text: {text}")),
    }
}

fn fix(key: &str, value: &str, in_braces: bool) -> Option<String> {
    // A value that begins with one of these already has quotes, is a block, or is not meant to be text.
    if value.starts_with(['"', '\'', '|', '>', '{', '[', '&', '*', '!', '%', '@', '`']) {
        return None;
    }
    let value = shown(value)?;
    // Braces cannot contain a block, and few other texts have several lines.
    let or = if key == "run" && !in_braces { ", or `run: |` and the text on lines of its own" } else { "" };
    Some(format!("a `: ` ends a value that has no quotes: write `{key}: {value}`{or}"))
}

fn shown(value: &str) -> Option<String> {
    (!value.is_empty() && value.len() <= MAX_SHOWN && !value.contains(['\n', '\r'])).then(|| quoted(value))
}

fn is_key(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
}

/// Returns the end of a value in braces: before the next key, or before the brace.
fn end_in_braces(text: &str) -> usize {
    let next_key = text.match_indices(", ").map(|(at, _)| at).find(|at| {
        let rest = text[at + 1..].trim_start();
        rest.split_once(": ").is_some_and(|(key, _)| is_key(key))
    });
    next_key.or_else(|| text.rfind('}')).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixed(line: &str, colon: &str) -> Option<String> {
        let fix = fix_of_line(line, line.find(colon).unwrap())?;
        Some(fix.split('`').nth(3).unwrap().to_owned())
    }

    #[test]
    fn a_line_with_a_colon_in_its_value_is_written_with_quotes() {
        for (line, colon, fix) in [
            (r#"    run: echo "note: this""#, ": this", r#"run: 'echo "note: this"'"#),
            ("  - run: it's 1: 2", ": 2", "run: 'it''s 1: 2'"),
            (r#"  - { name: a, run: echo "note: this" }"#, ": this", r#"run: 'echo "note: this"'"#),
            (r#"  - {name: a, run: echo a: b, container: c}"#, ": b", "run: 'echo a: b'"),
            (r#"  - { run: echo a, b: c, d }"#, ": c", "run: 'echo a, b: c, d'"),
            ("      MESSAGE: one: two", ": two", "MESSAGE: 'one: two'"),
        ] {
            assert_eq!(fixed(line, colon).as_deref(), Some(fix), "{line}");
        }
    }

    #[test]
    fn a_line_that_is_wrong_for_another_reason_gets_no_quotes() {
        for (line, colon) in [
            ("  run: [a: b", ": b"),
            ("  key: \"a\": b", ": b"),
            ("just text: b", ": b"),
            (": b", ": b"),
            ("  é: b: c", ": c"),
        ] {
            assert_eq!(fixed(line, colon), None, "{line}");
        }
        assert_eq!(fix_of_line("a: b", 1000), None);
        assert_eq!(fix_of_line("run: é: c", 6), None, "inside of a character");
    }

    #[test]
    fn a_map_of_one_text_is_written_as_that_text() {
        let map = |text: &str| serde_yaml::from_str::<Value>(text).unwrap();
        let help = fix_of_map(Some("run"), &map("echo note: it's")).unwrap();
        assert!(help.contains("`run: 'echo note: it''s'`"), "{help}");
        assert!(fix_of_map(None, &map("note: 1")).unwrap().ends_with("'note: 1'"));
        assert_eq!(fix_of_map(Some("run"), &map("a: 1\nb: 2")), None);
        assert_eq!(fix_of_map(Some("run"), &map("a: {b: c}")), None);
        assert_eq!(fix_of_map(Some("run"), &map("text")), None);
    }
}
