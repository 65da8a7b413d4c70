//! Words the message for a step that the embedded runtime could not start.

use std::io;
use std::path::{Path, PathBuf};

use crate::runtime::process::TOO_LARGE;
use crate::runtime::status::StartFailure;
use crate::runtime::wire::stage;
use crate::runtime::{CANNOT_START, Outcome, lost_mount, not_executed};

/// The facts about a step for the message of a failed start.
#[derive(Debug)]
pub struct StartedStep {
    pub(super) command: String,
    pub(super) cwd: PathBuf,
    pub(super) targets: Vec<PathBuf>,
    pub(super) refused: Vec<&'static str>,
}

impl StartedStep {
    /// Returns the outcome of a step that reported no failure to start. Where its seccomp profile refuses the calls that report a
    /// failure, it may not have started at all, and the outcome says so.
    pub fn ended(&self, outcome: Outcome) -> Outcome {
        let unknown = match &outcome {
            Outcome::Exited { code } => *code == CANNOT_START && self.refused.contains(&"sendmsg"),
            Outcome::Signaled { signal } => {
                *signal == libc::SIGSYS && !self.refused.is_empty()
                    || *signal == libc::SIGILL && self.refused.contains(&"exit_group")
            }
            Outcome::NotStarted { .. } => false,
        };
        if !unknown {
            return outcome;
        }
        let how = match outcome {
            Outcome::Signaled { signal } => format!("signal {signal}"),
            _ => format!("exit code {CANNOT_START}"),
        };
        let why = format!("it ended with {how}, and may not have started at all; {}", self.refusal(&self.refused));
        Outcome::NotStarted { why, code: outcome.exit_code() }
    }

    /// Returns the message that the profile refuses these calls.
    fn refusal(&self, calls: &[&str]) -> String {
        let calls = calls.iter().map(|call| format!("`{call}`")).collect::<Vec<_>>().join(", ");
        format!("the container's seccomp profile refuses {calls}, with which runner starts a step: allow them there")
    }

    /// Returns the outcome for a failure of the embedded runtime, with a message.
    pub fn outcome(&self, failure: StartFailure) -> Outcome {
        let used: &[&str] = match failure.stage {
            stage::SESSION => &["setsid"],
            stage::TERMINAL => &["openat", "ioctl", "fchown", "symlinkat", "sendmsg"],
            stage::STDIO => &["openat", "statx", "dup3", "fcntl", "close_range"],
            stage::LIMITS => &["prlimit64"],
            stage::GROUPS => &["setgroups"],
            stage::GROUP => &["setresgid"],
            stage::USER => &["setresuid"],
            stage::CAPABILITIES => &["prctl", "capset"],
            stage::DIRECTORY => &["openat2", "fchdir", "getcwd"],
            stage::NO_NEW_PRIVILEGES => &["prctl"],
            stage::INIT => &["clone", "rt_sigprocmask"],
            stage::EXECUTE if !matches!(failure.errno, libc::ENOENT | libc::E2BIG) => &["execve", "mmap"],
            _ => &[],
        };
        let refused: Vec<&str> = used.iter().copied().filter(|call| self.refused.contains(call)).collect();
        let outcome = self.without_refusal(failure);
        match outcome {
            Outcome::NotStarted { why, code } if !refused.is_empty() => {
                Outcome::NotStarted { why: format!("{why}; {}", self.refusal(&refused)), code }
            }
            outcome => outcome,
        }
    }

