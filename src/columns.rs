//! Text in the columns of a terminal: how many it takes, cut to them, wrapped to them.

use textwrap::{Options, WordSeparator, WordSplitter, WrapAlgorithm};
use unicode_width::UnicodeWidthChar;

/// Columns that a character takes; a variation selector may make the one before it wider.
fn columns_of(c: char) -> usize {
    if c == '\u{fe0f}' { 1 } else { c.width().unwrap_or(0) }
}

/// Columns that a text without escape sequences takes, or more: terminals differ, and too wide a line would break.
pub fn width(text: &str) -> usize {
    text.chars().map(columns_of).sum()
}

/// As much of the text as has room, with `…` at the end where something is left out. Tabs become spaces.
pub fn fit(text: &str, columns: usize) -> String {
    let mut fitted = String::new();
    // Where the text is to end if more comes than has room, and the columns up to here.
    let (mut end, mut used) = (0, 0);
    for c in text.chars() {
        let c = if c == '\t' { ' ' } else { c };
        used += columns_of(c);
        if used > columns {
            fitted.truncate(end);
            if columns > 0 {
                fitted.push('…');
            }
            return fitted;
        }
        fitted.push(c);
        if used < columns {
            end = fitted.len();
        }
    }
    fitted
}

/// The text as lines of at most so many columns, each with a newline, the first after `first` and the others after `rest`.
/// Words are never broken: a path or a command stays one that can be copied.
pub fn wrap(text: &str, first: &str, rest: &str, columns: usize) -> String {
    let options = Options::new(columns).initial_indent(first).subsequent_indent(rest).break_words(false);
    let options = options.word_separator(WordSeparator::AsciiSpace).word_splitter(WordSplitter::NoHyphenation);
    textwrap::fill(text, options.wrap_algorithm(WrapAlgorithm::FirstFit)) + "\n"
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_text_is_cut_at_its_columns_and_not_at_its_bytes() {
        for (text, columns, fitted) in [
            ("abc", 3, "abc"),
            ("abcd", 3, "ab…"),
            ("a\tb", 9, "a b"),
            ("日本語", 6, "日本語"),
            ("日本語", 5, "日本…"),
            ("日本語", 4, "日…"),
            ("日本語", 1, "…"),
            ("日本語", 0, ""),
            ("e\u{301}e\u{301}x", 2, "e\u{301}…"),
            ("", 0, ""),
        ] {
            assert_eq!(fit(text, columns), fitted, "{text} in {columns}");
        }
    }

    #[test]
    fn a_text_is_wrapped_between_words_and_a_word_is_never_broken() {
        for (text, columns, wrapped) in [
            ("one two three", 80, "> one two three\n"),
            ("one two three", 9, "> one two\n  three\n"),
            ("a /very/long-path/that-has no room", 10, "> a\n  /very/long-path/that-has\n  no room\n"),
            ("日本 語", 7, "> 日本\n  語\n"),
        ] {
            assert_eq!(wrap(text, "> ", "  ", columns), wrapped, "{text} in {columns}");
        }
    }

    proptest! {
        #[test]
        fn what_is_fitted_has_room(text in "\\PC*", columns in 0..30usize) {
            prop_assert!(width(&fit(&text, columns)) <= columns);
        }
    }
}
