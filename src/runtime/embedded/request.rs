//! Encodes requests for steps in the flat form that init's program reads, and words the message for a failed start.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use oci_spec::runtime::{Capability, LinuxCapabilities, PosixRlimitType, Process};

use super::sealed;
use crate::runtime::process::TOO_LARGE;
use crate::runtime::status::{StartFailure, send_packet};
use crate::runtime::wire::{INIT, MAX_INLINE, MAX_REQUEST, NO_NEW_PRIVILEGES, REQUEST_DESCRIPTORS, TERMINAL, stage};
use crate::runtime::{CANNOT_START, Outcome, lost_mount, not_executed};

/// The socket to a session's preforked process. One such process receives a whole packet, so threads need no lock.
#[derive(Debug)]
pub struct RequestSocket {
    socket: OwnedFd,
    /// The targets of a step's own mounts, by their index.
    targets: Vec<PathBuf>,
    /// Those of the calls that start a step that the container's seccomp profile refuses.
    refused: Vec<&'static str>,
}

/// The facts about a step for the message of a failed start.
#[derive(Debug)]
pub struct StartedStep {
    command: String,
    cwd: PathBuf,
    targets: Vec<PathBuf>,
    refused: Vec<&'static str>,
}

impl RequestSocket {
    /// Sends requests into `socket`.
    pub fn new(socket: OwnedFd, targets: Vec<PathBuf>, refused: Vec<&'static str>) -> Self {
        Self { socket, targets, refused }
    }

    /// Sends a request; the inner error is the reason why no such step can start.
    ///
    /// # Errors
    /// `EPIPE` when the container has ended.
    pub fn send(
        &self,
        process: &Process,
        init: bool,
        descriptors: [BorrowedFd<'_>; REQUEST_DESCRIPTORS],
    ) -> io::Result<Result<StartedStep, Outcome>> {
        let request = match encode(process, init) {
            Ok(request) => request,
            Err(outcome) => return Ok(Err(outcome)),
        };
        if request.len() > MAX_REQUEST {
            let why =
                format!("its arguments and variables take {} bytes, which is more than execve(2) takes", request.len());
            return Ok(Err(Outcome::NotStarted { why, code: 126 }));
        }
        if request.len() <= MAX_INLINE {
            send_packet(self.socket.as_fd(), &request, &descriptors)?;
        } else {
            let memory = sealed("request", &request)?;
            let [stdin, stdout, stderr, status] = descriptors;
            send_packet(self.socket.as_fd(), &[0], &[stdin, stdout, stderr, status, memory.as_fd()])?;
        }
        let command = process.args().iter().flatten().next().cloned().unwrap_or_default();
        let (cwd, targets, refused) = (process.cwd().clone(), self.targets.clone(), self.refused.clone());
        Ok(Ok(StartedStep { command, cwd, targets, refused }))
    }
}

/// Encodes a process in its flat form, see [`wire`](crate::runtime::wire).
fn encode(process: &Process, init: bool) -> Result<Vec<u8>, Outcome> {
    let user = process.user();
    let argv: Vec<&[u8]> = process.args().iter().flatten().map(|text| text.as_bytes()).collect();
    let env: Vec<&[u8]> = process.env().iter().flatten().map(|text| text.as_bytes()).collect();
    let Some(command) = argv.first() else {
        return Err(Outcome::NotStarted { why: "it has no command".into(), code: 127 });
    };
    let candidates = candidates(command, &env);
    let candidates: Vec<&[u8]> = candidates.iter().map(|path| path.as_os_str().as_bytes()).collect();
    let cwd = process.cwd().as_os_str().as_bytes();
    if argv.iter().chain(&env).chain([&cwd]).any(|text| text.contains(&0)) {
        let why = "an argument, a variable or the working directory contains a NUL byte".into();
        return Err(Outcome::NotStarted { why, code: 126 });
    }
    let mut flags = if process.terminal() == Some(true) { TERMINAL } else { 0 };
    if process.no_new_privileges() == Some(true) {
        flags |= NO_NEW_PRIVILEGES;
    }
    if init {
        flags |= INIT;
    }
    let side = |side: u64| u32::try_from(side).unwrap_or(u32::MAX);
    let (rows, columns) = process.console_size().map_or((0, 0), |size| (side(size.height()), side(size.width())));
    let mut bytes = Writer::default();
    for number in [user.uid(), user.gid(), user.umask().unwrap_or(0o022), flags, rows, columns] {
        bytes.u32(number);
    }
    bytes.u32(process.oom_score_adj().unwrap_or_default().cast_unsigned());
    let none = LinuxCapabilities::default();
    let sets = process.capabilities().as_ref().unwrap_or(&none);
    for set in [sets.bounding(), sets.effective(), sets.permitted(), sets.inheritable(), sets.ambient()] {
        bytes.u64(bits(set.iter().flatten()));
    }
    let groups = user.additional_gids().as_deref().unwrap_or_default();
    bytes.count(groups.len());
    groups.iter().for_each(|group| bytes.u32(*group));
    let limits = process.rlimits().as_deref().unwrap_or_default();
    bytes.count(limits.len());
    for limit in limits {
        bytes.u32(resource(limit.typ())?);
        bytes.u64(limit.soft());
        bytes.u64(limit.hard());
    }
    bytes.text(cwd);
    for list in [&candidates, &argv, &env] {
        bytes.texts(list);
    }
    Ok(bytes.0)
}

/// The bit of each capability, see capabilities(7).
static BITS: LazyLock<HashMap<Capability, u64>> = LazyLock::new(|| {
    let bit = |capability: caps::Capability| {
        let name = capability.to_string();
        Some((name.strip_prefix("CAP_")?.parse().ok()?, capability.bitmask()))
    };
    caps::all().into_iter().filter_map(bit).collect()
});

/// Returns a set of capabilities in the kernel's form, one bit each.
pub(super) fn bits<'a>(set: impl Iterator<Item = &'a Capability>) -> u64 {
    set.filter_map(|capability| BITS.get(capability)).fold(0, |bits, bit| bits | bit)
}

