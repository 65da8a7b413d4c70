//! The settings: how runner works on this host, while a manifest says what to build.
//!
//! Each setting comes from the first of these that has it: a flag, a `RUNNER_*` variable, `runner.toml` beside the
//! manifest, the default. No setting may change the result of a build, only where, how fast and how it is shown.
//!
//! | flag | variable | key | default |
//! | --- | --- | --- | --- |
//! | `--store` | `RUNNER_STORE` | `store` | `/var/cache/runner` for root, else `$XDG_CACHE_HOME/runner` or `~/.cache/runner` |
//! | `--jobs` | `RUNNER_JOBS` | `jobs` | the number of available processors |
//! | `--runtime` | `RUNNER_RUNTIME` | | `embedded` |
//! | `--progress` | `RUNNER_PROGRESS` | `progress` | `auto` |
//! | `--no-keep-failed` | `RUNNER_KEEP_FAILED` | `keep_failed` | `true`, and `false` where `CI` is `true`: a CI job ends with its machine, and with it every stored session |
//! | `--lock-file` | `RUNNER_LOCK_FILE` | `lock_file` | `runner.lock` beside the manifest |
//! | | | `registries` | none: see [`registries`] |
//!
//! Steps and other users may be able to write to the directory of `runner.toml`: so it can name no program, and a file
//! of another user is ignored (see `file`).
//!
//! A relative path starts from the current directory; in `runner.toml`, from that file's directory. An empty variable
//! counts as unset. Other variables that start with `RUNNER_` are ignored: GitHub Actions sets a dozen of them.
//! `RUNNER_MKSQUASHFS` is not a setting, because it changes the bytes of images: see
//! [`uses_mksquashfs`](crate::snapshot::uses_mksquashfs).

mod error;
mod file;
mod registries;

use std::ffi::{OsStr, OsString};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use clap::ValueEnum;

use crate::registry::RegistryOptions;
use crate::warning::Warning;

pub use error::SettingsError;
use file::{Caller, SettingsFile};

/// The settings of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The store's directory; absolute.
    pub store: PathBuf,
    /// No source named the store: it is this user's default one.
    pub is_default_store: bool,
    /// The number of steps that may run at the same time.
    pub jobs: NonZeroUsize,
    /// The runtime: [`EMBEDDED`], the name of a program in `PATH`, or a program's absolute path.
    pub runtime: String,
    /// The display of progress.
    pub progress: Progress,
    /// Whether the sessions of steps that fail are stored for a shell.
    pub keep_failed: bool,
    /// The lock file, if it is not beside the manifest; absolute.
    pub lock_file: Option<PathBuf>,
    /// The registries' mirrors and authorities.
    pub registries: RegistryOptions,
    /// A `runner.toml` that was not read.
    pub ignored: Option<Warning>,
}

/// The default store of root.
pub const STORE_OF_ROOT: &str = "/var/cache/runner";

/// The runtime that is built in.
pub const EMBEDDED: &str = "embedded";

/// The display of progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Progress {
    /// The display that fits the output.
    Auto,
    /// Lines that change in place, on a terminal.
    Tty,
    /// A line for each event and each line of output.
    Plain,
    /// A JSON object a line.
    Json,
    /// Only errors.
    Quiet,
}

/// The settings of one source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Partial {
    /// See [`Settings::store`]; may be relative.
    pub store: Option<PathBuf>,
    /// See [`Settings::jobs`].
    pub jobs: Option<NonZeroUsize>,
    /// See [`Settings::runtime`]; may be a relative path.
    pub runtime: Option<String>,
    /// See [`Settings::progress`].
    pub progress: Option<Progress>,
    /// See [`Settings::keep_failed`].
    pub keep_failed: Option<bool>,
    /// See [`Settings::lock_file`]; may be relative.
    pub lock_file: Option<PathBuf>,
    /// See [`Settings::registries`]; only a file has some.
    pub registries: RegistryOptions,
}

