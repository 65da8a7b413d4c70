//! runner: a declarative, manifest-driven build runner for root filesystems.

pub mod build;
pub mod digest;
pub mod error;
pub mod event;
pub mod loopdev;
pub mod mount;
pub mod plan;
pub mod report;
pub mod rootfs;
pub mod runtime;
pub mod session;
pub mod snapshot;
mod sys;
