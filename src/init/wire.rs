//! The flat binary form of what runner and a session's init say to each other; both programs contain this file.
//!
//! Numbers are little-endian. A text is its length in bytes with its NUL, the bytes, and the NUL, so that the receiver
//! passes it to a system call where it lies. Every message is one packet of a `SOCK_SEQPACKET` socket, see unix(7).
//!
//! ```text
//! request  uid gid umask flags rows columns oom      (u32 each)   the descriptors of stdin, stdout, stderr and the
//!          bounding effective permitted inheritable   (u64 each)   status socket lie beside it, then the memory that
//!          ambient                                                 holds the request itself where it is long
//!          groups limits cwd candidates argv env      (lists)
//! status   kind stage 0 0 (u8 each)  value (i32)  detail (u64)  text
//! end      1 (u8)          from runner, on the status socket
//! ```

/// The longest request that travels in the packet itself; a longer one lies in memory that comes as a fifth descriptor.
pub const MAX_INLINE: usize = 32 << 10;

/// The longest request at all: a manifest has at most 4 MiB, and execve(2) takes less than this.
pub const MAX_REQUEST: usize = 64 << 20;

/// Descriptors beside a request: stdin, stdout, stderr, status.
pub const REQUEST_DESCRIPTORS: usize = 4;

/// Bits of a request's flags.
pub const TERMINAL: u32 = 1;
/// Sets no_new_privs, see prctl(2).
pub const NO_NEW_PRIVILEGES: u32 = 2;
/// The first process starts the step's program, and reaps and passes signals on.
pub const INIT: u32 = 4;

/// The one message that runner sends on a step's status socket: the step is to end, by SIGTERM to each of its processes.
pub const END: [u8; 1] = [1];

/// Kinds of a status message.
pub mod kind {
    /// The master's side of the terminal is beside the message.
    pub const TERMINAL: u8 = 1;
    /// The step called exit(2) with `value`. At `stage` [`LOST_MOUNT`](super::stage::LOST_MOUNT), a mount of the container
    /// was gone by then, and `detail` is its place in the view.
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

/// Where the start of a step failed.
pub mod stage {
    /// clone3(2).
    pub const PROCESS: u8 = 1;
    /// A mount of the step's own; `detail` is its place in the view.
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
    /// A mount of the container is gone; `detail` is its place in the view.
    pub const LOST_MOUNT: u8 = 18;
    /// proc_pid_oom_score_adj(5).
    pub const OOM_SCORE: u8 = 19;
    /// The process behind the first one.
    pub const INIT: u8 = 20;
}

/// The length of a status message before its text.
pub const STATUS_LENGTH: usize = 16;

/// Encodes a status message without text.
pub const fn status(kind: u8, stage: u8, value: i32, detail: u64) -> [u8; STATUS_LENGTH] {
    let [v0, v1, v2, v3] = value.to_le_bytes();
    let [d0, d1, d2, d3, d4, d5, d6, d7] = detail.to_le_bytes();
    [kind, stage, 0, 0, v0, v1, v2, v3, d0, d1, d2, d3, d4, d5, d6, d7]
}

/// Reads a message from its beginning to its end.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Reads `bytes`.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// Returns the next byte.
    pub fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    /// Returns the next number of four bytes.
    pub fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    /// Returns the next number of eight bytes.
    pub fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    /// Returns the next text with its NUL, which is its only one.
    pub fn text(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.u32()?).ok()?;
        let text = self.take(length)?;
        let (last, before) = text.split_last()?;
        (*last == 0 && !before.contains(&0)).then_some(text)
    }

    /// Returns a list of texts, and passes over it.
    pub fn texts(&mut self) -> Option<Texts<'a>> {
        let count = self.u32()?;
        let texts = Texts { count, rest: *self };
        for _ in 0..count {
            self.text()?;
        }
        Some(texts)
    }

    /// Whether nothing is left.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A list of texts, each with its NUL.
#[derive(Debug, Clone, Copy)]
pub struct Texts<'a> {
    count: u32,
    rest: Reader<'a>,
}

impl Texts<'_> {
    /// How many there are.
    pub const fn count_left(&self) -> usize {
        self.count as usize
    }
}

