//! runner: a declarative, manifest-driven build runner for root filesystems.

pub mod build;
pub mod cgroup;
pub mod cli;
pub mod columns;
pub mod command;
pub mod content;
pub mod diagnostic;
pub mod difference;
pub mod digest;
pub mod doctor;
pub mod error;
pub mod escape;
pub mod event;
pub mod execute;
pub mod freshness;
pub mod graph;
pub mod host;
pub mod key;
pub mod load;
pub mod lock;
pub mod loopdev;
pub mod manifest;
#[cfg(test)]
mod messages;
pub mod mount;
pub mod plan;
pub mod report;
pub mod rootfs;
pub mod runtime;
mod saved;
pub mod session;
pub mod settings;
pub mod snapshot;
pub mod store;
mod sys;
pub mod terminal;
pub mod warning;
