//! The possible ends of command lines.

use std::path::Path;

use super::*;

fn at(line: &str) -> Completion {
    let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
    complete(&words)
}

fn values(line: &str) -> Vec<String> {
    at(line).candidates.into_iter().map(|(value, _)| value).collect()
}

#[test]
fn commands_and_options_have_the_words_of_their_help() {
    let commands = at("");
    let (_, about) = commands.candidates.iter().find(|(value, _)| value == "apply").unwrap();
    assert_eq!(about, "Build: run the steps and write the snapshots");
    assert!(!values("").iter().any(|value| value == "man" || value == "__complete"), "{commands:?}");
    let options = at("apply --");
    let jobs = (
        "--jobs".to_owned(),
        "<N> The number of steps that may run in parallel [default: the number of processors]".to_owned(),
    );
    assert!(options.candidates.contains(&jobs), "{options:?}");
    assert!(values("apply -").contains(&"--store".to_owned()));
    assert_eq!(values("store "), ["ls", "inspect", "diff", "export", "verify", "gc"]);
    assert_eq!(values("graph --format "), ["dot", "mermaid", "svg"]);
    assert_eq!(values("schema "), ["manifest", "events", "diff"]);
    assert_eq!(values("diff --format "), ["text", "markdown", "json"]);
}

#[test]
fn each_option_and_argument_takes_the_names_or_files_of_its_value() {
    use super::Files::{Any, Directories};
    use super::Names::{Containers, ContainersAndSteps, Snapshots, Steps};
    for (line, names, files) in [
        ("apply ", None, Some(Any)),
        ("apply --target ", Some(Steps), None),
        ("apply --target a --target ", Some(Steps), None),
        ("apply --target=", Some(Steps), None),
        ("apply -j 3 --keep-going --target ", Some(Steps), None),
        ("plan --target ", Some(Steps), None),
        ("graph --target ", Some(Steps), None),
        ("verify --target ", Some(Steps), None),
        ("run ", Some(Containers), None),
        ("run -t --runtime runc ", Some(Containers), None),
        ("run base -- ", None, None),
        ("run base -- cat --target ", None, None),
        ("shell ", Some(ContainersAndSteps), None),
        ("shell base -m ", None, Some(Any)),
        ("store inspect ", Some(Snapshots), None),
        ("store diff a ", Some(Snapshots), Some(Any)),
        ("diff ", Some(Snapshots), Some(Any)),
        ("diff a ", Some(Snapshots), Some(Any)),
        ("store export a ", None, Some(Any)),
        ("apply --store ", None, Some(Directories)),
        ("--store /s apply --target ", Some(Steps), None),
        ("apply build.yaml ", None, None),
        ("apply -j ", None, None),
        ("nothing ", None, None),
        ("apply --nothing ", None, Some(Any)),
    ] {
        let found = at(line);
        assert_eq!((found.names, found.files), (names, files), "{line}");
    }
    let found = at("apply --target=ab");
    assert_eq!((found.before.as_str(), found.begun.as_str()), ("--target=", "ab"));
}

#[test]
fn the_manifest_and_the_variables_are_those_that_the_line_names() {
    for (line, manifest) in [
        ("apply --target ", "build.yaml"),
        ("apply sdk/b.yaml --target ", "sdk/b.yaml"),
        ("apply --jobs 3 sdk/b.yaml --target ", "sdk/b.yaml"),
        ("shell -m other.yaml ", "other.yaml"),
        ("run --manifest=other.yaml ", "other.yaml"),
        ("run -tmother.yaml ", "other.yaml"),
    ] {
        assert_eq!(at(line).manifest, Path::new(manifest), "{line}");
    }
    assert_eq!(
        at("plan --set a=b=c --set=d= --target ").sets,
        [("a", "b=c"), ("d", "")].map(|(n, v)| (n.into(), v.into()))
    );
}

#[test]
fn each_shell_has_a_script() {
    for (shell, text) in [
        (Shell::Bash, "complete -F _runner runner\n"),
        (Shell::Zsh, "#compdef runner\n"),
        (Shell::Fish, "complete -c runner -f -a '(__runner_complete)'\n"),
        (Shell::Elvish, "validate"),
        (Shell::PowerShell, "validate"),
    ] {
        let script = String::from_utf8(completions(shell)).unwrap();
        assert!(script.contains(text), "{shell}: {script}");
    }
}