fn resource(kind: PosixRlimitType) -> Result<u32, Outcome> {
    match kind {
        PosixRlimitType::RlimitNofile => Ok(libc::RLIMIT_NOFILE),
        other => {
            let why = format!("{other:?} is not a limit that a step has");
            Err(Outcome::NotStarted { why, code: CANNOT_START })
        }
    }
}

/// Returns the paths to try for a command, in order, as execvp(3) does with the step's own PATH.
fn candidates(command: &[u8], env: &[&[u8]]) -> Vec<PathBuf> {
    let name = Path::new(OsStr::from_bytes(command));
    if command.contains(&b'/') {
        return vec![name.to_owned()];
    }
    let path = env.iter().find_map(|variable| variable.strip_prefix(b"PATH=")).unwrap_or_default();
    let directories = path.split(|byte| *byte == b':');
    let directories = directories.map(|directory| if directory.is_empty() { &b"."[..] } else { directory });
    directories.map(|directory| Path::new(OsStr::from_bytes(directory)).join(name)).collect()
}

/// Writes the flat form that [`wire::Reader`](crate::runtime::wire::Reader) reads.
#[derive(Debug, Default)]
pub struct Writer(pub Vec<u8>);

impl Writer {
    /// Appends a number of four bytes.
    pub fn u32(&mut self, number: u32) {
        self.0.extend(number.to_le_bytes());
    }

    /// Appends a number of eight bytes.
    pub fn u64(&mut self, number: u64) {
        self.0.extend(number.to_le_bytes());
    }

    /// Appends a length. A length above four bytes makes the message too long to be sent at all.
    pub fn count(&mut self, count: usize) {
        self.u32(u32::try_from(count).unwrap_or(u32::MAX));
    }

    /// Appends a text, which contains no NUL, and its NUL.
    pub fn text(&mut self, text: &[u8]) {
        self.count(text.len() + 1);
        self.0.extend(text);
        self.0.push(0);
    }

    /// Appends a list of texts.
    pub fn texts(&mut self, texts: &[&[u8]]) {
        self.count(texts.len());
        texts.iter().for_each(|text| self.text(text));
    }
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
    use oci_spec::runtime::{BoxBuilder, LinuxCapabilitiesBuilder, PosixRlimitBuilder, ProcessBuilder, UserBuilder};
    use proptest::prelude::*;

    use super::*;
    use crate::runtime::wire::Request;
    use crate::runtime::wire::request::Limit;

