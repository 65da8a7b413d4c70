//! Tests of the whole program: the binary, as root, on real mounts, containers and images. They fail where they cannot run.
//!
//! They run with the embedded runtime. Those whose result can depend on the runtime run with runc too: each file lists its own in
//! `also_with_runc!`, see [`runtime`]. `cargo test --test host with_runc` runs these alone.
#![expect(clippy::unwrap_used, reason = "a test that panics has failed, and says where")]

// Its macro is for the modules after it.
#[macro_use]
mod runtime;

mod beyond_squashfs;
mod book;
mod bounds;
mod built;
mod cache;
mod cache_mounts;
mod caller_signals;
mod callers;
mod cgroups;
mod chain;
mod checkpoint;
mod clean_clone;
mod commands;
mod compression;
mod container;
mod content;
mod copy;
mod debian;
mod deep;
mod devices;
mod display;
mod ending;
mod ending_delayed;
mod escape;
mod events;
mod export_images;
mod export_oci;
mod exports;
mod failed;
mod first_process;
mod fixed_mounts;
mod git;
mod hints;
mod image_diff;
mod images;
mod imports;
mod interrupted;
mod layers;
mod limits;
mod lock;
mod lock_check;
mod many_containers;
mod many_layers;
mod mount_points;
mod mounts;
mod named_files;
mod names;
mod namespace;
mod numbers;
mod odd_paths;
mod one_tree;
mod own_settings;
#[path = "../book/pages.rs"]
#[expect(dead_code, reason = "tests of the book use the rest")]
mod pages;
mod parity;
mod paths;
mod privileges;
mod project;
mod pty;
mod pulls;
mod push;
mod quick;
mod recipes;
mod registry;
mod reports;
mod retries;
mod root;
mod root_files;
mod rules;
mod run;
mod runtimes;
mod same_bytes;
mod scripts;
mod seccomp;
mod secrets;
mod sessions;
mod sharing;
mod shells;
mod sources;
mod ssh_agent;
mod stopped_tools;
mod store;
mod store_in_bind;
mod streams;
mod targets;
mod terminal;
mod test_steps;
mod tree;
mod trust;
