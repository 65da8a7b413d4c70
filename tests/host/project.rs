//! A project directory with a manifest and a store of its own, the runner binary run in it, and the resources that a run left
//! behind.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::caller_signals;
use crate::runtime::runtime;

/// A project in a temporary directory.
pub struct Project {
    directory: TempDir,
    runtime: &'static str,
    /// Cgroups that existed before: a killed test may have left some, and process numbers are used again.
    groups_before: BTreeSet<PathBuf>,
}

/// The result of a run of runner.
pub struct Run {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
    pub pid: u32,
}

impl Project {
    /// Makes a project with this manifest as `build.yaml`.
    pub fn new(manifest: &str) -> Self {
        assert!(rustix::process::geteuid().is_root(), "these tests need root");
        caller_signals::stop_ignoring_signals();
        let directory = tempfile::Builder::new().prefix("runner-test-").tempdir().unwrap();
        let project = Self { directory, runtime: runtime(), groups_before: groups().into_iter().collect() };
        project.write("build.yaml", manifest);
        project
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn store(&self) -> PathBuf {
        self.path("store")
    }

    /// Writes a file, and makes the directories above it.
    pub fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        self.with_environment(Command::new(env!("CARGO_BIN_EXE_runner")), arguments)
    }

    /// Returns a command that ends with runner and its arguments: a program that starts runner.
    pub fn command_by(&self, program: &[&str], arguments: &[&str]) -> Command {
        let mut command = Command::new(program[0]);
        command.args(&program[1..]).arg(env!("CARGO_BIN_EXE_runner"));
        self.with_environment(command, arguments)
    }

    /// Returns a shell command, in which `"$@"` is runner and its arguments.
    pub fn shell(&self, shell: &str, arguments: &[&str]) -> Command {
        self.command_by(&["sh", "-c", shell, "sh"], arguments)
    }

    /// Returns a shell command, as [`Self::shell`], in a mount namespace of its own.
    pub fn shell_in_namespace(&self, shell: &str, arguments: &[&str]) -> Command {
        self.command_by(&["unshare", "--mount", "sh", "-c", shell, "sh"], arguments)
    }

    fn with_environment(&self, mut command: Command, arguments: &[&str]) -> Command {
        command.args(arguments).current_dir(self.directory.path()).stdin(Stdio::null());
        command.env("RUNNER_STORE", self.store()).env("RUNNER_RUNTIME", self.runtime);
        // Runner gets only the variables that the test sets, also where a CI system runs it.
        for name in [
            "CI",
            "SOURCE_DATE_EPOCH",
            "NO_COLOR",
            "CLICOLOR_FORCE",
            "GITHUB_ACTIONS",
            "GITHUB_STEP_SUMMARY",
            "GITLAB_CI",
        ] {
            command.env_remove(name);
        }
        command
    }

    /// Starts runner with its output piped, and does not wait for its end.
    pub fn spawn(&self, arguments: &[&str]) -> Child {
        self.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Runs runner to its end.
    pub fn runner(&self, arguments: &[&str]) -> Run {
        let child = self.spawn(arguments);
        let pid = child.id();
        Run::new(pid, &child.wait_with_output().unwrap())
    }

    /// Runs runner from a shell command, in which `"$@"` is runner and its arguments.
    pub fn runner_in_shell(&self, shell: &str, arguments: &[&str]) -> Run {
        let mut command = self.shell(shell, arguments);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let pid = child.id();
        Run::new(pid, &child.wait_with_output().unwrap())
    }

    /// Runs a shell script of the host in the project's directory; returns what it prints.
    #[track_caller]
    pub fn script(&self, script: &str) -> String {
        let done = Command::new("sh").args(["-ec", script]).current_dir(self.directory.path()).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    }

    /// Builds, and fails the test with all output if the build fails.
    #[track_caller]
    pub fn apply(&self) -> Run {
        let run = self.runner(&["apply"]);
        assert_eq!(run.code, 0, "{run}");
        run
    }

    /// Builds with `--progress json`, and returns the events and the exit code.
    pub fn events(&self, arguments: &[&str]) -> (Vec<Value>, Run) {
        let run = self.runner(&[&["apply", "--progress", "json"], arguments].concat());
        let events = run.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        (events, run)
    }

    /// Returns everything that a build left on this host: processes, mounts, loop devices, cgroups of the runner `pid`, and files
    /// that are neither layers, logs nor outputs. The right result is empty.
    pub fn leftovers(&self, pid: u32) -> Vec<String> {
        let mut left = Vec::new();
        let own = self.directory.path().to_str().unwrap();
        for process in fs::read_dir("/proc").unwrap().flatten() {
            // A mount namespace lives as long as a process in it.
            let mounts = fs::read_to_string(process.path().join("mountinfo")).unwrap_or_default();
            if mounts.contains(own) {
                let command = fs::read_to_string(process.path().join("cmdline")).unwrap_or_default();
                left.push(format!("process {:?} with mounts: {}", process.file_name(), command.replace('\0', " ")));
            }
        }
        for device in fs::read_dir("/sys/block").unwrap().flatten() {
            let backing = fs::read_to_string(device.path().join("loop/backing_file")).unwrap_or_default();
            if backing.contains(own) {
                left.push(format!("loop device {:?} on {backing}", device.file_name()));
            }
        }
        let prefix = format!("runner-{pid}-");
        let is_own =
            |group: &PathBuf| group.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix));
        for group in groups().into_iter().filter(|group| is_own(group) && !self.groups_before.contains(group)) {
            left.push(format!("cgroup {}", group.display()));
        }
        for directory in ["tmp", "scratch", "leases", "mnt"] {
            for entry in fs::read_dir(self.store().join(directory)).into_iter().flatten().flatten() {
                left.push(format!("file {}", entry.path().display()));
            }
        }
        half_written(self.directory.path(), &self.store(), &mut left);
        left
    }
}

/// Returns the cgroups that runners have made on this host, whoever started them.
fn groups() -> Vec<PathBuf> {
    let mut groups = Vec::new();
    let mut open = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(directory) = open.pop() {
        let inside = fs::read_dir(&directory).into_iter().flatten().flatten();
        for group in inside.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            let is_own = group.file_name().to_string_lossy().starts_with("runner-");
            if is_own { groups.push(group.path()) } else { open.push(group.path()) }
        }
    }
    groups
}

fn half_written(directory: &Path, store: &Path, left: &mut Vec<String>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_name().to_string_lossy().contains(".runner-") {
            left.push(format!("half-written {}", path.display()));
        }
        if path != store && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            half_written(&path, store, left);
        }
    }
}

impl Run {
    /// Returns whether standard error has these words, also where a report breaks them into lines.
    pub fn says(&self, words: &str) -> bool {
        let joined = |text: &str| text.replace(|c: char| c.is_whitespace() || c == '│', "");
        joined(&self.stderr).contains(&joined(words))
    }

    pub fn new(pid: u32, output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
            pid,
        }
    }
}

impl std::fmt::Display for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit code {}\n--- stdout\n{}\n--- stderr\n{}", self.code, self.stdout, self.stderr)
    }
}
