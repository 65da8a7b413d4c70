//! Every refusal, as the user sees it, to the letter.
//!
//! Each file of `refusals/` has cases: a line `### the subject`, a manifest, a line `---`, and the report. After an intended
//! change, `BLESS=1 cargo test --test manifest refusals` writes the files again; read the diff.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use runner::diagnostic::{Style, render};
use runner::load::check;

use crate::host::FakeHost;

fn shown(manifest: &str) -> String {
    match check(manifest, Path::new("/work/build.yaml"), &BTreeMap::new(), &FakeHost::default()) {
        Ok(_) => "accepted\n".to_owned(),
        Err(problems) => render(&problems, "build.yaml", manifest, Style::default()),
    }
}

fn compare(name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/manifest/refusals").join(name);
    let written = fs::read_to_string(&path).unwrap();
    let mut fresh = String::new();
    let mut wrong = Vec::new();
    for case in written.split("### ").skip(1) {
        let (title, rest) = case.split_once('\n').unwrap();
        let (manifest, expected) = rest.split_once("\n---\n").unwrap_or((rest.trim_end(), ""));
        // Escapes, for characters that an editor would not preserve.
        let manifest = format!("{manifest}\n").replace("<TAB>", "\t").replace("<NUL>", "\0").replace("<CR>", "\r");
        let got = shown(&manifest);
        if got != expected.trim_end().to_owned() + "\n" {
            wrong.push(format!("### {title}\nexpected:\n{expected}\ngot:\n{got}"));
        }
        let written = manifest.replace('\t', "<TAB>").replace('\0', "<NUL>").replace('\r', "<CR>");
        fresh.push_str(&format!("### {title}\n{}\n---\n{got}\n", written.trim_end_matches('\n')));
    }
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, fresh.trim_end().to_owned() + "\n").unwrap();
        return;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

macro_rules! refusals {
    ($($test:ident: $file:literal,)*) => {
        $(#[test]
        fn $test() {
            compare($file);
        })*
    };
}

refusals! {
    what_is_no_manifest_at_all_is_refused: "document.txt",
    unknown_doubled_and_mistyped_keys_are_refused: "keys.txt",
    unknown_variables_are_refused: "vars.txt",
    containers_that_cannot_be_are_refused: "containers.txt",
    debian_roots_that_cannot_be_are_refused: "debian.txt",
    exports_that_cannot_be_are_refused: "exports.txt",
    mounts_that_cannot_be_are_refused: "mounts.txt",
    mounts_of_snapshots_and_images_that_cannot_be_are_refused: "fixed-mounts.txt",
    devices_that_cannot_be_are_refused: "devices.txt",
    steps_that_cannot_be_are_refused: "steps.txt",
    snapshots_that_cannot_be_are_refused: "snapshots.txt",
    copies_that_cannot_be_are_refused: "copies.txt",
    orders_that_cannot_be_are_refused: "order.txt",
    all_problems_are_reported_at_once_without_those_that_only_follow: "together.txt",
}
