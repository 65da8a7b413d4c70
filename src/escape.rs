//! Text put where HTML, XML, and a shell's command line are read.

/// As text or as a quoted attribute's value: nothing in it is markup, and what neither language may hold is replaced.
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
            // What turns the direction of text could make it look like another.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

/// As one word of a shell's command line, with quotes where it needs them.
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
    fn nothing_is_markup_any_more() {
        assert_eq!(
            markup("<a b=\"c\" d='e'>&amp;\u{1b}[0m\u{202e}\u{ffff}\n\té</a>"),
            "&lt;a b=&quot;c&quot; d=&#39;e&#39;&gt;&amp;amp;\u{fffd}[0m\u{fffd}\u{fffd}\n\té&lt;/a&gt;"
        );
    }
}
