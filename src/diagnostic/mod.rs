//! What is wrong with a text the user wrote, and where: problems, their places, and their rendering.
//!
//! A problem is made where the mistake is understood, which knows a path (`steps[3].needs[0]`) and no text. The place in
//! the text is looked up by [`render`], so a text without mistakes is never read for places.

mod nearest;
mod place;
mod render;
mod source;
mod toml_problem;
mod visible;
mod yaml;

pub use nearest::nearest;
pub use place::{At, Path, Place, Segment, Trail};
pub use render::{Style, render, render_one};
pub use toml_problem::toml_problem;
pub use visible::{escaped, shown};
pub use yaml::{Doubled, YamlPlaces};

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What is wrong, as a fragment that fits after "error: ".
    pub message: String,
    /// Where the caret goes.
    pub place: Place,
    /// What stands beside the caret; may be empty.
    pub label: String,
    /// What to write instead.
    pub help: Option<String>,
    /// Other places that have to do with it, each with its label.
    pub related: Vec<(Place, String)>,
}

impl Problem {
    /// A problem at a place, with neither label nor help yet.
    pub fn new(place: impl Into<Place>, message: impl Into<String>) -> Self {
        Self { message: message.into(), place: place.into(), label: String::new(), help: None, related: Vec::new() }
    }

    /// Sets what stands beside the caret.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// Sets what to write instead.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Sets what to write instead, where that is known.
    #[must_use]
    pub fn maybe_help(mut self, help: Option<String>) -> Self {
        self.help = help.or(self.help);
        self
    }

    /// Adds another place that has to do with it.
    #[must_use]
    pub fn related(mut self, place: impl Into<Place>, label: impl Into<String>) -> Self {
        self.related.push((place.into(), label.into()));
        self
    }
}
