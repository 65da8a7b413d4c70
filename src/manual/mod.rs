//! The reference for people: the manifest's keys and the commands, made from the schema and from clap.
//!
//! The pages of the book and the manual page are made from one [`Reference`], so that a description is written once, beside
//! the type that reads the key.

mod book;
mod commands;
mod example;
mod page;
mod reference;

pub use book::manifest_page;
pub use commands::commands_page;
pub use page::manual_page;

use reference::{Form, Key, Link, Reference, Section};
