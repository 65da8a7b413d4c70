//! Reads `runner.toml`, and finds all that is wrong with it at once.

use std::io;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::{Path, PathBuf};

use miette::{LabeledSpan, NamedSource};
use toml::de::{DeTable, DeValue};

use super::{Partial, SettingsError, parse_progress};

/// The keys there are.
pub(super) const KEYS: [&str; 4] = ["store", "jobs", "runtime", "progress"];

/// Far more than settings take; a larger file was put there by mistake.
const MOST_BYTES: u64 = 1 << 20;

/// What `runner.toml` in a folder says; nothing where there is no such file.
pub(super) fn read(folder: &Path) -> Result<Partial, SettingsError> {
    let path = folder.join("runner.toml");
    let unreadable = |source| SettingsError::Read { path: path.clone(), source };
    match std::fs::metadata(&path) {
        // Where the folder is none, the manifest in it is what is told.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Partial::default());
        }
        Err(error) => return Err(unreadable(error)),
        Ok(found) if !found.is_file() => return Err(unreadable(io::Error::other("it is not a regular file"))),
        Ok(found) if found.len() > MOST_BYTES => return Err(unreadable(io::Error::other("it is over 1 MiB"))),
        Ok(_) => {}
    }
    let bytes = std::fs::read(&path).map_err(unreadable)?;
    let text = String::from_utf8(bytes).map_err(|_| unreadable(io::Error::other("it is not UTF-8")))?;
    let (partial, problems) = parse(&text, folder);
    if problems.is_empty() {
        return Ok(partial);
    }
    let source = NamedSource::new(path.display().to_string(), text).with_language("TOML");
    Err(SettingsError::File { path, text: source, problems })
}

/// What a text says, and what is wrong with it; paths start from the folder.
fn parse(text: &str, folder: &Path) -> (Partial, Vec<LabeledSpan>) {
    let mut partial = Partial::default();
    let mut problems = Vec::new();
    let mut problem = |span: Range<usize>, what: String| problems.push((span, what));
    let (table, errors) = DeTable::parse_recoverable(text);
    let is_toml = errors.is_empty();
    for error in errors {
        problem(error.span().unwrap_or(0..0), error.message().to_owned());
    }
    // What is left of a text that is no TOML would give problems that it does not have.
    let entries = table.get_ref().iter().filter(|_| is_toml);
    for (key, value) in entries {
        let result = match key.get_ref().as_ref() {
            "store" => path(value.get_ref()).map(|store| partial.store = Some(folder.join(store))),
            "jobs" => jobs(value.get_ref()).map(|jobs| partial.jobs = Some(jobs)),
            "runtime" => string(value.get_ref()).map(|runtime| partial.runtime = Some(located(runtime, folder))),
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

/// A runtime's path starts from the folder; its name does not.
fn located(runtime: &str, folder: &Path) -> String {
    match runtime.contains('/') {
        true => folder.join(runtime).to_string_lossy().into_owned(),
        false => runtime.to_owned(),
    }
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

/// A value's type with its article.
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
        // Further off it would be a guess.
        Some((distance, key)) if distance <= 1 + key.len() / 4 => format!("; did you mean `{key}`?"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{EMBEDDED, Progress};

    #[test]
    fn a_whole_file_is_read_with_paths_from_its_folder() {
        let text = "store = 'cache'\njobs = 0x10\nruntime = 'bin/crun'\nprogress = \"json\" # why\n";
        let (partial, problems) = parse(text, Path::new("/project"));
        assert_eq!(problems, []);
        assert_eq!(partial.store, Some("/project/cache".into()));
        assert_eq!(partial.jobs, NonZeroUsize::new(16));
        assert_eq!(partial.runtime.as_deref(), Some("/project/bin/crun"));
        assert_eq!(partial.progress, Some(Progress::Json));
        assert_eq!(parse("runtime = 'embedded'", Path::new("/p")).0.runtime.as_deref(), Some(EMBEDDED));
    }
}
