//! The environment of attacks: one runtime, a root with the tools of an attacker, and projects in temporary directories.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{StatVfsMountFlags, statvfs};
use tempfile::TempDir;

use crate::attack::{Failure, not_tried};
use crate::build::Build;
use crate::leftovers::clear;
use crate::patience;

/// No run of runner takes this long on a usual machine unless an attack has made it hang.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Programs of the host that attacks need inside.
const TOOLS: [&str; 26] = [
    "base64", "cat", "chmod", "chown", "cp", "dd", "echo", "env", "head", "id", "ln", "ls", "mkdir", "mknod", "mount",
    "mv", "rm", "rmdir", "sh", "sleep", "stat", "touch", "tr", "true", "umount", "unshare",
];

/// The programs that the host must have, each with the package of Debian that has it.
const NEEDED: [(&str, &str); 7] = [
    ("cc", "gcc"),
    ("mksquashfs", "squashfs-tools"),
    ("unsquashfs", "squashfs-tools"),
    ("setsid", "util-linux"),
    ("bash", "bash"),
    ("losetup", "mount"),
    ("setfattr", "attr"),
];

/// The environment of attacks with one runtime.
#[derive(Clone)]
pub struct Lab {
    /// The runtime of the containers: `embedded`, `runc`, `crun` or a path.
    pub runtime: String,
    /// The root that `$BASE` stands for.
    base: PathBuf,
    /// The program with attacks that no tool can try; `/probe` in the root.
    pub probe: PathBuf,
}

/// A project in a directory of its own, with a store in it.
pub struct Project {
    directory: TempDir,
    runtime: String,
}

/// Fails with the command that installs what this host lacks.
pub fn check_host(runtimes: &[String]) -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Err("attacks are tried as root: run this with sudo".to_owned());
    }
    let runtimes = runtimes.iter().filter(|name| *name != "embedded").map(|name| (name.as_str(), name.as_str()));
    let missing: Vec<_> = NEEDED.into_iter().chain(runtimes).filter(|(program, _)| !is_there(program)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let column = |pick: fn(&(&str, &str)) -> String| missing.iter().map(pick).collect::<Vec<_>>().join(" ");
    let (programs, packages) = (column(|(program, _)| (*program).into()), column(|(_, package)| (*package).into()));
    Err(format!("this host lacks {programs}: apt-get update && apt-get install -y {packages} libc6-dev"))
}

/// Makes projects in a directory whose filesystem lets device nodes and set-uid programs have their effect: where they have none,
/// the host itself contains the attack, and the test shows nothing of runner. /tmp of a stock Debian 13 lets neither.
pub fn choose_directory() -> Result<(), String> {
    let powerless = StatVfsMountFlags::NODEV | StatVfsMountFlags::NOSUID | StatVfsMountFlags::NOEXEC;
    let is_fit = |path: &PathBuf| statvfs(path).is_ok_and(|found| !found.f_flag.intersects(powerless));
    let directory = [std::env::temp_dir(), "/var/tmp".into()].into_iter().find(is_fit);
    let directory = directory
        .ok_or("no directory for projects: set TMPDIR to one that is mounted without nosuid, nodev and noexec")?;
    tempfile::env::override_temp_dir(&directory).map_err(|other| format!("projects are in {} already", other.display()))
}

fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    program.contains('/') && Path::new(program).exists()
        || std::env::split_paths(&path).any(|directory| directory.join(program).exists())
}

impl Lab {
    /// Compiles the probe and makes the root, by runner itself, in `directory`.
    pub fn make(directory: &Path) -> Result<Self, String> {
        let (probe, base) = (directory.join("probe"), directory.join("base.squashfs"));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/attacks/probe");
        let compiled = Command::new("cc")
            .arg(format!("-DPATIENCE={}", patience::seconds(20)))
            .args(["-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-O1", "-static", "-o"])
            .arg(&probe)
            .args(
                ["main.c", "calls.c", "cgroups.c", "files.c", "mounts.c", "pass.c", "places.c"]
                    .map(|name| source.join(name)),
            )
            .output()
            .map_err(|error| format!("cc: {error}"))?;
        if !compiled.status.success() {
            let output = String::from_utf8_lossy(&compiled.stderr);
            return Err(format!("cannot compile the probe: apt-get install -y gcc libc6-dev: {output}"));
        }
        let lab = Self { runtime: "embedded".to_owned(), base: base.clone(), probe };
        let tools = TOOLS.map(|name| if name == "sh" { "/bin/sh".to_owned() } else { format!("'{name}'") }).join(", ");
        let project = lab.project(&format!(
            "
mounts: {{ gift: {{ type: bind, source: gift, target: /gift, options: [ro] }} }}
containers: {{ c: {{ rootfs: {{ programs: [{tools}] }}, mounts: [gift] }} }}
steps:
  - {{ name: root, run: 'cp /gift/probe /probe; chmod 755 /probe; mkdir -p /etc /tmp; chmod 1777 /tmp' }}
  - {{ name: image, snapshot: {{ mode: full, output: base.squashfs }} }}
"
        ));
        fs::create_dir(project.path("gift")).map_err(|error| error.to_string())?;
        fs::copy(&lab.probe, project.path("gift/probe")).map_err(|error| error.to_string())?;
        let build = project.apply(&[]).map_err(|failure| format!("{failure:?}"))?;
        if build.code != 0 {
            return Err(format!("cannot make the root of the attacks: {build}"));
        }
        fs::copy(project.path("base.squashfs"), &base).map_err(|error| error.to_string())?;
        Ok(lab)
    }

