//! The program's own messages when it cannot carry out a request: every table to the letter, with the exit code.
//!
//! The messages that cannot be caused from outside are in `src/messages`, which says how tables are written again. Needs root.
#![expect(clippy::unwrap_used, reason = "a test that panics has failed, and says where")]

mod asked;
mod build;
mod host;
mod session;
mod store;
