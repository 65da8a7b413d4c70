//! The arguments of the commands.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::builder::{NonEmptyStringValueParser, OsStringValueParser, TypedValueParser as _};
use clap::{Args, ValueEnum};

use crate::report::Format;
use crate::settings::Progress;

/// The manifest and its variables.
#[derive(Debug, Args)]
pub struct ManifestArgs {
    /// The manifest.
    #[arg(value_name = "MANIFEST", default_value = "build.yaml")]
    pub manifest: PathBuf,

    /// Variables from the command line.
    #[command(flatten)]
    pub sets: SetArgs,
}

/// Variables from the command line.
#[derive(Debug, Args)]
pub struct SetArgs {
    /// Set a variable of the manifest, overriding its value there; repeatable.
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = assignment)]
    pub values: Vec<(String, String)>,
}

impl SetArgs {
    /// Returns the variables by their names; of several assignments to one, the last counts.
    pub fn to_map(&self) -> BTreeMap<String, String> {
        self.values.iter().cloned().collect()
    }
}

/// The lock that a build must match.
#[derive(Debug, Args)]
pub struct LockFileArgs {
    /// The lock file [default: runner.lock beside the manifest].
    #[arg(long = "lock-file", value_name = "FILE")]
    pub path: Option<PathBuf>,
}

/// The container runtime.
#[derive(Debug, Args)]
pub struct RuntimeArgs {
    /// The container runtime: `embedded`, an OCI runtime in PATH such as `runc`, or the path of one [default: embedded].
    #[arg(long, value_name = "RUNTIME", value_parser = NonEmptyStringValueParser::new())]
    pub runtime: Option<String>,

    /// Store the OCI bundle of each container, with its config.json, in this directory.
    #[arg(long, value_name = "DIR")]
    pub bundle_dir: Option<PathBuf>,
}

/// The arguments of `runner apply`.
#[derive(Debug, Args)]
pub struct ApplyArgs {
    /// The manifest and its variables.
    #[command(flatten)]
    pub manifest: ManifestArgs,

    /// Run only this step and the steps that it needs; repeatable.
    #[arg(long = "target", value_name = "STEP", value_parser = NonEmptyStringValueParser::new())]
    pub targets: Vec<String>,

    /// The number of steps that may run in parallel [default: the number of processors].
    #[arg(short, long, value_name = "N", value_parser = jobs)]
    pub jobs: Option<NonZeroUsize>,

    /// After a failure, continue with the steps that do not depend on the failed one.
    #[arg(long)]
    pub keep_going: bool,

    /// Do not store the sessions of failed steps for `runner shell` [default: store them, unless `CI` is `true`].
    #[arg(long)]
    pub no_keep_failed: bool,

    /// After the build, open a shell in the session of each failed step, with the step's environment, user and working
    /// directory. Needs a terminal.
    #[arg(long)]
    pub shell_on_failure: bool,

    /// Run all steps, and take nothing from the store.
    #[arg(long)]
    pub no_cache: bool,

    /// Ask the registries again where the tags of images lead, in place of the lock and the store.
    #[arg(long)]
    pub pull: bool,

    /// Require rootfs sources and snapshots to match `runner.lock`; exit with 4 if one differs.
    #[arg(long)]
    pub locked: bool,

    /// The lock that the build must match.
    #[command(flatten)]
    pub lock_file: LockFileArgs,

    /// The container runtime.
    #[command(flatten)]
    pub runtime: RuntimeArgs,

    /// The display of the build [default: auto].
    #[arg(long, value_name = "MODE")]
    pub progress: Option<Progress>,

    /// Write the events as JSON lines to this file, in addition to the display.
    #[arg(long, value_name = "FILE")]
    pub log_file: Option<PathBuf>,

    /// Write a report at the end of the build: a web page (.html), JUnit XML (.xml) or JSON (.json); repeatable.
    #[arg(long = "report", value_name = "FILE", value_parser = OsStringValueParser::new().try_map(report))]
    pub reports: Vec<(PathBuf, Format)>,
}

/// The arguments of `runner plan`.
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// The manifest and its variables.
    #[command(flatten)]
    pub manifest: ManifestArgs,

    /// Plan only this step and the steps that it needs; repeatable.
    #[arg(long = "target", value_name = "STEP", value_parser = NonEmptyStringValueParser::new())]
    pub targets: Vec<String>,

    /// The container runtime, as with `apply`: results of another runtime are not taken from the store.
    #[arg(long, value_name = "RUNTIME", value_parser = NonEmptyStringValueParser::new())]
    pub runtime: Option<String>,

    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// The arguments of `runner lock`.
#[derive(Debug, Args)]
pub struct LockArgs {
    /// The manifest and its variables.
    #[command(flatten)]
    pub manifest: ManifestArgs,

    /// Write and build nothing: compare the lock with the manifest and with the snapshots in the store; of a snapshot that is
    /// not built here, compare the inputs. Exit with 4 if something differs. Needs no privilege.
    #[arg(long, conflicts_with = "progress")]
    pub check: bool,

    /// The lock to write or to compare with.
    #[command(flatten)]
    pub lock_file: LockFileArgs,

    /// The display of the build [default: auto].
    #[arg(long, value_name = "MODE")]
    pub progress: Option<Progress>,
}

