//! `.runnerignore`: the rules for files of a bound directory that do not count.
//!
//! The rules are gitignore(5)'s: any directory may have a file, for the paths below it; the nearest file with a rule
//! for a path decides, and in it the last such line; no rule includes a path below an ignored directory again. No other
//! file is read, neither `.gitignore` nor git's own settings. A `.runnerignore` that is not a regular file is ignored.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

/// The name of the file.
pub const NAME: &str = ".runnerignore";

/// The rules of one file, and those of the directories above.
#[derive(Debug)]
pub(super) struct Rules {
    above: Option<Arc<Rules>>,
    matcher: Gitignore,
    /// The length in bytes of the path of the file's directory, with its `/`.
    directory: usize,
}

/// A line that cannot be understood: its number, from 1, and the reason.
pub(super) type BadLine = (usize, String);

impl Rules {
    /// Parses a file's text. `directory` is the path of its directory below the top.
    pub(super) fn parse(text: &[u8], directory: &[u8], above: Option<Arc<Self>>) -> Result<Self, BadLine> {
        let mut builder = GitignoreBuilder::new(".");
        let text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text);
        let mut last = 0;
        for (at, line) in text.split(|byte| *byte == b'\n').enumerate() {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let line = std::str::from_utf8(line).map_err(|_| (at + 1, "it is not UTF-8".to_owned()))?;
            builder.add_line(None, &with_plain_braces(line)).map_err(|error| (at + 1, error.to_string()))?;
            last = at + 1;
        }
        let matcher = builder.build().map_err(|error| (last, error.to_string()))?;
        let directory = if directory.is_empty() { 0 } else { directory.len() + 1 };
        Ok(Self { above, matcher, directory })
    }

    /// Whether the file at this path below the top does not count. The directories above it are assumed to count.
    pub(super) fn ignore(&self, path: &[u8], is_directory: bool) -> bool {
        let mut rules = Some(self);
        while let Some(current) = rules {
            let below = path.get(current.directory..).unwrap_or_default();
            match current.matcher.matched(Path::new(OsStr::from_bytes(below)), is_directory) {
                Match::Ignore(_) => return true,
                Match::Whitelist(_) => return false,
                Match::None => rules = current.above.as_deref(),
            }
        }
        false
    }
}

/// Escapes `{` and `}`, which have no meaning to git and enclose alternatives for the library.
fn with_plain_braces(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let (mut escaped, mut in_class) = (false, false);
    for character in line.chars() {
        match character {
            '[' if !escaped => in_class = true,
            ']' if !escaped => in_class = false,
            '{' | '}' if !escaped && !in_class => plain.push('\\'),
            _ => {}
        }
        escaped = character == '\\' && !escaped;
        plain.push(character);
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ignored<'p>(rules: &Rules, paths: &[&'p str]) -> Vec<&'p str> {
        let is_ignored = |path: &&&str| rules.ignore(path.trim_end_matches('/').as_bytes(), path.ends_with('/'));
        paths.iter().filter(is_ignored).copied().collect()
    }

    #[test]
    fn the_rules_are_those_of_gitignore() {
        let text = "# comment\n\n*.o\n!keep.o\n/target/\ndocs/**/*.pdf\r\nspace\\ \n\\#hash\n[ab].txt\n";
        let rules = Rules::parse(text.as_bytes(), b"", None).unwrap();
        let paths = [
            "a.o",
            "deep/a.o",
            "keep.o",
            "target/",
            "target",
            "deep/target/",
            "docs/a.pdf",
            "docs/x/y/a.pdf",
            "a.pdf",
            "space ",
            "#hash",
            "a.txt",
            "c.txt",
            "# comment",
            "",
        ];
        let expected = ["a.o", "deep/a.o", "target/", "docs/a.pdf", "docs/x/y/a.pdf", "space ", "#hash", "a.txt"];
        assert_eq!(ignored(&rules, &paths), expected);
    }

    #[test]
    fn the_nearest_file_with_a_matching_rule_decides() {
        let top = Arc::new(Rules::parse(b"*.o\n/only-top", b"", None).unwrap());
        let rules = Rules::parse(b"!*.o\n/only-top\n/here", b"sub", Some(top)).unwrap();
        let paths = ["sub/a.o", "sub/only-top", "sub/here", "sub/deep/here", "sub/x"];
        assert_eq!(ignored(&rules, &paths), ["sub/only-top", "sub/here"]);
    }

    #[test]
    fn braces_are_plain_characters_as_in_git() {
        let rules = Rules::parse(b"{a,b}.o\n\\{c}\n[{]d", b"", None).unwrap();
        assert_eq!(ignored(&rules, &["a.o", "{a,b}.o", "{c}", "{d", "c"]), ["{a,b}.o", "{c}", "{d"]);
    }

    #[test]
    fn names_that_are_not_utf_8_are_matched_by_their_bytes() {
        let rules = Rules::parse(b"*.o", b"", None).unwrap();
        assert!(rules.ignore(b"\xff\n.o", false));
        assert!(!rules.ignore(b"\xff.c", false));
    }

    #[test]
    fn an_invalid_line_is_reported_by_its_number() {
        assert_eq!(Rules::parse(b"a\n\xff\n", b"", None).unwrap_err(), (2, "it is not UTF-8".into()));
        let (line, reason) = Rules::parse(b"ok\n[z-a]\n", b"", None).unwrap_err();
        assert_eq!(line, 2);
        assert!(reason.contains("z-a"), "{reason}");
    }
}
