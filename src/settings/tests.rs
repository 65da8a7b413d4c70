//! Tests of the settings and of their messages.

use std::ffi::OsString;
use std::fs;
use std::num::NonZeroUsize;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use miette::{GraphicalReportHandler, GraphicalTheme};

use super::{Partial, Progress, Settings, SettingsError, default_store};
use crate::warning::Warning;

fn directory_with(text: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("runner.toml"), text).unwrap();
    directory
}

fn no_variables(_: &str) -> Option<OsString> {
    None
}

fn rendered(error: &SettingsError) -> String {
    let handler = GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor()).with_width(200);
    let mut text = String::new();
    handler.render_report(&mut text, error).unwrap();
    text
}

fn refusal(text: &str) -> String {
    let directory = directory_with(text);
    rendered(&Settings::resolve(Partial::default(), no_variables, directory.path()).unwrap_err())
}

fn jobs(number: usize) -> Option<NonZeroUsize> {
    NonZeroUsize::new(number)
}

#[test]
fn flags_come_before_variables_before_the_file_before_defaults() {
    let directory = directory_with("jobs = 3\nstore = 'from-file'\n");
    let env = |name: &str| match name {
        "RUNNER_JOBS" => Some("2".into()),
        "RUNNER_STORE" => Some("/from-variable".into()),
        "RUNNER_RUNTIME" => Some("crun".into()),
        "RUNNER_PROGRESS" => Some("".into()),
        "RUNNER_LOCK_FILE" => Some("/locks/runner.lock".into()),
        "RUNNER_OS" => Some("Linux".into()),
        _ => None,
    };
    let flags = Partial { jobs: jobs(1), ..Partial::default() };
    let settings = Settings::resolve(flags, env, directory.path()).unwrap();
    assert_eq!(settings.jobs, jobs(1).unwrap());
    assert_eq!(settings.store, Path::new("/from-variable"));
    assert_eq!(settings.runtime, "crun");
    assert_eq!(settings.progress, Progress::Auto);
    assert_eq!(settings.lock_file.as_deref(), Some(Path::new("/locks/runner.lock")));

    let settings = Settings::resolve(Partial::default(), no_variables, directory.path()).unwrap();
    assert_eq!(settings.store, directory.path().join("from-file"));

    let empty = tempfile::tempdir().unwrap();
    let settings = Settings::resolve(Partial::default(), no_variables, empty.path()).unwrap();
    assert_eq!((settings.runtime.as_str(), settings.lock_file), (super::EMBEDDED, None));
    assert_eq!(settings.jobs, std::thread::available_parallelism().unwrap());
}

#[test]
fn failed_sessions_are_stored_except_in_a_ci_job_or_by_a_setting() {
    let empty = tempfile::tempdir().unwrap();
    let file = directory_with("keep_failed = false\n");
    let stores_failed = |flag: Option<bool>, variables: &[(&str, &str)], directory: &Path| {
        let env = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
        Settings::resolve(Partial { keep_failed: flag, ..Partial::default() }, env, directory).unwrap().keep_failed
    };
    let ci: &[(&str, &str)] = &[("CI", "true")];
    assert!(stores_failed(None, &[], empty.path()) && stores_failed(None, &[("CI", "false")], empty.path()));
    assert!(!stores_failed(None, ci, empty.path()) && !stores_failed(None, &[("CI", "1")], empty.path()));
    assert!(stores_failed(None, &[("CI", "true"), ("RUNNER_KEEP_FAILED", "true")], empty.path()));
    assert!(
        !stores_failed(None, &[], file.path()) && stores_failed(None, &[("RUNNER_KEEP_FAILED", "true")], file.path())
    );
    assert!(!stores_failed(Some(false), &[("RUNNER_KEEP_FAILED", "true")], empty.path()));
    assert!(refusal("keep_failed = 'yes'").contains("this is to be `true` or `false`, not a string"));
}

#[test]
fn a_relative_path_of_a_flag_starts_from_the_current_directory() {
    let flags = Partial {
        store: Some("store".into()),
        runtime: Some("./crun".into()),
        lock_file: Some("a.lock".into()),
        ..Partial::default()
    };
    let directory = tempfile::tempdir().unwrap();
    let settings = Settings::resolve(flags, no_variables, directory.path()).unwrap();
    let current = std::env::current_dir().unwrap();
    assert_eq!(settings.store, current.join("store"));
    assert_eq!(settings.runtime, current.join("crun").to_str().unwrap());
    assert_eq!(settings.lock_file, Some(current.join("a.lock")));
}

#[test]
fn all_unknown_keys_are_refused_at_once_each_with_a_caret_and_the_nearest_name() {
    let text = refusal("job = 2\nprogres = 'json'\ncolour = 'red'\n[store]\npath = 'x'\n");
    for expected in [
        "cannot take settings from ",
        "runner.toml:1:1",
        "this key is unknown; did you mean `jobs`?",
        "this key is unknown; did you mean `progress`?",
        "this key is unknown\n",
        "this is to be a string, not a table",
        "the keys are `store`, `jobs`, `progress`, `keep_failed`, `lock_file`",
    ] {
        assert!(text.contains(expected), "{expected}:\n{text}");
    }
    let caret = text.lines().skip_while(|line| !line.contains("progres = ")).nth(1).unwrap();
    assert!(caret.contains("───┬───") || caret.contains("──┬───"), "{text}");
}