/// The arguments of `runner verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The manifest and its variables.
    #[command(flatten)]
    pub manifest: ManifestArgs,

    /// Build only this step and the steps that it needs; repeatable.
    #[arg(long = "target", value_name = "STEP", value_parser = NonEmptyStringValueParser::new())]
    pub targets: Vec<String>,

    /// The lock to compare with.
    #[command(flatten)]
    pub lock_file: LockFileArgs,

    /// The number of steps that may run in parallel [default: the number of processors].
    #[arg(short, long, value_name = "N", value_parser = jobs)]
    pub jobs: Option<NonZeroUsize>,

    /// The display of the build [default: auto].
    #[arg(long, value_name = "MODE")]
    pub progress: Option<Progress>,
}

/// The arguments of `runner graph`.
#[derive(Debug, Args)]
pub struct GraphArgs {
    /// The manifest and its variables.
    #[command(flatten)]
    pub manifest: ManifestArgs,

    /// Draw only this step and the steps that it needs; repeatable.
    #[arg(long = "target", value_name = "STEP", value_parser = NonEmptyStringValueParser::new())]
    pub targets: Vec<String>,

    /// The format of the graph.
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = GraphFormat::Mermaid)]
    pub format: GraphFormat,
}

/// The arguments of `runner diff`.
#[derive(Debug, Args)]
pub struct DiffArgs {
    /// The old image.
    #[arg(value_name = "OLD", value_parser = NonEmptyStringValueParser::new())]
    pub old: Option<String>,

    /// The new image.
    #[arg(value_name = "NEW", value_parser = NonEmptyStringValueParser::new())]
    pub new: Option<String>,

    /// The manifest [default: build.yaml, if a name needs one].
    #[arg(short, long, value_name = "MANIFEST")]
    pub manifest: Option<PathBuf>,

    /// Variables from the command line.
    #[command(flatten)]
    pub sets: SetArgs,

    /// The format of the report.
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = DiffFormat::Text)]
    pub format: DiffFormat,

    /// Exit with 1 if the images differ, and with 0 if they do not.
    #[arg(long)]
    pub exit_code: bool,
}

/// The format of a report of differences.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DiffFormat {
    /// For people, on a terminal.
    Text,
    /// For a comment of a review on GitHub or GitLab.
    Markdown,
    /// For programs; `runner schema diff` prints its schema.
    Json,
}

/// The subject of a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SchemaOf {
    /// The manifest.
    Manifest,
    /// A line of `--progress json` or `--log-file`.
    Events,
    /// The document of `runner diff --format json`.
    Diff,
}

/// The subject of a page of reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ReferenceOf {
    /// The keys of the manifest.
    Manifest,
    /// The commands.
    Commands,
}

/// The format of a graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum GraphFormat {
    /// For Graphviz.
    Dot,
    /// For Markdown on GitHub and GitLab.
    Mermaid,
    /// A picture.
    Svg,
}

/// The manifest and the runtime of a session.
#[derive(Debug, Args)]
pub struct OnArgs {
    /// The manifest.
    #[arg(short, long, value_name = "MANIFEST", default_value = "build.yaml")]
    pub manifest: PathBuf,

    /// Variables from the command line.
    #[command(flatten)]
    pub sets: SetArgs,

    /// The container runtime.
    #[command(flatten)]
    pub runtime: RuntimeArgs,
}

/// The arguments of `runner run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The container's name in the manifest.
    #[arg(value_name = "CONTAINER", value_parser = NonEmptyStringValueParser::new())]
    pub container: String,

    /// The manifest and the runtime.
    #[command(flatten)]
    pub on: OnArgs,

    /// Connect the command to this terminal.
    #[arg(short, long)]
    pub terminal: bool,

    /// The command and its arguments.
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<String>,
}

/// The arguments of `runner shell`.
#[derive(Debug, Args)]
pub struct ShellArgs {
    /// The name of a container or a step; `container:NAME` or `step:NAME` if both have the name.
    #[arg(value_name = "CONTAINER|STEP", value_parser = NonEmptyStringValueParser::new())]
    pub name: String,

    /// The manifest and the runtime.
    #[command(flatten)]
    pub on: OnArgs,

    /// The path of the shell in the root, or its name in PATH [default: /bin/bash if it exists, else /bin/sh].
    #[arg(long, value_name = "PROGRAM", value_parser = NonEmptyStringValueParser::new())]
    pub shell: Option<String>,
}

/// The arguments of `runner __complete`.
#[derive(Debug, Args)]
pub struct CompleteArgs {
    /// The line up to the cursor, as it was typed.
    #[arg(long, value_name = "LINE", allow_hyphen_values = true)]
    pub line: Option<OsString>,

    /// The words after `runner`, without their quotes; the last is unfinished.
    #[arg(last = true, value_name = "WORD")]
    pub words: Vec<OsString>,
}

fn assignment(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write NAME=VALUE".to_owned()),
    }
}

fn jobs(text: &str) -> Result<NonZeroUsize, String> {
    text.parse().map_err(|_| "write a number from 1 on".to_owned())
}

fn report(path: OsString) -> Result<(PathBuf, Format), String> {
    let path = PathBuf::from(path);
    let format = Format::of(&path).ok_or("the name must end in .html, .xml or .json")?;
    Ok((path, format))
}