    fn process(argv: &[String], env: &[String], groups: Vec<u32>) -> Process {
        let capabilities = LinuxCapabilitiesBuilder::default()
            .bounding([Capability::Chown, Capability::CheckpointRestore])
            .effective([])
            .permitted([Capability::Kill])
            .inheritable([])
            .ambient([])
            .build();
        let nofile = PosixRlimitBuilder::default().typ(PosixRlimitType::RlimitNofile).soft(7u64).hard(9u64).build();
        let size = BoxBuilder::default().height(24u64).width(80u64).build();
        ProcessBuilder::default()
            .terminal(true)
            .console_size(size.unwrap())
            .user(UserBuilder::default().uid(5u32).gid(6u32).umask(0o077u32).additional_gids(groups).build().unwrap())
            .args(argv.to_vec())
            .env(env.to_vec())
            .cwd("/work")
            .capabilities(capabilities.unwrap())
            .rlimits(vec![nofile.unwrap()])
            .no_new_privileges(true)
            .oom_score_adj(-17)
            .build()
            .unwrap()
    }

    fn text(bytes: &[u8]) -> String {
        String::from_utf8(bytes.strip_suffix(&[0]).unwrap().to_vec()).unwrap()
    }

    proptest! {
        #[test]
        fn a_request_is_read_as_it_was_encoded(
            argv in proptest::collection::vec("[^\0]{0,40}", 1..8),
            env in proptest::collection::vec("[A-Z]{1,4}=[^\0]{0,40}", 0..8),
            groups in proptest::collection::vec(any::<u32>(), 0..20),
            init: bool,
        ) {
            let bytes = encode(&process(&argv, &env, groups.clone()), init).unwrap();
            let request = Request::parse(&bytes).unwrap();
            prop_assert_eq!(request.argv.map(text).collect::<Vec<_>>(), argv);
            prop_assert_eq!(request.env.map(text).collect::<Vec<_>>(), env);
            prop_assert_eq!(request.groups().collect::<Vec<_>>(), groups);
            prop_assert_eq!((request.uid, request.gid, request.umask), (5, 6, 0o077));
            prop_assert_eq!((request.rows, request.columns, request.oom_score_adj), (24, 80, -17));
            prop_assert!(request.has(TERMINAL) && request.has(NO_NEW_PRIVILEGES));
            prop_assert_eq!(request.has(INIT), init);
            let limit = Limit { resource: libc::RLIMIT_NOFILE, soft: 7, hard: 9 };
            prop_assert_eq!(request.limits().collect::<Vec<_>>(), vec![limit]);
            prop_assert_eq!(text(request.cwd), "/work");
            prop_assert_eq!(request.capabilities.bounding, 1 << 40 | 1);
            prop_assert_eq!((request.capabilities.permitted, request.capabilities.effective), (1 << 5, 0));
        }

        #[test]
        fn a_damaged_request_is_refused_without_a_panic(
            cut in any::<proptest::sample::Index>(),
            at in any::<proptest::sample::Index>(),
            byte in any::<u8>(),
        ) {
            let bytes = encode(&process(&["sh".into()], &["PATH=/bin:/sbin".into()], vec![1]), true).unwrap();
            prop_assert!(Request::parse(&bytes[..cut.index(bytes.len())]).is_none());
            let mut changed = bytes.clone();
            changed[at.index(bytes.len())] = byte;
            if let Some(request) = Request::parse(&changed) {
                let _ = (request.argv.count(), request.env.count(), request.groups().count(), request.limits().count());
            }
        }
    }

    #[test]
    fn every_capability_has_a_bit() {
        assert_eq!(BITS.len(), caps::all().len());
        assert_eq!(bits([Capability::Chown, Capability::CheckpointRestore].iter()), 1 << 40 | 1);
    }

    #[test]
    fn a_command_is_looked_up_in_the_path_of_the_step() {
        let path = |path: &'static [u8]| candidates(b"sh", &[b"X=1", path]);
        assert_eq!(path(b"PATH=/bin::/b"), ["/bin/sh", "./sh", "/b/sh"].map(PathBuf::from));
        assert_eq!(candidates(b"./sh", &[b"PATH=/bin"]), [PathBuf::from("./sh")]);
    }

    #[test]
    fn a_request_without_a_command_or_with_a_nul_byte_is_refused() {
        let code = |process: &Process| encode(process, false).unwrap_err().exit_code();
        assert_eq!(code(&process(&[], &[], vec![])), 127);
        assert_eq!(code(&process(&["a\0b".into()], &[], vec![])), 126);
    }

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
