//! The commands that runner suggests after a failure, made from the command line of the build.

use std::path::Path;

use crate::cli::{ApplyArgs, Cli, LockFileArgs, ManifestArgs};
use crate::escape::word;
use crate::model::Build;
use crate::report::NextSteps;

/// The manifest that commands use if the command line names none.
const DEFAULT_MANIFEST: &str = "build.yaml";

/// Returns the commands after `runner apply`. The shell command has those options of the build that a shell needs too.
pub fn after_apply(cli: &Cli, args: &ApplyArgs, build: &Build) -> NextSteps {
    let mut shell = command_line("shell");
    add_option(&mut shell, "--store", cli.store.as_deref());
    add_option(&mut shell, "-m", named_manifest(&args.manifest));
    add_variables(&mut shell, &args.manifest);
    if let Some(runtime) = &args.runtime.runtime {
        shell.extend(["--runtime".into(), word(runtime)]);
    }
    let is_container = |name: &&String| build.containers.iter().any(|container| container.name == **name);
    let ambiguous = build.steps.iter().map(|step| &step.name).filter(is_container).cloned().collect();
    let again: Vec<String> = std::env::args_os().map(|arg| word(&arg.to_string_lossy())).collect();
    let lock = lock_command(cli, &args.manifest, &args.lock_file);
    NextSteps { shell: shell.join(" "), ambiguous, again: again.join(" "), lock }
}

/// Returns the command that writes the lock of the same manifest and variables.
pub fn lock_command(cli: &Cli, manifest: &ManifestArgs, lock_file: &LockFileArgs) -> String {
    let mut command = command_line("lock");
    command.extend(named_manifest(manifest).map(quoted));
    add_variables(&mut command, manifest);
    add_option(&mut command, "--lock-file", lock_file.path.as_deref());
    add_option(&mut command, "--store", cli.store.as_deref());
    command.join(" ")
}

/// Returns the beginning of a command line: runner as the user called it, and the command's name.
fn command_line(command: &str) -> Vec<String> {
    let program = std::env::args_os().next();
    vec![program.map_or_else(|| "runner".into(), |program| word(&program.to_string_lossy())), command.into()]
}

fn add_option(command: &mut Vec<String>, flag: &str, value: Option<&Path>) {
    command.extend(value.iter().flat_map(|value| [flag.into(), quoted(value)]));
}

fn add_variables(command: &mut Vec<String>, manifest: &ManifestArgs) {
    for (name, value) in &manifest.sets.values {
        command.extend(["--set".into(), word(&format!("{name}={value}"))]);
    }
}

/// Returns the manifest, unless it is the default one.
fn named_manifest(args: &ManifestArgs) -> Option<&Path> {
    Some(args.manifest.as_path()).filter(|manifest| *manifest != Path::new(DEFAULT_MANIFEST))
}

fn quoted(path: &Path) -> String {
    word(&path.to_string_lossy())
}
