//! Reads the settings for registries in `runner.toml`:
//!
//! ```toml
//! [registries."docker.io"]
//! mirrors = ["mirror.example.org:5000/hub"]   # asked before the registry, in order
//! ca = "ca.pem"                               # a file of further certificate authorities
//! ```
//!
//! A mirror cannot change what a digest leads to; it may say where a tag leads.

use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::DeValue;

use crate::oci::ImageName;
use crate::registry::{RegistryOptions, RegistrySettings};

/// Reads the table, and reports its problems with their places.
pub(super) fn parse(
    value: &Spanned<DeValue<'_>>,
    directory: &Path,
    problem: &mut impl FnMut(Range<usize>, String),
) -> RegistryOptions {
    let mut options = RegistryOptions::default();
    let Some(table) = value.get_ref().as_table() else {
        problem(value.span(), "this is to be a table: write `[registries.\"docker.io\"]`".to_owned());
        return options;
    };
    for (name, settings) in table {
        let registry = name.get_ref().to_string();
        // A name of an image in it checks the registry, and gives its canonical name.
        let canonical = format!("{registry}/x/y").parse::<ImageName>().ok().filter(|_| is_host(&registry));
        let Some(canonical) = canonical else {
            problem(name.span(), "this is no registry: write its name and perhaps a port".to_owned());
            continue;
        };
        let Some(keys) = settings.get_ref().as_table() else {
            problem(settings.span(), "this is to be a table with `mirrors` or `ca`".to_owned());
            continue;
        };
        let mut found = RegistrySettings::default();
        for (key, value) in keys {
            let result = match key.get_ref().as_ref() {
                "mirrors" => mirrors(value.get_ref()).map(|mirrors| found.mirrors = mirrors),
                "ca" => match value.get_ref().as_str() {
                    Some(path) if !path.is_empty() => {
                        found.ca = Some(directory.join(path));
                        Ok(())
                    }
                    _ => Err("this is to be the path of a file of PEM certificates".to_owned()),
                },
                _ => {
                    problem(key.span(), "this key is unknown: a registry has `mirrors` and `ca`".to_owned());
                    continue;
                }
            };
            if let Err(what) = result {
                problem(value.span(), what);
            }
        }
        options.registries.insert(canonical.registry, found);
    }
    options
}

fn is_host(registry: &str) -> bool {
    !registry.contains('/') && (registry.contains(['.', ':']) || registry == "localhost")
}

fn mirrors(value: &DeValue<'_>) -> Result<Vec<String>, String> {
    let wrong =
        || "write a list of mirrors, each a name, perhaps a port, and perhaps a path: [\"host:5000/hub\"]".to_owned();
    let list = value.as_array().ok_or_else(wrong)?;
    let mirror = |value: &Spanned<DeValue<'_>>| {
        let text = value.get_ref().as_str()?;
        let (host, path) = text.split_once('/').unwrap_or((text, ""));
        let path = if path.is_empty() { "x" } else { path.trim_end_matches('/') };
        // The path becomes a part of the name of an image.
        let is_mirror = is_host(host) && format!("{host}/{path}/x").parse::<ImageName>().is_ok();
        is_mirror.then(|| text.trim_end_matches('/').to_owned())
    };
    list.iter().map(mirror).collect::<Option<Vec<_>>>().ok_or_else(wrong)
}
