//! The arguments of the commands.

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::builder::{NonEmptyStringValueParser, OsStringValueParser, TypedValueParser as _};
use clap::{Args, ValueEnum};

use crate::report::Format;
use crate::settings::Progress;

/// The manifest and what is set in it.
#[derive(Debug, Args)]
pub struct ManifestArgs {
    /// The manifest.
    #[arg(default_value = "build.yaml")]
    pub manifest: PathBuf,

    /// Variables set by the command line.
    #[command(flatten)]
    pub sets: SetArgs,
}

/// Variables set by the command line.
#[derive(Debug, Args)]
pub struct SetArgs {
    /// Set a variable of the manifest, in place of its value there; repeatable.
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = assignment)]
    pub values: Vec<(String, String)>,
}

/// The lock that a build is held to.
#[derive(Debug, Args)]
pub struct LockFileArgs {
    /// The lock file [default: runner.lock beside the manifest].
    #[arg(long = "lock-file", value_name = "FILE")]
    pub path: Option<PathBuf>,
}

/// What runs the containers.
#[derive(Debug, Args)]
pub struct RuntimeArgs {
    /// What runs the containers: `embedded`, an OCI runtime in PATH such as `runc`, or the path of one [default:
    /// embedded].
    #[arg(long, value_name = "RUNTIME", value_parser = NonEmptyStringValueParser::new())]
    pub runtime: Option<String>,

    /// Keep the OCI bundle of each container, with its config.json, in this folder.
    #[arg(long, value_name = "FOLDER")]
    pub bundle_dir: Option<PathBuf>,
}

/// The arguments of `runner apply`.
#[derive(Debug, Args)]
pub struct ApplyArgs {
    /// The manifest and what is set in it.
    #[command(flatten)]
    pub manifest: ManifestArgs,

    /// Do this step and what it needs, and nothing else; repeatable.
    #[arg(long = "target", value_name = "STEP", value_parser = NonEmptyStringValueParser::new())]
    pub targets: Vec<String>,

    /// How many steps may run at once [default: the number of processors].
    #[arg(short, long, value_name = "N", value_parser = jobs)]
    pub jobs: Option<NonZeroUsize>,

    /// After a failure, go on with what does not depend on it.
    #[arg(long)]
    pub keep_going: bool,

    /// Do not keep the sessions of steps that fail, for `runner shell` [default: keep them, unless `CI` is `true`].
    #[arg(long)]
    pub no_keep_failed: bool,

    /// Open a shell in each step that has failed, when the others that were running have ended: in its session, with its
    /// environment, user and working folder. Needs a terminal.
    #[arg(long)]
    pub shell_on_failure: bool,

    /// Run all steps, and take nothing from the store.
    #[arg(long)]
    pub no_cache: bool,

    /// Hold rootfs sources and snapshots to `runner.lock`; end with 4 where one is another.
    #[arg(long)]
    pub locked: bool,

    /// The lock that the build is held to.
    #[command(flatten)]
    pub lock_file: LockFileArgs,

    /// What runs the containers.
    #[command(flatten)]
    pub runtime: RuntimeArgs,

    /// How the build is shown [default: auto].
    #[arg(long, value_name = "MODE")]
    pub progress: Option<Progress>,

    /// Write the events as JSON lines to this file too, however the build is shown.
    #[arg(long, value_name = "FILE")]
    pub log_file: Option<PathBuf>,

    /// Write a report when the build is over: a page (.html), JUnit's XML (.xml) or JSON (.json); repeatable.
    #[arg(long = "report", value_name = "FILE", value_parser = OsStringValueParser::new().try_map(report))]
    pub reports: Vec<(PathBuf, Format)>,
}

/// The arguments of `runner plan`.
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// The manifest and what is set in it.
    #[command(flatten)]
    pub manifest: ManifestArgs,

    /// Plan this step and what it needs, and nothing else; repeatable.
    #[arg(long = "target", value_name = "STEP", value_parser = NonEmptyStringValueParser::new())]
    pub targets: Vec<String>,

    /// What is to run the containers, as with `apply`: what another has built is not taken from the store.
    #[arg(long, value_name = "RUNTIME", value_parser = NonEmptyStringValueParser::new())]
    pub runtime: Option<String>,

    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// The arguments of `runner lock`.
