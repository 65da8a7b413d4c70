//! The values of the events of imports: sources of roots that arrive.

use schemars::JsonSchema;
use serde::Serialize;

/// The way in which the source of a root arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ImportMethod {
    /// From a registry.
    Pull,
    /// From a web server.
    Download,
    /// From this host: an archive, a layout, or a file that was downloaded before.
    Import,
}

/// A stage of an import.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ImportStage {
    /// Its bytes arrive.
    Arrives,
    /// It is unpacked.
    Unpacked,
    /// The image of a layer is written.
    Written,
}

/// The result of an import.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ImportStatus {
    Done,
    Failed,
}
