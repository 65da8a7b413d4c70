//! The containers of a plan that read what others write, by the paths that the host has for them.

use std::fs;
use std::path::Path;

use crate::model::Build;
use crate::plan::{Plan, Unordered, unordered};

/// Finds them all. A source that is not there, or cannot be looked at, is taken as it is written.
pub fn unordered_binds(build: &Build, plan: &Plan) -> Vec<Unordered> {
    let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    unordered(build, plan, real)
}
