//! The manifest: the types of a user's YAML, their parser, and their JSON Schema.

mod copy;
mod debian;
mod definition;
mod export;
mod foreign_keys;
mod parse;
mod quotes;
mod recover;
mod rootfs;
mod scalar;
mod schema;
mod substitute;
mod unknown_paths;
mod yaml;

pub use copy::{CopyDef, CopySourcesDef};
pub use debian::DebianDef;
pub use definition::{
    CapabilitiesDef, ContainerDef, DeviceDef, LimitsDef, Manifest, MountDef, ScratchDef, SnapshotDef, StepDef,
    UnmaskDef,
};
pub use export::{ExportDef, OciConfigDef};
pub use parse::{Broken, MAX_BYTES, parse, too_large};
pub use rootfs::{LayersDef, RootfsDef};
pub use scalar::{Cpus, Duration, Epoch, Mode, Named, Reference, Size, Text, User};
pub use schema::{schema, schema_text};
pub use unknown_paths::UnknownPaths;
