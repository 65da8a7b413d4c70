//! `runner store inspect`: all facts about a layer.

use std::fmt::Write;
use std::time::SystemTime;

use serde_json::{Value, json};

use super::location::StoreLocation;
use super::shown::{StoreFacts, origin};
use crate::command::command_error::CommandError;
use crate::command::console::print;
use crate::command::console::print_json;
use crate::command::image_content::content;
use crate::command::naming::named;
use crate::digest::Digest;
use crate::error::error_chain;
use crate::escape::visible;
use crate::image::Content;
use crate::report::listing::{ago, time};
use crate::report::{duration, sanitize, size};
use crate::store::{CacheRecord, RecordFile, Store};

/// The columns of the names.
const NAMES: usize = 12;

/// Prints all facts about the layer.
pub fn inspect(location: &StoreLocation, name: &str, as_json: bool) -> Result<(), CommandError> {
    let (store, facts) = location.facts()?;
    let digest = named(&facts.inventory, name)?;
    let Some(layer) = facts.inventory.layers.get(&digest) else { return Ok(()) };
    let giving = facts.inventory.giving(&digest);
    let path = store.layer_path(&digest);
    let stack = facts.stack(&digest);
    let sizes = Sizes::of(store, &digest);
    if as_json {
        let mut json = facts.json(&digest, layer);
        let stack = stack.iter().map(|(layer, size)| json!({ "digest": layer.to_string(), "size": size }));
        json["stack"] = stack.collect();
        json["content"] = serde_json::to_value(&sizes.content).unwrap_or_default();
        json["content_error"] = sizes.problem.into();
        json["path"] = path.display().to_string().into();
        for (built, (_, record)) in json["built"].as_array_mut().into_iter().flatten().zip(&giving) {
            built["fields"] = record
                .recorded
                .fields
                .iter()
                .map(|(name, value)| (name.to_owned(), value.into()))
                .collect::<serde_json::Map<String, Value>>()
                .into();
        }
        return print_json(&json);
    }
    let now = SystemTime::now();
    let mut text = String::new();
    line(&mut text, "layer", &digest.to_string());
    line(&mut text, "file", &path.display().to_string());
    line(&mut text, "size", &format!("{} ({} bytes)", size(layer.size), layer.size));
    if let Some(written) = facts.written(&digest, layer) {
        line(&mut text, "built", &written);
    }
    if let Some(used) = facts.used.get(&digest) {
        line(&mut text, "last used", &format!("{} ({})", time(*used), ago(*used, now)));
    }
    for reason in facts.keep_reasons(&digest) {
        line(&mut text, "needed by", &reason);
    }
    if stack.len() > 1 {
        let all = stack.iter().fold(0, |all: u64, (_, size)| all.saturating_add(*size));
        line(&mut text, "stack", &format!("{} in {} layers, the lowest first", size(all), stack.len()));
        list(&mut text, stack.iter().map(|(layer, bytes)| (*bytes, layer.to_string())));
    }
    sizes.lines(&mut text);
    if giving.is_empty() {
        text.push_str("\nno record says how it was built\n");
    }
    for (key, record) in giving {
        built(&mut text, &facts, key, record);
    }
    print(text.as_bytes())
}

fn built(text: &mut String, facts: &StoreFacts, key: &Digest, record: &RecordFile) {
    let recorded: &CacheRecord = &record.recorded;
    text.push('\n');
    line(text, "built by", &origin(record));
    line(text, "at", &format!("{}, in {}", recorded.time, duration(recorded.duration_ms)));
    line(text, "steps", &sanitize(&recorded.steps.join(", ")));
    let below = facts.inventory.layers_below(recorded);
    if below.is_empty() {
        line(text, "built on", "no other layer");
    }
    for (n, below) in below.iter().enumerate() {
        let step = facts.inventory.giving(below).first().map(|(_, record)| format!("  {}", origin(record)));
        let missing = if facts.inventory.layers.contains_key(below) { "" } else { "  not in the store" };
        let name = if n == 0 { "built on" } else { "" };
        line(text, name, &format!("{below}{}{missing}", step.unwrap_or_default()));
    }
    line(text, "key", &key.to_string());
    for (name, value) in recorded.fields.iter() {
        let mut lines = value.strip_suffix('\n').unwrap_or(value).split('\n').map(sanitize);
        let name = sanitize(name);
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {name} = {}", lines.next().unwrap_or_default());
        for more in lines {
            let _ = writeln!(text, "  {:width$} | {more}", "", width = name.chars().count());
        }
    }
}

/// The sizes in a layer's image, or the reason why they are unknown.
#[derive(Default)]
struct Sizes {
    content: Option<Content>,
    problem: Option<String>,
}

impl Sizes {
    /// Mounts the image for a moment, which needs root.
    fn of(store: &Store, layer: &Digest) -> Self {
        if !rustix::process::geteuid().is_root() {
            let problem = "root can mount the image to see them: run it with sudo".to_owned();
            return Self { content: None, problem: Some(problem) };
        }
        match content(store, layer) {
            Ok(content) => Self { content, problem: None },
            Err(error) => Self { content: None, problem: Some(error_chain(&*error)) },
        }
    }

    fn lines(&self, text: &mut String) {
        if let Some(problem) = &self.problem {
            line(text, "content", &format!("sizes by directory are unknown: {}", visible(problem)));
        }
        if let Some(content) = &self.content {
            line(text, "content", &format!("{} in {}", size(content.size), counted(content.files)));
            for (name, entries) in [("directories", &content.directories), ("largest", &content.largest)] {
                if !entries.is_empty() {
                    line(text, name, "");
                    list(text, entries.iter().map(|entry| (entry.size, shown_path(&entry.path))));
                }
            }
        }
    }
}

fn counted(files: u64) -> String {
    format!("{files} {}", if files == 1 { "file" } else { "files" })
}

fn list(text: &mut String, entries: impl Iterator<Item = (u64, String)>) {
    for (bytes, name) in entries {
        line(text, "", &format!("{:>10}  {name}", size(bytes)));
    }
}

/// Returns a path on one line, without anything that a terminal acts on.
fn shown_path(path: &str) -> String {
    visible(path).replace('\n', "\\n").replace('\t', "\\t")
}

fn line(text: &mut String, name: &str, value: &str) {
    let _ = writeln!(text, "{}", format!("{name:NAMES$}{value}").trim_end());
}
