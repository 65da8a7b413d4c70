//! Text of unknown origin made safe to show: without characters that a terminal would act on, or that reorder the
//! line.

use std::borrow::Cow;

use crate::escape::is_hidden;

/// Returns the text with a visible sign of the same length in bytes for each hidden character, so that places in it
/// stay correct. Line ends and tabs stay.
pub fn shown(text: &str) -> Cow<'_, str> {
    let mut chars = text.char_indices();
    let keeps = |at: usize, c: char| c == '\n' || c == '\t' || (c == '\r' && text[at + 1..].starts_with('\n'));
    if !chars.any(|(at, c)| is_hidden(c) && !keeps(at, c)) {
        return Cow::Borrowed(text);
    }
    let sign = |(at, c): (usize, char)| match c.len_utf8() {
        _ if !is_hidden(c) || keeps(at, c) => c,
        1 => '?',
        2 => '\u{bf}',
        _ => '\u{fffd}',
    };
    Cow::Owned(text.char_indices().map(sign).collect())
}

/// Returns the text with each hidden character written as its escape.
pub fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if is_hidden(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::{escaped, shown};

    #[test]
    fn hidden_characters_are_replaced_by_signs_of_the_same_length() {
        let text = "a\x1b[31m\tb\r\nc\rd\u{9b}e\u{202e}f\n";
        assert_eq!(shown(text), "a?[31m\tb\r\nc?d\u{bf}e\u{fffd}f\n");
        assert_eq!(shown(text).len(), text.len());
        assert_eq!(escaped("a\x1b\n\u{202e}\u{e9}"), "a\\u{1b}\\n\\u{202e}\u{e9}");
    }
}
