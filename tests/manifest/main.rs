//! Manifests from text to build, or to what the user is shown: the contract with users, line by line.

mod accepted;
mod host;
mod hostile;
mod refusals;
mod schema;
