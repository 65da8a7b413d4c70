//! The book in `docs`: its generated pages are those of the program, its links lead somewhere, its manifests are accepted, and
//! each of its promises names a test that exists; and the map of the code lists each module.
#![expect(clippy::unwrap_used, reason = "a test that panics has failed, and says where")]

mod generated;
mod links;
mod manifests;
mod modules;
mod pages;
mod promises;
