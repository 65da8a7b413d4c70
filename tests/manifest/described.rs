//! The schema as editors show it: each key and each form of it is described, with examples that a manifest may have.

use std::collections::BTreeMap;
use std::path::Path;

use runner::load::check;
use runner::manifest::schema;
use serde_json::{Map, Value, json};

use crate::host::FakeHost;

/// Returns the schema that a `$ref` names, else the schema itself.
fn resolved<'s>(root: &'s Value, schema: &'s Value) -> &'s Value {
    match schema["$ref"].as_str() {
        Some(name) => root.pointer(name.trim_start_matches('#')).unwrap(),
        None => schema,
    }
}

/// Calls a function for each schema in a schema, with its path.
fn walk<'s>(schema: &'s Value, place: &str, visit: &mut dyn FnMut(&str, &'s Value)) {
    visit(place, schema);
    for keyword in ["$defs", "properties"] {
        for (name, inner) in schema[keyword].as_object().into_iter().flatten() {
            walk(inner, &format!("{place}/{name}"), visit);
        }
    }
    for (number, inner) in schema["anyOf"].as_array().into_iter().flatten().enumerate() {
        walk(inner, &format!("{place}/{number}"), visit);
    }
    for keyword in ["items", "additionalProperties"] {
        if schema[keyword].is_object() {
            walk(&schema[keyword], &format!("{place}/*"), visit);
        }
    }
}

fn fits(root: &Value, schema: &Value, value: &Value) -> bool {
    let mut whole = schema.as_object().unwrap().clone();
    whole.insert("$defs".into(), root["$defs"].clone());
    jsonschema::validator_for(&Value::Object(whole)).unwrap().is_valid(value)
}

fn list(value: &Value) -> Vec<&Value> {
    value.as_array().into_iter().flatten().collect()
}

/// Returns the examples of a schema: each value of an enumeration is one.
fn examples(schema: &Value) -> Vec<&Value> {
    [list(&schema["examples"]), list(&schema["enum"])].concat()
}

fn is_described(schema: &Value) -> bool {
    let meanings = list(&schema["enumDescriptions"]);
    let is_text = |value: &Value| value.as_str().is_some_and(|text| !text.trim().is_empty());
    match &schema["enum"] {
        Value::Array(values) => values.len() == meanings.len() && meanings.into_iter().all(is_text),
        _ => is_text(&schema["description"]),
    }
}

/// Collects the forms of a described schema that none of the values has.
fn not_shown(root: &Value, schema: &Value, place: &str, values: &[&Value], missing: &mut Vec<String>) {
    let schema = resolved(root, schema);
    for kind in list(&schema["type"]).into_iter().filter(|_| schema["type"].is_array()) {
        if !values.iter().any(|value| fits(root, &json!({ "type": kind }), value)) {
            missing.push(format!("{place}: no example is of the type {kind}"));
        }
    }
    for (number, form) in list(&schema["anyOf"]).into_iter().enumerate() {
        let has_own = !examples(resolved(root, form)).is_empty();
        if !has_own && !values.iter().any(|value| fits(root, form, value)) {
            missing.push(format!("{place}: no example has the form {number}"));
        }
    }
    let each = |keyword: &str| schema[keyword].is_object().then(|| &schema[keyword]);
    if let Some(inner) = each("additionalProperties") {
        let values: Vec<&Value> = values.iter().flat_map(|value| value.as_object().unwrap().values()).collect();
        not_shown(root, inner, &format!("{place}/*"), &values, missing);
    }
    if let Some(inner) = each("items") {
        let values: Vec<&Value> = values.iter().flat_map(|value| list(value)).collect();
        not_shown(root, inner, &format!("{place}/*"), &values, missing);
    }
}

#[test]
fn every_key_every_form_and_every_value_is_described_and_has_an_example() {
    let root = schema();
    let mut missing = Vec::new();
    walk(&root, "", &mut |place, schema| {
        for (name, key) in schema["properties"].as_object().into_iter().flatten() {
            let (place, examples) = (format!("{place}/{name}"), list(&key["examples"]));
            if !is_described(key) || examples.is_empty() {
                missing.push(format!("{place}: no description, or no example"));
            }
            not_shown(&root, key, &place, &examples, &mut missing);
        }
        for form in list(&schema["anyOf"]) {
            if !is_described(resolved(&root, form)) {
                missing.push(format!("{place}: the form {form} is not described"));
            }
        }
        if schema["enum"].is_array() && !is_described(schema) {
            missing.push(format!("{place}: a value is not described"));
        }
    });
    assert_eq!(missing, Vec::<String>::new());
}

#[test]
fn every_example_fits_the_schema_that_it_is_an_example_of() {
    let root = schema();
    let mut count = 0;
    walk(&root, "", &mut |place, schema| {
        for example in examples(schema) {
            assert!(fits(&root, schema, example), "{place}: {example}");
            count += 1;
        }
    });
    assert!(count > 100, "{count}");
}

