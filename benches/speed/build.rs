//! Builds by runner: a manifest in a folder of its own, and what a run of the program takes.

use std::error::Error;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::Result;
use crate::figure::timed;

/// A manifest with one container, and steps named step0, step1 and so on.
#[derive(Debug)]
pub struct Project {
    folder: PathBuf,
}

/// A command of runner on a manifest, its standard output thrown away.
#[derive(Debug, Clone, Copy)]
pub enum Action {
    /// With a new store and plain progress.
    Apply,
    /// On the store that the build before left.
    Again,
    Validate,
    Plan,
}

/// The events of a build.
#[derive(Debug)]
pub struct Events(Vec<Value>);

impl Project {
    /// On a squashfs image; each step is what follows its name: `run: …`, `exec: […]` or `snapshot: {…}`.
    pub fn new(folder: &Path, image: &Path, steps: &[String]) -> Result<Self> {
        Self::write(folder, &format!("rootfs: {{ squashfs: {} }}", image.display()), steps)
    }

    /// On an empty root, for what runs nothing.
    pub fn on_scratch(folder: &Path, steps: &[String]) -> Result<Self> {
        Self::write(folder, "rootfs: { scratch: true }", steps)
    }

    /// On a squashfs image, with a folder of `files` small files bound read-only.
    pub fn with_files(folder: &Path, image: &Path, files: usize, steps: &[String]) -> Result<Self> {
        let mounts = "mounts: [{ type: bind, source: files, target: /files, options: [ro] }]";
        let project = Self::write(folder, &format!("rootfs: {{ squashfs: {} }}, {mounts}", image.display()), steps)?;
        for number in 0..files {
            let inner = project.folder.join(format!("files/{}", number % 100));
            fs::create_dir_all(&inner)?;
            fs::write(inner.join(number.to_string()), format!("{number}\n").repeat(200))?;
        }
        Ok(project)
    }

    fn write(folder: &Path, container: &str, steps: &[String]) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("project-").tempdir_in(folder)?.keep();
        let mut text = format!("version: 1\ncontainers:\n  base: {{ {container} }}\nsteps:\n");
        for (number, action) in steps.iter().enumerate() {
            writeln!(text, "  - name: step{number}\n    {action}")?;
        }
        fs::write(folder.join("build.yaml"), text)?;
        Ok(Self { folder })
    }

    /// How long it takes, in milliseconds.
    pub fn time(&self, action: Action) -> Result<f64> {
        let mut command = self.action(action)?;
        let (took, ended) = timed(|| Ok(command.status()?))?;
        if ended.success() { Ok(took) } else { Err(self.failed(&command, ended)) }
    }

    /// The most memory that runner's own process has at any time, in megabytes.
    pub fn peak(&self, action: Action) -> Result<f64> {
        let mut command = self.action(action)?;
        let mut child = command.spawn()?;
        let status = format!("/proc/{}/status", child.id());
        let mut peak = 0;
        let ended = loop {
            // The mark never falls, so the last one that was seen holds. A process that has ended has none.
            peak = high_water(&status).unwrap_or(peak);
            if let Some(ended) = child.try_wait()? {
                break ended;
            }
            thread::sleep(Duration::from_millis(1));
        };
        if ended.success() { Ok(peak as f64 * 1024.0 / 1e6) } else { Err(self.failed(&command, ended)) }
    }

    /// `runner apply --progress json` with a new store.
    pub fn events(&self) -> Result<Events> {
        self.clear()?;
        let output = self.command(&["apply", "--progress", "json"]).output()?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stdout).into());
        }
        let lines = output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        Ok(Events(lines.map(serde_json::from_slice).collect::<std::result::Result<_, _>>()?))
    }

    fn action(&self, action: Action) -> Result<Command> {
        let mut command = match action {
            Action::Apply => {
                self.clear()?;
                self.command(&["apply", "--progress", "plain"])
            }
            Action::Again => self.command(&["apply", "--progress", "plain"]),
            Action::Validate => self.command(&["validate"]),
            Action::Plan => self.command(&["plan"]),
        };
        command.stdout(Stdio::null());
        Ok(command)
    }

    fn failed(&self, command: &Command, status: ExitStatus) -> Box<dyn Error> {
        format!("{command:?} in {}: {status}", self.folder.display()).into()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_runner"));
        command.args(arguments).current_dir(&self.folder).env("RUNNER_STORE", self.folder.join("store"));
        command.stdin(Stdio::null());
        command
    }

    fn clear(&self) -> Result<()> {
        match fs::remove_dir_all(self.folder.join("store")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }
}

/// `VmHWM` of proc_pid_status(5), in KiB.
fn high_water(status: &str) -> Option<u64> {
    let text = fs::read_to_string(status).ok()?;
    text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.trim().strip_suffix(" kB")?.parse().ok()
}

impl Events {
    /// Milliseconds from one event to another, each given by its kind and its step.
    pub fn between(&self, from: (&str, &str), to: (&str, &str)) -> Result<f64> {
        Ok(self.time(to)?.duration_since(self.time(from)?)?.as_secs_f64() * 1e3)
    }

    fn time(&self, (kind, step): (&str, &str)) -> Result<std::time::SystemTime> {
        let event = self.0.iter().find(|event| event["event"] == kind && event["step"] == step);
        let time = event.and_then(|event| event["time"].as_str()).ok_or_else(|| format!("no {kind} of {step}"))?;
        Ok(humantime::parse_rfc3339(time)?)
    }
}
