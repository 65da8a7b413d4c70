//! The byte strings that reveal the value of a secret: the value, its lines, and its base64.

use std::collections::BTreeSet;

/// A shorter value is part of too many words that are no secret.
pub(super) const MIN_BYTES: usize = 4;

/// Of a larger value only the lines are searched, as they are and as base64(1) cuts them: each searched byte needs some 30 bytes
/// of memory.
const MAX_WHOLE_BYTES: usize = 16 << 10;

/// The columns after which programs cut base64: coreutils, and PEM files.
const COLUMNS: [usize; 2] = [76, 64];

const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// Returns the byte strings that reveal the value.
pub(super) fn of(value: &[u8]) -> BTreeSet<Vec<u8>> {
    // A file's last newline, or blanks around a value, are not printed with it.
    let value = value.trim_ascii();
    let mut patterns = BTreeSet::new();
    let mut add = |pattern: &[u8]| {
        if pattern.len() >= MIN_BYTES {
            patterns.insert(pattern.to_vec());
        }
    };
    for line in value.split(|byte| *byte == b'\n') {
        add(line.trim_ascii());
    }
    if value.len() < MIN_BYTES {
        return patterns;
    }
    let encoded = base64(value, 0, *b"+/");
    for columns in COLUMNS {
        if encoded.len() > columns {
            encoded.chunks(columns).for_each(&mut add);
        }
    }
    if value.len() <= MAX_WHOLE_BYTES {
        add(value);
        // Its offset in a text that is encoded together with it, such as "user:password", is not known.
        for before in 0..3 {
            for last in [*b"+/", *b"-_"] {
                add(&base64(value, before, last));
            }
        }
    }
    patterns
}

/// Returns the characters of base64 that depend on the value alone, where that many bytes are before it.
fn base64(value: &[u8], before: usize, last: [u8; 2]) -> Vec<u8> {
    let bits = |byte: usize| byte * 8;
    let first = bits(before).div_ceil(6);
    let end = bits(before + value.len()) / 6;
    let byte = |at: usize| at.checked_sub(before).and_then(|at| value.get(at)).copied().unwrap_or(0);
    let character = |index: usize| {
        let (at, shift) = (index * 6 / 8, index * 6 % 8);
        let pair = u16::from_be_bytes([byte(at), byte(at + 1)]);
        let six = usize::from(pair >> (10 - shift) & 63);
        match six {
            62 | 63 => last[six - 62],
            _ => ALPHABET[six],
        }
    };
    (first..end).map(character).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use proptest::prelude::*;

    use super::*;

    /// Returns the output of coreutils.
    fn encoded(bytes: &[u8], wrap: &str) -> String {
        let mut command = Command::new("base64");
        let mut child = command.arg(wrap).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(bytes).unwrap();
        String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
    }

    #[test]
    fn lines_of_four_bytes_and_the_whole_are_looked_for() {
        let patterns = of(b"  first line\r\n\tabc\nlast\n\n");
        for pattern in ["first line", "last", "first line\r\n\tabc\nlast"] {
            assert!(patterns.contains(pattern.as_bytes()), "{pattern}");
        }
        assert!(!patterns.contains(&b"abc"[..]));
        assert_eq!(of(b" abc \n"), BTreeSet::new());
        assert_eq!(of(b""), BTreeSet::new());
    }

    #[test]
    fn a_url_has_an_alphabet_of_its_own() {
        let patterns = of(b"\xfb\xff\xbf\xfb\xff\xbf");
        assert!(patterns.contains(&b"+/+/+/+/"[..]) && patterns.contains(&b"-_-_-_-_"[..]), "{patterns:?}");
    }

    #[test]
    fn each_base64_line_of_a_long_value_is_found() {
        for length in [58, 100, MAX_WHOLE_BYTES, MAX_WHOLE_BYTES + 1, 3 * MAX_WHOLE_BYTES] {
            let value: Vec<u8> = (0..length).map(|n| b'!' + (n * 7 % 90) as u8).collect();
            let patterns = of(&value);
            for wrap in ["-w76", "-w64"] {
                let text = encoded(&value, wrap);
                let lines: Vec<&str> = text.lines().collect();
                for line in &lines[..lines.len() - 1] {
                    assert!(patterns.contains(line.as_bytes()), "{line} of {length}");
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn base64_of_any_text_around_the_value_contains_a_pattern(
            before in proptest::collection::vec(any::<u8>(), 0..5),
            value in proptest::collection::vec(b'!'..=b'~', 4..40),
            after in proptest::collection::vec(any::<u8>(), 0..5),
        ) {
            let text = encoded(&[before.clone(), value.clone(), after].concat(), "-w0");
            let pattern = String::from_utf8(base64(&value, before.len() % 3, *b"+/")).unwrap();
            prop_assert!(pattern.len() >= MIN_BYTES);
            prop_assert!(text.contains(&pattern), "{pattern} in {text}");
            prop_assert!(of(&value).contains(pattern.as_bytes()));
        }
    }
}
