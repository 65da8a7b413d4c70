//! The plan of a build as it is printed: as text or as JSON, with the limits of its containers.

mod json;
mod limits;
mod text;

use serde_json::Value;

use crate::cache::OutputState;

pub use json::json;
pub use limits::{HostLimits, PlannedLimits};
pub use text::text;

/// The cache status of a planned step.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Note {
    /// The step is in the store, and would not run.
    pub fresh: bool,
    /// Whether the step would run is unknown until a step before it has ended.
    pub unknown: bool,
    /// The state of the output of a step that is in the store: the build writes one that is missing or changed.
    pub output: OutputState,
    /// The step is an export in the store that is pushed where its tag leads elsewhere: the build asks the registry, and a plan does
    /// not.
    pub may_push: bool,
    /// The reasons why the step would run, as text and as values; none if it is fresh.
    pub reasons: Vec<(String, Value)>,
}
