//! A command line split into words, as a shell does before it expands anything.

/// Returns the words of a line, without their quotes. The last is unfinished, and empty after a space.
pub fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    let mut characters = line.chars().peekable();
    while let Some(c) = characters.next() {
        let Some(word) = words.last_mut() else { break };
        match (quote, c) {
            (Some('\''), '\'') | (Some('"'), '"') => quote = None,
            (Some('\''), _) => word.push(c),
            // Within double quotes a backslash is itself, except before these.
            (Some(_), '\\') if !matches!(characters.peek(), Some('"' | '\\' | '$' | '`')) => word.push(c),
            (_, '\\') => word.extend(characters.next()),
            (Some(_), _) => word.push(c),
            (None, '\'' | '"') => quote = Some(c),
            (None, _) if c.is_whitespace() => {
                if characters.peek().is_none_or(|next| !next.is_whitespace()) {
                    words.push(String::new());
                }
            }
            (None, _) => word.push(c),
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_split_as_a_shell_does_and_its_last_word_is_unfinished() {
        for (line, expected) in [
            ("", &[""][..]),
            ("runner", &["runner"]),
            ("runner  apply ", &["runner", "apply", ""]),
            ("a 'b c' \"d 'e\" f\\ g", &["a", "b c", "d 'e", "f g"]),
            ("a \"b\\\"c\\d\" --x=y", &["a", "b\"c\\d", "--x=y"]),
            ("a 'b c", &["a", "b c"]),
            ("a b\\", &["a", "b"]),
        ] {
            assert_eq!(words(line), expected, "{line}");
        }
    }
}
