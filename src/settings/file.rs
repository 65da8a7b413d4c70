//! Reads `runner.toml`, if its owner is trusted, and reports all its mistakes at once.

use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use miette::{LabeledSpan, NamedSource};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use toml::de::{DeTable, DeValue};

use super::{Partial, SettingsError, parse_progress};
use crate::diagnostic::shown;
use crate::fs::regular;
use crate::warning::Warning;

/// The known keys.
pub(super) const KEYS: [&str; 6] = ["store", "jobs", "progress", "keep_failed", "lock_file", "registries"];

/// The largest file, far more than settings need; a larger one is there by mistake.
const MAX_BYTES: u64 = 1 << 20;

/// The caller of runner: the users whose files are trusted in addition to root's.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caller {
    /// The effective user.
    pub euid: u32,
    /// The user who called sudo(8).
    pub sudo: Option<u32>,
}

/// The result of reading a `runner.toml`.
#[derive(Debug)]
pub(super) enum SettingsFile {
    /// Its settings; none if there is no file.
    Read(Partial),
    /// It belongs to a user who is not trusted.
    Ignored(Warning),
}

/// Reads `runner.toml` in a directory. The file is opened once, and the open file is checked and read.
pub(super) fn read(directory: &Path, caller: Caller) -> Result<SettingsFile, SettingsError> {
    let path = directory.join("runner.toml");
    let unreadable = |source| SettingsError::Read { path: path.clone(), source };
    // The file is not opened for reading yet: a device may act when it is opened, and a FIFO waits.
    let place = match rustix::fs::open(&path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
        Ok(place) => File::from(place),
        // If the directory is not one, the error of the manifest in it is reported.
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(SettingsFile::Read(Partial::default())),
        Err(error) => return Err(unreadable(error.into())),
    };
    let found = place.metadata().map_err(unreadable)?;
    if ![Some(0), Some(caller.euid), caller.sudo].contains(&Some(found.uid())) {
        return Ok(SettingsFile::Ignored(Warning::SettingsIgnored { path, owner: found.uid() }));
    }
    if found.is_symlink() {
        return Err(unreadable(io::Error::other("it is a symbolic link, which could lead to a file of somebody else")));
    }
    let read = || regular::into_text(regular::read_all(regular::reopen(place.as_fd())?, MAX_BYTES)?);
    let text = read().map_err(unreadable)?;
    let (partial, problems) = parse(&text, directory);
    if problems.is_empty() {
        return Ok(SettingsFile::Read(partial));
    }
    let text = shown(&text).into_owned();
    let source = NamedSource::new(path.display().to_string(), text).with_language("TOML");
    Err(SettingsError::File { path, text: source, problems })
}

/// Parses a text, and returns its settings and its problems; paths start from the directory.
fn parse(text: &str, directory: &Path) -> (Partial, Vec<LabeledSpan>) {
    let mut partial = Partial::default();
    let mut problems = Vec::new();
    let mut problem = |span: Range<usize>, what: String| problems.push((span, what));
    let (table, errors) = DeTable::parse_recoverable(text);
    let is_toml = errors.is_empty();
    for error in errors {
        problem(error.span().unwrap_or(0..0), error.message().to_owned());
    }
    // The partial result of a text that is not TOML would give false problems.
    let entries = table.get_ref().iter().filter(|_| is_toml);
    for (key, value) in entries {
        let result = match key.get_ref().as_ref() {
            "store" => path(value.get_ref()).map(|store| partial.store = Some(directory.join(store))),
            "lock_file" => path(value.get_ref()).map(|file| partial.lock_file = Some(directory.join(file))),
            "jobs" => jobs(value.get_ref()).map(|jobs| partial.jobs = Some(jobs)),
            "keep_failed" => match value.get_ref().as_bool() {
                Some(keep_failed) => {
                    partial.keep_failed = Some(keep_failed);
                    Ok(())
                }
                None => Err(format!("this is to be `true` or `false`, not {}", named(value.get_ref()))),
            },
            "registries" => {
                partial.registries = super::registries::parse(value, directory, &mut problem);
                continue;
            }
            "runtime" => {
                let what =
                    "a file cannot name a program: give it by `--runtime` or RUNNER_RUNTIME, and remove this key";
                problem(key.span(), what.to_owned());
                continue;
            }
            "progress" => string(value.get_ref())
                .and_then(|text| parse_progress(text).map_err(|problem| format!("this {problem}")))
                .map(|progress| partial.progress = Some(progress)),
            unknown => {
                problem(key.span(), format!("this key is unknown{}", nearest(unknown)));
                continue;
            }
        };
        if let Err(what) = result {
            problem(value.span(), what);
        }
    }
    // Labels are shown in the order of the text.
    problems.sort_by_key(|(span, _)| span.start);
    let label = |(span, what): (Range<usize>, String)| LabeledSpan::at(span, what);
    (partial, problems.into_iter().map(label).collect())
}

fn string<'a>(value: &'a DeValue<'_>) -> Result<&'a str, String> {
    match value.as_str() {
        Some("") => Err("this is empty".to_owned()),
        Some(text) => Ok(text),
        None => Err(format!("this is to be a string, not {}", named(value))),
    }
}

fn path(value: &DeValue<'_>) -> Result<PathBuf, String> {
    string(value).map(PathBuf::from)
}

fn jobs(value: &DeValue<'_>) -> Result<NonZeroUsize, String> {
    let Some(number) = value.as_integer() else {
        return Err(format!("this is to be a number, not {}", named(value)));
    };
    let number = usize::from_str_radix(number.as_str(), number.radix()).ok().and_then(NonZeroUsize::new);
    number.ok_or_else(|| "this is to be a number from 1 on".to_owned())
}

/// Returns a value's type with its article.
fn named(value: &DeValue<'_>) -> String {
    let name = value.type_str();
    match name.starts_with(['a', 'e', 'i', 'o', 'u']) {
        true => format!("an {name}"),
        false => format!("a {name}"),
    }
}

fn nearest(unknown: &str) -> String {
    let nearest = KEYS.iter().map(|key| (strsim::damerau_levenshtein(key, &unknown.to_lowercase()), key)).min();
    match nearest {
        // A more different name would be a guess.
        Some((distance, key)) if distance <= 1 + key.len() / 4 => format!("; did you mean `{key}`?"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Progress;

    #[test]
    fn a_whole_file_is_read_with_paths_from_its_directory() {
        let text = "store = 'cache'\njobs = 0x10\nprogress = \"json\" # why\nkeep_failed = false\nlock_file = '../runner.lock'\n";
        let (partial, problems) = parse(text, Path::new("/project"));
        assert_eq!(problems, []);
        assert_eq!(partial.store, Some("/project/cache".into()));
        assert_eq!(partial.jobs, NonZeroUsize::new(16));
        assert_eq!((partial.progress, partial.keep_failed), (Some(Progress::Json), Some(false)));
        assert_eq!(partial.lock_file, Some("/project/../runner.lock".into()));
    }
}
