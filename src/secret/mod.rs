//! The values of a build's secrets, and the mask that hides them in all output and files of runner.
//!
//! This is against accidents: a tool that prints its token with `--verbose`, `set -x`, an error that quotes a header. A step that
//! wants to give a secret away can encode it in a way that no mask looks for.

mod automaton;
mod mask;
mod patterns;
mod visible;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, RwLock};

use mask::Automata;

use crate::poison;
pub use mask::Masker;

/// The secrets so far.
#[derive(Default)]
pub struct Secrets(RwLock<KnownSecrets>);

#[derive(Default)]
struct KnownSecrets {
    values: BTreeSet<Vec<u8>>,
    automata: Option<Arc<Automata>>,
}

/// A debug print must not reveal a secret.
impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets(…)")
    }
}

impl Secrets {
    /// Adds the value of a secret. All later output is masked by it too.
    pub fn add(&self, value: &[u8]) {
        let mut secrets = poison::write(&self.0);
        if secrets.values.insert(value.to_vec()) {
            let patterns: BTreeSet<Vec<u8>> = secrets.values.iter().flat_map(|value| patterns::of(value)).collect();
            secrets.automata = (!patterns.is_empty()).then(|| Arc::new(Automata::new(&patterns)));
        }
    }

    /// Returns the automata of the secrets so far; none where there is no secret.
    fn automata(&self) -> Option<Arc<Automata>> {
        poison::read(&self.0).automata.clone()
    }

    /// Returns a whole text with the secrets in it masked.
    pub fn text<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let Some(automata) = self.automata() else { return Cow::Borrowed(text) };
        let mut masked = Vec::new();
        let mut masker = Masker::default();
        masker.look_for(Some(automata));
        masker.take(text.as_bytes(), &mut masked);
        masker.finish(&mut masked);
        // A secret that ends within a character leaves a part of that character.
        Cow::Owned(String::from_utf8_lossy(&masked).into_owned())
    }
}

impl Masker {
    /// Looks for all secrets so far. To be called before each [`Masker::take`].
    pub fn update(&mut self, secrets: &Secrets) {
        self.look_for(secrets.automata());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_masked_by_all_secrets_known_by_then_and_none_is_in_a_debug_print() {
        let secrets = Secrets::default();
        assert!(matches!(secrets.text("hunter2 swordfish"), Cow::Borrowed(_)));
        secrets.add(b"hunter2\n");
        assert_eq!(secrets.text("hunter2 swordfish"), "*** swordfish");
        secrets.add(b"swordfish");
        assert_eq!(secrets.text("hunter2 swordfish"), "*** ***");
        assert_eq!(secrets.text("é hunter é"), "é hunter é");
        assert_eq!(format!("{secrets:?}"), "Secrets(…)");
    }

    #[test]
    fn a_secret_is_masked_however_it_is_coloured_and_one_with_colours_without_them_too() {
        let secrets = Secrets::default();
        secrets.add(b"hunter2");
        secrets.add(b"\x1b[1msword\x1b[0mfish");
        for (text, masked) in [
            ("a hun\u{1b}[31mter2 b", "a *** b"),
            ("a h\u{1b}]8;;http://x\u{1b}\\unter\u{7}2", "a ***"),
            ("\u{1b}[1mhunter\u{9b}0m2\u{1b}[0m", "\u{1b}[1m***\u{1b}[0m"),
            ("hun\u{202e}ter\0\u{8}2", "***"),
            ("hun\u{1b}]ter2", "***"),
            ("\u{1b}]\rhun\u{1b}[31mter2\u{7}", "\u{1b}]\r***\u{7}"),
            ("hun\u{1b}[ter2", "hun\u{1b}[ter2"),
            ("swordfish", "***"),
            ("\u{1b}[1msword\u{1b}[0mfish", "***"),
            ("hun\nter2", "hun\nter2"),
        ] {
            assert_eq!(secrets.text(text), masked, "{text:?}");
        }
    }

    #[test]
    fn a_value_under_4_bytes_is_not_masked() {
        let secrets = Secrets::default();
        secrets.add(b"abc\n");
        assert_eq!(secrets.text("abc"), "abc");
    }
}
