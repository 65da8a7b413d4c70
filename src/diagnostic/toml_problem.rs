//! A problem of TOML in one line: its place and its message, without the text, which may be of any file.

use super::visible::escaped;

/// Returns the line, the column and the problem. Quotations of the text, such as a key, are escaped.
pub fn toml_problem(text: &str, error: &toml::de::Error) -> String {
    let message = escaped(error.message());
    let Some(before) = error.span().and_then(|span| text.get(..span.start)) else { return message.into_owned() };
    let (line, column) = (before.split('\n').count(), before.chars().rev().take_while(|c| *c != '\n').count() + 1);
    format!("line {line}, column {column}: {message}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_one_line_with_its_place_and_without_the_text() {
        #[derive(Debug, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Known {
            #[expect(dead_code, reason = "it gives the name that is known")]
            name: String,
        }
        let of = |text: &str| toml_problem(text, &toml::from_str::<Known>(text).unwrap_err());
        let problem = of("name = ''\n\n  secret\n");
        assert!(problem.starts_with("line 3, column ") && !problem.contains("secret"), "{problem}");
        assert!(of("name = \n").starts_with("line 1, column "));
        let problem = of("name = ''\n\"\\n::error::\\u001b[2J\" = 1\n");
        assert!(problem.starts_with("line 2, column 1: unknown field `\\n::error::\\u{1b}[2J`"), "{problem}");
    }
}
