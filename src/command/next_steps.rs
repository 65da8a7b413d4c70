//! The commands to go on with after a failure, made of those that were given.

use std::path::Path;

use crate::build::Build;
use crate::cli::{ApplyArgs, Cli, LockFileArgs, ManifestArgs};
use crate::escape::word;
use crate::report::NextSteps;

/// The manifest that commands take where none is named.
const DEFAULT_MANIFEST: &str = "build.yaml";

/// Of `runner apply`, as it was called: what a shell in a step must be told too is kept.
pub fn after_apply(cli: &Cli, args: &ApplyArgs, build: &Build) -> NextSteps {
    let mut shell = begin("shell");
    option(&mut shell, "--store", cli.store.as_deref());
    option(&mut shell, "-m", named_manifest(&args.manifest));
    variables(&mut shell, &args.manifest);
    if let Some(runtime) = &args.runtime.runtime {
        shell.extend(["--runtime".into(), word(runtime)]);
    }
    let is_container = |name: &&String| build.containers.iter().any(|container| container.name == **name);
    let ambiguous = build.steps.iter().map(|step| &step.name).filter(is_container).cloned().collect();
    let again: Vec<String> = std::env::args_os().map(|arg| word(&arg.to_string_lossy())).collect();
    let lock = lock_command(cli, &args.manifest, &args.lock_file);
    NextSteps { shell: shell.join(" "), ambiguous, again: again.join(" "), lock }
}

/// Writes the lock of the same manifest and variables.
pub fn lock_command(cli: &Cli, manifest: &ManifestArgs, lock_file: &LockFileArgs) -> String {
    let mut command = begin("lock");
    command.extend(named_manifest(manifest).map(path));
    variables(&mut command, manifest);
    option(&mut command, "--lock-file", lock_file.path.as_deref());
    option(&mut command, "--store", cli.store.as_deref());
    command.join(" ")
}

/// Runner as it was called, and a command of it.
fn begin(command: &str) -> Vec<String> {
    let program = std::env::args_os().next();
    vec![program.map_or_else(|| "runner".into(), |program| word(&program.to_string_lossy())), command.into()]
}

fn option(command: &mut Vec<String>, flag: &str, value: Option<&Path>) {
    command.extend(value.iter().flat_map(|value| [flag.into(), path(value)]));
}

fn variables(command: &mut Vec<String>, manifest: &ManifestArgs) {
    for (name, value) in &manifest.sets.values {
        command.extend(["--set".into(), word(&format!("{name}={value}"))]);
    }
}

/// The manifest, where it is not the one that commands take anyway.
fn named_manifest(args: &ManifestArgs) -> Option<&Path> {
    Some(args.manifest.as_path()).filter(|manifest| *manifest != Path::new(DEFAULT_MANIFEST))
}

fn path(path: &Path) -> String {
    word(&path.to_string_lossy())
}
