//! Runs a build under ptrace(2), records the system calls of runner's own processes, and makes one of them fail.
//!
//! strace(1) counts calls by thread, makes them fail in every program that runner starts, and can report a short write but not
//! make one. This tracer counts a call over all threads of a role, makes it fail once, and shortens the write itself. It runs on
//! x86-64 alone: it takes a call's arguments from that processor's registers.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::calls::{self, Call, Fault, Label};
use crate::project::{Project, Run};

/// The time after which a build counts as one that hangs. No fault depends on the time that a build takes.
const TIMEOUT: Duration = Duration::from_secs(60);

/// One of the processes of runner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// The one that the caller started.
    Runner,
    /// `runner __session`, and the container's first process until it becomes init.
    Helper,
    /// The init of a session, and the steps' processes before they become their programs.
    Init,
}

/// A system call of a build, the same in each run of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Site {
    pub role: Role,
    pub call: &'static str,
    /// The path in its arguments, or the file of the descriptor.
    pub on: String,
    /// Its number among the calls that are alike.
    pub nth: u32,
}

/// A fault at a site.
#[derive(Debug, Clone)]
pub struct Injection {
    pub site: Site,
    pub fault: Fault,
}

/// The result of a traced build.
pub struct Traced {
    pub run: Run,
    /// All calls that were made, in order; up to the fault, where there is one.
    pub sites: Vec<Site>,
    /// Whether the fault was injected.
    pub fired: bool,
    /// Whether it did not end.
    pub hung: bool,
}

/// A traced thread.
struct Thread {
    role: Role,
    /// The result that replaces its call's.
    result: Option<i64>,
}

struct Tracer<'a> {
    first: Pid,
    /// Whether the first is runner by now.
    begun: bool,
    dir: String,
    injection: Option<&'a Injection>,
    threads: HashMap<i32, Thread>,
    /// Stopped at their beginning, before their parent reports them.
    waiting: HashSet<i32>,
    counts: HashMap<(Role, &'static str, String), u32>,
    sites: Vec<Site>,
    fired: bool,
    alive: Arc<Mutex<HashSet<i32>>>,
}

