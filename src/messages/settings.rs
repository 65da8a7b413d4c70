//! Settings.

use std::ffi::OsString;

use super::{compare, errno, every};
use crate::diagnostic::Style;
use crate::settings::{Partial, Settings, SettingsError};

fn of_text(text: &str) -> SettingsError {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("runner.toml"), text).unwrap();
    let none = |_: &str| -> Option<OsString> { None };
    match Settings::resolve(Partial::default(), none, directory.path()).unwrap_err() {
        SettingsError::File { text, problems, .. } => {
            let text = miette::NamedSource::new("runner.toml", text.inner().clone());
            SettingsError::File { path: "runner.toml".into(), text, problems }
        }
        other => other,
    }
}

#[test]
fn every_error_of_a_setting_says_where_why_and_what_to_do() {
    let problem = |variable: &str| format!("{variable}=x is not a number from 1 on");
    let errors = every! {
        SettingsError::Read { .. } => [SettingsError::Read { path: "runner.toml".into(), source: errno(libc::EACCES) }],
        SettingsError::File { .. } => [
            of_text("job = 2\nprogress = 'fancy'\nstore = 1\n"),
            of_text("jobs = \n"),
            of_text("runtime = './evil'\n"),
        ],
        SettingsError::Variables { .. } => [SettingsError::Variables { problems: vec![problem("RUNNER_JOBS")] }],
        SettingsError::NoStore => [SettingsError::NoStore],
        SettingsError::NoCurrentDirectory { .. } => [SettingsError::NoCurrentDirectory { path: "store".into(), source: errno(libc::ENOENT) }],
    };
    let shown =
        errors.into_iter().map(|error| format!("{}\n{}", super::variant(&error), error.render(Style::default())));
    compare("settings", shown);
}
