//! A build that was run with JSON events: each step's output and end; and a gate to meet a step half-way.

use std::fs;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::project::{Project, Run};

/// Programs of the host that most tests need inside.
pub const TOOLS: &str = "{ programs: [/bin/sh, /bin/cat, /bin/chmod, /bin/chown, /bin/cp, /bin/dd, /bin/grep, /bin/ln, /bin/ls, \
     /bin/mkdir, /bin/mkfifo, /bin/mknod, /bin/mount, /bin/rm, /bin/sleep, /bin/touch, /bin/umount, /bin/uname, \
     /usr/bin/env, /usr/bin/head, /usr/bin/id, /usr/bin/ipcmk, /usr/bin/seq, /usr/bin/setsid, /usr/bin/stat, \
     /usr/bin/tr, /usr/bin/wc] }";

/// Returns a project with this manifest, in which `$TOOLS` stands for a root with the usual programs and `$GATE` for the gate.
pub fn project(manifest: &str) -> Project {
    let gate = "gate: { type: bind, source: gate, target: /gate }";
    Project::new(&format!("version: 1\n{}", manifest.replace("$TOOLS", TOOLS).replace("$GATE", gate)))
}

/// The time after which a test gives up. No test depends on the time that anything takes.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Repeats a question until there is an answer.
#[track_caller]
pub fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A build that has ended.
pub struct Built {
    pub events: Vec<Value>,
    pub run: Run,
}

impl Built {
    /// Builds; the build may fail.
    pub fn of(project: &Project, arguments: &[&str]) -> Self {
        Running::start(project, arguments).end()
    }

    /// Builds; the build must not fail, and leaves nothing behind.
    #[track_caller]
    pub fn succeed(project: &Project) -> Self {
        let built = Self::of(project, &[]);
        assert_eq!(built.run.code, 0, "{}", built.run);
        assert_eq!(project.leftovers(built.run.pid), Vec::<String>::new());
        built
    }

    /// Returns the events of a type.
    pub fn all(&self, kind: &str) -> Vec<&Value> {
        self.events.iter().filter(|event| event["event"] == kind).collect()
    }

    /// Takes the output of a run of runner.
    pub fn from_run(run: Run) -> Self {
        let parsed = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line:?}"));
        Self { events: run.stdout.lines().map(parsed).collect(), run }
    }

    /// Returns the event of a step's end.
    #[track_caller]
    pub fn ending(&self, step: &str) -> &Value {
        let mut endings = self.all("step_finished").into_iter().filter(|event| event["step"] == step);
        let ending = endings.next().unwrap_or_else(|| panic!("{step} never ended: {}", self.run));
        assert!(endings.next().is_none(), "{step} ended twice: {}", self.run);
        ending
    }

    /// Returns `ran`, `failed` or `skipped`.
    #[track_caller]
    pub fn status(&self, step: &str) -> &str {
        self.ending(step)["status"].as_str().unwrap()
    }

    /// Returns the reason for which a step failed.
    #[track_caller]
    pub fn reason(&self, step: &str) -> &str {
        self.ending(step)["reason"].as_str().unwrap_or_else(|| panic!("{step} has no reason: {}", self.run))
    }

    /// Returns the bytes of a step's log; none where it has printed nothing.
    #[track_caller]
    pub fn log(&self, step: &str) -> Vec<u8> {
        self.ending(step)["log"].as_str().map(|path| fs::read(path).unwrap()).unwrap_or_default()
    }

    /// Returns the output of a step.
    #[track_caller]
    pub fn text(&self, step: &str) -> String {
        String::from_utf8(self.log(step)).unwrap()
    }

    /// Returns the digest of the image that a snapshot step wrote.
    #[track_caller]
    pub fn digest(&self, step: &str) -> &str {
        let written = self.all("snapshot_written").into_iter().find(|event| event["step"] == step);
        written.unwrap_or_else(|| panic!("{step} wrote no image: {}", self.run))["digest"].as_str().unwrap()
    }

    /// Returns the messages of the warnings about a step.
    pub fn warnings_of(&self, step: &str) -> Vec<&str> {
        let warnings = self.all("warning").into_iter().filter(|event| event["step"] == step);
        warnings.map(|event| event["message"].as_str().unwrap()).collect()
    }

    /// Returns the output of a step, by line.
    #[track_caller]
    pub fn lines(&self, step: &str) -> Vec<String> {
        self.text(step).lines().map(str::to_owned).collect()
    }
}

/// A running build. It is killed when it is dropped: a test that fails must not leave it waiting for ever.
pub struct Running(Option<Child>);

impl Running {
    /// Starts `runner apply` with JSON events.
    pub fn start(project: &Project, arguments: &[&str]) -> Self {
        Self::spawn(project.command(&[&["apply", "--progress", "json"], arguments].concat()))
    }

    /// Starts this command, which prints JSON events.
    pub fn spawn(mut command: Command) -> Self {
        Self(Some(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()))
    }

    pub fn pid(&self) -> u32 {
        self.0.as_ref().unwrap().id()
    }

    /// Returns its output, to be read while it runs; then [`Self::end`] sees none of it.
    pub fn stdout(&mut self) -> ChildStdout {
        self.0.as_mut().unwrap().stdout.take().unwrap()
    }

