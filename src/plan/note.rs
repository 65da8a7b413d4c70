//! What the store has to say of a planned step.

use serde_json::Value;

/// Whether a step would run, and why.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Note {
    /// It is in the store, and would not run.
    pub fresh: bool,
    /// Whether it would run is known only when a step before it has ended.
    pub unknown: bool,
    /// Why it would run, in words and as values; none where it is fresh.
    pub reasons: Vec<(String, Value)>,
}
