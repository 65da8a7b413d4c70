//! Tests of `.runnerignore` in real directories.

use std::fs;
use std::os::unix::fs::symlink;

use super::*;

#[test]
fn without_a_runnerignore_everything_counts() {
    let directory =
        directory(&[(".gitignore", "*"), (".git/config", ""), (".hidden", ""), (".ignore", "*"), ("a", "")]);
    assert_eq!(paths(&content(directory.path())), ["", ".git", ".git/config", ".gitignore", ".hidden", ".ignore", "a"]);
}

#[test]
fn ignored_files_do_not_count_at_the_top_and_below() {
    let directory = directory(&[
        (".runnerignore", "*.o\n/target/\n"),
        ("a.o", ""),
        ("kept", ""),
        ("sub/.runnerignore", "!b.o\nlog"),
        ("sub/b.o", ""),
        ("sub/c.o", ""),
        ("sub/deep/log/x", ""),
        ("sub/target/x", ""),
        ("target/x/y", ""),
    ]);
    let before = content(directory.path());
    let expected =
        ["", ".runnerignore", "kept", "sub", "sub/.runnerignore", "sub/b.o", "sub/deep", "sub/target", "sub/target/x"];
    assert_eq!(paths(&before), expected);
    fs::write(directory.path().join("target/x/y"), "changed").unwrap();
    fs::write(directory.path().join("new.o"), "new").unwrap();
    assert_eq!(content(directory.path()).digest, before.digest);
    fs::write(directory.path().join("sub/b.o"), "changed").unwrap();
    assert_eq!(changes(&before, &content(directory.path())), ["sub/b.o changed (content)"]);
}

#[test]
fn a_runnerignore_in_a_root_filesystem_has_no_effect() {
    let directory = directory(&[(".runnerignore", "*"), ("src/.runnerignore", "[z-a]"), ("src/a", "")]);
    let all = Contents::without_cache().of_root(directory.path()).unwrap();
    assert_eq!(paths(&all), ["", ".runnerignore", "src", "src/.runnerignore", "src/a"]);
    assert_eq!(paths(&content(directory.path())), [""]);
}

#[test]
fn a_link_named_runnerignore_has_no_effect() {
    let directory = directory(&[("rules", "*.o"), ("a.o", "")]);
    symlink("rules", directory.path().join(".runnerignore")).unwrap();
    assert_eq!(paths(&content(directory.path())), ["", ".runnerignore", "a.o", "rules"]);
}

#[test]
fn an_invalid_line_is_an_error_with_its_file_and_number() {
    let directory = directory(&[("sub/.runnerignore", "fine\n[z-a]\n")]);
    let error = error(directory.path());
    let start = format!("cannot use line 2 of {}: ", directory.path().join("sub/.runnerignore").display());
    assert!(error.to_string().starts_with(&start), "{error}");
    assert!(error.hint().is_some());
}
