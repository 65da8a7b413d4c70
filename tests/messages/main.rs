//! What the program itself says when it cannot do what it is asked for: every table to the letter, with the exit code.
//!
//! What cannot be had from outside is in `src/messages`, which says how tables are written anew. Needs root.
#![expect(clippy::unwrap_used, reason = "a test that panics has failed, and says where")]

mod asked;
mod build;
mod host;
mod session;
mod store;
