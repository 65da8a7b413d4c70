//! Tests of the real thing: the binary, as root, on real mounts, containers and images. They fail where they cannot run.

mod chain;
mod namespace;
mod project;
mod quick;
mod tree;
