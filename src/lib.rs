//! runner: a declarative, manifest-driven build runner for root filesystems.

pub mod build;
pub mod cli;
pub mod digest;
pub mod error;
pub mod event;
pub mod plan;
pub mod report;
pub mod store;
