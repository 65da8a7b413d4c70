//! `runner store`: what can be asked of the store.

use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};

use super::examples;
use crate::build::size;

/// A century: what is older was written by a clock that is wrong.
const MOST_DAYS: u32 = 36500;

/// What to do with the store. A LAYER is a digest, the beginning of one, or the name of the step that wrote it.
#[derive(Debug, Subcommand)]
pub enum StoreCommand {
    /// List the layers, chain by chain with the base first, or the cache mounts.
    #[command(after_help = examples::STORE_LS)]
    Ls {
        /// List the cache mounts.
        #[arg(long)]
        caches: bool,

        /// Print JSON.
        #[arg(long)]
        json: bool,
    },

    /// Tell all that is known of a layer: what built it, its key, and what it stands on.
    #[command(after_help = examples::STORE_INSPECT)]
    Inspect {
        /// Digest, beginning of a digest, STEP, BUILD/STEP or BUILD/CONTAINER/STEP.
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        layer: String,

        /// Print JSON.
        #[arg(long)]
        json: bool,
    },

    /// Tell which files differ between two layers or images, and how. Needs root.
    ///
    /// The images are compared as they are, each without what it stands on. What a layer removes of those below it is told
    /// as such.
    #[command(after_help = examples::STORE_DIFF)]
    Diff {
        /// Digest, beginning of a digest, STEP, BUILD/STEP, BUILD/CONTAINER/STEP, or an image file.
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        a: String,

        /// The same.
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        b: String,

        /// Print JSON.
        #[arg(long)]
        json: bool,
    },

    /// Write a layer's image to a file, whole or not at all.
    #[command(after_help = examples::STORE_EXPORT)]
    Export {
        /// Digest, beginning of a digest, STEP, BUILD/STEP or BUILD/CONTAINER/STEP.
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        layer: String,

        /// Where to; replaced if it is there. `-` is standard output.
        file: PathBuf,
    },

    /// Read every layer, and set aside what is not as it was written: the next build makes it anew. Ends with 4 if
    /// anything was damaged.
    #[command(after_help = examples::STORE_VERIFY)]
    Verify {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },

    /// Remove what is not needed: layers, what was used longest ago first, and old logs, records and sessions of failed steps.
    ///
    /// Without --keep-days and --max-size, what was not used for 30 days. Never what a running build uses, what a lock file
    /// names, or what such a layer stands on. Cache mounts stay, unless --caches asks for them, and nothing else, to be removed.
    #[command(after_help = examples::STORE_GC)]
    Gc(GcArgs),
}

/// The arguments of `runner store gc`.
#[derive(Debug, Args)]
pub struct GcArgs {
    /// Remove what was not used for so many days [default: 30; of layers, with --max-size alone, no limit; of caches, 0].
    #[arg(long, value_name = "N", value_parser = days)]
    pub keep_days: Option<u32>,

    /// Remove layers until all take no more than that, such as 20GiB.
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    pub max_size: Option<u64>,

    /// Keep what this lock file names, as well as what is named in the known ones; repeatable.
    #[arg(long = "keep-lock", value_name = "FILE")]
    pub keep_locks: Vec<PathBuf>,

    /// Remove the cache mounts and nothing else: all that no running build uses, or with --keep-days those that no build used
    /// for so long. The next build makes them anew.
    #[arg(long, conflicts_with_all = ["max_size", "keep_locks"])]
    pub caches: bool,

    /// Tell what would be removed, and remove nothing.
    #[arg(long)]
    pub dry_run: bool,

    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

fn days(text: &str) -> Result<u32, String> {
    let days = text.parse().ok().filter(|days| *days <= MOST_DAYS);
    days.ok_or_else(|| format!("write a number of days from 0 to {MOST_DAYS}"))
}

/// A size; unlike one of a manifest, 0 has a meaning.
fn bytes(text: &str) -> Result<u64, String> {
    if text == "0" { Ok(0) } else { size(text) }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    fn parse(line: &str) -> Result<StoreCommand, clap::Error> {
        match Cli::try_parse_from(line.split(' '))?.command {
            Command::Store(command) => Ok(command),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn gc_takes_all_its_options_and_needs_none() {
        let line = "runner store gc --keep-days 0 --max-size 1.5GiB --keep-lock a --keep-lock b --dry-run --json";
        let StoreCommand::Gc(args) = parse(line).unwrap() else { panic!("not gc") };
        assert_eq!((args.keep_days, args.max_size), (Some(0), Some(3 << 29)));
        assert_eq!(args.keep_locks, ["a", "b"].map(PathBuf::from));
        assert!(args.dry_run && args.json && !args.caches);
        let StoreCommand::Gc(args) = parse("runner store gc --caches --keep-days 3").unwrap() else { panic!("not gc") };
        assert!(args.caches && args.keep_days == Some(3));
        let StoreCommand::Gc(args) = parse("runner store gc").unwrap() else { panic!("not gc") };
        assert_eq!((args.keep_days, args.max_size), (None, None));
    }

    #[test]
    fn the_other_commands_are_known_and_wrong_ones_end_with_2() {
        assert!(matches!(parse("runner store ls --json").unwrap(), StoreCommand::Ls { json: true, caches: false }));
        assert!(matches!(parse("runner store diff a b").unwrap(), StoreCommand::Diff { json: false, .. }));
        for line in [
            "runner store",
            "runner store rm",
            "runner store inspect",
            "runner store inspect a b",
            "runner store diff a",
            "runner store export a",
            "runner store gc --keep-days -1",
            "runner store gc --keep-days soon",
            "runner store gc --max-size 3x",
            "runner store gc --caches --max-size 3GiB",
            "runner store gc --caches --keep-lock a",
        ] {
            assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
        }
        assert!(
            matches!(parse("runner store gc --max-size 0").unwrap(), StoreCommand::Gc(args) if args.max_size == Some(0))
        );
    }
}
