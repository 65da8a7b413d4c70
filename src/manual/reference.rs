//! The manifest's keys in the order in which a reader meets them, read from the JSON Schema.

use serde_json::{Map, Value};

/// All keys of a manifest.
#[derive(Debug)]
pub(super) struct Reference {
    /// The manifest itself first, then each kind of map in it.
    pub sections: Vec<Section>,
}

/// One kind of map: the manifest, a container, a step …
#[derive(Debug)]
pub(super) struct Section {
    /// One word, such as `container`.
    pub name: String,
    pub description: String,
    /// The place of such a map, as `containers.NAME`.
    pub paths: Vec<String>,
    /// Keys of which exactly one is required.
    pub one_of: Vec<String>,
    /// The required keys first, the others by their names.
    pub keys: Vec<Key>,
}

/// A key of such a map.
#[derive(Debug)]
pub(super) struct Key {
    pub name: String,
    pub description: String,
    /// Its value in common words, such as `list of text`.
    pub kind: Option<String>,
    pub is_required: bool,
    pub forms: Vec<Form>,
    pub examples: Vec<Value>,
    /// The section that describes the map, or each map, of the key.
    pub section: Option<Link>,
}

/// A section that a key leads to.
#[derive(Debug)]
pub(super) struct Link {
    pub section: String,
    /// Whether each entry of the key is such a map, and not the key's value itself.
    pub is_of_entries: bool,
}

/// One of several values that a key may have.
#[derive(Debug)]
pub(super) enum Form {
    /// A word, and its meaning.
    Value(String, String),
    /// Any other value, with examples of it.
    Other(String, Vec<Value>),
}

impl Reference {
    /// Reads the schema of the manifest.
    pub fn new(schema: &Value) -> Self {
        let mut sections: Vec<Section> = Vec::new();
        let mut next = std::collections::VecDeque::from([("manifest".to_owned(), String::new(), schema)]);
        while let Some((name, path, described)) = next.pop_front() {
            if let Some(known) = sections.iter_mut().find(|section| section.name == name) {
                known.paths.push(path);
                continue;
            }
            let section = section(schema, name, path.clone(), described);
            for key in &section.keys {
                let inner = below(schema, &key.name, &described["properties"][&key.name]);
                if let Some((name, suffix, inner)) = inner {
                    let dot = if path.is_empty() { "" } else { "." };
                    next.push_back((name, format!("{path}{dot}{}{suffix}", key.name), inner));
                }
            }
            sections.push(section);
        }
        Self { sections }
    }
}

fn section(root: &Value, name: String, path: String, schema: &Value) -> Section {
    let properties = schema["properties"].as_object();
    let required = texts(&schema["required"]);
    let mut keys: Vec<Key> =
        properties.into_iter().flatten().map(|(name, key)| self::key(root, name, key, &required)).collect();
    keys.sort_by_key(|key| !key.is_required);
    let one_of = list(&schema["oneOf"]).iter().flat_map(|one| texts(&one["required"])).collect();
    let paths = if path.is_empty() { Vec::new() } else { vec![path] };
    Section { name, description: text(&schema["description"]), paths, one_of, keys }
}

fn key(root: &Value, name: &str, schema: &Value, required: &[String]) -> Key {
    let form = resolved(root, schema);
    let forms: Vec<Form> = list(&form["anyOf"]).iter().flat_map(|form| forms(resolved(root, form))).collect();
    Key {
        name: name.to_owned(),
        description: text(&schema["description"]),
        kind: if forms.is_empty() { kind(root, form) } else { None },
        is_required: required.iter().any(|required| required == name),
        examples: list(&schema["examples"]).to_vec(),
        section: below(root, name, schema)
            .map(|(section, suffix, _)| Link { section, is_of_entries: !suffix.is_empty() }),
        forms,
    }
}

/// Returns the forms of a key: each word of an enumeration, or the form itself.
fn forms(form: &Value) -> Vec<Form> {
    let values = list(&form["enum"]).iter().zip(list(&form["enumDescriptions"]));
    let values: Vec<Form> = values.map(|(value, meaning)| Form::Value(text(value), text(meaning))).collect();
    match form["const"].as_str() {
        Some(word) => vec![Form::Value(word.to_owned(), text(&form["description"]))],
        None if values.is_empty() => {
            vec![Form::Other(text(&form["description"]), list(&form["examples"]).to_vec())]
        }
        None => values,
    }
}

