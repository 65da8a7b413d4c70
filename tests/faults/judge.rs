//! Checks after a fault: the build ends right and names the cause, nothing is damaged or remains, and the next build gives the
//! same bytes as one without a fault.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;

use runner::digest::Digest;

use crate::project::{Project, Run};

/// The promise that a fault broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// An output, a layer or the store is not whole, or the next build is not right.
    Damaged,
    /// Some resource of it remained after the next start.
    LeftBehind,
    /// It panicked, would not end, ended with a wrong code, or did not name the cause.
    Unexplained,
}

/// A broken promise, in words.
#[derive(Debug)]
pub struct Finding {
    pub kind: Kind,
    pub text: String,
}

impl Finding {
    pub fn new(kind: Kind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into() }
    }
}

/// The outputs of a project, by name, with their digests.
pub type Outputs = BTreeMap<String, Digest>;

/// Returns the images in `out`.
pub fn outputs(project: &Project) -> Outputs {
    images(&project.path("out")).filter(|(name, _)| !name.starts_with('.')).collect()
}

fn images(directory: &Path) -> impl Iterator<Item = (String, Digest)> {
    fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| {
        let digest = Digest::of_file(&File::open(entry.path()).unwrap()).unwrap();
        (entry.file_name().into_string().unwrap(), digest)
    })
}

/// Checks how a build with a fault ended: its exit code, and that its message names one of these causes, if there are
/// any.
pub fn ending(run: &Run, causes: &[String], codes: &[i32]) -> Vec<Finding> {
    let mut found = Vec::new();
    let text = format!("{}{}", run.stdout, run.stderr);
    if text.contains("panicked") || text.contains("RUST_BACKTRACE") {
        found.push(Finding::new(Kind::Unexplained, "it panicked"));
    }
    if !codes.contains(&run.code) {
        found.push(Finding::new(Kind::Unexplained, format!("exit code {} is none of {codes:?}", run.code)));
    }
    if run.code != 0 && !causes.is_empty() && !causes.iter().any(|cause| text.contains(cause.as_str())) {
        found.push(Finding::new(Kind::Unexplained, format!("its message names none of {causes:?}")));
    }
    found
}

/// Checks that each output is whole and right, and that each layer has the digest in its name; with `all`, that no
/// output is missing.
pub fn whole(project: &Project, right: &Outputs, all: bool) -> Vec<Finding> {
    let mut found = Vec::new();
    let outputs = outputs(project);
    for (name, digest) in &outputs {
        if right.get(name) != Some(digest) {
            found.push(Finding::new(Kind::Damaged, format!("out/{name} is not whole: {digest}")));
        }
    }
    if all && outputs.len() != right.len() {
        found.push(Finding::new(Kind::Damaged, format!("there is no more than {:?}", outputs.keys())));
    }
    for (name, digest) in images(&project.store().join("layers/sha256")) {
        if name != format!("{}.squashfs", digest.hex()) {
            found.push(Finding::new(Kind::Damaged, format!("the layer {name} has the digest {digest}")));
        }
    }
    found
}

/// Checks that the next build, without a fault, is right, and that nothing of the `earlier` ones remains after it.
pub fn next_build(project: &Project, right: &Outputs, earlier: &[u32]) -> Vec<Finding> {
    let mut found = Vec::new();
    let next = project.runner(&["apply"]);
    if next.code != 0 {
        found.push(Finding::new(Kind::Damaged, format!("the next build failed: {next}")));
    } else {
        found.extend(whole(project, right, true));
    }
    let verified = project.runner(&["store", "verify"]);
    if verified.code != 0 {
        found.push(Finding::new(Kind::Damaged, format!("the store does not verify: {verified}")));
    }
    let pids: Vec<u32> = earlier.iter().copied().chain([next.pid, verified.pid]).collect();
    found.extend(leftovers(project, &pids).into_iter().map(|remaining| Finding::new(Kind::LeftBehind, remaining)));
    found
}

/// Returns everything that these runs left behind, after some time for the kernel to free resources by itself.
pub fn leftovers(project: &Project, pids: &[u32]) -> Vec<String> {
    const TRIES: u32 = 200;
    let remaining = || {
        let mut remaining: Vec<String> = pids.iter().flat_map(|pid| project.leftovers(*pid)).collect();
        remaining.extend(half_written(&project.store()));
        remaining.sort();
        remaining.dedup();
        remaining
    };
    for _ in 0..TRIES {
        if remaining().is_empty() {
            return Vec::new();
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    remaining()
}

/// Returns the half-written small files below the store.
fn half_written(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(half_written(&entry.path()));
        } else if entry.file_name().to_string_lossy().starts_with('.') {
            found.push(format!("half-written {}", entry.path().display()));
        }
    }
    found
}