impl<'a> Iterator for Texts<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<Self::Item> {
        self.count = self.count.checked_sub(1)?;
        self.rest.text()
    }
}

/// The capability sets of a process, see capabilities(7); a bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CapabilitySets {
    /// What it can ever have.
    pub bounding: u64,
    /// In force.
    pub effective: u64,
    /// What it may put in force.
    pub permitted: u64,
    /// What a file's capabilities may let through.
    pub inheritable: u64,
    /// What every program keeps.
    pub ambient: u64,
}

/// A request to become a step, where it lies in the message.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The user's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
    /// See umask(2).
    pub umask: u32,
    /// [`TERMINAL`], [`NO_NEW_PRIVILEGES`], [`INIT`].
    pub flags: u32,
    /// Of the terminal.
    pub rows: u32,
    /// Of the terminal.
    pub columns: u32,
    /// See proc_pid_oom_score_adj(5).
    pub oom_score_adj: i32,
    /// The capability sets.
    pub capabilities: CapabilitySets,
    groups: Reader<'a>,
    group_count: u32,
    limits: Reader<'a>,
    limit_count: u32,
    /// The working directory.
    pub cwd: &'a [u8],
    /// The paths to execute, until one is there.
    pub candidates: Texts<'a>,
    /// The argument vector.
    pub argv: Texts<'a>,
    /// The environment.
    pub env: Texts<'a>,
}

/// A resource limit, see prlimit(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// `RLIMIT_*`.
    pub resource: u32,
    /// The soft limit.
    pub soft: u64,
    /// The hard limit.
    pub hard: u64,
}

impl<'a> Request<'a> {
    /// Reads a request; none where it is damaged in any way.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let reader = &mut reader;
        let (uid, gid, umask, flags) = (reader.u32()?, reader.u32()?, reader.u32()?, reader.u32()?);
        let (rows, columns) = (reader.u32()?, reader.u32()?);
        let oom_score_adj = reader.u32()?.cast_signed();
        let capabilities = CapabilitySets {
            bounding: reader.u64()?,
            effective: reader.u64()?,
            permitted: reader.u64()?,
            inheritable: reader.u64()?,
            ambient: reader.u64()?,
        };
        let group_count = reader.u32()?;
        let groups = *reader;
        for _ in 0..group_count {
            reader.u32()?;
        }
        let limit_count = reader.u32()?;
        let limits = *reader;
        for _ in 0..limit_count {
            next_limit(reader)?;
        }
        let cwd = reader.text()?;
        let (candidates, argv, env) = (reader.texts()?, reader.texts()?, reader.texts()?);
        reader.is_empty().then_some(Self {
            uid,
            gid,
            umask,
            flags,
            rows,
            columns,
            oom_score_adj,
            capabilities,
            groups,
            group_count,
            limits,
            limit_count,
            cwd,
            candidates,
            argv,
            env,
        })
    }

    /// Whether a flag is set.
    pub const fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    /// How many supplementary groups there are.
    pub const fn group_count(&self) -> usize {
        self.group_count as usize
    }

    /// The supplementary groups.
    pub fn groups(&self) -> impl Iterator<Item = u32> + use<'a> {
        let mut reader = self.groups;
        (0..self.group_count).map_while(move |_| reader.u32())
    }

    /// The resource limits.
    pub fn limits(&self) -> impl Iterator<Item = Limit> + use<'a> {
        let mut reader = self.limits;
        (0..self.limit_count).map_while(move |_| next_limit(&mut reader))
    }
}

fn next_limit(reader: &mut Reader<'_>) -> Option<Limit> {
    Some(Limit { resource: reader.u32()?, soft: reader.u64()?, hard: reader.u64()? })
}

