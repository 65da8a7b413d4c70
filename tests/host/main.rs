//! Tests of the real thing: the binary, as root, on real mounts, containers and images. They fail where they cannot run.
#![expect(clippy::unwrap_used, reason = "a test that panics has failed, and says where")]

mod built;
mod cache;
mod chain;
mod commands;
mod compression;
mod container;
mod content;
mod deep;
mod devices;
mod escape;
mod failed;
mod interrupted;
mod limits;
mod many_layers;
mod mount_points;
mod mounts;
mod namespace;
mod privileges;
mod project;
mod quick;
mod run;
mod same_bytes;
mod sessions;
mod sources;
mod tree;
