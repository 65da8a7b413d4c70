//! Problems of a text that a user wrote, their places in it, and their rendering.
//!
//! The code that finds a mistake makes a problem with a path (`steps[3].needs[0]`), without the text. [`render`] looks
//! up the place in the text, so a text without mistakes is never searched for places.

mod nearest;
mod place;
mod render;
mod source;
mod toml_problem;
mod visible;
mod yaml;

pub use nearest::nearest;
pub use place::{At, Path, Place, Segment, Trail};
pub use render::{Style, render, render_one, render_warnings};
pub use toml_problem::toml_problem;
pub use visible::{escaped, shown};
pub use yaml::{DuplicateKey, YamlPlaces};

/// A mistake in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The message, as a fragment that fits after "error: ".
    pub message: String,
    /// The place of the caret.
    pub place: Place,
    /// The text beside the caret; may be empty.
    pub label: String,
    /// The fix: the text to write instead.
    pub help: Option<String>,
    /// Other places that are related to it, each with its label.
    pub related: Vec<(Place, String)>,
    /// The labels go to the places in the order of the text: those of `related` in their order, and `label` last.
    pub labels_in_text_order: bool,
}

impl Problem {
    /// Returns a problem at a place, without label and help.
    pub fn new(place: impl Into<Place>, message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            place: place.into(),
            label: String::new(),
            help: None,
            related: Vec::new(),
            labels_in_text_order: false,
        }
    }

    /// Sets the text beside the caret.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// Sets the fix.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Sets the fix, if one is known.
    #[must_use]
    pub fn maybe_help(mut self, help: Option<String>) -> Self {
        self.help = help.or(self.help);
        self
    }

    /// Adds a related place.
    #[must_use]
    pub fn related(mut self, place: impl Into<Place>, label: impl Into<String>) -> Self {
        self.related.push((place.into(), label.into()));
        self
    }

    /// Gives the labels to the places in the order of the text, where the finder does not know that order: the last place
    /// gets the label of the problem.
    #[must_use]
    pub fn in_text_order(mut self) -> Self {
        self.labels_in_text_order = true;
        self
    }
}
