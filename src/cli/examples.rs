//! The examples at the end of each command's help, each below a comment that explains it.

pub(super) const RUNNER: &str = "\
Examples:
  # Check the manifest, list the steps that would run, and build.
  runner validate build.yaml
  runner plan build.yaml
  runner apply build.yaml

Environment:
  RUNNER_STORE, RUNNER_JOBS, RUNNER_RUNTIME, RUNNER_PROGRESS and RUNNER_LOCK_FILE set --store, --jobs, \
--runtime, --progress and --lock-file.
  RUNNER_KEEP_FAILED=false sets --no-keep-failed.
  A runner.toml beside the manifest has the keys store, jobs, progress, keep_failed, lock_file and registries; variables \
override it, and flags override both.
  SOURCE_DATE_EPOCH overrides that of the manifest.
  RUNNER_MKSQUASHFS=1 makes mksquashfs write the images, to compare them with those of runner.

Exit codes:
  0    done
  1    a step failed
  2    the manifest, a setting or the command line is wrong
  3    this host cannot build: see runner doctor
  4    a lock or a verification does not match
  101  runner itself has a bug
  130  interrupted";

pub(super) const APPLY: &str = "\
Examples:
  # Everything that build.yaml in this directory describes.
  runner apply
  # One step and the steps that it needs, with another value of a variable.
  runner apply sdk/build.yaml --target sdk-image --set suite=trixie
  # For a CI job: all failures at once, a web page, and JUnit XML.
  runner apply --keep-going --report build.html --report build.xml";

pub(super) const TEST: &str = "\
Examples:
  # All tests of build.yaml in this directory, with JUnit XML for a CI job.
  runner test --report tests.xml
  # One test.
  runner test --target smoke";

pub(super) const PLAN: &str = "\
Examples:
  # Which steps are in the store, which would run, and why?
  runner plan
  # The names of the steps that would run.
  runner plan --json | jq -r '.steps[] | select(.fresh | not).name'";

pub(super) const GRAPH: &str = "\
Examples:
  # A picture.
  runner graph --format svg > build.svg
  # For a page in Markdown.
  runner graph sdk/build.yaml --target sdk-image";

pub(super) const VALIDATE: &str = "\
Examples:
  # build.yaml in this directory.
  runner validate
  # Another, with another value of a variable.
  runner validate sdk/build.yaml --set suite=trixie";

pub(super) const LOCK: &str = "\
Examples:
  # Write runner.lock beside build.yaml, to be committed with it.
  runner lock
  # Before a merge: does the lock still match?
  runner lock --check";

pub(super) const VERIFY: &str = "\
Examples:
  # Does a second build give the same snapshots?
  runner verify
  # One image and the steps that it needs.
  runner verify --target sdk-image";

pub(super) const RUN: &str = "\
Examples:
  # What is in the root of a container?
  runner run base -- cat /etc/os-release
  # A program that needs a terminal.
  runner run -t base -m sdk/build.yaml -- top";

pub(super) const SHELL: &str = "\
Examples:
  # Look around where the steps of a container will run.
  runner shell base
  # In a step that has just failed.
  runner shell compile
  # With another manifest and another shell.
  runner shell base -m sdk/build.yaml --shell zsh";

pub(super) const DIFF: &str = "\
Examples:
  # What has the last build changed in its images?
  runner diff
  # In one of them, for a comment in a review.
  runner diff sdk-image --format markdown
  # Does an image of a release differ from the one that was just built?
  runner diff release/sdk.squashfs sdk-image --exit-code";

pub(super) const STORE: &str = "\
Examples:
  # What takes the space?
  runner store ls
  # Free space.
  runner store gc --max-size 20GiB";

pub(super) const STORE_LS: &str = "\
Examples:
  # The layers, with their builds and the reasons why they are needed.
  runner store ls
  # For a program.
  runner store ls --json | jq -r '.layers[].digest'
  # The cache mounts and their sizes.
  runner store ls --caches";

pub(super) const STORE_INSPECT: &str = "\
Examples:
  # The layer of a step of any build, or of one.
  runner store inspect base-layer
  runner store inspect sdk/base-layer
  # By the beginning of its digest.
  runner store inspect 5e5ad39b92a4";

pub(super) const STORE_DIFF: &str = "\
Examples:
  # What differs between a layer and an older image?
  runner store diff base-layer old/base.squashfs";

