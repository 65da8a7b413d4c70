//! Encodes requests for steps in the flat form that init's program reads.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use oci_spec::runtime::{Capability, LinuxCapabilities, PosixRlimitType, Process};

use super::sealed;
use super::started_step::StartedStep;
use crate::runtime::status::send_packet;
use crate::runtime::wire::{INIT, MAX_INLINE, MAX_REQUEST, NO_NEW_PRIVILEGES, REQUEST_DESCRIPTORS, TERMINAL};
use crate::runtime::{CANNOT_START, Outcome};

/// The socket to a session's preforked process. One such process receives a whole packet, so threads need no lock.
#[derive(Debug)]
pub struct RequestSocket {
    socket: OwnedFd,
    /// The targets of a step's own mounts, by their index.
    targets: Vec<PathBuf>,
    /// Those of the calls that start a step that the container's seccomp profile refuses.
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
}
