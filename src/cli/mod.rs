//! The command line, as clap parses it.

mod arguments;
mod completion;
mod examples;
mod manifest_option;
mod store;

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use clap_complete::Shell;

pub use arguments::{
    ApplyArgs, CompleteArgs, DiffArgs, DiffFormat, GraphArgs, GraphFormat, LockArgs, LockFileArgs, ManifestArgs,
    OnArgs, PlanArgs, ReferenceOf, RunArgs, RuntimeArgs, SchemaOf, SetArgs, ShellArgs, VerifyArgs,
};
pub use completion::{Completion, Files, Names, complete, completions, words};
pub use manifest_option::parse;
pub use store::{ExportArgs, GcArgs, StoreCommand};

/// Builds root filesystems from a manifest.
#[derive(Debug, Parser)]
#[command(
    name = "runner",
    version,
    propagate_version = true,
    disable_help_subcommand = true,
    after_help = examples::RUNNER
)]
pub struct Cli {
    /// The command.
    #[command(subcommand)]
    pub command: Command,

    /// The directory of layers, logs and caches [default: $RUNNER_STORE, else /var/cache/runner as root, else
    /// $XDG_CACHE_HOME/runner].
    #[arg(long, global = true, value_name = "DIR")]
    pub store: Option<PathBuf>,
}

