//! The arguments of `runner store`.

use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};

use super::examples;
use crate::model::{Compression, ExportFormat, size};

/// A century. Only a wrong clock gives an older time.
const MAX_DAYS: u32 = 36500;

/// The command of the store. A LAYER is a digest, the beginning of a digest, or the name of the step that wrote it.
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

    /// Show everything that is known about a layer: its builds, their keys, and the layers that it is built on.
    #[command(after_help = examples::STORE_INSPECT)]
    Inspect {
        /// Digest, beginning of a digest, STEP, BUILD/STEP or BUILD/CONTAINER/STEP.
        #[arg(value_name = "LAYER", value_parser = NonEmptyStringValueParser::new())]
        layer: String,

        /// Print JSON.
        #[arg(long)]
        json: bool,
    },

    /// List the files that differ between two layers or images, and how they differ. Needs root.
    ///
    /// Each image is compared without the layers that it is built on. If a layer removes a file of
    /// those, the removal is listed.
    #[command(after_help = examples::STORE_DIFF)]
    Diff {
        /// Digest, beginning of a digest, STEP, BUILD/STEP, BUILD/CONTAINER/STEP, or an image file.
        #[arg(value_name = "LAYER|FILE", value_parser = NonEmptyStringValueParser::new())]
        a: String,

        /// The second layer or image, in the same form.
        #[arg(value_name = "LAYER|FILE", value_parser = NonEmptyStringValueParser::new())]
        b: String,

        /// Print JSON.
        #[arg(long)]
        json: bool,
    },

    /// Write a layer's image to a file, or with --format the root that the layer completes, whole or not at all.
    ///
    /// The forms are those of an export step, and need root. All layers of the root must be in the store: a full image, or a
    /// chain of layers on a container without a rootfs source.
    #[command(after_help = examples::STORE_EXPORT)]
    Export(ExportArgs),

    /// Read every layer and set damaged ones aside; the next build writes them again. Exits with 4 if one is damaged.
    #[command(after_help = examples::STORE_VERIFY)]
    Verify {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },

    /// Remove unused layers, the longest unused first, and old logs, records and sessions of failed steps.
    ///
    /// Without --keep-days and --max-size, everything that was not used for 30 days is removed. The layers that a running build
    /// uses or a lock file names are never removed, nor the layers that these are built on. Cache mounts are removed only with
    /// --caches, which removes nothing else.
    #[command(after_help = examples::STORE_GC)]
    Gc(GcArgs),
}

/// The arguments of `runner store export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// Digest, beginning of a digest, STEP, BUILD/STEP or BUILD/CONTAINER/STEP.
    #[arg(value_name = "LAYER", value_parser = NonEmptyStringValueParser::new())]
    pub layer: String,

    /// The file, which is replaced if it exists; `-` is standard output, for a layer's image. With --format files or oci, a
    /// directory.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// The form of the root: files, tar, oci, squashfs, erofs or cpio.
    #[arg(long, value_name = "FORMAT", value_parser = format)]
    pub format: Option<ExportFormat>,

    /// The file or directory of the root [default: /].
    #[arg(long, value_name = "PATH", requires = "format", value_parser = inside)]
    pub path: Option<PathBuf>,

    /// The compression: none, gzip, zstd, xz or lz4 [default: by the end of the file's name, else that of an export step].
    #[arg(long, value_name = "COMPRESSION", requires = "format", value_parser = compression)]
    pub compression: Option<Compression>,

    /// The level of the compression.
    #[arg(long, value_name = "N", requires = "format")]
    pub level: Option<u32>,
}

fn format(name: &str) -> Result<ExportFormat, String> {
    ExportFormat::named(name).ok_or_else(|| "write one of files, tar, oci, squashfs, erofs, cpio".to_owned())
}

fn compression(name: &str) -> Result<Compression, String> {
    Compression::named(name).ok_or_else(|| "write one of none, gzip, zstd, xz, lz4".to_owned())
}

fn inside(path: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(path);
    let is_normal = path.is_absolute() && path.components().all(|part| part != std::path::Component::ParentDir);
    if is_normal { Ok(path) } else { Err("write an absolute path without `..`".to_owned()) }
}

/// The arguments of `runner store gc`.
#[derive(Debug, Args)]
pub struct GcArgs {
    /// Remove everything that was not used for so many days [default: 30; for layers, with --max-size alone, no limit; for caches, 0].
    #[arg(long, value_name = "DAYS", value_parser = days)]
    pub keep_days: Option<u32>,

    /// Remove layers and exports until the remaining ones take at most this size, such as 20GiB.
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    pub max_size: Option<u64>,

    /// Keep the layers that this lock file names, in addition to those that the known lock files name; repeatable.
    #[arg(long = "keep-lock", value_name = "FILE")]
    pub keep_locks: Vec<PathBuf>,

    /// Remove cache mounts and nothing else: all that no running build uses, or with --keep-days those that no build used for
    /// so long. The next build creates them again.
    #[arg(long, conflicts_with_all = ["max_size", "keep_locks"])]
    pub caches: bool,

    /// List the removals, and remove nothing.
    #[arg(long)]
    pub dry_run: bool,

    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

fn days(text: &str) -> Result<u32, String> {
    let days = text.parse().ok().filter(|days| *days <= MAX_DAYS);
    days.ok_or_else(|| format!("write a number of days from 0 to {MAX_DAYS}"))
}

/// Parses a size. Unlike in a manifest, 0 is valid.
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
    fn gc_is_parsed_with_all_its_options_and_without_any() {
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
    fn the_other_commands_are_parsed_and_wrong_ones_exit_with_2() {
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
