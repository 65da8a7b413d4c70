//! The command line: what can be asked for, as clap reads it.

mod store;
mod targets;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use crate::error::{Error, Exit};
use crate::settings::Progress;

pub use store::{GcArgs, StoreCommand};
pub use targets::targets;

/// Builds root filesystems from a manifest.
#[derive(Debug, Parser)]
#[command(
    name = "runner",
    version,
    propagate_version = true,
    disable_help_subcommand = true,
    after_help = "Example: runner apply build.yaml"
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,

    /// Where layers, logs and caches are kept [default: $RUNNER_STORE, else /var/cache/runner as root, else
    /// $XDG_CACHE_HOME/runner].
    #[arg(long, global = true, value_name = "FOLDER")]
    pub store: Option<PathBuf>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Build: run the steps and write the snapshots.
    #[command(after_help = "Example: runner apply build.yaml --target sdk-image --set suite=trixie -j 2")]
    Apply(ApplyArgs),

    /// Show what would run, in order. Needs no privilege.
    #[command(after_help = "Example: runner plan --json | jq '.steps[].name'")]
    Plan(PlanArgs),

    /// Check the manifest and tell every problem in it.
    #[command(after_help = "Example: runner validate build.yaml")]
    Validate(ManifestArgs),

    /// Write the digests of all rootfs sources and snapshots to runner.lock; builds what is not in the store.
    #[command(after_help = "Example: runner lock --check build.yaml")]
    Lock(LockArgs),

    /// Build again in an empty store and compare with runner.lock, or with what the store has; name the files that differ.
    #[command(after_help = "Example: runner verify --target sdk-image")]
    Verify(VerifyArgs),

    /// Run one command in a fresh session of a container.
    #[command(after_help = "Example: runner run base -- cat /etc/os-release\nExample: runner run -t base -- top")]
    Run(RunArgs),

    /// Open a shell in a fresh session of a container: the state before its first step. It changes no layer.
    #[command(after_help = "Example: runner shell base")]
    Shell(ShellArgs),

    /// Look at what is kept between builds, and remove what is not needed.
    #[command(subcommand, after_help = "Example: runner store ls", subcommand_required = true)]
    Store(StoreCommand),

    /// Print the manifest's JSON Schema.
    #[command(after_help = "Example: runner schema > manifest.schema.json")]
    Schema,

    /// Tell what this host has and lacks, with the commands that mend it.
    #[command(after_help = "Example: runner doctor")]
    Doctor,

    /// Print a completion script for a shell.
    #[command(after_help = "Example: runner completions bash > /usr/share/bash-completion/completions/runner")]
    Completions {
        /// The shell that it is for.
        shell: Shell,
    },
}

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
    #[arg(short, long, value_name = "N")]
    pub jobs: Option<NonZeroUsize>,

    /// After a failure, go on with what does not depend on it.
    #[arg(long)]
    pub keep_going: bool,

    /// Run all steps, and take nothing from the store.
    #[arg(long)]
    pub no_cache: bool,

    /// Hold rootfs sources and snapshots to `runner.lock`; end with 4 where one is another.
    #[arg(long)]
    pub locked: bool,

    /// What runs the containers.
    #[command(flatten)]
    pub runtime: RuntimeArgs,

    /// How the build is shown [default: auto].
    #[arg(long, value_name = "MODE")]
    pub progress: Option<Progress>,
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

    /// Write nothing and build nothing: tell whether the lock fits the manifest, its inputs, and what is in the store;
    /// end with 4 where it does not. Needs no privilege.
    #[arg(long)]
    pub check: bool,
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

    /// How many steps may run at once [default: the number of processors].
    #[arg(short, long, value_name = "N")]
    pub jobs: Option<NonZeroUsize>,
}

/// A container, and what it is to run on.
#[derive(Debug, Args)]
pub struct TargetArgs {
    /// The container's name in the manifest.
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub container: String,

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
    /// The container.
    #[command(flatten)]
    pub target: TargetArgs,

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
    /// The container.
    #[command(flatten)]
    pub target: TargetArgs,

    /// The shell, by its path in the root or its name in PATH [default: /bin/bash if it is there, else /bin/sh].
    #[arg(long, value_name = "PROGRAM", value_parser = NonEmptyStringValueParser::new())]
    pub shell: Option<String>,
}

/// The manifest's path, if there is something.
///
/// # Errors
/// With [`Exit::Usage`] where there is nothing or a folder.
pub fn manifest(path: &Path) -> Result<&Path, Error> {
    let problem = match path.metadata() {
        Ok(metadata) if metadata.is_dir() => "it is a folder".to_owned(),
        Ok(_) => return Ok(path),
        Err(error) => error.to_string(),
    };
    let hint = match path.join("build.yaml") {
        inside if inside.is_file() => format!("name the file in it: {}", inside.display()),
        _ => "name the manifest, as in `runner apply path/to/build.yaml`".to_owned(),
    };
    let message = format!("cannot read the manifest {}: {problem}", path.display());
    Err(Error::new(Exit::Usage, message).with_hint(Some(hint)))
}

/// The completion script for a shell.
pub fn completions(shell: Shell) -> Vec<u8> {
    // Into memory first: clap_complete panics where its output fails, as a closed pipe does.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "runner", &mut script);
    script
}

