//! The answer to a call: an action, or the code that checks the call's arguments, 32 bits at a time.

use super::assembler::{Assembler, Label, code};
use super::interpreter::argument;
use super::rules::{Case, Comparison, Kind, Rules};
use super::{Action, Architecture};

/// The answer to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer<'r> {
    /// The same for all arguments.
    Always(Action),
    /// The first case whose conditions are true, or the default.
    Cases(&'r [Case], Action, Width),
}

/// The bits of an argument that count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Width {
    /// The lower half.
    Narrow,
    Wide,
}

impl<'r> Answer<'r> {
    /// Returns the answer to the call of that number.
    pub fn of(rules: &'r Rules, architecture: Architecture, number: u32) -> Self {
        let width = if architecture.has_wide_arguments() { Width::Wide } else { Width::Narrow };
        match rules.calls.get(&number).map(Vec::as_slice) {
            None => Self::Always(rules.otherwise(architecture, number)),
            Some([Case { conditions, action }]) if conditions.is_empty() => Self::Always(*action),
            Some(cases) => Self::Cases(cases, rules.default, width),
        }
    }
}

/// The code of answers with conditions, each once: the same conditions apply to calls of several names and architectures.
#[derive(Debug, Default)]
pub(super) struct Answers(Vec<(Vec<Case>, Action, Width, Label)>);

impl Answers {
    /// Returns the code that gives an answer, and adds it where it is missing.
    pub fn put(&mut self, assembler: &mut Assembler, answer: Answer<'_>) -> Label {
        let (cases, default, width) = match answer {
            Answer::Always(action) => return assembler.end(action.to_return()),
            Answer::Cases(cases, default, width) => (cases, default, width),
        };
        let same = |(present, by_default, wide, _): &&(Vec<Case>, Action, Width, Label)| {
            present == cases && (*by_default, *wide) == (default, width)
        };
        if let Some((_, _, _, label)) = self.0.iter().find(same) {
            return *label;
        }
        let mut next = assembler.end(default.to_return());
        let mut rest = cases;
        while let Some((last, before)) = rest.split_last() {
            let values = 1 + before.iter().rev().take_while(|case| is_other_value(case, last)).count();
            let (others, group) = rest.split_at(rest.len() - values);
            next = if values == 1 { one(assembler, last, width, next) } else { any(assembler, group, width, next) };
            rest = others;
        }
        self.0.push((cases.to_vec(), default, width, next));
        next
    }
}

/// Returns the code of a case; `next` is the code for the case that its conditions are false.
fn one(assembler: &mut Assembler, case: &Case, width: Width, next: Label) -> Label {
    let yes = assembler.end(case.action.to_return());
    case.conditions.iter().rev().fold(yes, |yes, comparison| compare(assembler, *comparison, width, yes, next))
}

/// Returns whether two cases compare one argument with two values, and answer alike.
fn is_other_value(case: &Case, of: &Case) -> bool {
    let ([first], [second]) = (case.conditions.as_slice(), of.conditions.as_slice()) else { return false };
    let is_equality = |it: &Comparison| it.kind == Kind::Equal && !it.negated && it.mask == u64::MAX;
    let alike = (first.index, first.value >> 32, case.action) == (second.index, second.value >> 32, of.action);
    alike && is_equality(first) && is_equality(second)
}

/// Returns the code of cases that compare one argument with values of the same upper half: it is loaded once for all of them.
fn any(assembler: &mut Assembler, cases: &[Case], width: Width, no: Label) -> Label {
    let conditions = || cases.iter().flat_map(|case| &case.conditions);
    let Some((first, action)) = conditions().next().zip(cases.first().map(|case| case.action)) else { return no };
    let yes = assembler.end(action.to_return());
    let compared =
        conditions().fold(no, |no, condition| assembler.branch(code::JUMP_EQUAL, condition.value as u32, yes, no));
    let (low, high) = argument(first.index);
    let low_half = assembler.load(low, compared);
    if width == Width::Narrow {
        return low_half;
    }
    let equal = assembler.branch(code::JUMP_EQUAL, (first.value >> 32) as u32, low_half, no);
    assembler.load(high, equal)
}

/// Returns the code that compares an argument, in two halves where it has two.
fn compare(assembler: &mut Assembler, comparison: Comparison, width: Width, yes: Label, no: Label) -> Label {
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
    if width == Width::Narrow {
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
