//! A table: runner run in a directory of its own, with its messages and exit codes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

const RUNNER: &str = env!("CARGO_BIN_EXE_runner");

/// The copy of runner, in the directory.
const COPY: &str = ".runner-of-nobody";

/// The smallest manifest of a build: a root with the host's shell.
pub const MANIFEST: &str = "\
version: 1
name: demo
containers:
  base: { rootfs: { programs: [/bin/sh] } }
steps:
  - { name: greet, run: echo hello > /greeting }
  - { name: layer, snapshot: { output: out/base.squashfs } }
";

/// A directory with a manifest and a store, and the messages of the commands run in it.
pub struct Session {
    directory: TempDir,
    text: String,
}

/// The environment in which runner is started.
#[derive(Default)]
pub struct Environment<'a> {
    /// The variables that are set.
    pub env: &'a [(&'a str, &'a str)],
    /// Whether a user without any privilege starts it.
    pub by_nobody: bool,
}

impl Session {
    pub fn new() -> Self {
        assert!(rustix::process::geteuid().is_root(), "these tests need root");
        let directory = tempfile::Builder::new().prefix("runner-test-").tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let session = Self { directory, text: String::new() };
        session.write("build.yaml", MANIFEST);
        session
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.path(name), text).unwrap();
    }

    /// Runs a command, and adds its messages to the table; the words of `line` are its arguments.
    pub fn run(&mut self, line: &str) {
        self.run_in(line, &Environment::default());
    }

    pub fn run_in(&mut self, line: &str, environment: &Environment<'_>) {
        let (code, output) = self.output_of(line, environment);
        let env: String = environment.env.iter().map(|(name, value)| format!("{name}={value} ")).collect();
        let prompt = if environment.by_nobody { "nobody$" } else { "#" };
        self.put(&format!("{prompt} {env}runner {line}\n{}ends with {code}\n\n", output.trim_start_matches('\n')));
    }

    /// Builds, and adds the reasons of failed steps and the warnings to the table.
    pub fn build(&mut self, about: &str, manifest: &str) {
        self.write("build.yaml", manifest);
        let (code, output) = self.output_of("apply --progress json", &Environment::default());
        self.put(&format!("### {about}\n"));
        for line in output.lines() {
            let event: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{output}"));
            let step = event["step"].as_str().unwrap_or_default();
            match (event["event"].as_str(), event["status"].as_str()) {
                (Some("warning"), _) => {
                    self.put(&format!("warning: {step}: {}\n", event["message"].as_str().unwrap()));
                }
                (Some("step_finished"), Some("failed")) => {
                    self.put(&format!("{step} failed: {}\n", event["reason"].as_str().unwrap()));
                }
                _ => {}
            }
        }
        self.put(&format!("ends with {code}\n\n"));
    }

    fn put(&mut self, text: &str) {
        let directory = self.directory.path().display().to_string();
        let shell = fs::canonicalize("/bin/sh").unwrap().display().to_string();
        self.text.push_str(&without_digests(
            &text
                .replace(&format!("{directory}/{COPY}"), "runner")
                .replace(&directory, "/work")
                .replace(&shell, "/bin/sh")
                .replace(RUNNER, "runner"),
        ));
    }

    fn output_of(&self, line: &str, environment: &Environment<'_>) -> (i32, String) {
        let program = if environment.by_nobody { self.copy_of_runner() } else { RUNNER.into() };
        let mut command = Command::new(program);
        command.args(line.split_whitespace()).current_dir(self.directory.path()).stdin(Stdio::null()).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("RUNNER_STORE", self.path("store"));
        command.envs(environment.env.iter().copied());
        if environment.by_nobody {
            command.uid(65534).gid(65534);
        }
        let result = command.output().unwrap();
        let output = [result.stdout, result.stderr].concat();
        (result.status.code().unwrap(), String::from_utf8(output).unwrap())
    }

    /// Copies runner to a place that every user can reach: the checkout may lie below a directory of root's own, as /root is.
    fn copy_of_runner(&self) -> PathBuf {
        let copy = self.directory.path().join(COPY);
        if !copy.exists() {
            // By another process: a child of another test could have a copy of a descriptor of this one's, and a file that is
            // open for writing cannot be executed.
            assert!(Command::new("cp").arg(RUNNER).arg(&copy).status().unwrap().success());
        }
        copy
    }

    /// Compares the table with its snapshot.
    pub fn compare(self, area: &str) {
        let mut settings = insta::Settings::clone_current();
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        settings.bind(|| insta::assert_snapshot!(area, self.text));
    }
}

/// Removes digests: those of results here depend on this host's shell.
fn without_digests(text: &str) -> String {
    let mut out = String::new();
    let mut digits = String::new();
    for c in text.chars().chain(['\0']) {
        if c.is_ascii_hexdigit() {
            digits.push(c);
            continue;
        }
        out.push_str(if digits.len() == 64 { "DIGEST" } else { &digits });
        digits.clear();
        out.push(c);
    }
    out.truncate(out.len() - 1);
    out
}
