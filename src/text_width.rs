//! The width of text in columns of a terminal: measures text, cuts it to a width, wraps it to a width.

use textwrap::{Options, WordSeparator, WordSplitter, WrapAlgorithm};
use unicode_width::UnicodeWidthChar;

/// Returns the columns of a character; a variation selector may make the character before it wider.
fn char_width(c: char) -> usize {
    if c == '\u{fe0f}' { 1 } else { c.width().unwrap_or(0) }
}

/// Returns the columns of a text without escape sequences, or more: terminals differ, and a line that is too wide
/// would wrap.
pub fn width(text: &str) -> usize {
    text.chars().map(char_width).sum()
}

/// Returns the beginning of the text that fits, with `…` at the end if it is cut. Tabs become spaces.
pub fn fit(text: &str, columns: usize) -> String {
    let mut fitted = String::new();
    // The end of the text if it must be cut, and the columns up to here.
    let (mut end, mut used) = (0, 0);
    for c in text.chars() {
        let c = if c == '\t' { ' ' } else { c };
        used += char_width(c);
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

/// Returns the text as lines of at most so many columns, each with a newline: the first begins with `first`, and the
/// others with `rest`. Words are never broken: a path or a command can be copied.
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
        fn fitted_text_is_at_most_as_wide_as_its_columns(text in "\\PC*", columns in 0..30usize) {
            prop_assert!(width(&fit(&text, columns)) <= columns);
        }
    }
}