#[derive(Debug, Args)]
pub struct LockArgs {
    /// The manifest and what is set in it.
    #[command(flatten)]
    pub manifest: ManifestArgs,

    /// Write nothing and build nothing: compare the lock with the manifest, its inputs, and the snapshots in the store; of
    /// those that are not built here, the inputs. End with 4 where one is another. Needs no privilege.
    #[arg(long, conflicts_with = "progress")]
    pub check: bool,

    /// The lock to write or to compare with.
    #[command(flatten)]
    pub lock_file: LockFileArgs,

    /// How the build is shown [default: auto].
    #[arg(long, value_name = "MODE")]
    pub progress: Option<Progress>,
}

/// The arguments of `runner verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The manifest and what is set in it.
    #[command(flatten)]
    pub manifest: ManifestArgs,

    /// Build this step and what it needs, and nothing else; repeatable.
    #[arg(long = "target", value_name = "STEP", value_parser = NonEmptyStringValueParser::new())]
    pub targets: Vec<String>,

    /// The lock to compare with.
    #[command(flatten)]
    pub lock_file: LockFileArgs,

    /// How many steps may run at once [default: the number of processors].
    #[arg(short, long, value_name = "N", value_parser = jobs)]
    pub jobs: Option<NonZeroUsize>,

    /// How the build is shown [default: auto].
    #[arg(long, value_name = "MODE")]
    pub progress: Option<Progress>,
}

/// The arguments of `runner graph`.
#[derive(Debug, Args)]
pub struct GraphArgs {
    /// The manifest and what is set in it.
    #[command(flatten)]
    pub manifest: ManifestArgs,

    /// Draw this step and what it needs, and nothing else; repeatable.
    #[arg(long = "target", value_name = "STEP", value_parser = NonEmptyStringValueParser::new())]
    pub targets: Vec<String>,

    /// What to write.
    #[arg(long, value_enum, default_value_t = GraphFormat::Mermaid)]
    pub format: GraphFormat,
}

/// What a schema describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SchemaOf {
    /// The manifest.
    Manifest,
    /// A line of `--progress json` and of `--log-file`.
    Events,
}

/// How a graph is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum GraphFormat {
    /// For Graphviz.
    Dot,
    /// For Markdown on GitHub and GitLab.
    Mermaid,
    /// A picture.
    Svg,
}

/// What a command runs on.
#[derive(Debug, Args)]
pub struct OnArgs {
    /// The manifest.
    #[arg(short, long, default_value = "build.yaml")]
    pub manifest: PathBuf,

    /// Variables set by the command line.
    #[command(flatten)]
    pub sets: SetArgs,

    /// What runs the containers.
    #[command(flatten)]
    pub runtime: RuntimeArgs,
}

/// The arguments of `runner run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The container's name in the manifest.
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub container: String,

    /// The manifest and the runtime.
    #[command(flatten)]
    pub on: OnArgs,

    /// Give the command this terminal.
    #[arg(short, long)]
    pub terminal: bool,

    /// The command and its arguments.
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<String>,
}

/// The arguments of `runner shell`.
#[derive(Debug, Args)]
pub struct ShellArgs {
    /// The name of a container, or of a step; `container:NAME` or `step:NAME` where both have it.
    #[arg(value_name = "CONTAINER|STEP", value_parser = NonEmptyStringValueParser::new())]
    pub name: String,

    /// The manifest and the runtime.
    #[command(flatten)]
    pub on: OnArgs,

    /// The shell, by its path in the root or its name in PATH [default: /bin/bash if it is there, else /bin/sh].
    #[arg(long, value_name = "PROGRAM", value_parser = NonEmptyStringValueParser::new())]
    pub shell: Option<String>,
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
    let format = Format::of(&path).ok_or("end its name in .html, .xml or .json")?;
    Ok((path, format))
}