/// Builds, with that fault.
#[expect(clippy::zombie_processes, reason = "the tracer waits for all that it traces")]
pub fn build(project: &Project, injection: Option<&Injection>) -> Traced {
    let file = |name: &str| File::create(project.path(name)).unwrap();
    // The shell waits for a line, so it is not yet runner when the tracer attaches.
    let mut command = project.shell(r#"read -r go; exec "$@" </dev/null"#, &["apply"]);
    command.stdin(Stdio::piped());
    let mut child = command.stdout(file("stdout.txt")).stderr(file("stderr.txt")).spawn().unwrap();
    let pid = Pid::from_raw(child.id().cast_signed());
    let options = Options::PTRACE_O_TRACESYSGOOD
        | Options::PTRACE_O_TRACEEXEC
        | Options::PTRACE_O_TRACECLONE
        | Options::PTRACE_O_TRACEFORK
        | Options::PTRACE_O_TRACEVFORK
        | Options::PTRACE_O_EXITKILL;
    ptrace::seize(pid, options).unwrap();
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    let mut tracer = Tracer {
        first: pid,
        begun: false,
        dir: project.path("").to_str().unwrap().trim_end_matches('/').to_owned(),
        injection,
        threads: HashMap::from([(pid.as_raw(), Thread { role: Role::Runner, result: None })]),
        waiting: HashSet::new(),
        counts: HashMap::new(),
        sites: Vec::new(),
        fired: false,
        alive: Arc::new(Mutex::new(HashSet::from([pid.as_raw()]))),
    };
    let (over, watch) = mpsc::channel::<()>();
    let alive = Arc::clone(&tracer.alive);
    let dog = std::thread::spawn(move || {
        let hung = watch.recv_timeout(TIMEOUT) == Err(RecvTimeoutError::Timeout);
        if hung {
            for pid in alive.lock().unwrap().iter() {
                // It may have ended by now.
                let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
            }
        }
        hung
    });
    let code = tracer.follow();
    drop(over);
    let text = |name: &str| String::from_utf8_lossy(&fs::read(project.path(name)).unwrap()).into_owned();
    let run = Run { code, stdout: text("stdout.txt"), stderr: text("stderr.txt"), pid: child.id() };
    Traced { run, sites: tracer.sites, fired: tracer.fired, hung: dog.join().unwrap() }
}

impl Tracer<'_> {
    /// Follows all processes until none remains; returns the exit code of the first, as a shell shows it.
    fn follow(&mut self) -> i32 {
        let mut code = -1;
        loop {
            let status = match waitpid(None, Some(WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD)) {
                Ok(status) => status,
                Err(Errno::EINTR) => continue,
                Err(Errno::ECHILD) => return code,
                Err(error) => panic!("waitpid: {error}"),
            };
            match status {
                WaitStatus::Exited(pid, status) => {
                    if pid == self.first {
                        code = status;
                    }
                    self.forget(pid);
                }
                WaitStatus::Signaled(pid, signal, _) => {
                    if pid == self.first {
                        code = 128 + signal as i32;
                    }
                    self.forget(pid);
                }
                WaitStatus::PtraceSyscall(pid) => {
                    self.syscall(pid);
                    self.resume(pid, None);
                }
                WaitStatus::PtraceEvent(pid, signal, event) => self.event(pid, signal, event),
                WaitStatus::Stopped(pid, signal) => self.resume(pid, Some(signal)),
                _ => {}
            }
        }
    }

    /// Lets a thread run: to its next system call, or without the tracer when the fault is injected and its call has returned.
    fn resume(&mut self, pid: Pid, signal: Option<Signal>) {
        let has_result = self.threads.get(&pid.as_raw()).is_some_and(|thread| thread.result.is_some());
        let resumed = if self.fired && !has_result {
            // The first one may still have to be killed.
            if pid != self.first {
                self.forget(pid);
            }
            ptrace::detach(pid, signal)
        } else {
            ptrace::syscall(pid, signal)
        };
        match resumed {
            // It has just been killed; its end is reported next.
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(error) => panic!("ptrace {pid}: {error}"),
        }
    }

    fn forget(&mut self, pid: Pid) {
        self.threads.remove(&pid.as_raw());
        self.alive.lock().unwrap().remove(&pid.as_raw());
    }

    fn event(&mut self, pid: Pid, signal: Signal, event: i32) {
        match event {
            libc::PTRACE_EVENT_CLONE | libc::PTRACE_EVENT_FORK | libc::PTRACE_EVENT_VFORK => {
                let new = i32::try_from(ptrace::getevent(pid).unwrap_or(0)).unwrap();
                if new != 0 {
                    let role = self.threads.get(&pid.as_raw()).map_or(Role::Runner, |thread| thread.role);
                    self.threads.insert(new, Thread { role, result: None });
                    self.alive.lock().unwrap().insert(new);
                    if self.waiting.remove(&new) {
                        self.resume(Pid::from_raw(new), None);
                    }
                }
                self.resume(pid, None);
            }
            libc::PTRACE_EVENT_EXEC => match role_of(pid) {
                Some(role) => {
                    self.begun = true;
                    self.threads.insert(pid.as_raw(), Thread { role, result: None });
                    self.resume(pid, None);
                }
                // The shell that will become runner.
                None if pid == self.first && !self.begun => drop(ptrace::cont(pid, None)),
                None => {
                    self.forget(pid);
                    // Not one of runner's own processes: it runs untraced.
                    let _ = ptrace::detach(pid, None);
                }
            },
            libc::PTRACE_EVENT_STOP if signal == Signal::SIGTRAP => {
                if self.threads.contains_key(&pid.as_raw()) {
                    self.resume(pid, None);
                } else {
                    self.waiting.insert(pid.as_raw());
                }
            }
            _ => self.resume(pid, None),
        }
    }

    fn syscall(&mut self, pid: Pid) {
        // It may have been killed meanwhile.
        let (Ok(info), Ok(mut registers)) = (ptrace::syscall_info(pid), ptrace::getregs(pid)) else { return };
        let Some(thread) = self.threads.get_mut(&pid.as_raw()) else { return };
        if info.op != libc::PTRACE_SYSCALL_INFO_ENTRY {
            if let Some(result) = thread.result.take() {
                registers.rax = result.cast_unsigned();
                let _ = ptrace::setregs(pid, registers);
            }
            return;
        }
        let Some(call) = calls::find(registers.orig_rax.cast_signed()) else { return };
        let arguments = [registers.rdi, registers.rsi, registers.rdx, registers.r10, registers.r8, registers.r9];
        let role = thread.role;
        let Some(on) = label(pid, call, &arguments, &self.dir) else { return };
        let count = self.counts.entry((role, call.name, on.clone())).or_default();
        *count += 1;
        let site = Site { role, call: call.name, on, nth: *count };
        if let Some(injection) = self.injection.filter(|injection| injection.site == site && !self.fired) {
            self.fired = true;
            match injection.fault {
                Fault::Errno(errno) => {
                    // The kernel knows no such call, and does nothing; the result is replaced when it returns.
                    registers.orig_rax = u64::MAX;
                    thread.result = Some(-i64::from(errno as i32));
                }
                Fault::Short => registers.rdx = 1,
                Fault::Kill => {
                    let _ = kill(process_of(pid), Signal::SIGKILL);
                }
            }
            let _ = ptrace::setregs(pid, registers);
        }
        self.sites.push(site);
    }
}