fn assignment(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write NAME=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;
    use clap::error::ErrorKind;

    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split(' '))
    }

    fn refused(line: &str) -> (ErrorKind, i32) {
        let error = parse(line).unwrap_err();
        (error.kind(), error.exit_code())
    }

    #[test]
    fn clap_finds_no_fault_in_the_definition() {
        Cli::command().debug_assert();
    }

    #[test]
    fn apply_takes_all_its_options() {
        let line = "runner apply other.yaml --target a --target b -j 3 --set k=v --set x=y=z --set e= --keep-going \
                    --no-cache --locked --progress json --store /s";
        let cli = parse(line).unwrap();
        assert_eq!(cli.store.as_deref(), Some(Path::new("/s")));
        let Command::Apply(args) = cli.command else { panic!("not apply") };
        assert_eq!(args.manifest.manifest, Path::new("other.yaml"));
        assert_eq!(args.targets, ["a", "b"]);
        assert_eq!(args.jobs, NonZeroUsize::new(3));
        let sets = [("k", "v"), ("x", "y=z"), ("e", "")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(args.manifest.sets.values, sets);
        assert!(args.keep_going && args.no_cache && args.locked);
        assert_eq!(args.progress, Some(Progress::Json));
    }

    #[test]
    fn apply_needs_nothing() {
        let Command::Apply(args) = parse("runner apply").unwrap().command else { panic!("not apply") };
        assert_eq!(args.manifest.manifest, Path::new("build.yaml"));
        assert!(
            args.targets.is_empty()
                && args.jobs.is_none()
                && !args.keep_going
                && !args.no_cache
                && args.progress.is_none()
        );
    }

    #[test]
    fn run_takes_the_command_after_two_dashes_as_it_is() {
        let line = "runner run base -m m.yaml --set a=b --store /s -- ls -l --set c=d";
        let Command::Run(args) = parse(line).unwrap().command else { panic!("not run") };
        let target = args.target;
        assert_eq!((target.container.as_str(), target.manifest.as_path()), ("base", Path::new("m.yaml")));
        assert!(!args.terminal && target.runtime.runtime.is_none());
        assert_eq!(args.command, ["ls", "-l", "--set", "c=d"]);
        assert_eq!(target.sets.values, [("a".to_owned(), "b".to_owned())]);
        assert_eq!(refused("runner run base ls"), (ErrorKind::UnknownArgument, 2));
        assert_eq!(refused("runner run base"), (ErrorKind::MissingRequiredArgument, 2));
    }

    #[test]
    fn a_terminal_and_a_shell_are_asked_for() {
        let Command::Run(args) = parse("runner run -t base --runtime runc -- top").unwrap().command else { panic!() };
        assert!(args.terminal);
        assert_eq!(args.target.runtime.runtime.as_deref(), Some("runc"));
        let Command::Shell(args) = parse("runner shell base --shell zsh").unwrap().command else { panic!() };
        assert_eq!((args.target.container.as_str(), args.shell.as_deref()), ("base", Some("zsh")));
    }

    #[test]
    fn the_other_commands_are_known() {
        assert!(matches!(
            parse("runner plan x.yaml --json --target a").unwrap().command,
            Command::Plan(PlanArgs { json: true, .. })
        ));
        assert!(matches!(parse("runner validate").unwrap().command, Command::Validate(_)));
        assert!(matches!(parse("runner schema").unwrap().command, Command::Schema));
        assert!(matches!(parse("runner doctor --store /s").unwrap().command, Command::Doctor));
    }

    #[test]
    fn a_wrong_line_ends_with_2() {
        for line in [
            "runner",
            "runner build",
            "runner apply --set x",
            "runner apply --set =x",
            "runner apply -j 0",
            "runner apply -j many",
            "runner apply --progress loud",
            "runner apply --json",
            "runner apply a b",
            "runner completions csh",
        ] {
            assert_eq!(refused(line).1, 2, "{line}");
        }
        assert_eq!(refused("runner apply --help"), (ErrorKind::DisplayHelp, 0));
    }

    #[test]
    fn every_help_has_an_example() {
        let (mut top, mut whole) = (Cli::command(), Cli::command());
        let mut store = top.find_subcommand_mut("store").unwrap().clone();
        let commands = top.get_subcommands_mut().chain(store.get_subcommands_mut());
        for command in std::iter::once(&mut whole).chain(commands) {
            let help = command.render_long_help().to_string();
            assert!(help.contains("Example: runner "), "{help}");
            // What the flattened groups of arguments are is not for the user.
            assert!(!help.contains("what is set in it") && !help.contains("set by the command line"), "{help}");
        }
    }

    #[test]
    fn a_missing_manifest_is_told_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("build.yaml");
        let error = manifest(&path).unwrap_err();
        assert_eq!(error.exit(), Exit::Usage);
        let told = format!("cannot read the manifest {}: No such file or directory (os error 2)", path.display());
        assert_eq!(error.to_string(), told);
        std::fs::write(&path, "").unwrap();
        assert_eq!(manifest(&path).unwrap(), path);
        let hint = format!("name the file in it: {}", path.display());
        assert_eq!(manifest(folder.path()).unwrap_err().hint(), Some(hint.as_str()));
    }

    #[test]
    fn every_shell_has_a_script_that_knows_the_commands() {
        for shell in Shell::value_variants() {
            let script = String::from_utf8(completions(*shell)).unwrap();
            assert!(script.contains("validate"), "{shell}");
        }
    }
}
