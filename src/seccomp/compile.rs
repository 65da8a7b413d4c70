//! Compiles rules to a classic BPF program that the kernel runs at each system call.
//!
//! The program checks the architecture, then searches the call's number (`tree`), and checks the arguments only of those calls
//! whose rules have conditions (`answer`). The kernel translates a filter again for each process that loads it, which takes a
//! tenth of a step's overhead: a short program matters more than a saved comparison.

use oci_spec::runtime::LinuxSeccomp;
use thiserror::Error;

use super::answer::Answers;
use super::assembler::{Assembler, Label, code};
use super::interpreter::{ARCHITECTURE, NUMBER, always_allows};
use super::numbers::{X32_BIT, number};
use super::rules::{Rules, default_action};
use super::tree::tree;
use super::{Action, Architecture};

/// The kernel's limit of a program: `BPF_MAXINSNS`.
pub const MAX_INSTRUCTIONS: usize = 4096;

/// The reason why there is no program for a filter.
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
    /// Returns the fix.
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
    assemble(filter, |_, rules| rules)
}

/// A filter in two programs. A process behind both gets the filter's answer to each call: one of the two gives it, and the other
/// one allows the call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// Allows the split calls, and answers all others.
    pub others: Vec<u64>,
    /// Answers the split calls, and allows all others; none where the filter allows all of them.
    pub split: Option<Vec<u64>>,
}

/// Makes two programs in place of one, for a process that must still make calls of these names on that architecture when it loads
/// the first.
///
/// # Errors
/// See [`CompileError`].
pub fn compile_split(filter: &LinuxSeccomp, architecture: Architecture, names: &[&str]) -> Result<Split, CompileError> {
    let numbers: Vec<u32> = names.iter().filter_map(|name| number(architecture, name)).collect();
    let here = |of: Architecture| if of == architecture { numbers.as_slice() } else { &[] };
    let others = assemble(filter, |of, rules| rules.without(here(of)))?;
    let split = assemble(filter, |of, rules| rules.only(of, here(of)))?;
    let is_let_through = |number: &u32| always_allows(&split, architecture, *number, &[]);
    Ok(Split { others, split: Some(split.clone()).filter(|_| !numbers.iter().all(is_let_through)) })
}

fn assemble(filter: &LinuxSeccomp, change: impl Fn(Architecture, Rules) -> Rules) -> Result<Vec<u64>, CompileError> {
    let listed = filter.architectures().as_deref().unwrap_or_default();
    let architectures: Vec<Architecture> =
        Architecture::ALL.into_iter().filter(|architecture| listed.contains(&architecture.oci())).collect();
    if architectures.is_empty() {
        return Err(CompileError::Architecture);
    }
    // So that a wrong filter is refused even where its rules name no call.
    default_action(filter)?;
    let mut assembler = Assembler::default();
    let mut answers = Answers::default();
    let mut entries: Vec<(u32, Label)> = Vec::new();
    let mut x32 = None;
    // x32 comes before x86-64, which leads to it.
    for architecture in architectures.iter().rev() {
        let rules = change(*architecture, Rules::new(filter, *architecture)?);
        let tree = tree(&mut assembler, &mut answers, &rules, *architecture);
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

/// Separates the calls of x32 from those of x86-64, and ends the process at one of those that the filter is not for.
fn with_x32(assembler: &mut Assembler, x86_64: Option<Label>, x32: Option<Label>) -> Label {
    let kill = assembler.end(Action::KillProcess.to_return());
    let (x86_64, x32) = (x86_64.unwrap_or(kill), x32.unwrap_or(kill));
    let has_bit = assembler.branch(code::JUMP_GREATER_OR_EQUAL, X32_BIT, x32, x86_64);
    // -1 is no call of x32: a tracer skips a call by it.
    let is_none = assembler.branch(code::JUMP_EQUAL, u32::MAX, x86_64, has_bit);
    assembler.load(NUMBER, is_none)
}