fn process_of(thread: Pid) -> Pid {
    let status = fs::read_to_string(format!("/proc/{thread}/status")).unwrap_or_default();
    let number = status.lines().find_map(|line| line.strip_prefix("Tgid:")?.trim().parse().ok());
    number.map_or(thread, Pid::from_raw)
}

/// Returns which of runner's own processes has just been started, if it is one.
fn role_of(pid: Pid) -> Option<Role> {
    let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let mut arguments = line.split('\0');
    match (arguments.next()?, arguments.next()?) {
        (program, "apply") if program.ends_with("runner") => Some(Role::Runner),
        ("runner", "__session") => Some(Role::Helper),
        ("runner-init", _) => Some(Role::Init),
        _ => None,
    }
}

/// Returns the label of a call; none where the tests do not touch it.
fn label(pid: Pid, call: &Call, arguments: &[u64; 6], dir: &str) -> Option<String> {
    let descriptor = |at: usize| {
        // AT_FDCWD is a number too, in 32 bits.
        let number = arguments[at] as u32 as i32;
        let link = match number {
            libc::AT_FDCWD => format!("/proc/{pid}/cwd"),
            _ => format!("/proc/{pid}/fd/{number}"),
        };
        fs::read_link(link).unwrap_or_else(|_| PathBuf::from("?")).to_string_lossy().into_owned()
    };
    let text = |at: usize| string(pid, arguments[at]);
    let text = match call.label {
        Label::Plain => String::new(),
        Label::Path(at) => text(at),
        Label::At(directory, at) => {
            let path = text(at);
            if path.starts_with('/') { path } else { format!("{}/{path}", descriptor(directory)) }
        }
        Label::Descriptor(at) => descriptor(at),
        Label::Ioctl => {
            let on = descriptor(0);
            // For a pipe it is a call of the standard library, which takes its success for granted.
            if on.starts_with("pipe:") {
                return None;
            }
            format!("{:#x} {on}", arguments[1])
        }
        Label::Number(at) => format!("{:#x}", arguments[at]),
        Label::Fsconfig => format!("{} {}", arguments[1], text(2)),
        Label::Clone => {
            let flags = File::open(format!("/proc/{pid}/mem")).ok().map(|memory| {
                let mut bytes = [0; 8];
                memory.read_exact_at(&mut bytes, arguments[0]).map_or(0, |()| u64::from_le_bytes(bytes))
            });
            format!("{:x?}", flags.unwrap_or(0))
        }
        Label::Duplicate => {
            let command = i32::try_from(arguments[1]).ok()?;
            if command != libc::F_DUPFD_CLOEXEC && command != libc::F_DUPFD {
                return None;
            }
            descriptor(0)
        }
    };
    calls::plain(&text, dir)
}

fn string(pid: Pid, address: u64) -> String {
    const MAX_BYTES: usize = 4096;
    const PAGE: u64 = 4096;
    let Ok(memory) = File::open(format!("/proc/{pid}/mem")) else { return String::new() };
    let (mut bytes, mut at) = (Vec::new(), address);
    while bytes.len() < MAX_BYTES && address != 0 {
        let length = usize::try_from(PAGE - at % PAGE).unwrap();
        let mut part = vec![0; length];
        if memory.read_exact_at(&mut part, at).is_err() {
            break;
        }
        if let Some(end) = part.iter().position(|byte| *byte == 0) {
            bytes.extend_from_slice(&part[..end]);
            break;
        }
        bytes.extend(part);
        at += PAGE - at % PAGE;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

impl std::fmt::Display for Injection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Site { role, call, on, nth } = &self.site;
        write!(f, "{role:?} {call} {on} #{nth}: {:?}", self.fault)
    }
}
