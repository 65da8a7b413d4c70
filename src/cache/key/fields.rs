//! The named fields of a key.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Link, Parents};
use crate::digest::Digest;

/// The field that names the parents of the root. Before format 6 a group had that name, with a field for each parent.
const BELOW: &str = "below";

/// Named values, in the order of their names.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyFields(BTreeMap<String, String>);

impl KeyFields {
    /// Returns the key. Each name and value is preceded by its length, so that no two lists of fields have the same
    /// bytes.
    pub fn key(&self) -> Digest {
        let mut bytes = Vec::new();
        for (name, value) in &self.0 {
            for text in [name, value] {
                bytes.extend((text.len() as u64).to_le_bytes());
                bytes.extend(text.as_bytes());
            }
        }
        Digest::of_bytes(&bytes)
    }

    /// Returns the value of that name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Returns all names and values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Returns these fields with the parents of the root. Only then they make a key.
    pub fn with_base(&self, below: &Parents) -> Self {
        let mut fields = self.clone();
        if let Some(digest) = below.digest() {
            fields.set(BELOW, digest.to_string());
        }
        fields
    }

    /// Returns the digest of the root's parents; none where the fields list the parents, or have none.
    pub fn below(&self) -> Option<Digest> {
        self.get(BELOW)?.parse().ok()
    }

    /// Returns the layers that the root is built on, where the fields list them, as they did before format 6.
    pub fn listed_below(&self) -> Parents {
        let listed = self.iter().filter(|(name, _)| *name != BELOW && is_below(name));
        listed.map(|(name, id)| Link { name: name.to_owned(), id: id.to_owned() }).collect()
    }

    /// Returns these fields without the root's parents.
    pub fn without_base(&self) -> Self {
        Self(self.0.iter().filter(|(name, _)| !is_below(name)).map(|(n, v)| (n.clone(), v.clone())).collect())
    }

    /// Returns these fields without the contents of copied files and of the mounts with these targets.
    pub fn without_sources(&self, targets: &[PathBuf]) -> Self {
        let is_copied = |name: &str| match name.split_once('/') {
            Some(("content", target)) => targets.iter().any(|known| Path::new(target) == known),
            Some(("step", _)) => name.split('/').nth(2) == Some("content"),
            _ => false,
        };
        Self(self.0.iter().filter(|(name, _)| !is_copied(name)).map(|(n, v)| (n.clone(), v.clone())).collect())
    }

    /// Whether they belong to a checkpoint.
    pub fn is_of_checkpoint(&self) -> bool {
        self.get("checkpoint").is_some()
    }

    /// Returns the fields of a checkpoint after the first `steps` steps of the segment that has these fields.
    pub fn of_checkpoint(&self, steps: usize) -> Self {
        let counts = |name: &str| match name.split_once('/') {
            Some(("step", rest)) => {
                rest.split('/').next().and_then(|n| n.parse().ok()).is_some_and(|n: usize| n < steps)
            }
            _ => !matches!(name, "snapshot" | "writer"),
        };
        let mut fields =
            Self(self.0.iter().filter(|(name, _)| counts(name)).map(|(n, v)| (n.clone(), v.clone())).collect());
        fields.set("checkpoint", steps.to_string());
        fields
    }

    pub(super) fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.0.insert(name.into(), value.into());
    }
}

/// Whether a field names parents of the root.
pub fn is_below(name: &str) -> bool {
    name.split_once('/').map_or(name, |(group, _)| group) == BELOW
}
