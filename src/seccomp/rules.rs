//! The answers of a filter on one architecture: its rules by the numbers of calls.

use std::collections::BTreeMap;

use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSyscall};

use super::compile::CompileError;
use super::numbers::is_apart;
use super::{Action, Architecture, number};

/// The error of SCMP_ACT_ERRNO and SCMP_ACT_TRACE where the profile names none.
const EPERM: u32 = 1;

/// The error of a call that the kernel does not have.
pub(super) const ENOSYS: u16 = 38;

/// The calls that x86 of 32 bits can make through another one, which selects them by its first argument.
const THROUGH_SOCKETCALL: [(&str, u64); 19] = [
    ("socket", 1),
    ("bind", 2),
    ("connect", 3),
    ("listen", 4),
    ("accept", 5),
    ("getsockname", 6),
    ("getpeername", 7),
    ("socketpair", 8),
    ("send", 9),
    ("recv", 10),
    ("sendto", 11),
    ("recvfrom", 12),
    ("shutdown", 13),
    ("setsockopt", 14),
    ("getsockopt", 15),
    ("sendmsg", 16),
    ("recvmsg", 17),
    ("accept4", 18),
    ("recvmmsg", 19),
];

const THROUGH_IPC: [(&str, u64); 12] = [
    ("semop", 1),
    ("semget", 2),
    ("semctl", 3),
    ("semtimedop", 4),
    ("msgsnd", 11),
    ("msgrcv", 12),
    ("msgget", 13),
    ("msgctl", 14),
    ("shmat", 21),
    ("shmdt", 22),
    ("shmget", 23),
    ("shmctl", 24),
];

/// One rule of one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Case {
    /// All of them must be true.
    pub conditions: Vec<Comparison>,
    pub action: Action,
}

/// The comparison of an argument, once the operators that are the opposite of another are replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Comparison {
    pub index: u8,
    pub kind: Kind,
    /// The mask of the argument.
    pub mask: u64,
    pub value: u64,
    /// Whether the comparison must be false.
    pub negated: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Equal,
    Greater,
    GreaterOrEqual,
}

/// The answers on one architecture.
#[derive(Debug)]
pub(super) struct Rules {
    pub default: Action,
    /// The calls that are newer than all named ones: from this number on.
    pub unknown_from: Option<u32>,
    pub calls: BTreeMap<u32, Vec<Case>>,
}

/// Returns the action of a filter where no rule counts.
pub(super) fn default_action(filter: &LinuxSeccomp) -> Result<Action, CompileError> {
    action(filter.default_action(), filter.default_errno_ret())
}

impl Rules {
    pub fn new(filter: &LinuxSeccomp, architecture: Architecture) -> Result<Self, CompileError> {
        let default = default_action(filter)?;
        let mut calls: BTreeMap<u32, Vec<Case>> = BTreeMap::new();
        let mut newest: Option<u32> = None;
        for rule in filter.syscalls().iter().flatten() {
            let cases = cases(rule)?;
            for name in rule.names() {
                let Some(number) = number(architecture, name) else { continue };
                if !is_apart(architecture, number) {
                    newest = newest.max(Some(number));
                }
                add(&mut calls, number, &cases, default);
            }
            if architecture == Architecture::X86 {
                through(rule.names(), &cases, &mut calls, default);
            }
        }
        let lets_through = matches!(default, Action::Allow | Action::Log | Action::Trace(_));
        let unknown_from = newest.filter(|_| !lets_through).and_then(|newest| newest.checked_add(1));
        Ok(Self { default, unknown_from, calls })
    }

    /// Allows the calls of these numbers, whatever the rules say.
    pub fn without(mut self, numbers: &[u32]) -> Self {
        let through = || vec![Case { conditions: Vec::new(), action: Action::Allow }];
        self.calls.extend(numbers.iter().map(|number| (*number, through())));
        self
    }

    /// Answers the calls of these numbers by the rules, and allows all others.
    pub fn only(self, architecture: Architecture, numbers: &[u32]) -> Self {
        let answer = |number: &u32| {
            let otherwise = || vec![Case { conditions: Vec::new(), action: self.otherwise(architecture, *number) }];
            let cases = self.calls.get(number).cloned();
            (*number, cases.map_or_else(otherwise, |cases| with_default(cases, self.default)))
        };
        let calls = numbers.iter().map(answer).collect();
        Self { default: Action::Allow, unknown_from: None, calls }
    }

    /// Returns the answer where the filter names no such call.
    pub fn otherwise(&self, architecture: Architecture, number: u32) -> Action {
        match self.unknown_from {
            Some(from) if number >= from && !is_apart(architecture, number) => Action::Errno(ENOSYS),
            _ => self.default,
        }
    }
}