/// Kinds of a mount in the view of a step.
pub mod view {
    /// A flag: see [`View::filter_first`](super::View::filter_first).
    pub const FILTER_FIRST: u8 = 1;
    /// A flag: see [`View::confined`](super::View::confined).
    pub const CONFINED: u8 = 2;
    /// A filesystem of the kernel, mounted anew: attributes, type, target, and pairs of a key and a value.
    pub const FRESH: u8 = 1;
    /// A path that becomes read-only with all below it.
    pub const READ_ONLY: u8 = 2;
    /// A path that is hidden.
    pub const MASKED: u8 = 3;
    /// As [`FRESH`], over an empty directory of runner's own.
    pub const FRESH_OVER_EMPTY: u8 = 4;
    /// A mount of the container at a path below one of a filesystem that is mounted anew.
    pub const BELOW: u8 = 5;
    /// A mount of the container whose place others can remove or rename, which takes the mount away.
    pub const WATCHED: u8 = 6;
}

/// One mount of a step's own, over the container's.
#[derive(Debug, Clone, Copy)]
pub enum ViewMount<'a> {
    /// See [`view::FRESH`].
    Fresh {
        /// See [`view::FRESH_OVER_EMPTY`].
        over_empty: bool,
        /// `MOUNT_ATTR_*`.
        attributes: u64,
        /// The filesystem.
        kind: &'a [u8],
        /// Where.
        target: &'a [u8],
        /// Keys and values in turn.
        options: Texts<'a>,
    },
    /// See [`view::READ_ONLY`].
    ReadOnly(&'a [u8]),
    /// See [`view::MASKED`].
    Masked(&'a [u8]),
    /// See [`view::BELOW`].
    Below(&'a [u8]),
    /// See [`view::WATCHED`].
    Watched(&'a [u8]),
}

/// The plan of every step's view, made once for a session: the mounts, and the seccomp program.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    count: u32,
    mounts: Reader<'a>,
    /// The filter that init loads and all that it starts inherits, eight bytes an instruction; empty for none.
    pub inherited_filter: &'a [u8],
    /// The filter that each step loads: it answers the calls that set a step up. Empty for none.
    pub own_filter: &'a [u8],
    /// Whether a step's own filter permits everything that sets a step up, so that it is loaded before the request comes.
    pub filter_first: bool,
    /// Whether a step is kept from files that are not below its root, whatever descriptors it is sent.
    pub confined: bool,
    /// The capabilities that any step of the container may have, a bit each.
    pub bounding: u64,
}

impl<'a> View<'a> {
    /// Reads a view; none where it is damaged in any way.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let flags = reader.u8()?;
        let (filter_first, confined) = (flags & view::FILTER_FIRST != 0, flags & view::CONFINED != 0);
        let bounding = reader.u64()?;
        let (inherited_filter, own_filter) = (program(&mut reader)?, program(&mut reader)?);
        let count = reader.u32()?;
        let mounts = reader;
        for _ in 0..count {
            next_mount(&mut reader)?;
        }
        reader.is_empty().then_some(Self {
            count,
            mounts,
            inherited_filter,
            own_filter,
            filter_first,
            confined,
            bounding,
        })
    }

    /// The mounts, in order.
    pub fn mounts(&self) -> impl Iterator<Item = ViewMount<'a>> + use<'a> {
        let mut reader = self.mounts;
        (0..self.count).map_while(move |_| next_mount(&mut reader))
    }
}

fn program<'a>(reader: &mut Reader<'a>) -> Option<&'a [u8]> {
    let length = usize::try_from(reader.u32()?).ok()?;
    reader.take(length).filter(|program| program.len() % 8 == 0)
}

fn next_mount<'a>(reader: &mut Reader<'a>) -> Option<ViewMount<'a>> {
    match reader.u8()? {
        tag @ (view::FRESH | view::FRESH_OVER_EMPTY) => Some(ViewMount::Fresh {
            over_empty: tag == view::FRESH_OVER_EMPTY,
            attributes: reader.u64()?,
            kind: reader.text()?,
            target: reader.text()?,
            options: reader.texts().filter(|options| options.count_left() % 2 == 0)?,
        }),
        view::READ_ONLY => Some(ViewMount::ReadOnly(reader.text()?)),
        view::MASKED => Some(ViewMount::Masked(reader.text()?)),
        view::BELOW => Some(ViewMount::Below(reader.text()?)),
        view::WATCHED => Some(ViewMount::Watched(reader.text()?)),
        _ => None,
    }
}