pub(super) const STORE_EXPORT: &str = "\
Examples:
  # The image of a snapshot that has no output.
  runner store export base-layer base.squashfs
  # Into a program.
  runner store export base-layer - | sha256sum
  # The whole root of a full snapshot, as an archive.
  runner store export --format tar image root.tar.gz";

pub(super) const STORE_VERIFY: &str = "\
Examples:
  # After a crash of the machine, or a disk that failed.
  runner store verify";

pub(super) const STORE_GC: &str = "\
Examples:
  # What would be removed?
  runner store gc --dry-run
  # Every night: nothing older than a week, and 20 GiB at most.
  runner store gc --keep-days 7 --max-size 20GiB
  # The cache mounts that no build used for a month.
  runner store gc --caches --keep-days 30";

pub(super) const SCHEMA: &str = "\
Examples:
  # For an editor: begin build.yaml with the line
  # `# yaml-language-server: $schema=manifest.schema.json`.
  runner schema > manifest.schema.json
  # Of the lines of --progress json.
  runner schema events";

pub(super) const DOCTOR: &str = "\
Examples:
  # Before the first build on a host.
  runner doctor
  # With the store on another disk.
  runner doctor --store /srv/runner";

pub(super) const COMPLETIONS: &str = "\
Examples:
  # For all users of bash.
  runner completions bash > /usr/share/bash-completion/completions/runner
  # For yourself, with fish.
  runner completions fish > ~/.config/fish/completions/runner.fish";

pub(super) const MAN: &str = "\
Examples:
  # For all users.
  runner man /usr/local/share/man";

pub(super) const REFERENCE: &str = "\
Examples:
  # After a change of a description.
  runner reference manifest > docs/src/manifest.md
  runner reference commands > docs/src/commands.md";

pub(super) const COMPLETE: &str = "\
Examples:
  # The steps of build.yaml whose names begin so.
  runner __complete -- apply --target pack";

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use crate::cli::Cli;

    /// Returns the examples in a help, split into words as a shell does it: no example has quotes, and each ends before a
    /// pipe or a redirection.
    fn examples(help: &str) -> Vec<Vec<String>> {
        let (_, after) = help.split_once("\nExamples:\n").unwrap_or_else(|| panic!("no examples: {help}"));
        let section = after.lines().take_while(|line| !line.is_empty());
        let lines = section.map(|line| line.strip_prefix("  ").unwrap_or_else(|| panic!("{line}: {help}")));
        let commands = lines.filter(|line| !line.starts_with('#'));
        commands
            .map(|line| line.split(' ').take_while(|word| !["|", ">"].contains(word)).map(String::from).collect())
            .collect()
    }

    fn look(command: &clap::Command, words: &[String], count: &mut usize) {
        for help in [command.clone().render_help().to_string(), command.clone().render_long_help().to_string()] {
            let found = examples(&help);
            assert!(!found.is_empty(), "{help}");
            for example in &found {
                Cli::try_parse_from(example).unwrap_or_else(|error| panic!("{example:?}: {error}"));
                assert!(example.starts_with(words), "{example:?} is no example of {words:?}");
            }
            *count += found.len();
            // The descriptions of the flattened groups of arguments are not for the user.
            assert!(
                !help.contains("The manifest and its variables") && !help.contains("from the command line"),
                "{help}"
            );
        }
        for inner in command.get_subcommands() {
            look(inner, &[words, &[inner.get_name().to_owned()]].concat(), count);
        }
    }

    #[test]
    fn the_help_names_each_setting_and_exit_code_and_has_a_line_for_each_sentence() {
        let help = super::RUNNER;
        for name in ["RUNNER_KEEP_FAILED", "keep_failed", "RUNNER_LOCK_FILE", "lock_file", "\n  101  ", "\n  130  "] {
            assert!(help.contains(name), "{name}");
        }
        // Help is wrapped to the columns of the terminal; a line that is wrapped already would be wrapped twice.
        let (_, environment) = help.split_once("Environment:\n").unwrap();
        let sentences = environment.lines().take_while(|line| !line.is_empty());
        assert!(sentences.clone().count() == 5 && sentences.clone().all(|line| line.ends_with('.')), "{environment}");
    }

    #[test]
    fn every_help_has_examples_and_each_of_them_is_parsed() {
        let mut count = 0;
        look(&Cli::command(), &["runner".to_owned()], &mut count);
        assert!(count > 60, "{count}");
    }
}
