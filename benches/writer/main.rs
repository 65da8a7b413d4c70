//! The writer of squashfs images alone, beside gensquashfs(1) and mksquashfs(1) on the same directory: sizes, processor time.
//!
//! `cargo bench --bench writer -- DIRECTORY`, as root, with squashfs-tools and squashfs-tools-ng. All three write blocks of
//! 128 KiB, times and extended attributes, with as many threads as there are processors (`RUNNER_BENCH_THREADS`: runner's).
//! The programs are measured in turns, each in a process of its own; its time is the least of all rounds, user and system
//! together. It asserts nothing: it prints.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{fs, io, thread};

use nix::sys::resource::{UsageWho, getrusage};
use runner::model::Compression;
use runner::squashfs::{WriteOptions, write};

/// The rounds of which the least time counts.
const ROUNDS: usize = 7;

/// The argument with which this program writes one image, to be measured.
const WRITE: &str = "--write";

/// A compressor: its name, runner's value of it, and the options of gensquashfs and of mksquashfs. All use the level of runner's
/// own default.
const COMPRESSORS: [(&str, Compression, &[&str], &[&str]); 4] = [
    ("lz4", Compression::Lz4, &["-c", "lz4"], &["-comp", "lz4"]),
    ("zstd", Compression::Zstd, &["-c", "zstd", "-X", "level=3"], &["-comp", "zstd", "-Xcompression-level", "3"]),
    ("gzip", Compression::Gzip, &["-c", "gzip"], &["-comp", "gzip"]),
    ("xz", Compression::Xz, &["-c", "xz"], &["-comp", "xz"]),
];

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The processor time of an image in milliseconds, and its size in bytes.
#[derive(Clone, Copy)]
struct Figure {
    processor: f64,
    size: u64,
}

fn main() -> Result<()> {
    // cargo adds `--bench`.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [WRITE, compression, root, image] => ours(compression, root.as_ref(), image.as_ref()),
        [root] => compare(root.as_ref(), &COMPRESSORS.map(|(name, ..)| name)),
        [root, ref names @ ..] if !root.starts_with('-') => compare(root.as_ref(), names),
        _ => Err("usage: cargo bench --bench writer -- DIRECTORY [COMPRESSOR…]".into()),
    }
}

/// Writes one image as a snapshot does. Prints the most memory that this took.
fn ours(compression: &str, root: &Path, image: &Path) -> Result<()> {
    let known = COMPRESSORS.iter().find(|(name, ..)| *name == compression);
    let &(_, compression, ..) = known.ok_or_else(|| format!("there is no compressor {compression}"))?;
    let threads = match std::env::var("RUNNER_BENCH_THREADS") {
        Ok(threads) => threads.parse()?,
        Err(_) => thread::available_parallelism()?.into(),
    };
    let options = WriteOptions { compression, level: None, time: 0, latest: u32::MAX, threads, longest_path: 4095 };
    let (never, _writer) = io::pipe()?;
    write(root, image, options, std::os::fd::AsFd::as_fd(&never), &mut |_| {})?;
    let status = fs::read_to_string("/proc/self/status")?;
    println!("{}", status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("?").trim());
    Ok(())
}

fn compare(root: &Path, names: &[&str]) -> Result<()> {
    let directory = tempfile::Builder::new().prefix("runner-bench-").tempdir()?;
    let image = directory.path().join("image");
    println!(
        "| | runner | gensquashfs | mksquashfs | processor time of gensquashfs | size beside gensquashfs | memory of runner |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    for (name, _, theirs, others) in COMPRESSORS.iter().filter(|(name, ..)| names.contains(name)) {
        let mut least: [Option<Figure>; 3] = [None; 3];
        let mut memory = String::new();
        for _ in 0..ROUNDS {
            let commands =
                [runner(name, root, &image)?, gensquashfs(theirs, root, &image), mksquashfs(others, root, &image)];
            for (least, (number, mut command)) in least.iter_mut().zip(commands.into_iter().enumerate()) {
                let (figure, said) = measured(&mut command, &image)?;
                if number == 0 {
                    memory = said;
                }
                let before = least.map_or(f64::MAX, |least| least.processor);
                *least = Some(Figure { processor: figure.processor.min(before), ..figure });
            }
        }
        let [Some(ours), Some(theirs), Some(others)] = least else { return Err("no round".into()) };
        let cell = |figure: Figure| format!("{:.0} ms, {:.2} MB", figure.processor, figure.size as f64 / 1e6);
        println!(
            "| {name} | {} | {} | {} | {:.2}× | {:+.2} % | {} |",
            cell(ours),
            cell(theirs),
            cell(others),
            theirs.processor / ours.processor,
            (ours.size as f64 / theirs.size as f64 - 1.0) * 100.0,
            memory.trim()
        );
    }
    Ok(())
}

fn runner(compression: &str, root: &Path, image: &Path) -> Result<Command> {
    let this: PathBuf = std::env::current_exe()?;
    let mut command = Command::new(this);
    command.args([WRITE, compression]).args([root, image]);
    Ok(command)
}

fn gensquashfs(compressor: &[&str], root: &Path, image: &Path) -> Command {
    let mut command = Command::new("gensquashfs");
    // Its own defaults leave out times, attributes and the table for NFS, which the others write.
    command
        .args(["--quiet", "--keep-time", "--keep-xattr", "--exportable", "-D"])
        .arg(root)
        .args(compressor)
        .arg(image);
    command
}

fn mksquashfs(compressor: &[&str], root: &Path, image: &Path) -> Command {
    let mut command = Command::new("mksquashfs");
    command.args([root, image]).args(["-noappend", "-quiet", "-no-progress", "-xattrs"]).args(compressor);
    command
}

/// Runs a command that writes the image, and removes that. Returns what it took and what it printed.
fn measured(command: &mut Command, image: &Path) -> Result<(Figure, String)> {
    let before = processor()?;
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("cannot run {command:?}: {error}"))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        return Err(format!("{command:?}: {}\n{said}{}", output.status, String::from_utf8_lossy(&output.stderr)).into());
    }
    let figure = Figure { processor: processor()? - before, size: fs::metadata(image)?.len() };
    fs::remove_file(image)?;
    Ok((figure, said))
}

/// Returns the milliseconds that all children took that have ended.
fn processor() -> Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let times = [usage.user_time(), usage.system_time()];
    Ok(times.iter().map(|time| time.tv_sec() as f64 * 1e3 + time.tv_usec() as f64 / 1e3).sum())
}