/// Returns the kind of map of a key, or of each entry of it: its name, the suffix of its path after the key, and its schema.
fn below<'s>(root: &'s Value, key: &str, schema: &'s Value) -> Option<(String, &'static str, &'s Value)> {
    let named = |schema: &'s Value| {
        let inner = resolved(root, schema);
        let name = schema["$ref"].as_str().and_then(|name| name.rsplit('/').next()).unwrap_or(key);
        inner["properties"].is_object().then(|| (name.to_lowercase(), inner))
    };
    let items = &schema["items"];
    let entries = std::iter::once(items).chain(list(&items["anyOf"]));
    let of_entry = entries.filter_map(named).map(|(name, inner)| (name, "[]", inner)).next();
    let of_name = || named(&schema["additionalProperties"]).map(|(name, inner)| (name, ".NAME", inner));
    named(schema).map(|(name, inner)| (name, "", inner)).or(of_entry).or_else(of_name)
}

/// Returns the kind of value in common words, where the schema limits it to one of them.
fn kind(root: &Value, schema: &Value) -> Option<String> {
    if let Some(only) = schema.get("const") {
        return Some(format!("`{only}`"));
    }
    let types = match &schema["type"] {
        Value::String(only) => vec![only.clone()],
        types => texts(types),
    };
    let words = types.iter().map(|kind| match kind.as_str() {
        "string" => "text".to_owned(),
        "integer" => "whole number".to_owned(),
        "number" => "number".to_owned(),
        "boolean" => "`true` or `false`".to_owned(),
        "array" => match kind_of_entries(root, &schema["items"]) {
            Some(entries) => format!("list of {entries}"),
            None => "list".to_owned(),
        },
        _ => "map".to_owned(),
    });
    let words: Vec<String> = words.collect();
    (!words.is_empty()).then(|| words.join(" or "))
}

fn kind_of_entries(root: &Value, items: &Value) -> Option<&'static str> {
    (resolved(root, items)["type"] == "string").then_some("text")
}

/// Returns the schema that a `$ref` names, else the schema itself.
fn resolved<'s>(root: &'s Value, schema: &'s Value) -> &'s Value {
    let named = schema["$ref"].as_str().and_then(|name| root.pointer(name.trim_start_matches('#')));
    named.unwrap_or(schema)
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn texts(value: &Value) -> Vec<String> {
    list(value).iter().map(text).collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Returns a map with its most important keys first: a step begins with its name, and a mount with its type.
pub(super) fn in_reading_order(map: &Map<String, Value>) -> Vec<(&String, &Value)> {
    const FIRST: [&str; 7] = ["name", "type", "path", "source", "target", "container", "rootfs"];
    let mut entries: Vec<_> = map.iter().collect();
    entries.sort_by_key(|(key, _)| FIRST.iter().position(|first| first == key).unwrap_or(FIRST.len()));
    entries
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::schema;

    #[test]
    fn every_key_of_the_schema_has_its_place_in_one_section() {
        let schema = schema();
        let reference = Reference::new(&schema);
        let names: Vec<&str> = reference.sections.iter().map(|section| section.name.as_str()).collect();
        assert_eq!(names[0], "manifest");
        let mut described = Vec::from([("manifest".to_owned(), &schema)]);
        described.extend(schema["$defs"].as_object().unwrap().iter().map(|(name, map)| (name.to_lowercase(), map)));
        for (name, map) in described.into_iter().filter(|(_, map)| map["properties"].is_object()) {
            let section = reference.sections.iter().find(|section| section.name == name);
            let section = section.unwrap_or_else(|| panic!("no section {name} among {names:?}"));
            for key in map["properties"].as_object().unwrap().keys() {
                assert_eq!(section.keys.iter().filter(|known| known.name == *key).count(), 1, "{name}: {key}");
            }
        }
    }

    #[test]
    fn a_section_names_each_place_where_such_a_map_is_written() {
        let reference = Reference::new(&schema());
        let paths = |name: &str| &reference.sections.iter().find(|section| section.name == name).unwrap().paths;
        assert_eq!(paths("mount"), &["mounts.NAME", "containers.NAME.mounts[]", "steps[].mounts[]"]);
        assert_eq!(paths("step"), &["steps[]"]);
        assert_eq!(paths("rootfs"), &["containers.NAME.rootfs"]);
    }
}
