//! Tests of the real thing: the binary, as root, on real mounts, containers and images. They fail where they cannot run.
//!
//! All of them run with each runtime: `tests/runc` is this folder by another name, see [`project::RUNTIME`].
#![expect(clippy::unwrap_used, reason = "a test that panics has failed, and says where")]

mod bounds;
mod browser;
mod built;
mod cache;
mod callers;
mod cgroups;
mod chain;
mod checkpoint;
mod commands;
mod compression;
mod container;
mod content;
mod deep;
mod devices;
mod display;
mod escape;
mod events;
mod failed;
mod held;
mod hints;
mod interrupted;
mod limits;
mod lock;
mod many_layers;
mod mount_points;
mod mounts;
mod named_files;
mod namespace;
mod odd_paths;
mod page;
mod parity;
mod paths;
mod privileges;
mod project;
mod pty;
mod quick;
mod recipes;
mod reports;
mod rules;
mod run;
mod runtimes;
mod same_bytes;
mod seccomp;
mod secrets;
mod sessions;
mod shells;
mod sources;
mod store;
mod streams;
mod targets;
mod terminal;
mod tree;
mod trust;
