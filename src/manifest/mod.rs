//! The manifest: the types that a user's YAML is read into, the reading, and the JSON Schema.

mod definition;
mod gaps;
mod habits;
mod heal;
mod parse;
mod prepare;
mod quotes;
mod scalar;
mod schema;
mod yaml;

pub use definition::{
    CapabilitiesDef, ContainerDef, DeviceDef, LayersDef, LimitsDef, Manifest, MountDef, RootfsDef, ScratchDef,
    SnapshotDef, StepDef, UnmaskDef,
};
pub use gaps::UnknownPaths;
pub use parse::{Broken, LARGEST, parse, too_large};
pub use scalar::{Cpus, Duration, Epoch, Mode, Named, Reference, Size, Text, User};
pub use schema::{schema, schema_text};