/// Returns the cases with one more that is always true, unless the last one is.
fn with_default(mut cases: Vec<Case>, default: Action) -> Vec<Case> {
    if cases.last().is_none_or(|last| !last.conditions.is_empty()) {
        cases.push(Case { conditions: Vec::new(), action: default });
    }
    cases
}

/// Adds the cases for calls that are made through socketcall(2) or ipc(2): their first argument selects the call.
fn through(names: &[String], cases: &[Case], calls: &mut BTreeMap<u32, Vec<Case>>, default: Action) {
    // The upper half of ipc's is a version.
    let tables = [("socketcall", &THROUGH_SOCKETCALL[..], u64::MAX), ("ipc", &THROUGH_IPC[..], 0xffff)];
    for (way, table, mask) in tables {
        let Some(way) = number(Architecture::X86, way) else { continue };
        for (_, value) in table.iter().filter(|(name, _)| names.iter().any(|named| named == name)) {
            let is_that = Comparison { index: 0, kind: Kind::Equal, mask, value: *value, negated: false };
            let there = |case: &Case| {
                let others = case.conditions.iter().copied().filter(|other| other.index != 0);
                Case { conditions: [is_that].into_iter().chain(others).collect(), action: case.action }
            };
            let there: Vec<Case> = cases.iter().map(there).collect();
            add(calls, way, &there, default);
        }
    }
}

fn add(calls: &mut BTreeMap<u32, Vec<Case>>, number: u32, cases: &[Case], default: Action) {
    for case in cases.iter().filter(|case| case.action != default) {
        let known = calls.entry(number).or_default();
        if known.first().is_some_and(|first| first.conditions.is_empty()) {
            return;
        }
        if case.conditions.is_empty() {
            known.clear();
        }
        known.push(case.clone());
    }
}

/// Returns a rule as one with all its conditions, or as many with one each where two are on one argument.
fn cases(rule: &LinuxSyscall) -> Result<Vec<Case>, CompileError> {
    let action = action(rule.action(), rule.errno_ret())?;
    let arguments = rule.args().as_deref().unwrap_or_default();
    let conditions = arguments.iter().map(comparison).collect::<Result<Vec<_>, _>>()?;
    let is_doubled = |n: usize| conditions[..n].iter().any(|other| other.index == conditions[n].index);
    if (0..conditions.len()).any(is_doubled) {
        return Ok(conditions.into_iter().map(|one| Case { conditions: vec![one], action }).collect());
    }
    Ok(vec![Case { conditions, action }])
}

fn comparison(argument: &LinuxSeccompArg) -> Result<Comparison, CompileError> {
    use oci_spec::runtime::LinuxSeccompOperator as Op;
    let (kind, negated) = match argument.op() {
        Op::ScmpCmpEq | Op::ScmpCmpMaskedEq => (Kind::Equal, false),
        Op::ScmpCmpNe => (Kind::Equal, true),
        Op::ScmpCmpGt => (Kind::Greater, false),
        Op::ScmpCmpLe => (Kind::Greater, true),
        Op::ScmpCmpGe => (Kind::GreaterOrEqual, false),
        Op::ScmpCmpLt => (Kind::GreaterOrEqual, true),
    };
    let (mask, value) = match argument.op() {
        Op::ScmpCmpMaskedEq => (argument.value(), argument.value_two().unwrap_or_default()),
        _ => (u64::MAX, argument.value()),
    };
    let index = u8::try_from(argument.index()).ok().filter(|index| *index < 6);
    let index = index.ok_or(CompileError::Argument(argument.index()))?;
    Ok(Comparison { index, kind, mask, value, negated })
}

fn action(action: LinuxSeccompAction, errno: Option<u32>) -> Result<Action, CompileError> {
    use LinuxSeccompAction as Oci;
    let data = || {
        let errno = errno.unwrap_or(EPERM);
        u16::try_from(errno).map_err(|_| CompileError::Errno(errno))
    };
    Ok(match action {
        Oci::ScmpActAllow => Action::Allow,
        Oci::ScmpActLog => Action::Log,
        Oci::ScmpActErrno => Action::Errno(data()?),
        Oci::ScmpActTrace => Action::Trace(data()?),
        Oci::ScmpActTrap => Action::Trap,
        Oci::ScmpActKill | Oci::ScmpActKillThread => Action::KillThread,
        Oci::ScmpActKillProcess => Action::KillProcess,
        Oci::ScmpActNotify => return Err(CompileError::Notify),
    })
}
