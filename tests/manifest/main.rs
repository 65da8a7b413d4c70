//! Manifests from text to build, or to the report for the user: the contract with users, line by line.
#![expect(clippy::unwrap_used, reason = "a test that panics has failed, and says where")]

mod accepted;
mod described;
mod host;
mod hostile;
mod refusals;
mod schema;
mod security;
