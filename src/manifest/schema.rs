//! The JSON Schema of the manifest, made from the types that read it.

use schemars::Schema;
use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use serde_json::{Value, json};

use super::Manifest;

/// What a container and a step may be called.
pub const NAME_PATTERN: &str = "^[a-zA-Z0-9._-]+$";
/// `network`.
pub const NETWORKS: &[&str] = &["none", "host"];
/// `snapshot.mode`.
pub const SNAPSHOT_MODES: &[&str] = &["layer", "full"];
/// `snapshot.compression`.
pub const COMPRESSIONS: &[&str] = &["zstd", "gzip", "xz", "lz4", "none"];
/// `cache` of a mount.
pub const MOUNT_CACHES: &[&str] = &["ignore"];
/// The keys of a step of which there must be exactly one.
pub const ACTIONS: &[&str] = &["run", "exec", "snapshot"];

/// The JSON Schema (draft 2020-12) of a manifest.
pub fn schema() -> Value {
    let settings = SchemaSettings::draft2020_12().for_deserialize().with_transform(RecursiveTransform(as_read));
    settings.into_generator().into_root_schema_for::<Manifest>().to_value()
}

/// The text of `schemas/manifest.v1.schema.json`.
pub fn schema_text() -> String {
    // Printing a value of strings, numbers and maps cannot fail; its plain form is the same schema.
    let schema = schema();
    let mut text = serde_json::to_string_pretty(&schema).unwrap_or_else(|_| schema.to_string());
    text.push('\n');
    text
}

/// A key that may be left out is no key that may be null: `needs:` with nothing behind it is refused. And a number has
/// the range that is read, not only its format, which validators need not look at.
fn as_read(schema: &mut Schema) {
    let Some(object) = schema.as_object_mut() else { return };
    if object.get("default").is_some_and(Value::is_null) {
        object.remove("default");
    }
    if let Some(Value::Array(types)) = object.get_mut("type") {
        types.retain(|kind| kind != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            object.insert("type".into(), only);
        }
    }
    if object.get("format").is_some_and(|format| format == "uint32") {
        object.insert("maximum".into(), json!(u32::MAX));
    }
    let Some(Value::Array(any)) = object.get_mut("anyOf") else { return };
    any.retain(|option| option.get("type").is_none_or(|kind| kind != "null"));
    if let [Value::Object(only)] = any.as_slice() {
        let only = only.clone();
        object.remove("anyOf");
        object.extend(only);
    }
}

/// One of `names`, or text that a variable is put into first.
fn one_of(schema: &mut Schema, names: &[&str]) {
    schema.remove("type");
    schema.insert("anyOf".into(), json!([{ "enum": names }, { "type": "string", "pattern": r"\$\{\{" }]));
}

pub(super) fn network(schema: &mut Schema) {
    one_of(schema, NETWORKS);
}

pub(super) fn snapshot_mode(schema: &mut Schema) {
    one_of(schema, SNAPSHOT_MODES);
}

pub(super) fn compression(schema: &mut Schema) {
    one_of(schema, COMPRESSIONS);
}

pub(super) fn mount_cache(schema: &mut Schema) {
    one_of(schema, MOUNT_CACHES);
}

pub(super) fn names(schema: &mut Schema) {
    schema.insert("propertyNames".into(), json!({ "pattern": NAME_PATTERN }));
    schema.insert("minProperties".into(), json!(1));
}

pub(super) fn one_key(schema: &mut Schema) {
    schema.insert("minProperties".into(), json!(1));
    schema.insert("maxProperties".into(), json!(1));
}

pub(super) fn one_action(schema: &mut Schema) {
    let required: Vec<_> = ACTIONS.iter().map(|action| json!({ "required": [action] })).collect();
    schema.insert("oneOf".into(), json!(required));
}
