//! runner: a declarative, manifest-driven build runner for root filesystems.

pub mod build;
pub mod diagnostic;
pub mod event;
pub mod host;
pub mod manifest;
