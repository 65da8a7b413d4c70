//! External runtimes that fail: a program in the place of runc is missing, is killed, prints nonsense, or has no space.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::built::children;
use crate::judge;
use crate::project::Run;
use crate::sample::Sample;
use crate::tally::Tally;

/// The host cannot do it, or a step failed.
const CODES: &[i32] = &[1, 3];

/// The program in the place of runc: a script of sh(1) in which `real` calls runc, `verb` is the call, and `state` the directory
/// of its state; and words of which the message has one.
const CASES: [(&str, &str, &str); 15] = [
    ("cannot be run", "#!/nowhere/sh", "No such file or directory"),
    ("fails to create", "create) echo words of its own >&2; exit 7 ;;", "the runtime ended with 7"),
    ("is killed while it creates", "create) kill -9 $$ ;;", "signal 9 killed"),
    ("is killed after it has created", "create) real \"$@\"; kill -9 $$ ;;", "signal 9 killed"),
    ("creates nothing", "create) exit 0 ;;", "left no pid of the container's first process"),
    (
        "gives rubbish for a pid",
        "create) echo rubbish > \"$pid\"; exit 0 ;;",
        "left no pid of the container's first process",
    ),
    ("gives another process's pid", "create) echo 1 > \"$pid\"; exit 0 ;;", "the runtime has started no process 1"),
    ("logs rubbish", "create) head -c 100000 /dev/urandom > \"$log\"; exit 7 ;;", "the runtime ended with 7"),
    ("logs a FIFO", "create) rm -f \"$log\"; mkfifo \"$log\"; exit 7 ;;", "the runtime ended with 7"),
    ("fails to start", "start) exit 8 ;;", "the runtime ended with 8"),
    ("is killed while it starts", "start) kill -9 $$ ;;", "signal 9 killed"),
    ("fails to delete", "delete) exit 9 ;;", ""),
    ("is killed while it deletes", "delete) kill -9 $$ ;;", ""),
    ("goes after the first step", "delete) real \"$@\"; rm \"$0\" ;;", "cannot call the runtime"),
    (
        "has no room for its state",
        "create) mkdir -p \"$state\"; mount -t tmpfs -o nr_inodes=1 none \"$state\"; real \"$@\" ;;",
        "no space left on device",
    ),
];

pub fn all(tally: &Tally) {
    for (name, script, word) in CASES {
        let sample = Sample::new();
        let program = sample.project.path("runc");
        let text = match script.starts_with("#!") {
            true => script.to_owned(),
            false => format!(
                r#"#!/bin/sh
real() {{ runc "$@"; }}
last= state= pid= log= verb=
for word; do
    case $last in --root) state=$word ;; --pid-file) pid=$word ;; --log) log=$word ;; esac
    case $word in create|start|delete|kill|state) [ -n "$verb" ] || verb=$word ;; esac
    last=$word
done
case $verb in
{script}
esac
exec runc "$@"
"#
            ),
        };
        fs::write(&program, text).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let mut command: Command = sample.project.command(&["apply"]);
        command.env("RUNNER_RUNTIME", &program).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().unwrap();
        let pid = child.id();
        let run = Run::new(pid, &child.wait_with_output().unwrap());
        // A container that is not deleted ends without harm to the build, which may succeed.
        let codes = if word.is_empty() { &[0, 1, 3] } else { CODES };
        let words: Vec<String> = [word].into_iter().filter(|word| !word.is_empty()).map(str::to_owned).collect();
        let mut found = judge::ending(&run, &words, codes);
        found.extend(judge::whole(&sample.project, &sample.right, run.code == 0));
        found.extend(judge::next_build(&sample.project, &sample.right, &[pid]));
        tally.add("runtime", &format!("a runtime that {name}"), found, || run.to_string());
    }
    killed_helper(tally);
}

/// The process that calls the runtime is killed while a step runs.
fn killed_helper(tally: &Tally) {
    let sample = Sample::with_gate();
    let mut command = sample.project.command(&["apply"]);
    command.env("RUNNER_RUNTIME", "runc").stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    let pid = child.id();
    sample.await_gate();
    let helpers: Vec<u32> = children(pid).into_iter().flat_map(children).filter(|helper| is_helper(*helper)).collect();
    assert!(!helpers.is_empty(), "no helper of {pid}");
    for helper in helpers {
        let helper = Pid::from_raw(helper.cast_signed()).unwrap();
        let _ = kill_process(helper, Signal::KILL);
    }
    let run = Run::new(pid, &child.wait_with_output().unwrap());
    sample.open_gate();
    let words = ["signal 9 ended the process that calls the runtime".to_owned()];
    let mut found = judge::ending(&run, &words, CODES);
    found.extend(judge::whole(&sample.project, &sample.right, false));
    found.extend(judge::next_build(&sample.project, &sample.right, &[pid]));
    tally.add("runtime", "the process that calls the runtime is killed", found, || run.to_string());
}

fn is_helper(pid: u32) -> bool {
    let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    arguments.split(|byte| *byte == 0).any(|argument| argument == b"__external")
}
