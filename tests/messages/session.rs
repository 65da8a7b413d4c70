//! A table: runner run in a directory of its own, and what it says and ends with.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

const RUNNER: &str = env!("CARGO_BIN_EXE_runner");

/// In the directory, of runner.
const COPY: &str = ".runner-of-nobody";

/// What a build needs least: a root with a shell, made of the host's.
pub const MANIFEST: &str = "\
version: 1
name: demo
containers:
  base: { rootfs: { programs: [/bin/sh] } }
steps:
  - { name: greet, run: echo hello > /greeting }
  - { name: layer, snapshot: { output: out/base.squashfs } }
";

/// A directory with a manifest and a store, and what was said in it.
pub struct Session {
    directory: TempDir,
    text: String,
}

/// How runner is started.
#[derive(Default)]
pub struct How<'a> {
    /// These variables are set.
    pub env: &'a [(&'a str, &'a str)],
    /// By a user without any privilege.
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

    /// Runs it, and puts what it said into the table; the words of `line` are its arguments.
    pub fn tell(&mut self, line: &str) {
        self.tell_how(line, &How::default());
    }

    pub fn tell_how(&mut self, line: &str, how: &How<'_>) {
        let (code, said) = self.run(line, how);
        let env: String = how.env.iter().map(|(name, value)| format!("{name}={value} ")).collect();
        let prompt = if how.by_nobody { "nobody$" } else { "#" };
        self.put(&format!("{prompt} {env}runner {line}\n{}ends with {code}\n\n", said.trim_start_matches('\n')));
    }

    /// Builds, and puts why steps failed and what was warned of into the table.
    pub fn tell_build(&mut self, about: &str, manifest: &str) {
        self.write("build.yaml", manifest);
        let (code, said) = self.run("apply --progress json", &How::default());
        self.put(&format!("### {about}\n"));
        for line in said.lines() {
            let event: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{said}"));
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

    fn run(&self, line: &str, how: &How<'_>) -> (i32, String) {
        let program = if how.by_nobody { self.copy_of_runner() } else { RUNNER.into() };
        let mut command = Command::new(program);
        command.args(line.split_whitespace()).current_dir(self.directory.path()).stdin(Stdio::null()).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("RUNNER_STORE", self.path("store"));
        command.envs(how.env.iter().copied());
        if how.by_nobody {
            command.uid(65534).gid(65534);
        }
        let output = command.output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap(), String::from_utf8(said).unwrap())
    }

    /// Runner where every user may go: the checkout may lie below a directory of root's own, as /root is.
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

/// What is built here depends on this host's shell.
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