    /// Returns the same root with another runtime.
    pub fn with_runtime(&self, runtime: &str) -> Self {
        Self { runtime: runtime.to_owned(), ..self.clone() }
    }

    /// Returns a project with this manifest, but for its version; `$BASE` stands for the root with the tools.
    pub fn project(&self, manifest: &str) -> Project {
        self.project_in(&tempfile::env::temp_dir(), manifest)
    }

    /// Returns a project, as [`Self::project`], in a directory of this one.
    pub fn project_in(&self, above: &Path, manifest: &str) -> Project {
        let directory = tempfile::Builder::new().prefix("runner-attack-").tempdir_in(above).unwrap();
        let project = Project { directory, runtime: self.runtime.clone() };
        let base = format!("{{ squashfs: {} }}", self.base.display());
        project.write("build.yaml", &format!("version: 1\n{}", manifest.replace("$BASE", &base)));
        project
    }

    /// Runs the probe on the host, outside of any container.
    pub fn probe_on_host(&self, arguments: &[&str]) -> String {
        let output = Command::new(&self.probe).args(arguments).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Returns a text that no other attack has, so that groups, keys and processes on the host can be distinguished.
    pub fn tag(&self) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        format!("{}-{:04}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// Unpacks the root with the tools into a directory.
    pub fn unpack_base(&self, target: &Path) {
        let unpacked =
            Command::new("unsquashfs").args(["-q", "-n", "-d"]).arg(target).arg(&self.base).output().unwrap();
        assert!(unpacked.status.success(), "unsquashfs: {}", String::from_utf8_lossy(&unpacked.stderr));
    }
}

impl Project {
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a file, and makes the directories above it.
    pub fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub fn read(&self, name: &str) -> String {
        fs::read(self.path(name)).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Returns runner with these arguments, and of the environment only PATH.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_runner"));
        command.args(arguments);
        self.set_environment(&mut command);
        command
    }

    /// Returns runner started from a script of bash, in which `"$@"` is runner and its arguments.
    pub fn command_in_bash(&self, script: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("bash");
        command.args(["-c", script, "bash", env!("CARGO_BIN_EXE_runner")]).args(arguments);
        self.set_environment(&mut command);
        command
    }

    fn set_environment(&self, command: &mut Command) {
        let path = std::env::var_os("PATH").unwrap_or_default();
        command.current_dir(self.directory.path()).stdin(Stdio::null()).env_clear().env("PATH", path);
        command.env("RUNNER_STORE", self.path("store")).env("RUNNER_RUNTIME", &self.runtime);
    }

    /// Runs a command to its end. One that hangs is killed, and its leftovers are removed.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn run(&self, command: Command) -> Result<Build, Failure> {
        self.run_within(TIMEOUT, command)
    }

    /// Runs a command, as [`Self::run`], with a timeout of its own, for builds of very many steps.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn run_within(&self, usual: Duration, mut command: Command) -> Result<Build, Failure> {
        let outputs = tempfile::tempdir().map_err(|error| not_tried(error.to_string()))?;
        let [out, err] = ["out", "err"].map(|name| outputs.path().join(name));
        command.stdout(File::create(&out).unwrap()).stderr(File::create(&err).unwrap());
        let mut child = command.spawn().map_err(|error| not_tried(format!("cannot start runner: {error}")))?;
        let status = wait(&mut child, usual);
        if status.is_none() {
            clear(child.id(), "");
        }
        let text = |path| {
            let mut bytes = Vec::new();
            File::open(path).and_then(|mut file| file.read_to_end(&mut bytes)).unwrap();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        Ok(Build::new(child.id(), status, text(&out), text(&err)))
    }

    /// Runs `runner apply` with JSON events; one failed step does not stop the others.
    pub fn apply(&self, arguments: &[&str]) -> Result<Build, Failure> {
        self.run(self.command(&[&["apply", "--progress", "json", "--keep-going"], arguments].concat()))
    }

    /// Runs runner with these arguments.
    pub fn runner(&self, arguments: &[&str]) -> Result<Build, Failure> {
        self.run(self.command(arguments))
    }
}

/// Waits for the end of a process, however long it takes on a usual machine.
pub fn wait_for_end(child: &mut Child) -> Option<ExitStatus> {
    wait(child, TIMEOUT)
}

/// Waits for the end of a process; none after that many seconds of a usual machine, when it is killed.
pub fn wait(child: &mut Child, usual: Duration) -> Option<ExitStatus> {
    let deadline = Instant::now() + patience::time(usual);
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        thread::sleep(Duration::from_millis(5));
    }
    let _ = child.kill();
    let _ = child.wait();
    None
}
