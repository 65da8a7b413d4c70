//! The flat binary form of the messages between runner and a session's init; both programs contain these files.
//!
//! Numbers are little-endian. A text is its length in bytes with its NUL, the bytes, and the NUL, so that the receiver
//! passes it to a system call in place. Every message is one packet of a `SOCK_SEQPACKET` socket, see unix(7).
//!
//! ```text
//! request  uid gid umask flags rows columns oom      (u32 each)   the descriptors of stdin, stdout, stderr and the
//!          bounding effective permitted inheritable   (u64 each)   status socket lie beside it, then the memory that
//!          ambient                                                 with the request itself where that is long
//!          groups limits cwd candidates argv env      (lists)
//! status   kind stage 0 0 (u8 each)  value (i32)  detail (u64)  text
//! end      1 (u8)          from runner, on the status socket
//! ```

mod reader;
pub mod request;
pub mod step_setup;

pub use reader::{Reader, Texts};
pub use request::{CapabilitySets, Request};
pub use step_setup::{MountEntry, StepSetup};

/// The longest request that is sent in the packet itself; a longer one lies in memory, whose descriptor is the fifth.
pub const MAX_INLINE: usize = 32 << 10;

/// The longest request at all: a manifest has at most 4 MiB, and execve(2) accepts less than this.
pub const MAX_REQUEST: usize = 64 << 20;

/// The number of descriptors beside a request: stdin, stdout, stderr, status.
pub const REQUEST_DESCRIPTORS: usize = 4;

/// A bit of a request's flags: the step has a terminal.
pub const TERMINAL: u32 = 1;
/// A bit: sets no_new_privs, see prctl(2).
pub const NO_NEW_PRIVILEGES: u32 = 2;
/// A bit: the first process starts the step's program, reaps orphans and forwards signals.
pub const INIT: u32 = 4;

/// The one message that runner sends on a step's status socket: end the step by SIGTERM to each of its processes.
pub const END: [u8; 1] = [1];

/// Kinds of a status message.
pub mod kind {
    /// The descriptor of the terminal's master side is beside the message.
    pub const TERMINAL: u8 = 1;
    /// The step called exit(2) with `value`. At `stage` [`LOST_MOUNT`](super::stage::LOST_MOUNT), the container had lost a mount
    /// by then, and `detail` is its index in the step's mounts.
    pub const EXITED: u8 = 2;
    /// The signal `value` ended the step; `stage` and `detail` as for [`EXITED`].
    pub const SIGNALED: u8 = 3;
    /// The step failed to start at `stage` with the error number `value`.
    pub const FAILED: u8 = 4;
    /// The step failed to start, with the exit code `value` and the reason as `text`.
    pub const FAILED_IN_WORDS: u8 = 5;
    /// The step's mount namespace is beside the message.
    pub const MOUNTS: u8 = 6;
}

/// The stages at which the start of a step can fail.
pub mod stage {
    /// clone3(2).
    pub const PROCESS: u8 = 1;
    /// A mount of the step's own; `detail` is its index in the step's mounts.
    pub const MOUNT: u8 = 2;
    /// setsid(2).
    pub const SESSION: u8 = 3;
    /// posix_openpt(3) and its like.
    pub const TERMINAL: u8 = 4;
    /// /dev/null, or the standard streams.
    pub const STDIO: u8 = 5;
    /// prlimit(2); `detail` is the highest limit that may be set.
    pub const LIMITS: u8 = 6;
    /// setgroups(2).
    pub const GROUPS: u8 = 7;
    /// setresgid(2).
    pub const GROUP: u8 = 8;
    /// setresuid(2).
    pub const USER: u8 = 9;
    /// capset(2) or prctl(2).
    pub const CAPABILITIES: u8 = 10;
    /// The working directory.
    pub const DIRECTORY: u8 = 11;
    /// prctl(2).
    pub const NO_NEW_PRIVILEGES: u8 = 12;
    /// seccomp(2).
    pub const SECCOMP: u8 = 13;
    /// execve(2).
    pub const EXECUTE: u8 = 14;
    /// The request is damaged.
    pub const REQUEST: u8 = 15;
    /// keyctl(2).
    pub const KEYRING: u8 = 16;
    /// landlock_restrict_self(2).
    pub const LANDLOCK: u8 = 17;
    /// The container has lost a mount; `detail` is its index in the step's mounts.
    pub const LOST_MOUNT: u8 = 18;
    /// proc_pid_oom_score_adj(5).
    pub const OOM_SCORE: u8 = 19;
    /// The fork of the step's program from its first process.
    pub const INIT: u8 = 20;
    /// A file of the step's own `/dev`; `detail` is its index in the step's mounts.
    pub const DEV: u8 = 21;
}

/// The length of a status message before its text.
pub const STATUS_LENGTH: usize = 16;

/// Encodes a status message without text.
pub const fn status(kind: u8, stage: u8, value: i32, detail: u64) -> [u8; STATUS_LENGTH] {
    let [v0, v1, v2, v3] = value.to_le_bytes();
    let [d0, d1, d2, d3, d4, d5, d6, d7] = detail.to_le_bytes();
    [kind, stage, 0, 0, v0, v1, v2, v3, d0, d1, d2, d3, d4, d5, d6, d7]
}
