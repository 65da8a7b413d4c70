//! runner: a declarative, manifest-driven build runner for root filesystems.

pub mod build;
pub mod event;
pub mod loopdev;
pub mod mount;
pub mod runtime;
pub mod session;
pub mod snapshot;
mod sys;
