//! The compiler: rules to a classic BPF program that the kernel runs at each system call.
//!
//! The program looks at the architecture, then searches the call's number by halves among the ranges of numbers with one
//! answer, so that a call costs a dozen instructions whatever the profile says. Only a call whose rules have conditions
//! has its arguments looked at, 32 bits at a time.

use std::collections::BTreeSet;

use oci_spec::runtime::LinuxSeccomp;
use thiserror::Error;

use super::assembler::{Assembler, Label, code};
use super::interpreter::{ARCHITECTURE, NUMBER, argument};
use super::numbers::{X32_BIT, apart};
use super::rules::{Case, Comparison, Kind, Rules, default_action};
use super::{Action, Architecture};

/// The kernel takes no longer program: `BPF_MAXINSNS`.
pub const MAX_INSTRUCTIONS: usize = 4096;

/// Why there is no program for a filter.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum CompileError {
    #[error("the seccomp filter has {0} instructions, and the kernel takes at most {MAX_INSTRUCTIONS}")]
    TooLong(usize),
    #[error("the seccomp filter is for none of the architectures that runner knows")]
    Architecture,
    #[error("the seccomp filter looks at argument {0} of a system call, and there are 6, counted from 0")]
    Argument(usize),
    #[error("the seccomp filter has {0} for the number of an error, and there is no such error")]
    Errno(u32),
    #[error("the seccomp filter asks another program (SCMP_ACT_NOTIFY), and there is none")]
    Notify,
}

impl CompileError {
    /// What fixes it.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::TooLong(_) => "take conditions on arguments out of the profile, or write `seccomp: unconfined`",
            Self::Architecture => "write `seccomp: unconfined`, or run this on x86-64 or arm64",
            Self::Argument(_) | Self::Errno(_) | Self::Notify => "correct the seccomp profile that the manifest names",
        };
        Some(hint.to_owned())
    }
}

/// Makes the program, each instruction a `struct sock_filter` in one number.
///
/// # Errors
/// See [`CompileError`].
pub fn compile(filter: &LinuxSeccomp) -> Result<Vec<u64>, CompileError> {
    let listed = filter.architectures().as_deref().unwrap_or_default();
    let known: Vec<Architecture> =
        Architecture::ALL.into_iter().filter(|architecture| listed.contains(&architecture.oci())).collect();
    if known.is_empty() {
        return Err(CompileError::Architecture);
    }
    // So that a filter that is wrong is refused even where its rules name no call.
    default_action(filter)?;
    let mut assembler = Assembler::default();
    let mut entries: Vec<(u32, Label)> = Vec::new();
    let mut x32 = None;
    // x32 stands before x86-64, which leads to it.
    for architecture in known.iter().rev() {
        let rules = Rules::new(filter, *architecture)?;
        let tree = tree(&mut assembler, &rules, *architecture);
        match architecture {
            Architecture::X32 => x32 = Some(tree),
            Architecture::X86_64 => {
                let entry = with_x32(&mut assembler, Some(tree), x32.take());
                entries.push((architecture.audit(), entry));
            }
            _ => {
                let entry = assembler.load(NUMBER, tree);
                entries.push((architecture.audit(), entry));
            }
        }
    }
    if x32.is_some() {
        let entry = with_x32(&mut assembler, None, x32);
        entries.push((Architecture::X32.audit(), entry));
    }
    let mut start = assembler.end(Action::KillProcess.to_return());
    for (audit, entry) in entries {
        start = assembler.branch(code::JUMP_EQUAL, audit, entry, start);
    }
    assembler.load(ARCHITECTURE, start);
    match assembler.len() {
        length if length > MAX_INSTRUCTIONS => Err(CompileError::TooLong(length)),
        _ => Ok(assembler.program()),
    }
}

/// Tells the calls of x32 from those of x86-64, and ends the process at one of those that the filter is not for.
fn with_x32(assembler: &mut Assembler, x86_64: Option<Label>, x32: Option<Label>) -> Label {
    let kill = assembler.end(Action::KillProcess.to_return());
    let (x86_64, x32) = (x86_64.unwrap_or(kill), x32.unwrap_or(kill));
    let has_bit = assembler.branch(code::JUMP_GREATER_OR_EQUAL, X32_BIT, x32, x86_64);
    // -1 is no call of x32: a tracer leaves a call out by it.
    let is_none = assembler.branch(code::JUMP_EQUAL, u32::MAX, x86_64, has_bit);
    assembler.load(NUMBER, is_none)
}

