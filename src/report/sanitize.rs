//! Text of unknown origin made safe for a terminal.

use std::borrow::Cow;

use crate::escape::is_hidden;

/// Returns one line without anything that a terminal would act on; the text itself stays.
///
/// - Escape sequences of ECMA-48 are removed (colours, cursor movement, titles, clearing), in their 7-bit and 8-bit
///   forms. Of a sequence that does not end on this line only the introducer is removed, so that it hides no text.
/// - Of text overwritten by carriage returns only the last part stays, as a terminal would show it.
/// - A tab stays; other control characters are removed, and so are those that change the direction of text.
pub fn sanitize(line: &str) -> Cow<'_, str> {
    let line = line.trim_end_matches(['\r', '\n']);
    // Most lines are printable ASCII, and steps print very many.
    if line.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return Cow::Borrowed(line);
    }
    let line = line.rsplit('\r').next().unwrap_or(line);
    if !line.chars().any(is_hidden) {
        return Cow::Borrowed(line);
    }
    let mut text = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        rest = match c {
            '\u{1b}' => escape(after),
            '\u{9b}' => control_sequence(after),
            '\u{90}' | '\u{98}' | '\u{9d}'..='\u{9f}' => string(after),
            _ => {
                if c == '\t' || !is_hidden(c) {
                    text.push(c);
                }
                after
            }
        };
    }
    Cow::Owned(text)
}

/// Returns the text after the sequence that an ESC began.
fn escape(text: &str) -> &str {
    let mut chars = text.chars();
    match chars.next() {
        Some('[') => control_sequence(chars.as_str()),
        Some('P' | 'X' | ']' | '^' | '_') => string(chars.as_str()),
        // Intermediate bytes, then a final one: such as a choice of character set.
        Some(' '..='/') => {
            let rest = text.trim_start_matches(|c| matches!(c, ' '..='/'));
            rest.strip_prefix(|c| matches!(c, '0'..='~')).unwrap_or(rest)
        }
        Some('0'..='~') => chars.as_str(),
        _ => text,
    }
}

/// Returns the text after the parameters, intermediate bytes and final byte of a control sequence.
fn control_sequence(text: &str) -> &str {
    let rest = text.trim_start_matches(|c| matches!(c, '0'..='?'));
    let rest = rest.trim_start_matches(|c| matches!(c, ' '..='/'));
    rest.strip_prefix(|c| matches!(c, '@'..='~')).unwrap_or(text)
}

/// Returns the text after a control string: a title, a link, a device's own commands. It ends with BEL or ST.
fn string(text: &str) -> &str {
    let ends = ["\u{7}", "\u{1b}\\", "\u{9c}"];
    let end = ends.iter().filter_map(|end| text.find(end).map(|at| at + end.len())).min();
    end.map_or(text, |end| &text[end..])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn escape_sequences_are_removed_and_text_stays() {
        for (line, shown) in [
            ("plain é ✓", "plain é ✓"),
            ("a\tb", "a\tb"),
            ("\u{1b}[1;31mred\u{1b}[0m", "red"),
            ("\u{1b}[2J\u{1b}[Hhome", "home"),
            ("\u{1b}]0;title\u{7}text", "text"),
            ("\u{1b}]8;;http://x\u{1b}\\link\u{1b}]8;;\u{1b}\\", "link"),
            ("\u{1b}Pq#0\u{1b}\\after", "after"),
            ("\u{1b}(Bset", "set"),
            ("\u{1b}cclear", "clear"),
            ("\u{9b}31mred", "red"),
            ("\u{9d}0;title\u{9c}text", "text"),
            ("bell\u{7} back\u{8}space del\u{7f}", "bell backspace del"),
            ("\u{1b}]0;no end", "0;no end"),
            ("\u{1b}[12", "12"),
            ("\u{1b}", ""),
            ("\u{1b}\u{1b}[1mx", "x"),
            ("\u{1b}é", "é"),
            ("a\u{202e}b\u{2066}c\u{200f}d\u{61c}e", "abcde"),
        ] {
            assert_eq!(sanitize(line), shown, "{line:?}");
        }
    }

    #[test]
    fn only_the_text_after_the_last_carriage_return_is_shown() {
        assert_eq!(sanitize(" 1%\r 50%\r100%"), "100%");
        assert_eq!(sanitize("dos\r"), "dos");
        assert_eq!(sanitize("dos\r\n"), "dos");
        assert_eq!(sanitize("\r\r"), "");
    }

    proptest! {
        #[test]
        fn any_bytes_come_out_without_control_characters(bytes: Vec<u8>, sequences in "[\u{1b}\u{9b}\u{202e}\u{2067}\\[\\]P;0-9mJ\r\u{7}a-c é]*") {
            for line in [&*String::from_utf8_lossy(&bytes), &sequences] {
                prop_assert!(sanitize(line).chars().all(|c| c == '\t' || !is_hidden(c)));
            }
        }

        #[test]
        fn no_secret_is_readable_in_a_line_with_any_hidden_characters_in_it(
            before in "[\u{1b}\u{9b}\u{9d}\u{202e}\u{2067}\\[\\]P; \\\\0-9mJ\r\n\u{7}a-c é]{0,12}",
            between in proptest::collection::vec("[\u{1b}\u{9b}\u{9d}\u{90}\u{85}\u{61c}\u{2067}\\[\\](P; \\\\0-9mJ\u{7}\u{8}]{0,6}", 5),
            cut in any::<proptest::sample::Index>(),
        ) {
            let secrets = crate::secret::Secrets::default();
            secrets.add(b"abcdc");
            let pairs = between.iter().zip("abcdc".chars());
            let text: String = std::iter::once(before).chain(pairs.map(|(between, c)| format!("{between}{c}"))).collect();
            let mut masker = crate::secret::Masker::default();
            masker.update(&secrets);
            let mut masked = Vec::new();
            let (first, second) = text.as_bytes().split_at(cut.index(text.len()));
            masker.take(first, &mut masked);
            masker.take(second, &mut masked);
            masker.finish(&mut masked);
            let masked = String::from_utf8_lossy(&masked).into_owned();
            prop_assert_eq!(&masked, &*secrets.text(&text));
            for (line, original) in masked.split('\n').zip(text.split('\n')) {
                prop_assert!(!sanitize(line).contains("abcdc"), "{:?} of {:?}", line, original);
            }
            if !text.split('\n').any(|line| sanitize(line).contains("abcdc")) && !text.contains("abcdc") && !text.contains('\r') {
                prop_assert_eq!(masked, text);
            }
        }

        #[test]
        fn text_without_control_characters_stays_the_same(line in "\\PC*") {
            prop_assert_eq!(&*sanitize(&line), &*line);
        }
    }
}
