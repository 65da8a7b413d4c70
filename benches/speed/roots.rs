//! The root filesystems of all measurements: a small one, and one of a distribution's size.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Result;

/// The size of a Debian root without recommended packages.
const LARGE_BYTES: u64 = 178_000_000;

/// A larger file would make the large root less mixed.
const LARGEST_FILE: u64 = 4_000_000;

/// Two squashfs images.
#[derive(Debug)]
pub struct Roots {
    pub small: PathBuf,
    pub large: PathBuf,
    pub large_megabytes: u64,
}

impl Roots {
    /// Makes them in `directory`: a few programs of this host, and the same with files of the host's `/usr`.
    pub fn make(directory: &Path) -> Result<Self> {
        let (small, large) = (directory.join("small.squashfs"), directory.join("large.squashfs"));
        let tree = directory.join("tree");
        programs(directory, &small)?;
        checked(Command::new("unsquashfs").args(["-no-progress", "-d"]).arg(&tree).arg(&small))?;
        let mut remaining = LARGE_BYTES;
        fill(Path::new("/usr/lib"), &tree.join("data"), &mut remaining)?;
        fill(Path::new("/usr/share"), &tree.join("data/share"), &mut remaining)?;
        image(&tree, &large)?;
        fs::remove_dir_all(&tree)?;
        Ok(Self { small, large, large_megabytes: (LARGE_BYTES - remaining) / 1_000_000 })
    }
}

fn programs(directory: &Path, image: &Path) -> Result<()> {
    let manifest = directory.join("programs.yaml");
    let text = format!(
        "version: 1\ncontainers:\n  base: {{ rootfs: {{ programs: [/bin/sh, /bin/cat, /bin/true, /usr/bin/head, /usr/bin/seq] }} }}\nsteps:\n  \
         - {{ name: image, snapshot: {{ mode: full, output: {} }} }}\n",
        image.display()
    );
    fs::write(&manifest, text)?;
    let runner = env!("CARGO_BIN_EXE_runner");
    checked(Command::new(runner).arg("apply").arg(&manifest).arg("--store").arg(directory.join("store")))
}

/// Copies regular files in the order of their names, until there is enough.
fn fill(from: &Path, to: &Path, remaining: &mut u64) -> Result<()> {
    let mut entries = fs::read_dir(from)?.collect::<std::io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    fs::create_dir_all(to)?;
    for entry in entries {
        let metadata = entry.metadata()?;
        if metadata.is_dir() {
            fill(&entry.path(), &to.join(entry.file_name()), remaining)?;
        } else if metadata.is_file() && metadata.len() <= LARGEST_FILE.min(*remaining) {
            fs::copy(entry.path(), to.join(entry.file_name()))?;
            *remaining -= metadata.len();
        }
    }
    Ok(())
}

/// Writes an image as runner does by default: zstd at level 3.
pub fn image(tree: &Path, image: &Path) -> Result<()> {
    let arguments = ["-noappend", "-quiet", "-no-progress", "-xattrs", "-comp", "zstd", "-Xcompression-level", "3"];
    checked(Command::new("mksquashfs").arg(tree).arg(image).args(arguments))
}

/// Runs a command to its end; its error has the command's output.
pub fn checked(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("cannot run {command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(format!("{command:?}: {}\n{}", output.status, String::from_utf8_lossy(&said)).into())
}
