//! Settings: how runner works on this host, as against what a manifest says is to be built.
//!
//! Each comes from the first of these that has it: a flag, a `RUNNER_*` variable, `runner.toml` beside the manifest,
//! the default. Nothing here may change what a build gives, only where, how fast and how it is shown.
//!
//! | flag | variable | key | default |
//! | --- | --- | --- | --- |
//! | `--store` | `RUNNER_STORE` | `store` | `/var/cache/runner` for root, else `$XDG_CACHE_HOME/runner` or `~/.cache/runner` |
//! | `--jobs` | `RUNNER_JOBS` | `jobs` | the number of available processors |
//! | `--runtime` | `RUNNER_RUNTIME` | | `embedded` |
//! | `--progress` | `RUNNER_PROGRESS` | `progress` | `auto` |
//! | `--no-keep-failed` | `RUNNER_KEEP_FAILED` | `keep_failed` | `true`, and `false` where `CI` is `true`: nobody looks at a session on a machine that goes with its job |
//! | `--lock-file` | `RUNNER_LOCK_FILE` | `lock_file` | `runner.lock` beside the manifest |
//!
//! `runner.toml` lies where steps and other users may be able to write: it can name no program, and one that belongs to
//! somebody else is left alone (see `file`).
//!
//! A relative path starts from the current folder, in `runner.toml` from that file's folder. An empty variable counts
//! as none. Other variables that start with `RUNNER_` are left alone: GitHub Actions sets a dozen of them. One is no
//! setting, for it changes the bytes of images: `RUNNER_MKSQUASHFS`, see [`uses_mksquashfs`](crate::snapshot::uses_mksquashfs).

mod error;
mod file;

use std::ffi::{OsStr, OsString};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use clap::ValueEnum;

use crate::warning::Warning;

pub use error::SettingsError;
use file::{Caller, Found};

/// The settings that hold for a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The store's folder; absolute.
    pub store: PathBuf,
    /// Nobody named the store: it is where this user's is by default.
    pub is_default_store: bool,
    /// Steps that may run at once.
    pub jobs: NonZeroUsize,
    /// What runs containers: [`EMBEDDED`], the name of a program in `PATH`, or a program's absolute path.
    pub runtime: String,
    /// How progress is shown.
    pub progress: Progress,
    /// Whether the sessions of steps that fail are stored for a shell.
    pub keep_failed: bool,
    /// The lock file, where it is not beside the manifest; absolute.
    pub lock_file: Option<PathBuf>,
    /// A `runner.toml` that was not read.
    pub ignored: Option<Warning>,
}

/// Where the store of root is by default.
pub const STORE_OF_ROOT: &str = "/var/cache/runner";

/// The runtime that is built in.
pub const EMBEDDED: &str = "embedded";

/// How progress is shown.
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

/// What one source of settings says.
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
}

impl Settings {
    /// Puts the settings together from flags, variables (of which `env` gives the value), and `runner.toml` in the
    /// manifest's folder, if root, the caller, or the user of `SUDO_UID` owns that file.
    ///
    /// # Errors
    /// A variable or `runner.toml` is wrong, also where a flag has the last word, or there is no folder for the store.
    pub fn resolve(
        flags: Partial,
        env: impl Fn(&str) -> Option<OsString>,
        folder: &Path,
    ) -> Result<Self, SettingsError> {
        let env = |name: &str| env(name).filter(|value| !value.is_empty());
        let variables = from_variables(&env)?;
        let caller = Caller { euid: rustix::process::geteuid().as_raw(), sudo: sudo_uid(&env) };
        let (file, ignored) = match file::read(folder, caller)? {
            Found::Said(said) => (said, None),
            Found::Ignored(warning) => (Partial::default(), Some(warning)),
        };
        // The file's folder may be relative itself.
        let mut said = flags.or(variables).or(file);
        for path in [&mut said.store, &mut said.lock_file].into_iter().flatten() {
            *path = absolute(path)?;
        }
        if let Some(runtime) = &mut said.runtime
            && runtime.contains('/')
        {
            *runtime = absolute(Path::new(runtime))?.to_string_lossy().into_owned();
        }
        Ok(Self {
            is_default_store: said.store.is_none(),
            store: match said.store {
                Some(store) => store,
                None => default_store(rustix::process::geteuid().is_root(), &env).ok_or(SettingsError::NoStore)?,
            },
            // Where it cannot be known, one step at a time is right everywhere.
            jobs: said.jobs.or_else(|| std::thread::available_parallelism().ok()).unwrap_or(NonZeroUsize::MIN),
            runtime: said.runtime.unwrap_or_else(|| EMBEDDED.to_owned()),
            progress: said.progress.unwrap_or(Progress::Auto),
            keep_failed: said.keep_failed.unwrap_or_else(|| !is_ci(&env)),
            lock_file: said.lock_file,
            ignored,
        })
    }
}

impl Partial {
    /// What this says, and for what it says nothing of, the other.
    fn or(self, other: Self) -> Self {
        Self {
            store: self.store.or(other.store),
            jobs: self.jobs.or(other.jobs),
            runtime: self.runtime.or(other.runtime),
            progress: self.progress.or(other.progress),
            keep_failed: self.keep_failed.or(other.keep_failed),
            lock_file: self.lock_file.or(other.lock_file),
        }
    }
}

/// The user who called sudo(8), which sets the variable.
fn sudo_uid(env: &impl Fn(&str) -> Option<OsString>) -> Option<u32> {
    env("SUDO_UID")?.to_str()?.parse().ok()
}

fn absolute(path: &Path) -> Result<PathBuf, SettingsError> {
    std::path::absolute(path).map_err(|source| SettingsError::NoCurrentFolder { path: path.to_owned(), source })
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

/// Whether this is a job of a CI system: nearly all of them set the variable.
fn is_ci(env: &impl Fn(&str) -> Option<OsString>) -> bool {
    env("CI").is_some_and(|value| value.eq_ignore_ascii_case("true") || value == "1")
}

/// The error says what it could be, after "`auot` ".
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
    // The XDG base directory specification has relative paths ignored.
    let folder = |name: &str| env(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = folder("XDG_CACHE_HOME").or_else(|| folder("HOME").map(|home| home.join(".cache")));
    cache.map(|cache| cache.join("runner"))
}

#[cfg(test)]
mod tests;
