//! The checked model of a build, and the one door to it.

mod model;

pub use model::*;
