//! Hostile manifests: bombs, thousands of mistakes, and any bytes at all. Each is refused, and soon, and shown.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use proptest::prelude::*;
use runner::diagnostic::{Problem, Style, render};
use runner::load::{check, load};
use runner::model::Build;

use crate::host::FakeHost;

fn read(text: &str) -> Result<Build, Vec<Problem>> {
    check(text, Path::new("/work/build.yaml"), &BTreeMap::new(), &FakeHost::default())
}

/// Returns the report of a manifest that is refused.
fn refused(text: &str) -> String {
    let problems = read(text).unwrap_err();
    assert!(!problems.is_empty());
    render(&problems, "build.yaml", text, Style::default())
}

#[test]
fn a_billion_laughs_are_refused_at_the_alias() {
    let mut text = "a0: &a0 [ha]\n".to_owned();
    for n in 1..12 {
        let aliases = vec![format!("*a{}", n - 1); 10].join(", ");
        writeln!(text, "a{n}: &a{n} [{aliases}]").unwrap();
    }
    let shown = refused(&text);
    assert!(shown.contains("too large once its aliases are written out"), "{shown}");
    assert!(shown.contains("build.yaml:12:"), "{shown}");
}

#[test]
fn many_aliases_of_one_long_text_are_refused() {
    let text = format!("a: &a {}\nb: [{}]\n", "x".repeat(1 << 20), vec!["*a"; 100_000].join(","));
    assert!(refused(&text).contains("too large once its aliases are written out"));
}

#[test]
fn many_aliases_of_one_long_list_are_refused() {
    let text = format!("a: &a [{}]\nb: [{}]\n", vec!["x"; 20_000].join(","), vec!["*a"; 20_000].join(","));
    assert!(refused(&text).contains("too large once its aliases are written out"));
}

#[test]
fn a_million_values_without_any_alias_are_refused() {
    let shown = refused(&"- a\n".repeat((4 << 20) / 4));
    assert!(shown.contains("the manifest has more than 1000000 values"), "{shown}");
}

/// The host is asked about absolute paths only, and a program that was not found has none.
#[test]
fn a_missing_program_beside_an_output_is_one_problem() {
    let shown = refused(
        "version: 1\ncontainers:\n  c: { rootfs: { programs: [\"!missing\"] } }\n\
         steps:\n  - { name: s, container: c, snapshot: { output: out.squashfs } }\n",
    );
    assert!(shown.contains("the program `!missing` is not on this host"), "{shown}");
    assert!(!shown.contains("is the output of a snapshot"), "{shown}");
}

#[test]
fn an_alias_of_itself_is_refused() {
    refused("version: 1\nvars: &a {x: *a}\n");
    refused("version: 1\nvars: &a [*a, *a]\n");
}

#[test]
fn deep_nesting_is_refused() {
    for (open, close) in [("[", "]"), ("{a: ", "}"), ("- ", ""), ("[{a: ", ""), ("? ", "")] {
        for depth in [90, 200, 100_000] {
            refused(&format!("{}{}", open.repeat(depth), close.repeat(depth)));
        }
    }
    refused(&"[".repeat(4 << 20));
    assert!(
        read(&format!(
            "version: 1\ncontainers: {{c: {{rootfs: {{scratch: true}}}}}}\nsteps: [{{name: a, run: '{}'}}]\n",
            "[[{{".repeat(1000)
        ))
        .is_ok()
    );
}

#[test]
fn a_manifest_over_four_mebibytes_is_refused_unread() {
    let mut text = "version: 1\ncontainers: {c: {rootfs: {scratch: true}}}\n".to_owned();
    let comment = "#".repeat((4 << 20) - text.len() - 1) + "\n";
    text.push_str(&comment);
    assert_eq!(text.len(), 4 << 20);
    read(&text).unwrap();
    text.push('\n');
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("build.yaml");
    std::fs::write(&path, &text).unwrap();
    let error = load(&path, &BTreeMap::new(), &FakeHost::default()).unwrap_err();
    let name = path.display();
    assert_eq!(
        error.render(Style::default()),
        format!(
            "  × the manifest is larger than 4 MiB\n  help: a manifest is a few kilobytes: is this the right file?\n\n\
             error: {name}: 1 problem\n"
        )
    );
}

#[test]
fn bytes_that_are_not_utf8_are_refused_at_their_offset() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("build.yaml");
    std::fs::write(&path, b"version: 1\nname: a\xffb\n").unwrap();
    let shown = load(&path, &BTreeMap::new(), &FakeHost::default()).unwrap_err().render(Style::default());
    assert!(shown.contains("the manifest is not UTF-8") && shown.contains("build.yaml:2:8]"), "{shown}");
}

#[test]
fn no_control_character_of_a_manifest_reaches_the_terminal() {
    let text = "version: 1\n\"\\e[31mred\\a\": \"\u{202e}\"\nname: \"a\\nb\"\n";
    let shown = refused(text);
    assert!(!shown.chars().any(|c| (c.is_control() && c != '\n') || c == '\u{202e}'), "{shown:?}");
    assert!(!refused("a: \x1b[31m\n").contains('\x1b'));
}