impl Settings {
    /// Resolves the settings from flags, variables (whose values `env` returns), and `runner.toml` in the manifest's
    /// directory, if root, the caller, or the user of `SUDO_UID` owns that file.
    ///
    /// # Errors
    /// A variable or `runner.toml` is wrong, even if a flag overrides it, or there is no directory for the store.
    pub fn resolve(
        flags: Partial,
        env: impl Fn(&str) -> Option<OsString>,
        directory: &Path,
    ) -> Result<Self, SettingsError> {
        let env = |name: &str| env(name).filter(|value| !value.is_empty());
        let variables = from_variables(&env)?;
        let caller = Caller { euid: rustix::process::geteuid().as_raw(), sudo: sudo_uid(&env) };
        let (file, ignored) = match file::read(directory, caller)? {
            SettingsFile::Read(merged) => (merged, None),
            SettingsFile::Ignored(warning) => (Partial::default(), Some(warning)),
        };
        // The file's directory may itself be relative.
        let mut merged = flags.or(variables).or(file);
        for path in [&mut merged.store, &mut merged.lock_file].into_iter().flatten() {
            *path = absolute(path)?;
        }
        if let Some(runtime) = &mut merged.runtime
            && runtime.contains('/')
        {
            *runtime = absolute(Path::new(runtime))?.to_string_lossy().into_owned();
        }
        Ok(Self {
            is_default_store: merged.store.is_none(),
            store: match merged.store {
                Some(store) => store,
                None => default_store(rustix::process::geteuid().is_root(), &env).ok_or(SettingsError::NoStore)?,
            },
            // If the number is unknown, one step at a time works everywhere.
            jobs: merged.jobs.or_else(|| std::thread::available_parallelism().ok()).unwrap_or(NonZeroUsize::MIN),
            runtime: merged.runtime.unwrap_or_else(|| EMBEDDED.to_owned()),
            progress: merged.progress.unwrap_or(Progress::Auto),
            keep_failed: merged.keep_failed.unwrap_or_else(|| !is_ci(&env)),
            lock_file: merged.lock_file,
            registries: merged.registries,
            ignored,
        })
    }
}

impl Partial {
    /// Returns these settings, and those of the other for the ones that are not set.
    fn or(self, other: Self) -> Self {
        Self {
            store: self.store.or(other.store),
            jobs: self.jobs.or(other.jobs),
            runtime: self.runtime.or(other.runtime),
            progress: self.progress.or(other.progress),
            keep_failed: self.keep_failed.or(other.keep_failed),
            lock_file: self.lock_file.or(other.lock_file),
            registries: if self.registries.registries.is_empty() { other.registries } else { self.registries },
        }
    }
}

/// Returns the user who called sudo(8), which sets the variable.
fn sudo_uid(env: &impl Fn(&str) -> Option<OsString>) -> Option<u32> {
    env("SUDO_UID")?.to_str()?.parse().ok()
}

fn absolute(path: &Path) -> Result<PathBuf, SettingsError> {
    std::path::absolute(path).map_err(|source| SettingsError::NoCurrentDirectory { path: path.to_owned(), source })
}

fn from_variables(env: &impl Fn(&str) -> Option<OsString>) -> Result<Partial, SettingsError> {
    let mut problems = Vec::new();
    let partial = Partial {
        store: env("RUNNER_STORE").map(PathBuf::from),
        jobs: parsed(env, "RUNNER_JOBS", parse_jobs, &mut problems),
        runtime: parsed(env, "RUNNER_RUNTIME", |runtime| Ok(runtime.to_owned()), &mut problems),
        progress: parsed(env, "RUNNER_PROGRESS", parse_progress, &mut problems),
        keep_failed: parsed(env, "RUNNER_KEEP_FAILED", parse_bool, &mut problems),
        lock_file: env("RUNNER_LOCK_FILE").map(PathBuf::from),
        registries: RegistryOptions::default(),
    };
    if problems.is_empty() { Ok(partial) } else { Err(SettingsError::Variables { problems }) }
}

fn parsed<T>(
    env: &impl Fn(&str) -> Option<OsString>,
    variable: &str,
    parse: impl Fn(&str) -> Result<T, String>,
    problems: &mut Vec<String>,
) -> Option<T> {
    let value = env(variable)?;
    match value.to_str().ok_or_else(|| "is not UTF-8".to_owned()).and_then(parse) {
        Ok(value) => Some(value),
        Err(problem) => {
            problems.push(format!("{variable}={} {problem}", OsStr::display(&value)));
            None
        }
    }
}

fn parse_jobs(text: &str) -> Result<NonZeroUsize, String> {
    text.parse().map_err(|_| "is not a number from 1 on".to_owned())
}

fn parse_bool(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| "is neither `true` nor `false`".to_owned())
}

/// Returns whether this is a job of a CI system: nearly all of them set the variable.
fn is_ci(env: &impl Fn(&str) -> Option<OsString>) -> bool {
    env("CI").is_some_and(|value| value.eq_ignore_ascii_case("true") || value == "1")
}

/// Parses a progress mode. The error, which follows "`auot` ", names the possible ones.
fn parse_progress(text: &str) -> Result<Progress, String> {
    Progress::from_str(text, false).map_err(|_| {
        let names: Vec<_> = Progress::value_variants().iter().filter_map(ValueEnum::to_possible_value).collect();
        let names: Vec<_> = names.iter().map(|name| format!("`{}`", name.get_name())).collect();
        format!("is none of {}", names.join(", "))
    })
}

fn default_store(is_root: bool, env: &impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    if is_root {
        return Some(PathBuf::from(STORE_OF_ROOT));
    }
    // The XDG base directory specification says that relative paths are ignored.
    let directory = |name: &str| env(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = directory("XDG_CACHE_HOME").or_else(|| directory("HOME").map(|home| home.join(".cache")));
    cache.map(|cache| cache.join("runner"))
}

#[cfg(test)]
mod tests;
