//! Colours of runner's own words.

use std::borrow::Cow;

/// A colour or style, by its SGR parameter of ECMA-48.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Colour {
    Bold = 1,
    Faint = 2,
    Red = 31,
    Green = 32,
    Yellow = 33,
    Cyan = 36,
}

/// Adds colours to text, or adds none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Paint(pub(super) bool);

impl Paint {
    /// Returns the text in the colour, if there is one and colours are on.
    pub(super) fn text<'t>(self, colour: Option<Colour>, text: &'t str) -> Cow<'t, str> {
        match colour {
            Some(colour) if self.0 => Cow::Owned(format!("\u{1b}[{}m{text}\u{1b}[0m", colour as u8)),
            _ => Cow::Borrowed(text),
        }
    }
}
