//! runner: a declarative, manifest-driven build runner for root filesystems.

pub mod build;
pub mod event;
pub mod rootfs;
pub mod settings;