    /// Repeats a question until there is an answer. If the build ends before, or there is none in time, fails with
    /// everything that the build has printed.
    #[track_caller]
    pub fn wait_for<T>(&mut self, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            // Looked at first: the answer may come right before the end.
            let has_ended = self.0.as_mut().unwrap().try_wait().unwrap().is_some();
            if let Some(answer) = ask() {
                return answer;
            }
            assert!(!has_ended, "the build ended before {what}: {}", self.printed());
            assert!(Instant::now() < deadline, "waited in vain for {what}: {}", self.printed());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Returns what it has printed so far. Does not wait for more: a process of the build may have the pipes open.
    fn printed(&mut self) -> String {
        let child = self.0.as_mut().unwrap();
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        read_available(child.stdout.as_mut().unwrap(), &mut stdout);
        read_available(child.stderr.as_mut().unwrap(), &mut stderr);
        format!("stdout:\n{}stderr:\n{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr))
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.pid().cast_signed()).unwrap(), signal).unwrap();
    }

    /// Waits for its end, and fails if the build fails.
    #[track_caller]
    pub fn succeed(self) -> Built {
        let built = self.end();
        assert_eq!(built.run.code, 0, "{}", built.run);
        built
    }

    /// Waits for its end; kills it and fails if it does not end.
    #[track_caller]
    pub fn end(mut self) -> Built {
        let pid = self.pid();
        let child = self.0.take().unwrap();
        let (over, watch) = mpsc::channel::<()>();
        let dog = thread::spawn(move || {
            let late = watch.recv_timeout(3 * TIMEOUT) == Err(mpsc::RecvTimeoutError::Timeout);
            if late {
                let _ = kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), Signal::KILL);
            }
            late
        });
        let output = child.wait_with_output().unwrap();
        drop(over);
        let run = Run::new(pid, &output);
        assert!(!dog.join().unwrap(), "it would not end: {run}");
        Built::from_run(run)
    }
}

/// Reads what is in a pipe, and does not wait for its end.
fn read_available(pipe: &mut (impl Read + AsFd), into: &mut Vec<u8>) {
    let flags = fcntl_getfl(pipe.as_fd()).unwrap();
    fcntl_setfl(pipe.as_fd(), flags | OFlags::NONBLOCK).unwrap();
    // It fails where it would have to wait.
    let _ = pipe.read_to_end(into);
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Where a test and a running step wait for each other: a directory that the manifest binds.
pub struct Gate(PathBuf);

impl Gate {
    /// Makes the gate of a manifest that has `$GATE` among its mounts, and steps that call `sh /gate/meet NAME`.
    pub fn new(project: &Project) -> Self {
        let wait = "touch /gate/$1.here; until [ -e /gate/$1.open ]; do sleep 0.02; done\n";
        project.write("gate/meet", wait);
        Self(project.path("gate"))
    }

    /// Opens a gate that was made before.
    pub fn reopen(project: &Project) -> Self {
        Self(project.path("gate"))
    }

    /// Waits until a step has reached the gate.
    #[track_caller]
    pub fn await_step(&self, name: &str) {
        wait_for(&format!("the step at {name}"), || self.0.join(format!("{name}.here")).exists().then_some(()));
    }

    pub fn open(&self, name: &str) {
        fs::write(self.0.join(format!("{name}.open")), "").unwrap();
    }
}

/// Returns a number of seconds that no other process of this host sleeps for, so that a test finds its own sleeps.
pub fn unique_seconds() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // All have the same number of digits: none is the beginning of another.
    format!("1{:07}{:04}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Returns the running child processes of a process, in the order of their numbers.
pub fn children(pid: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = tasks.map(|task| fs::read_to_string(task.path().join("children")).unwrap_or_default());
    let numbers = |list: String| list.split_whitespace().map(|child| child.parse().unwrap()).collect::<Vec<u32>>();
    let mut children: Vec<u32> = lists.flat_map(numbers).collect();
    children.sort_unstable();
    children
}

/// Returns the running descendants of a process: each before its own children.
pub fn descendants(pid: u32) -> Vec<u32> {
    children(pid).into_iter().flat_map(|child| [vec![child], descendants(child)].concat()).collect()
}

/// Returns the processes of this host whose command line begins so.
pub fn processes_of(command: &str) -> Vec<String> {
    let line = |directory: fs::DirEntry| fs::read_to_string(directory.path().join("cmdline")).ok();
    let all = fs::read_dir("/proc").unwrap().flatten().filter_map(line);
    all.map(|line| line.replace('\0', " ")).filter(|line| line.starts_with(command)).collect()
}

/// Returns the names in a squashfs image, as unsquashfs(1) lists them.
pub fn names_in(image: &std::path::Path) -> Vec<String> {
    let listed = std::process::Command::new("unsquashfs").args(["-lc", "-d", ""]).arg(image).output().unwrap();
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    String::from_utf8(listed.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// Compiles a C program or library into the project.
pub fn compile(project: &Project, name: &str, source: &str, flags: &[&str]) {
    let file = format!("{name}.c");
    project.write(&file, source);
    let out = project.path(name);
    let status = Command::new("cc").args(flags).arg("-o").arg(out).arg(project.path(&file)).status().unwrap();
    assert!(status.success(), "cc {name}");
}
