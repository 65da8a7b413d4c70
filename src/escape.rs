//! Escapes text for a terminal, HTML, XML, JSON, and a shell's command line.

use std::borrow::Cow;
use std::fmt::Write;

/// Returns whether a character changes the direction of text, which can make a line look like another.
pub fn turns_direction(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Returns whether a terminal would act on a character, or show a line in another order for it.
pub fn is_hidden(c: char) -> bool {
    c.is_control() || turns_direction(c)
}

/// Returns lines for a terminal: each hidden character but line ends and tabs is written as its escape.
pub fn visible(text: &str) -> Cow<'_, str> {
    let stays = |c: char| !is_hidden(c) || matches!(c, '\n' | '\t');
    if text.chars().all(stays) {
        return Cow::Borrowed(text);
    }
    let escaped = |c: char| if stays(c) { c.to_string() } else { c.escape_default().to_string() };
    Cow::Owned(text.chars().map(escaped).collect())
}

/// Returns JSON for a terminal: characters of a string that it would act on are written as escapes, with the same meaning.
pub fn json(text: &str) -> Cow<'_, str> {
    // Control characters of ASCII but DEL cannot be in a string; outside of strings they are line ends.
    let is_plain = |c: char| c.is_ascii() && c != '\u{7f}' || !is_hidden(c);
    // Most lines are printable ASCII, and steps print very many.
    if text.bytes().all(|byte| matches!(byte, b'\n' | b' '..=b'~')) || text.chars().all(is_plain) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match is_plain(c) {
            true => escaped.push(c),
            // Writing to a string cannot fail.
            false => drop(write!(escaped, "\\u{:04x}", u32::from(c))),
        }
    }
    Cow::Owned(escaped)
}

/// Returns text for an element or a quoted attribute: nothing in it is markup, and characters that neither language allows are
/// replaced.
pub fn markup(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\n' | '\t' => escaped.push(c),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => escaped.push('\u{fffd}'),
            c if turns_direction(c) => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

/// Returns one word of a shell's command line, with quotes where it needs them.
pub fn word(text: &str) -> String {
    let bare = |c: char| c.is_alphanumeric() || "_-+=./:,@%^".contains(c);
    if !text.is_empty() && text.chars().all(bare) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_has_quotes_where_a_shell_would_split_it() {
        let words = ["/a/b-c.yaml", "K=v", "", "a b", "it's", "$HOME"].map(word);
        assert_eq!(words, ["/a/b-c.yaml", "K=v", "''", "'a b'", r"'it'\''s'", "'$HOME'"]);
    }

    #[test]
    fn json_means_the_same_and_has_nothing_that_a_terminal_acts_on() {
        let text = "a\u{9b}31m\u{7f}\u{85}\u{202e}\u{61c}é\u{1b}\n";
        let value = serde_json::json!({ text: [text] });
        let shown = format!("{value:#}\n");
        let escaped = json(&shown);
        assert_eq!(serde_json::from_str::<serde_json::Value>(&escaped).unwrap(), value);
        assert!(escaped.contains("a\\u009b31m\\u007f\\u0085\\u202e\\u061cé\\u001b\\n"), "{escaped}");
        assert!(escaped.chars().all(|c| c == '\n' || !is_hidden(c)), "{escaped}");
        assert!(matches!(json("{\n  \"é\": 1\n}"), Cow::Borrowed(_)));
    }

    #[test]
    fn characters_that_a_terminal_acts_on_are_escaped() {
        assert_eq!(visible("a\n\tb é"), "a\n\tb é");
        assert_eq!(visible("a\u{1b}[2J\r\u{9b}\u{202e}\n"), "a\\u{1b}[2J\\r\\u{9b}\\u{202e}\n");
    }

    #[test]
    fn markup_is_escaped() {
        assert_eq!(
            markup("<a b=\"c\" d='e'>&amp;\u{1b}[0m\u{202e}\u{ffff}\n\té</a>"),
            "&lt;a b=&quot;c&quot; d=&#39;e&#39;&gt;&amp;amp;\u{fffd}[0m\u{fffd}\u{fffd}\n\té&lt;/a&gt;"
        );
    }
}
