//! Reads a request for a step.

use super::{Reader, Texts};

/// The capability sets of a process, see capabilities(7); a bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CapabilitySets {
    /// The capabilities that the process can ever have.
    pub bounding: u64,
    /// The ones in force.
    pub effective: u64,
    /// The ones that the process may put in force.
    pub permitted: u64,
    /// The ones that a file's capabilities may add.
    pub inheritable: u64,
    /// The ones that every program inherits.
    pub ambient: u64,
}

/// A request for a step, which refers to the bytes of the message.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The user's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
    /// See umask(2).
    pub umask: u32,
    /// [`TERMINAL`](super::TERMINAL), [`NO_NEW_PRIVILEGES`](super::NO_NEW_PRIVILEGES), [`INIT`](super::INIT).
    pub flags: u32,
    /// The height of the terminal.
    pub rows: u32,
    /// The width of the terminal.
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
    /// The paths to execute, until one exists.
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

    /// Returns whether a flag is set.
    pub const fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    /// Returns the number of supplementary groups.
    pub const fn group_count(&self) -> usize {
        self.group_count as usize
    }

    /// Returns the supplementary groups.
    pub fn groups(&self) -> impl Iterator<Item = u32> + use<'a> {
        let mut reader = self.groups;
        (0..self.group_count).map_while(move |_| reader.u32())
    }

    /// Returns the resource limits.
    pub fn limits(&self) -> impl Iterator<Item = Limit> + use<'a> {
        let mut reader = self.limits;
        (0..self.limit_count).map_while(move |_| next_limit(&mut reader))
    }
}

fn next_limit(reader: &mut Reader<'_>) -> Option<Limit> {
    Some(Limit { resource: reader.u32()?, soft: reader.u64()?, hard: reader.u64()? })
}