/// Returns the examples of a key: its own, and those of its forms.
fn of_key<'s>(root: &'s Value, key: &'s Value) -> Vec<&'s Value> {
    let forms = list(&resolved(root, key)["anyOf"]).into_iter();
    [examples(key), forms.flat_map(|form| examples(resolved(root, form))).collect()].concat()
}

/// Returns a map with a key set in it.
fn with(mut map: Value, key: &str, value: &Value) -> Value {
    map[key] = value.clone();
    map
}

/// Returns the other keys of a mount with that key, so that the key has a meaning.
fn mount_around(key: &str, value: &Value) -> Value {
    let r#type = match key {
        "source" | "cache" => "bind",
        "id" | "sharing" => "cache",
        "env" => "secret",
        "step" | "path" => "snapshot",
        _ => "tmpfs",
    };
    let mount = json!({ "type": r#type, "target": "/probe" });
    match (key, value.as_str()) {
        ("cache", _) | ("type", Some("bind" | "secret" | "image")) => with(mount, "source", &json!("token")),
        ("path", _) | ("type", Some("snapshot")) => with(mount, "step", &json!("base-layer")),
        _ => mount,
    }
}

#[test]
fn a_manifest_of_all_the_examples_is_right() {
    let root = schema();
    let keys = root["properties"].as_object().unwrap();
    let mut manifest: Map<String, Value> =
        keys.iter().map(|(name, key)| (name.clone(), key["examples"][0].clone())).collect();
    let (mut containers, mut steps) = (Vec::new(), Vec::new());
    for (of, definition) in root["$defs"].as_object().unwrap() {
        for (key, described) in definition["properties"].as_object().into_iter().flatten() {
            for value in of_key(&root, described) {
                let empty = json!({ "rootfs": { "scratch": true } });
                let alone = json!({ key: value });
                containers.push(match of.as_str() {
                    "Container" => with(empty, key, value),
                    "Rootfs" => json!({ "rootfs": alone }),
                    "Debian" => {
                        json!({ "rootfs": { "debian": with(json!({ "suite": "bookworm" }), key, value) } })
                    }
                    "Capabilities" | "Limits" | "Scratch" => with(empty, &of.to_lowercase(), &alone),
                    "Mount" => with(empty, "mounts", &json!([with(mount_around(key, value), key, value)])),
                    "Device" => with(empty, "devices", &json!([with(json!({ "path": "/dev/kvm" }), key, value)])),
                    "Step" | "Copy" | "Snapshot" | "Export" | "OciConfig" => empty,
                    other => panic!("{other} is a map that this test does not know"),
                });
                let number = containers.len();
                let step = json!({ "name": format!("step-{number}"), "container": format!("container-{number}") });
                match of.as_str() {
                    "Snapshot" => steps.push(with(step, "snapshot", &alone)),
                    "Copy" => {
                        let around = json!({ "from": "base-layer", "source": "/usr/bin/sh", "target": "/copy" });
                        steps.push(with(step, "copy", &with(around, key, value)));
                    }
                    "OciConfig" => {
                        let export =
                            json!({ "format": "oci", "output": format!("out/export-{number}"), "config": alone });
                        steps.push(with(step, "export", &export));
                    }
                    "Export" => {
                        let format = match key.as_str() {
                            "level" | "compression" => "squashfs",
                            "config" | "layers" | "tag" | "push" => "oci",
                            _ => "files",
                        };
                        let export = json!({ "format": format, "output": format!("out/export-{number}") });
                        steps.push(with(step, "export", &with(export, key, value)));
                    }
                    "Step" if ["run", "exec", "copy", "snapshot", "export"].contains(&key.as_str()) => {
                        steps.push(with(step, key, value))
                    }
                    "Step" if key == "name" => {
                        steps.push(with(with(step, "run", &json!("true")), key, &json!("of-its-own")))
                    }
                    "Step" => steps.push(with(with(step, "run", &json!("true")), key, value)),
                    _ => {}
                }
            }
        }
    }
    for (number, container) in containers.into_iter().enumerate() {
        manifest["containers"][format!("container-{}", number + 1)] = container;
    }
    manifest["steps"].as_array_mut().unwrap().extend(steps);
    // The names that the forms with a variable refer to.
    let forms = [
        ("network", "none"),
        ("mode", "full"),
        ("format", "files"),
        ("layers", "tar"),
        ("compression", "xz"),
        ("cache", "ignore"),
        ("sharing", "locked"),
    ];
    for (name, value) in forms {
        manifest["vars"][name] = json!(value);
    }
    let text = Value::Object(manifest).to_string();
    let checked = check(&text, Path::new("/work/build.yaml"), &BTreeMap::new(), &FakeHost::with_debian());
    let problems: Vec<_> = checked.as_ref().err().into_iter().flatten().map(|p| (&p.message, &p.help)).collect();
    assert!(checked.is_ok(), "{problems:#?}");
}
