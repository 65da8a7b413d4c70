//! Shows the differences of images as text, Markdown and JSON. Names of files and packages are hostile: each format escapes them.

mod details;
mod markdown;
#[cfg(test)]
mod tests;
mod text;

use schemars::generate::SchemaSettings;

use crate::escape;
use crate::image::Images;

pub use markdown::markdown;
pub use text::text;

/// Returns the JSON document.
pub fn json(images: &Images) -> String {
    // Printing a value of strings, numbers and lists cannot fail.
    let text = serde_json::to_string_pretty(images).unwrap_or_default() + "\n";
    escape::json(&text).into_owned()
}

/// Returns the text of `schemas/diff.v1.schema.json`: the JSON Schema (draft 2020-12) of the document, generated from the types that
/// write it.
pub fn schema_text() -> String {
    let settings = SchemaSettings::draft2020_12().for_serialize();
    let schema = settings.into_generator().into_root_schema_for::<Images>().to_value();
    // Printing a value of strings, numbers and maps cannot fail; its plain form is the same schema.
    serde_json::to_string_pretty(&schema).unwrap_or_else(|_| schema.to_string()) + "\n"
}
