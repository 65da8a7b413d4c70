//! The containers of a plan that read the files that others write without an order, by their real paths on the host.

use std::fs;
use std::path::Path;

use crate::model::Build;
use crate::plan::{Plan, Unordered, unordered};

/// Returns all of them. A source that does not exist or cannot be read is used as it is written.
pub fn unordered_binds(build: &Build, plan: &Plan) -> Vec<Unordered> {
    let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    unordered(build, plan, real)
}
