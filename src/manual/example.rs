//! An example of a key as a person would write it in a manifest.

use serde_json::Value;

use super::reference::in_reading_order;

/// The longest line of an example.
const COLUMNS: usize = 92;

/// Returns the key with the value, as lines of YAML.
pub(super) fn yaml(key: &str, value: &Value) -> String {
    let mut text = String::new();
    entry(&mut text, 0, "", key, value);
    text
}

/// Writes one entry of a map: `lead` is the beginning of its first line, before the key.
fn entry(text: &mut String, indent: usize, lead: &str, key: &str, value: &Value) {
    let pad = " ".repeat(indent - lead.len());
    let line = format!("{pad}{lead}{}: {}", flow(&Value::from(key)), flow(value));
    if line.len() <= COLUMNS || is_scalar(value) {
        text.push_str(&line);
        text.push('\n');
        return;
    }
    text.push_str(&format!("{pad}{lead}{}:\n", flow(&Value::from(key))));
    match value {
        Value::Object(map) => {
            in_reading_order(map).into_iter().for_each(|(key, value)| entry(text, indent + 2, "", key, value));
        }
        Value::Array(list) => list.iter().for_each(|value| item(text, indent + 2, value)),
        _ => {}
    }
}

/// Writes one entry of a list.
fn item(text: &mut String, indent: usize, value: &Value) {
    let line = format!("{}- {}\n", " ".repeat(indent), flow(value));
    match value {
        Value::Object(map) if line.len() > COLUMNS => {
            for (number, (key, value)) in in_reading_order(map).into_iter().enumerate() {
                entry(text, indent + 2, if number == 0 { "- " } else { "" }, key, value);
            }
        }
        _ => text.push_str(&line),
    }
}

fn is_scalar(value: &Value) -> bool {
    !value.is_object() && !value.is_array()
}

/// Returns the value on one line.
pub(super) fn flow(value: &Value) -> String {
    match value {
        Value::Array(list) => format!("[{}]", list.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Value::Object(map) if map.is_empty() => "{}".to_owned(),
        Value::Object(map) => {
            let entries = in_reading_order(map);
            let entries =
                entries.into_iter().map(|(key, value)| format!("{}: {}", flow(&Value::from(&**key)), flow(value)));
            format!("{{ {} }}", entries.collect::<Vec<_>>().join(", "))
        }
        Value::String(text) if needs_no_quotes(text) => text.clone(),
        Value::String(_) => quoted(&value.to_string()),
        other => other.to_string(),
    }
}

/// Returns a text in JSON's quotes, which are quotes of YAML too, with escapes for the characters that only YAML acts on.
fn quoted(json: &str) -> String {
    let is_special =
        |c: char| c.is_control() || ['\u{2028}', '\u{2029}', '\u{feff}', '\u{fffe}', '\u{ffff}'].contains(&c);
    let escape = |c: char| if is_special(c) { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() };
    json.chars().map(escape).collect()
}

/// Returns whether every reader of YAML takes an unquoted text for that text, also inside of a list: some read `0660` as a
/// number.
fn needs_no_quotes(text: &str) -> bool {
    if text.starts_with(|first: char| first.is_ascii_digit()) && !text.contains(|c: char| c.is_ascii_alphabetic()) {
        return false;
    }
    let read: Result<Value, _> = serde_yaml::from_str(&format!("[{text}]"));
    read.is_ok_and(|read| read == Value::from(vec![text]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, json};

    use super::*;

    fn value() -> impl Strategy<Value = Value> {
        let scalar = prop_oneof![
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            "[a-zA-Z0-9 :#,{}\\[\\]'\"&*!|>%@`/.$-]{0,60}".prop_map(Value::from),
            prop::sample::select(vec!["0660", "off", "null", "~", "1.5", "true"]).prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        scalar.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map("[a-z_]{1,12}", inner, 0..4)
                    .prop_map(|map| Value::from(Map::from_iter(map))),
            ]
        })
    }

    proptest! {
        #[test]
        fn an_example_is_read_as_the_value_that_it_was_made_from(value in value()) {
            let text = yaml("key", &value);
            let read: Value = serde_yaml::from_str(&text).map_err(|error| TestCaseError::fail(format!("{error}: {text}")))?;
            prop_assert_eq!(&read, &json!({ "key": value }), "{}", text);
        }
    }

    #[test]
    fn a_text_that_looks_like_a_number_has_quotes() {
        assert_eq!(yaml("mode", &json!("0660")), "mode: \"0660\"\n");
        assert_eq!(yaml("timeout", &json!("10m")), "timeout: 10m\n");
    }

    #[test]
    fn a_short_map_has_one_line_and_a_long_list_has_one_for_each_entry() {
        assert_eq!(yaml("scratch", &json!({ "disk": true })), "scratch: { disk: true }\n");
        let step = |name: &str| json!({ "name": name, "container": "base", "run": "apt-get install -y gcc" });
        let expected = "steps:\n  - { name: one, container: base, run: apt-get install -y gcc }\n  - { name: two, container: base, run: apt-get install -y gcc }\n";
        assert_eq!(yaml("steps", &json!([step("one"), step("two")])), expected);
    }
}