/// The command.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Build: run the steps and write the snapshots.
    ///
    /// Results that are in the store are not built again; `runner plan` lists them, and says why the others are built. After a
    /// failure, no further step starts. Needs root.
    #[command(after_help = examples::APPLY)]
    Apply(ApplyArgs),

    /// Run the tests, and the steps that they need.
    ///
    /// A test is a step with `test: true`. One that passed does not run again while its root, its inputs and its settings are the
    /// same. The failure of a test stops no other test; the exit code is 1 then. `--target` names single tests. Needs root.
    #[command(after_help = examples::TEST)]
    Test(ApplyArgs),

    /// List the steps in order, and say which would run and why. Needs no privilege.
    ///
    /// Steps marked `fresh` are in the store. Below each other step are the reasons why it would run.
    #[command(after_help = examples::PLAN)]
    Plan(PlanArgs),

    /// Draw the plan: containers as boxes with their steps, snapshots as edges. Needs no privilege.
    #[command(after_help = examples::GRAPH)]
    Graph(GraphArgs),

    /// Check the manifest and report every problem in it.
    #[command(after_help = examples::VALIDATE)]
    Validate(ManifestArgs),

    /// Write the digests of all rootfs sources and snapshots to runner.lock; builds the snapshots that are not in the store.
    #[command(after_help = examples::LOCK)]
    Lock(LockArgs),

    /// Build again in an empty store, compare the snapshots with runner.lock or the store, and list the files that differ.
    #[command(after_help = examples::VERIFY)]
    Verify(VerifyArgs),

    /// Run one command in a fresh session of a container.
    #[command(after_help = examples::RUN)]
    Run(RunArgs),

    /// Open a shell in a container before its first step, or in a step: in its state after a failure in the last build, else
    /// in the state before it. Changes go into no layer.
    #[command(after_help = examples::SHELL)]
    Shell(ShellArgs),

    /// Show what differs between two images: packages, files, set-uid and capabilities, sizes.
    ///
    /// OLD and NEW are each a snapshot step of the manifest, `STEP~` for its result before the last one, a layer of the store
    /// (a digest, the beginning of one, BUILD/STEP), a squashfs image or a directory. A result of the store is compared as a
    /// whole root, with the layers and the rootfs source that it is built on. With one argument, a snapshot step: its last
    /// result and the different one before. Without any: the same for each snapshot that has an output; for all snapshots if none
    /// has. Needs root, unless both are directories.
    #[command(after_help = examples::DIFF)]
    Diff(DiffArgs),

    /// Show the results that are stored between builds, and remove the unused ones.
    #[command(subcommand, after_help = examples::STORE, subcommand_required = true)]
    Store(StoreCommand),

    /// Print the JSON Schema of the manifest, of the events or of `runner diff --format json`.
    #[command(after_help = examples::SCHEMA)]
    Schema {
        /// The subject of the schema.
        #[arg(value_name = "KIND", value_enum, default_value_t = SchemaOf::Manifest)]
        of: SchemaOf,
    },

    /// Check whether this host can build, and print the commands that fix it.
    #[command(after_help = examples::DOCTOR)]
    Doctor,

    /// Print a completion script for a shell.
    #[command(after_help = examples::COMPLETIONS)]
    Completions {
        /// The shell.
        #[arg(value_name = "SHELL")]
        shell: Shell,
    },

    /// Write the manual pages into a directory, in man1 and man5 below it.
    #[command(hide = true, after_help = examples::MAN)]
    Man {
        /// The directory.
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },

    /// Print a page of the book that is made from the schema or from the commands.
    #[command(hide = true, after_help = examples::REFERENCE)]
    Reference {
        /// The subject of the page.
        #[arg(value_name = "KIND", value_enum)]
        of: ReferenceOf,
    },

    /// Print what a command line may end with, for the completion scripts.
    #[command(name = "__complete", hide = true, after_help = examples::COMPLETE)]
    Complete(CompleteArgs),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;
    use clap::error::ErrorKind;

    use std::collections::BTreeSet;
    use std::num::NonZeroUsize;
    use std::path::Path;

    use super::*;
    use crate::report::Format;
    use crate::settings::Progress;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split(' '))
    }

    fn refused(line: &str) -> (ErrorKind, i32) {
        let error = parse(line).unwrap_err();
        (error.kind(), error.exit_code())
    }

    #[test]
    fn the_definition_passes_the_checks_of_clap() {
        Cli::command().debug_assert();
    }

    /// Collects the names of the values that a command and those below it take, and the help of each.
    fn value_names(command: &clap::Command, names: &mut BTreeSet<String>) {
        let help = command.clone().render_long_help().to_string();
        let takes_value = |argument: &&clap::Arg| argument.get_action().takes_values();
        for argument in command.get_arguments().filter(takes_value) {
            let name = argument.get_value_names().unwrap_or_default().first();
            let name = name.unwrap_or_else(|| panic!("{argument} of {} names no value", command.get_name()));
            let is_shown = [format!("<{name}>"), format!("[{name}]")].iter().any(|shown| help.contains(shown));
            assert!(is_shown, "{name}: {help}");
            names.insert(name.to_string());
        }
        command.get_subcommands().for_each(|inner| value_names(inner, names));
    }

    #[test]
    fn every_value_has_a_name_in_the_help_and_each_name_means_one_thing() {
        let mut names = BTreeSet::new();
        value_names(&Cli::command(), &mut names);
        let known = [
            "CMD",
            "COMPRESSION",
            "CONTAINER",
            "CONTAINER|STEP",
            "DAYS",
            "DIR",
            "FILE",
            "FORMAT",
            "KIND",
            "LAYER",
            "LAYER|FILE",
            "LINE",
            "MANIFEST",
            "MODE",
            "N",
            "NAME=VALUE",
            "NEW",
            "OLD",
            "PATH",
            "PROGRAM",
            "RUNTIME",
            "SHELL",
            "SIZE",
            "STEP",
            "WORD",
        ];
        assert_eq!(names, known.map(String::from).into());
    }

    #[test]
    fn apply_is_parsed_with_all_its_options() {
        let line = "runner apply other.yaml --target a --target b -j 3 --set k=v --set x=y=z --set e= --keep-going \
                    --no-cache --locked --progress json --log-file l.json --report r.html --report r.xml --store /s";
        let cli = parse(line).unwrap();
        assert_eq!(cli.store.as_deref(), Some(Path::new("/s")));
        let Command::Apply(args) = cli.command else { panic!("not apply") };
        assert_eq!(args.manifest.manifest, Path::new("other.yaml"));
        assert_eq!(args.targets, ["a", "b"]);
        assert_eq!(args.jobs, NonZeroUsize::new(3));
        let sets = [("k", "v"), ("x", "y=z"), ("e", "")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(args.manifest.sets.values, sets);
        let reports = [("r.html".into(), Format::Html), ("r.xml".into(), Format::Junit)];
        assert_eq!(args.reports, reports);
        assert_eq!(args.log_file.as_deref(), Some(Path::new("l.json")));
        assert!(args.keep_going && args.no_cache && args.locked);
        assert_eq!(args.progress, Some(Progress::Json));
    }

    #[test]
    fn apply_is_parsed_without_arguments() {
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
    fn run_takes_the_command_after_two_dashes_unchanged() {
        let line = "runner run base -m m.yaml --set a=b --store /s -- ls -l --set c=d";
        let Command::Run(args) = parse(line).unwrap().command else { panic!("not run") };
        assert_eq!((args.container.as_str(), args.on.manifest.as_path()), ("base", Path::new("m.yaml")));
        assert!(!args.terminal && args.on.runtime.runtime.is_none());
        assert_eq!(args.command, ["ls", "-l", "--set", "c=d"]);
        assert_eq!(args.on.sets.values, [("a".to_owned(), "b".to_owned())]);
        assert_eq!(refused("runner run base ls"), (ErrorKind::UnknownArgument, 2));
        assert_eq!(refused("runner run base"), (ErrorKind::MissingRequiredArgument, 2));
    }

    #[test]
    fn the_options_of_run_and_shell_are_parsed() {
        let Command::Run(args) = parse("runner run -t base --runtime runc -- top").unwrap().command else { panic!() };
        assert!(args.terminal);
        assert_eq!(args.on.runtime.runtime.as_deref(), Some("runc"));
        let Command::Shell(args) = parse("runner shell base --shell zsh").unwrap().command else { panic!() };
        assert_eq!((args.name.as_str(), args.shell.as_deref()), ("base", Some("zsh")));
    }

    #[test]
    fn the_other_commands_are_parsed() {
        assert!(matches!(
            parse("runner plan x.yaml --json --target a").unwrap().command,
            Command::Plan(PlanArgs { json: true, .. })
        ));
        assert!(matches!(
            parse("runner graph x.yaml --format svg --target a").unwrap().command,
            Command::Graph(GraphArgs { format: GraphFormat::Svg, .. })
        ));
        assert!(matches!(parse("runner validate").unwrap().command, Command::Validate(_)));
        assert!(matches!(parse("runner schema").unwrap().command, Command::Schema { of: SchemaOf::Manifest }));
        assert!(matches!(parse("runner schema events").unwrap().command, Command::Schema { of: SchemaOf::Events }));
        assert!(matches!(
            parse("runner diff").unwrap().command,
            Command::Diff(DiffArgs { old: None, new: None, format: DiffFormat::Text, exit_code: false, .. })
        ));
        let Command::Diff(args) = parse("runner diff a b -m m.yaml --format json --exit-code").unwrap().command else {
            panic!("not diff")
        };
        assert!(args.exit_code && args.new.as_deref() == Some("b") && args.format == DiffFormat::Json);
        assert!(matches!(parse("runner doctor --store /s").unwrap().command, Command::Doctor));
    }

    #[test]
    fn lock_and_verify_take_progress_but_lock_with_check_does_not() {
        let Command::Lock(args) = parse("runner lock --progress json").unwrap().command else { panic!("not lock") };
        assert_eq!((args.check, args.progress), (false, Some(Progress::Json)));
        let Command::Verify(args) = parse("runner verify --progress quiet").unwrap().command else { panic!() };
        assert_eq!(args.progress, Some(Progress::Quiet));
        assert_eq!(refused("runner lock --check --progress json"), (ErrorKind::ArgumentConflict, 2));
    }

    #[test]
    fn a_wrong_command_line_exits_with_2() {
        for line in [
            "runner",
            "runner build",
            "runner apply --set x",
            "runner apply --set =x",
            "runner apply -j 0",
            "runner apply -j many",
            "runner apply --progress loud",
            "runner apply --json",
            "runner apply --report r.pdf",
            "runner apply --report r",
            "runner apply a b",
            "runner completions csh",
            "runner graph --format png",
        ] {
            assert_eq!(refused(line).1, 2, "{line}");
        }
        assert_eq!(refused("runner apply --help"), (ErrorKind::DisplayHelp, 0));
    }
}
