//! Every error and every warning as the user reads it: a table for each area in `snapshots/`, compared to the letter.
//!
//! A table is made by a `match` without a wildcard: a variant that is not in it does not compile. After an intended change,
//! `INSTA_UPDATE=always cargo test` writes the tables again; read the difference like someone who has never seen runner: what
//! happened, where, why, what to do. Messages that the program itself can be made to print are in `tests/messages`.

mod cgroups;
mod exports;
mod files;
mod images;
mod reasons;
mod seccomp;
mod sessions;
mod settings;
mod store;
mod tools;
mod warnings;

use std::error::Error as StdError;
use std::io;

use crate::digest::Digest;
use crate::error::{Error, Exit};

/// Examples of an enum, one at least for each of its variants: `Variant => [example, …]`.
macro_rules! every {
    ($($variant:pat => [$($example:expr),+ $(,)?]),+ $(,)?) => {{
        let mut examples = Vec::new();
        $(for example in [$($example),+] {
            assert!(matches!(&example, $variant), "{example:?} stands under {}", stringify!($variant));
            examples.push(example);
        })+
        for example in &examples {
            match example { $($variant => {})+ }
        }
        examples
    }};
}
use every;

/// Compares a table with its snapshot.
pub(crate) fn compare(area: &str, lines: impl IntoIterator<Item = String>) {
    let text: Vec<String> = lines.into_iter().collect();
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.set_snapshot_path(concat!(env!("CARGO_MANIFEST_DIR"), "/src/messages/snapshots"));
    settings.bind(|| insta::assert_snapshot!(area, text.join("\n")));
}

/// Returns the examples as the program shows them, each after the name of its variant.
fn shown<E: StdError + Send + Sync + 'static>(
    examples: Vec<E>,
    hint: impl Fn(&E) -> Option<String>,
) -> impl Iterator<Item = String> {
    examples.into_iter().map(move |error| {
        let name = variant(&error);
        let hint = hint(&error);
        format!("{name}\n{}", Error::new(Exit::Host, error).with_hint(hint).render())
    })
}

fn variant(value: &impl std::fmt::Debug) -> String {
    format!("{value:?}").chars().take_while(char::is_ascii_alphanumeric).collect()
}

/// Returns the error of the system with that number.
fn errno(number: i32) -> io::Error {
    io::Error::from_raw_os_error(number)
}

fn digest(text: &str) -> Digest {
    Digest::of_bytes(text.as_bytes())
}
