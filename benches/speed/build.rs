//! Builds by runner: a manifest in a directory of its own, and the time and memory of a run.

use std::error::Error;
use std::fmt::Write;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use nix::pty::{Winsize, openpty};
use serde_json::Value;

use crate::Result;
use crate::figure::timed;

/// A manifest with one container, and steps named step0, step1 and so on.
#[derive(Debug)]
pub struct Project {
    directory: PathBuf,
}

/// A command of runner on a manifest, with its standard output discarded.
#[derive(Debug, Clone, Copy)]
pub enum Action {
    /// With a new store and plain progress.
    Apply,
    /// With a new store and that progress on its usual output: `tty` on a terminal, the others in a pipe.
    Shown(&'static str),
    /// On the store of the build before.
    Again,
    Validate,
    Plan,
}

/// The events of a build.
#[derive(Debug)]
pub struct Events(Vec<Value>);

impl Project {
    /// Makes one on a squashfs image; each step is the text after its name: `run: …`, `exec: […]` or `snapshot: {…}`.
    pub fn new(directory: &Path, image: &Path, steps: &[String]) -> Result<Self> {
        Self::write(directory, &format!("rootfs: {{ squashfs: {} }}", image.display()), steps)
    }

    /// Makes one on an empty root, for measurements that run no step.
    pub fn on_scratch(directory: &Path, steps: &[String]) -> Result<Self> {
        Self::write(directory, "rootfs: { scratch: true }", steps)
    }

    /// Makes one on a squashfs image, with a directory of `files` small files bound read-only.
    pub fn with_files(directory: &Path, image: &Path, files: usize, steps: &[String]) -> Result<Self> {
        let mounts = "mounts: [{ type: bind, source: files, target: /files, options: [ro] }]";
        let project = Self::write(directory, &format!("rootfs: {{ squashfs: {} }}, {mounts}", image.display()), steps)?;
        for number in 0..files {
            let inner = project.directory.join(format!("files/{}", number % 100));
            fs::create_dir_all(&inner)?;
            fs::write(inner.join(number.to_string()), format!("{number}\n").repeat(200))?;
        }
        Ok(project)
    }

    fn write(directory: &Path, container: &str, steps: &[String]) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("project-").tempdir_in(directory)?.keep();
        let mut text = format!("version: 1\ncontainers:\n  base: {{ {container} }}\nsteps:\n");
        for (number, action) in steps.iter().enumerate() {
            writeln!(text, "  - name: step{number}\n    {action}")?;
        }
        fs::write(directory.join("build.yaml"), text)?;
        Ok(Self { directory })
    }

    /// Returns how long a command takes, in milliseconds.
    pub fn time(&self, action: Action) -> Result<f64> {
        let mut command = self.action(action)?;
        let (took, ended) = timed(|| Ok(command.status()?))?;
        if ended.success() { Ok(took) } else { Err(self.failed(&command, ended)) }
    }

    /// Returns the most memory that runner's own process has at any time, in megabytes.
    pub fn peak(&self, action: Action) -> Result<f64> {
        let mut command = self.action(action)?;
        let mut child = command.spawn()?;
        let status = format!("/proc/{}/status", child.id());
        let mut peak = 0;
        let ended = loop {
            // The mark never falls, so the last one counts. A process that has ended has none.
            peak = high_water(&status).unwrap_or(peak);
            if let Some(ended) = child.try_wait()? {
                break ended;
            }
            thread::sleep(Duration::from_millis(1));
        };
        if ended.success() { Ok(peak as f64 * 1024.0 / 1e6) } else { Err(self.failed(&command, ended)) }
    }

    /// Runs `runner apply --progress json` with a new store.
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
            Action::Shown(progress) => {
                self.clear()?;
                let mut command = self.command(&["apply", "--progress", progress]);
                command.env("TERM", "xterm").stdout(if progress == "tty" { terminal()? } else { pipe()? });
                return Ok(command);
            }
            Action::Again => self.command(&["apply", "--progress", "plain"]),
            Action::Validate => self.command(&["validate"]),
            Action::Plan => self.command(&["plan"]),
        };
        command.stdout(Stdio::null());
        Ok(command)
    }

    fn failed(&self, command: &Command, status: ExitStatus) -> Box<dyn Error> {
        format!("{command:?} in {}: {status}", self.directory.display()).into()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_runner"));
        command.args(arguments).current_dir(&self.directory).env("RUNNER_STORE", self.directory.join("store"));
        command.stdin(Stdio::null());
        command
    }

    fn clear(&self) -> Result<()> {
        match fs::remove_dir_all(self.directory.join("store")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }
}

/// Returns a terminal of 80 columns, whose other end reads and discards all output.
fn terminal() -> Result<OwnedFd> {
    let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
    let pty = openpty(&size, None)?;
    let mut master = fs::File::from(pty.master);
    // Ends with an error, see pty(7), when no process has the other end open any more.
    thread::spawn(move || std::io::copy(&mut master, &mut std::io::sink()));
    Ok(pty.slave)
}

/// Returns a pipe, whose other end reads and discards all output.
fn pipe() -> Result<OwnedFd> {
    let (mut reader, writer) = std::io::pipe()?;
    thread::spawn(move || std::io::copy(&mut reader, &mut std::io::sink()));
    Ok(writer.into())
}

/// Returns `VmHWM` of proc_pid_status(5), in KiB.
fn high_water(status: &str) -> Option<u64> {
    let text = fs::read_to_string(status).ok()?;
    text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.trim().strip_suffix(" kB")?.parse().ok()
}

impl Events {
    /// Returns the milliseconds from one event to another, each given by its kind and its step.
    pub fn between(&self, from: (&str, &str), to: (&str, &str)) -> Result<f64> {
        Ok(self.time(to)?.duration_since(self.time(from)?)?.as_secs_f64() * 1e3)
    }

    fn time(&self, (kind, step): (&str, &str)) -> Result<std::time::SystemTime> {
        let event = self.0.iter().find(|event| event["event"] == kind && event["step"] == step);
        let time = event.and_then(|event| event["time"].as_str()).ok_or_else(|| format!("no {kind} of {step}"))?;
        Ok(humantime::parse_rfc3339(time)?)
    }
}