#[test]
fn wrong_types_and_values_are_refused_with_what_is_expected() {
    let text = refusal("jobs = 'four'\nstore = 1\nprogress = 'fancy'\n");
    for expected in [
        "this is to be a number, not a string",
        "this is to be a string, not an integer",
        "this is none of `auto`, `tty`, `plain`, `json`, `quiet`",
    ] {
        assert!(text.contains(expected), "{expected}:\n{text}");
    }
    assert!(refusal("store = ''").contains("this is empty"));
    for wrong in ["jobs = 0", "jobs = -1", "jobs = 99999999999999999999999", "jobs = 1.5"] {
        assert!(refusal(wrong).contains("this is to be a number"), "{wrong}");
    }
}

#[test]
fn a_text_that_is_not_toml_is_refused_at_its_first_mistake() {
    let text = refusal("jobs = 2\nstore = \n");
    assert!(text.contains("runner.toml:2:"), "{text}");
    let text = refusal("jobs = 2\njobs = 3\n");
    assert!(text.contains("duplicate key"), "{text}");
}

#[test]
fn a_file_that_cannot_be_read_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("runner.toml")).unwrap();
    let error = Settings::resolve(Partial::default(), no_variables, directory.path()).unwrap_err();
    assert!(matches!(error, SettingsError::Read { .. }));
    let directory = directory_with(&" ".repeat((1 << 20) + 1));
    let error = Settings::resolve(Partial::default(), no_variables, directory.path()).unwrap_err();
    assert!(rendered(&error).contains("over 1 MiB"));
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("runner.toml"), b"store = '\xff'").unwrap();
    assert!(Settings::resolve(Partial::default(), no_variables, directory.path()).is_err());
}

#[test]
fn every_wrong_variable_is_named_with_its_value() {
    let env = |name: &str| match name {
        "RUNNER_JOBS" => Some("many".into()),
        "RUNNER_PROGRESS" => Some("fancy".into()),
        "RUNNER_RUNTIME" => Some(OsString::from_vec(vec![b'r', 0xff])),
        _ => None,
    };
    let directory = tempfile::tempdir().unwrap();
    let text = rendered(&Settings::resolve(Partial::default(), env, directory.path()).unwrap_err());
    for expected in [
        "RUNNER_JOBS=many is not a number from 1 on",
        "RUNNER_PROGRESS=fancy is none of `auto`, `tty`, `plain`",
        "RUNNER_RUNTIME=r\u{fffd} is not UTF-8",
        "unset the variable",
    ] {
        assert!(text.contains(expected), "{expected}:\n{text}");
    }
}

#[test]
fn the_default_store_is_in_the_users_cache_directory() {
    let env = |cache: Option<&'static str>, home: Option<&'static str>| {
        move |name: &str| match name {
            "XDG_CACHE_HOME" => cache.map(OsString::from),
            "HOME" => home.map(OsString::from),
            _ => None,
        }
    };
    let path = |path: &str| Some(PathBuf::from(path));
    assert_eq!(default_store(true, &env(Some("/xdg"), Some("/home/u"))), path("/var/cache/runner"));
    assert_eq!(default_store(false, &env(Some("/xdg"), Some("/home/u"))), path("/xdg/runner"));
    assert_eq!(default_store(false, &env(Some("relative"), Some("/home/u"))), path("/home/u/.cache/runner"));
    assert_eq!(default_store(false, &env(None, None)), None);
}

#[test]
fn a_file_of_another_user_is_not_read_and_a_warning_says_so() {
    let directory = directory_with("jobs = 7\nruntime = './evil'\n");
    let path = directory.path().join("runner.toml");
    let resolved = |sudo: Option<&'static str>| {
        let env = move |name: &str| (name == "SUDO_UID").then_some(sudo).flatten().map(OsString::from);
        Settings::resolve(Partial::default(), env, directory.path())
    };
    std::os::unix::fs::chown(&path, Some(12345), None).unwrap();
    for sudo in [None, Some("54321"), Some("-1"), Some("x")] {
        let settings = resolved(sudo).unwrap();
        assert_eq!(settings.ignored, Some(Warning::SettingsIgnored { path: path.clone(), owner: 12345 }));
        assert_ne!(settings.jobs, jobs(7).unwrap());
    }
    fs::write(&path, "jobs = 7\n").unwrap();
    let settings = resolved(Some("12345")).unwrap();
    assert_eq!((settings.jobs, settings.ignored), (jobs(7).unwrap(), None));
}

#[test]
fn a_link_is_not_followed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("runner.toml");
    std::os::unix::fs::symlink("/etc/shadow", &path).unwrap();
    let error = Settings::resolve(Partial::default(), no_variables, directory.path()).unwrap_err();
    assert!(matches!(&error, SettingsError::Read { source, .. } if source.to_string().contains("symbolic link")));
    std::os::unix::fs::lchown(&path, Some(12345), None).unwrap();
    let settings = Settings::resolve(Partial::default(), no_variables, directory.path()).unwrap();
    assert!(settings.ignored.is_some());
}
