//! Text cut to the columns that it may take.

use unicode_width::UnicodeWidthChar;

/// Columns that a character takes; a variation selector may make the one before it wider.
fn columns_of(c: char) -> usize {
    if c == '\u{fe0f}' { 1 } else { c.width().unwrap_or(0) }
}

/// Columns that a text without escape sequences takes, or more: terminals differ, and too wide a line would break.
pub(super) fn width(text: &str) -> usize {
    text.chars().map(columns_of).sum()
}

/// As much of the text as has room, with `…` at the end where something is left out. Tabs become spaces.
pub(super) fn fit(text: &str, columns: usize) -> String {
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

    proptest! {
        #[test]
        fn what_is_fitted_has_room(text in "\\PC*", columns in 0..30usize) {
            prop_assert!(width(&fit(&text, columns)) <= columns);
        }
    }
}
