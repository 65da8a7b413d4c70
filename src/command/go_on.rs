//! The commands to go on with after a failure, made of those that were given.

use std::path::Path;

use crate::build::Build;
use crate::cli::{ApplyArgs, Cli, LockFileArgs, ManifestArgs};
use crate::escape::word;
use crate::report::GoOn;

/// The manifest that commands take where none is named.
const DEFAULT_MANIFEST: &str = "build.yaml";

/// Of `runner apply`, as it was called: what a shell in a step must be told too is kept.
pub fn after_apply(cli: &Cli, args: &ApplyArgs, build: &Build) -> GoOn {
    let called: Vec<String> = std::env::args_os().map(|arg| word(&arg.to_string_lossy())).collect();
    let mut shell = vec![called.first().cloned().unwrap_or_else(|| "runner".into()), "shell".into()];
    let path = |path: &Path| word(&path.to_string_lossy());
    if let Some(store) = &cli.store {
        shell.extend(["--store".into(), path(store)]);
    }
    if args.manifest.manifest != Path::new(DEFAULT_MANIFEST) {
        shell.extend(["-m".into(), path(&args.manifest.manifest)]);
    }
    for (name, value) in &args.manifest.sets.values {
        shell.extend(["--set".into(), word(&format!("{name}={value}"))]);
    }
    if let Some(runtime) = &args.runtime.runtime {
        shell.extend(["--runtime".into(), word(runtime)]);
    }
    let is_container = |name: &&String| build.containers.iter().any(|container| container.name == **name);
    let ambiguous = build.steps.iter().map(|step| &step.name).filter(is_container).cloned().collect();
    let lock = lock_command(cli, &args.manifest, &args.lock_file);
    GoOn { shell: shell.join(" "), ambiguous, again: called.join(" "), lock }
}

/// Writes the lock of the same manifest and variables.
pub fn lock_command(cli: &Cli, manifest: &ManifestArgs, lock_file: &LockFileArgs) -> String {
    let path = |path: &Path| word(&path.to_string_lossy());
    let mut command =
        vec![std::env::args_os().next().map_or_else(|| "runner".into(), |arg| word(&arg.to_string_lossy()))];
    command.push("lock".into());
    if manifest.manifest != Path::new(DEFAULT_MANIFEST) {
        command.push(path(&manifest.manifest));
    }
    for (name, value) in &manifest.sets.values {
        command.extend(["--set".into(), word(&format!("{name}={value}"))]);
    }
    for (flag, value) in [("--lock-file", &lock_file.path), ("--store", &cli.store)] {
        command.extend(value.iter().flat_map(|value| [flag.into(), path(value)]));
    }
    command.join(" ")
}