#[test]
fn thousands_of_mistakes_are_refused_and_counted() {
    let mut text = "version: 1\ncontainers: {c: {rootfs: {scratch: true}}}\nsteps:\n".to_owned();
    for n in 0..3_000 {
        writeln!(text, "- {{nmae: s{n}, contianer: x{n}, rnu: '${{{{ v{n} }}}}', needs: [q{n}]}}").unwrap();
    }
    let shown = refused(&text);
    assert!(shown.lines().last().unwrap().starts_with("error: build.yaml: "), "{}", &shown[shown.len() - 200..]);
    assert!(shown.ends_with("of which the first 100 are shown\n"));
}

#[test]
fn a_list_of_twenty_thousand_wrong_elements_is_refused() {
    let list = vec!["{}"; 20_000].join(",");
    refused(&format!("version: 1\ncontainers: {{c: {{rootfs: {{programs: [{list}]}}}}}}\n"));
    refused(&format!("version: 1\nsteps: [{list}]\n"));
}

#[test]
fn a_long_chain_and_a_long_cycle_are_looked_through() {
    let chain = |first: &str| {
        let mut text = "version: 1\ncontainers: {c: {rootfs: {scratch: true}}}\nsteps:\n".to_owned();
        writeln!(text, "- {{name: s0, run: x, needs: [{first}]}}").unwrap();
        for n in 1..20_000 {
            writeln!(text, "- {{name: s{n}, run: x}}").unwrap();
        }
        text
    };
    assert_eq!(read(&chain("")).unwrap().steps.len(), 20_000);
    let shown = refused(&chain("s19999"));
    assert!(shown.contains("these steps wait for each other") && shown.contains('…'), "{}", shown.len());
}

/// A manifest with every kind of entry, for mutations to start from.
const SEED: &str = r#"version: 1
name: n
source_date_epoch: none
vars: {v: x, w: 1}
mounts:
  m: &m {type: bind, source: src, target: /m, options: [ro, nodev]}
  t: {type: tmpfs, target: /t, options: [size=1m]}
devices: {kvm: {path: /dev/kvm, access: rw, mode: "0660"}}
containers:
  a:
    rootfs: {squashfs: base.squashfs}
    env: {A: "${{ v }}", B: 2}
    mounts: [m, t]
    devices: [kvm, /dev/loop0]
    capabilities: {add: [NET_ADMIN]}
    limits: {memory: 1GiB, cpus: 1.5}
  b: {rootfs: {snapshot: s}, mounts: [*m], user: a:b}
steps:
  - name: one
    container: a
    run: |
      echo é ${{ w }}
  - {name: s, container: a, snapshot: {output: o, level: 3}}
  - {name: two, container: b, exec: [x, 1], needs: [s], timeout: 1m, retries: 2}
"#;

/// The texts that mutations insert.
const PIECES: [&str; 24] = [
    "",
    "\n",
    "- ",
    ": ",
    "{",
    "}",
    "[",
    "]",
    "*m",
    "&m ",
    "null",
    "~",
    "!!str ",
    "${{",
    "}}",
    "\"",
    "'",
    "\t",
    "|\n",
    "steps",
    "  ",
    "1e999",
    "\u{1f600}",
    "\u{0}",
];

#[test]
fn the_seed_of_the_mutations_is_right() {
    read(SEED).unwrap();
}

fn never_panics(text: &str) {
    if let Err(problems) = read(text) {
        assert!(!problems.is_empty());
        let shown = render(&problems, "build.yaml", text, Style::default());
        assert!(shown.contains("error: build.yaml: "));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_text_is_read_or_refused(text in any::<String>()) {
        never_panics(&text);
    }

    #[test]
    fn any_text_of_yamls_own_signs_is_read_or_refused(text in "[-\\[\\]{}:,&*!|>'\"%@`#?~a1 \n\r\t\u{e9}]{0,60}") {
        never_panics(&text);
    }

    #[test]
    fn a_mutated_manifest_is_read_or_refused(
        changes in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..12, 0..PIECES.len()), 1..6),
    ) {
        let mut text = SEED.to_owned();
        for (at, removed, piece) in changes {
            let mut start = at.index(text.len() + 1);
            while !text.is_char_boundary(start) {
                start -= 1;
            }
            let mut end = (start + removed).min(text.len());
            while !text.is_char_boundary(end) {
                end += 1;
            }
            text.replace_range(start..end, PIECES[piece]);
        }
        never_panics(&text);
    }

    #[test]
    fn a_manifest_whose_lines_are_dropped_doubled_or_moved_is_read_or_refused(
        picks in prop::collection::vec(any::<prop::sample::Index>(), 0..40),
    ) {
        let lines: Vec<_> = SEED.lines().collect();
        let text: String = picks.iter().map(|pick| format!("{}\n", pick.get(&lines))).collect();
        never_panics(&text);
    }
}