    /// Returns the outcome for a failure, without the calls that the profile refuses.
    fn without_refusal(&self, failure: StartFailure) -> Outcome {
        let StartFailure { stage, errno, detail } = failure;
        let error = io::Error::from_raw_os_error(errno);
        let cwd = self.cwd.display();
        let cannot = match stage {
            stage::PROCESS => return refused(format!("no process can be made: {error}")),
            stage::EXECUTE => return self.not_executed(errno),
            stage::LOST_MOUNT => return refused(self.without_mount(detail)),
            stage::MOUNT | stage::DEV => {
                let place = usize::try_from(detail).ok().and_then(|index| self.targets.get(index));
                let place =
                    place.map_or_else(|| "a filesystem of its own".to_owned(), |path| path.display().to_string());
                if stage == stage::DEV {
                    return refused(format!("it cannot make {place}: {error}"));
                }
                let changed = "an earlier step or a mount of the container has changed that path";
                return refused(match errno {
                    libc::ENOENT | libc::ENOTDIR | libc::EINVAL | libc::ELOOP => {
                        format!("it cannot mount {place}: {changed} ({error})")
                    }
                    _ => format!("it cannot mount {place}: {error}"),
                });
            }
            stage::DIRECTORY if errno == libc::ELOOP => {
                let why = "the path leads through a link of /proc, or through too many links";
                return refused(format!("it cannot go to the working directory {cwd}: {why}"));
            }
            stage::DIRECTORY if errno == libc::EACCES => {
                let why = "the step's user may not enter it, or a directory above it";
                return refused(format!("it cannot go to the working directory {cwd}: {why} ({error})"));
            }
            stage::SECCOMP if matches!(errno, libc::EINVAL | libc::ENOSYS) => {
                let fix = "`runner doctor` shows whether this kernel accepts one; `seccomp: unconfined` needs none";
                return refused(format!("it cannot load its seccomp filter: {error}; {fix}"));
            }
            stage::STDIO if matches!(errno, libc::EINVAL | libc::ENXIO) => {
                let why = "the container lists another device with the target /dev/null";
                return refused(format!("its /dev/null is not the null device: {why}"));
            }
            stage::SESSION => "start a session of processes".to_owned(),
            stage::TERMINAL => "make a terminal".to_owned(),
            stage::STDIO => "open /dev/null".to_owned(),
            stage::LIMITS => "set resource limits".to_owned(),
            stage::GROUPS => "set the supplementary groups".to_owned(),
            stage::GROUP => "set the group".to_owned(),
            stage::USER => "set the user".to_owned(),
            stage::CAPABILITIES => "set capabilities".to_owned(),
            stage::DIRECTORY => format!("go to the working directory {cwd}"),
            stage::NO_NEW_PRIVILEGES => "set no_new_privs".to_owned(),
            stage::SECCOMP => "load its seccomp filter".to_owned(),
            stage::LANDLOCK => "confine itself to its root with Landlock".to_owned(),
            stage::INIT => "start as the child of an init".to_owned(),
            stage::OOM_SCORE => "set its priority for the kernel's OOM killer (oom_score_adj)".to_owned(),
            stage::KEYRING => "join a keyring of its own".to_owned(),
            _ => "read its request".to_owned(),
        };
        refused(format!("it cannot {cannot}: {error}"))
    }

    /// Returns the message that the container has lost a mount, by its index in the step's mounts.
    pub fn without_mount(&self, number: u64) -> String {
        let place = usize::try_from(number).ok().and_then(|index| self.targets.get(index));
        lost_mount::message(place.map_or(Path::new("/"), PathBuf::as_path))
    }

    fn not_executed(&self, errno: i32) -> Outcome {
        match errno {
            libc::ENOENT => not_executed(&self.command, None),
            libc::E2BIG => {
                let name = &self.command;
                let why = format!("{name} cannot be executed: {TOO_LARGE}");
                Outcome::NotStarted { why, code: 126 }
            }
            errno => not_executed(&self.command, Some(nix::Error::from_raw(errno).desc())),
        }
    }
}

fn refused(why: String) -> Outcome {
    Outcome::NotStarted { why, code: CANNOT_START }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stage_of_a_failed_start_has_its_own_message() {
        let targets = vec![PathBuf::from("/proc")];
        let refused = vec!["execve", "sendmsg"];
        let started = StartedStep { command: "gcc".into(), cwd: "/w".into(), targets, refused };
        let words = |stage, errno, detail| match started.outcome(StartFailure { stage, errno, detail }) {
            Outcome::NotStarted { why, code } => format!("{code} {why}"),
            other => panic!("{other:?}"),
        };
        let mut all: Vec<String> = (0..=21).map(|stage| words(stage, libc::EIO, 0)).collect();
        all.push(words(stage::EXECUTE, libc::ENOENT, 0));
        all.push(words(stage::EXECUTE, libc::E2BIG, 0));
        all.push(words(stage::DIRECTORY, libc::ELOOP, 0));
        all.push(words(stage::DIRECTORY, libc::EACCES, 0));
        all.push(words(stage::SECCOMP, libc::EINVAL, 0));
        all.push(words(stage::STDIO, libc::EINVAL, 0));
        all.push(words(stage::MOUNT, libc::ENOENT, 0));
        all.push(words(stage::MOUNT, libc::EIO, 9));
        for outcome in [Outcome::Exited { code: 125 }, Outcome::Signaled { signal: libc::SIGSYS }] {
            let Outcome::NotStarted { why, code } = started.ended(outcome) else { panic!("it may have started") };
            all.push(format!("{code} {why}"));
        }
        for started_well in [Outcome::Exited { code: 124 }, Outcome::Signaled { signal: libc::SIGILL }] {
            assert_eq!(started.ended(started_well.clone()), started_well);
        }
        insta::assert_snapshot!(all.join("\n"));
    }
}
