//! `runner __complete`: the possible ends of a command line, for the completion scripts of shells.
//!
//! Each line is a candidate and, behind a tab, a few words about it; `:files` or `:directories` makes the shell complete files. A
//! file that cannot be read, or is no manifest, gives no names: an error while typing helps no user.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use super::command_error::CommandError;
use super::console::print;
use crate::cli::{self, CompleteArgs, Completion, Files, Names};
use crate::escape::is_hidden;
use crate::fs::regular;
use crate::manifest::{self, Broken, Manifest};

/// Prints the candidates for the last word.
pub fn complete(args: &CompleteArgs) -> Result<(), CommandError> {
    let words: Vec<OsString> = match &args.line {
        Some(line) => cli::words(&line.to_string_lossy()).into_iter().skip(1).map(OsString::from).collect(),
        None => args.words.clone(),
    };
    print(candidates(&cli::complete(&words)).as_bytes())
}

/// Returns the lines to print.
fn candidates(found: &Completion) -> String {
    let mut all = found.candidates.clone();
    if let Some(names) = found.names {
        all.extend(named(found, names));
    }
    let mut text = String::new();
    for (value, about) in all.iter().filter(|(value, _)| value.starts_with(&found.begun)) {
        let about = about.lines().next().unwrap_or_default();
        let about = if about.is_empty() { String::new() } else { format!("\t{about}") };
        text.push_str(&format!("{}{value}{about}\n", found.before));
    }
    match found.files {
        Some(Files::Any) => text.push_str(":files\n"),
        Some(Files::Directories) => text.push_str(":directories\n"),
        None => {}
    }
    // A part of the candidate is from the command line, and may be any text.
    text.retain(|c| matches!(c, '\n' | '\t') || !is_hidden(c));
    text
}

/// Returns the names of the line's manifest, each with its kind.
fn named(found: &Completion, names: Names) -> Vec<(String, String)> {
    let Some(manifest) = read(&found.manifest, &found.sets) else { return Vec::new() };
    let containers = manifest.containers.iter().flat_map(|containers| &containers.0);
    let containers: Vec<String> = containers.map(|(name, _)| name.clone()).collect();
    let steps = manifest.steps.unwrap_or_default();
    let steps = steps.iter().filter(|step| names != Names::Snapshots || step.snapshot.is_some());
    let steps: Vec<(String, String)> = steps
        .filter_map(|step| {
            let kind = if step.snapshot.is_some() { "snapshot" } else { "step" };
            let container = step.container.as_ref().map(|name| format!(" of {name}")).unwrap_or_default();
            Some((step.name.clone()?, format!("{kind}{container}")))
        })
        .collect();
    let is_both = |name: &String| containers.contains(name) && steps.iter().any(|(step, _)| step == name);
    let mut all = Vec::new();
    if matches!(names, Names::Containers | Names::ContainersAndSteps) {
        all.extend(containers.iter().map(|name| (name.clone(), "container".to_owned())));
    }
    if names != Names::Containers {
        all.extend(steps.iter().cloned());
    }
    all.retain(|(name, about)| is_name(name) && is_name_or_space(about));
    if names == Names::ContainersAndSteps {
        for (name, about) in &mut all {
            if is_both(name) {
                let kind = if about == "container" { "container" } else { "step" };
                *name = format!("{kind}:{name}");
            }
        }
    }
    all
}

/// Reads a manifest for its names alone, so its other mistakes do not matter.
fn read(path: &Path, sets: &[(String, String)]) -> Option<Manifest> {
    let text = regular::read_text(path, manifest::MAX_BYTES as u64).ok()?;
    let sets: BTreeMap<String, String> = sets.iter().cloned().collect();
    match manifest::parse(text.strip_prefix('\u{feff}').unwrap_or(&text), &sets) {
        Ok(manifest) => Some(manifest),
        Err(Broken { rest, .. }) => rest.map(|rest| rest.0),
    }
}

/// Returns whether a shell may get this as a name: names that validation would refuse may be any text.
fn is_name(text: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    !text.is_empty() && !text.starts_with('-') && text.chars().all(is_plain)
}

fn is_name_or_space(text: &str) -> bool {
    text.split(' ').all(is_name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(manifest: &[u8], line: &str) -> Vec<String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("m.yaml");
        std::fs::write(&path, manifest).unwrap();
        let line = line.replace("$M", &path.display().to_string());
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        candidates(&cli::complete(&words)).lines().map(String::from).collect()
    }

    const MANIFEST: &[u8] = b"version: 1\nvars: { x: none }\ncontainers:\n  base: { rootfs: { squashfs: /nosuch } }\n  same: { rootfs: \
        { snapshot: layer } }\nsteps:\n  - { name: packages, container: base, run: 'true' }\n  - { name: layer, container: base, \
        snapshot: {} }\n  - { name: same, container: same, run: 'true' }\n";

    #[test]
    fn names_of_the_manifest_are_candidates_where_a_command_takes_them() {
        for (line, expected) in [
            ("apply $M --target ", &["packages\tstep of base", "layer\tsnapshot of base", "same\tstep of same"][..]),
            ("apply $M --target p", &["packages\tstep of base"]),
            ("apply $M --target=p", &["--target=packages\tstep of base"]),
            ("run -m $M ", &["base\tcontainer", "same\tcontainer"]),
            (
                "shell -m $M ",
                &[
                    "base\tcontainer",
                    "container:same\tcontainer",
                    "packages\tstep of base",
                    "layer\tsnapshot of base",
                    "step:same\tstep of same",
                ],
            ),
        ] {
            assert_eq!(lines(MANIFEST, line), expected, "{line}");
        }
    }

    #[test]
    fn a_manifest_with_mistakes_gives_its_names_and_another_file_gives_none() {
        let mistakes = b"containers: { c: { rotfs: 1 } }\nsteps:\n - { name: one, runn: x }\n - { nam: two }\n - { name: three }\n";
        assert_eq!(lines(mistakes, "plan $M --target "), ["one\tstep", "three\tstep"]);
        for broken in [&b"steps: ["[..], b"", b"\xff\xfe", b"- a\n- b\n", b"steps: { a: b }\n", b"\0", &[b'['; 100_000]]
        {
            assert_eq!(lines(broken, "plan $M --target "), Vec::<String>::new());
        }
        assert_eq!(lines(b"", "plan /nosuch/m.yaml --target "), Vec::<String>::new());
        assert_eq!(lines(b"", "plan /dev/zero --target "), Vec::<String>::new());
    }

    #[test]
    fn no_candidate_has_characters_that_a_shell_or_a_terminal_acts_on() {
        let hostile = "containers:\n  \"a\\e[2J\": {}\n  ok: {}\n  $(reboot): {}\nsteps:\n  - { name: \"x\\ny\", snapshot: {} }\n  - { name: \
            -rf }\n  - { name: ':files' }\n  - { name: \"\\u202e\" }\n  - { name: good, container: \"\\e]0;x\\a\" }\n  - { name: '`id`' }\n  - { name: 'a b' }\n  - { name: fine }\n";
        assert_eq!(lines(hostile.as_bytes(), "plan $M --target "), ["fine\tstep"]);
        assert_eq!(lines(hostile.as_bytes(), "run -m $M "), ["ok\tcontainer"]);
    }
}