/// What is answered from a number on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer<'r> {
    Always(Action),
    Cases(&'r [Case], Action),
}

/// The search of a number that is in the accumulator.
fn tree(assembler: &mut Assembler, rules: &Rules, architecture: Architecture) -> Label {
    let mut ranges: Vec<(u32, Answer<'_>)> = Vec::new();
    for from in boundaries(rules, architecture) {
        let answer = match rules.calls.get(&from).map(Vec::as_slice) {
            None => Answer::Always(rules.otherwise(architecture, from)),
            Some([Case { conditions, action }]) if conditions.is_empty() => Answer::Always(*action),
            Some(cases) => Answer::Cases(cases, rules.default),
        };
        if ranges.last().is_none_or(|(_, last)| *last != answer) {
            ranges.push((from, answer));
        }
    }
    search(assembler, &ranges, architecture.has_wide_arguments())
}

/// The numbers from which on another answer may begin, in order; the first is 0.
fn boundaries(rules: &Rules, architecture: Architecture) -> BTreeSet<u32> {
    let calls = rules.calls.keys().flat_map(|number| [Some(*number), number.checked_add(1)]).flatten();
    calls.chain([0]).chain(rules.unknown_from).chain(apart(architecture).iter().copied()).collect()
}

/// The code that finds the range of the number.
fn search(assembler: &mut Assembler, ranges: &[(u32, Answer<'_>)], wide: bool) -> Label {
    match ranges {
        [] => assembler.end(Action::KillProcess.to_return()),
        [(_, Answer::Always(action))] => assembler.end(action.to_return()),
        [(_, Answer::Cases(cases, default))] => {
            let mut next = assembler.end(default.to_return());
            for case in cases.iter().rev() {
                let mut yes = assembler.end(case.action.to_return());
                for comparison in case.conditions.iter().rev() {
                    yes = compare(assembler, *comparison, wide, yes, next);
                }
                next = yes;
            }
            next
        }
        _ => {
            let (lower, upper) = ranges.split_at(ranges.len() / 2);
            let high = search(assembler, upper, wide);
            let low = search(assembler, lower, wide);
            // An answer that is the same everywhere may be nearer by now than where it was put first.
            let [low, high] = [(low, lower), (high, upper)].map(|(label, ranges)| match ranges {
                [(_, Answer::Always(action))] => assembler.end(action.to_return()),
                _ => label,
            });
            let from = upper.first().map_or(0, |(from, _)| *from);
            assembler.branch(code::JUMP_GREATER_OR_EQUAL, from, high, low)
        }
    }
}

/// The code that compares an argument, in two halves where it has two.
fn compare(assembler: &mut Assembler, comparison: Comparison, wide: bool, yes: Label, no: Label) -> Label {
    let Comparison { index, kind, mask, value, negated } = comparison;
    let (yes, no) = if negated { (no, yes) } else { (yes, no) };
    let halves = |whole: u64| ((whole >> 32) as u32, whole as u32);
    let ((mask_high, mask_low), (high, low)) = (halves(mask), halves(value));
    let (low_offset, high_offset) = argument(index);
    let of_low = match kind {
        Kind::Equal => code::JUMP_EQUAL,
        Kind::Greater => code::JUMP_GREATER,
        Kind::GreaterOrEqual => code::JUMP_GREATER_OR_EQUAL,
    };
    let compared = assembler.branch(of_low, low, yes, no);
    let low_half = load(assembler, low_offset, mask_low, compared);
    if !wide {
        return low_half;
    }
    let equal = assembler.branch(code::JUMP_EQUAL, high, low_half, no);
    let first = match kind {
        Kind::Equal => equal,
        Kind::Greater | Kind::GreaterOrEqual => assembler.branch(code::JUMP_GREATER, high, yes, equal),
    };
    load(assembler, high_offset, mask_high, first)
}

/// Loads a half of an argument, as far as it counts.
fn load(assembler: &mut Assembler, offset: u32, mask: u32, next: Label) -> Label {
    let next = if mask == u32::MAX { next } else { assembler.and(mask, next) };
    assembler.load(offset, next)
}
