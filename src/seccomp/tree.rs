//! Searches a call's number among ranges of numbers with one answer.

use std::collections::BTreeSet;

use super::answer::{Answer, Answers};
use super::assembler::{Assembler, Label, code};
use super::numbers::apart;
use super::rules::Rules;
use super::{Action, Architecture};

/// The most numbers that are compared one after another.
const MAX_SINGLES: usize = 5;

/// Numbers with one answer, up to the next range.
#[derive(Debug, Clone, Copy)]
struct Range<'r> {
    from: u32,
    is_single: bool,
    answer: Answer<'r>,
}

/// Returns the code that answers the call whose number is in the accumulator.
pub(super) fn tree(
    assembler: &mut Assembler,
    answers: &mut Answers,
    rules: &Rules,
    architecture: Architecture,
) -> Label {
    let mut ranges: Vec<Range<'_>> = Vec::new();
    for from in boundaries(rules, architecture) {
        let answer = Answer::of(rules, architecture, from);
        if ranges.last().is_none_or(|last| last.answer != answer) {
            if let Some(last) = ranges.last_mut() {
                last.is_single = from - last.from == 1;
            }
            ranges.push(Range { from, is_single: false, answer });
        }
    }
    Tree { assembler, answers }.halve(&groups(&ranges))
}

/// Returns the numbers from which on another answer may begin, in order; the first is 0.
fn boundaries(rules: &Rules, architecture: Architecture) -> BTreeSet<u32> {
    let calls = rules.calls.keys().flat_map(|number| [Some(*number), number.checked_add(1)]).flatten();
    calls.chain([0]).chain(rules.unknown_from).chain(apart(architecture).iter().copied()).collect()
}

/// Joins ranges, as far as each group has one answer but for a few single numbers: such a number takes one instruction,
/// where a search by halves takes two.
fn groups<'s, 'r>(mut ranges: &'s [Range<'r>]) -> Vec<&'s [Range<'r>]> {
    let mut groups = Vec::new();
    while !ranges.is_empty() {
        let length = (1..=ranges.len()).take_while(|length| around(&ranges[..*length]).is_some()).last();
        let (group, rest) = ranges.split_at(length.unwrap_or(1));
        groups.push(group);
        ranges = rest;
    }
    groups
}

/// Returns the answer around a few single numbers; none where the ranges have more than one.
fn around<'r>(ranges: &[Range<'r>]) -> Option<Answer<'r>> {
    let around = ranges.iter().find(|range| !range.is_single).or(ranges.first())?.answer;
    let mut others = ranges.iter().filter(|range| range.answer != around);
    let few = others.clone().count() <= MAX_SINGLES;
    (few && others.all(|range| range.is_single)).then_some(around)
}

/// An unfinished search.
struct Tree<'t> {
    assembler: &'t mut Assembler,
    answers: &'t mut Answers,
}

impl Tree<'_> {
    /// Adds the search by halves.
    fn halve(&mut self, groups: &[&[Range<'_>]]) -> Label {
        match groups {
            [] => self.assembler.end(Action::KillProcess.to_return()),
            [group] => self.group(group),
            _ => {
                let (lower, upper) = groups.split_at(groups.len() / 2);
                let high = self.halve(upper);
                let low = self.halve(lower);
                let (low, high) = (self.nearest(low, lower), self.nearest(high, upper));
                let from = upper.first().and_then(|group| group.first()).map_or(0, |range| range.from);
                self.assembler.branch(code::JUMP_GREATER_OR_EQUAL, from, high, low)
            }
        }
    }

    /// Returns the nearest code of an answer: a constant one may have been put again, nearer than before.
    fn nearest(&mut self, label: Label, groups: &[&[Range<'_>]]) -> Label {
        match groups {
            [[Range { answer: Answer::Always(action), .. }]] => self.assembler.end(action.to_return()),
            _ => label,
        }
    }

    /// Adds the comparisons of a group's numbers, one after another.
    fn group(&mut self, group: &[Range<'_>]) -> Label {
        let around = around(group).unwrap_or(Answer::Always(Action::KillProcess));
        // The code of conditions is put first, so that the comparisons of numbers are together, in reach of each other.
        for range in group {
            self.answers.put(self.assembler, range.answer);
        }
        let mut next = self.answers.put(self.assembler, around);
        for range in group.iter().filter(|range| range.answer != around) {
            let answer = self.answers.put(self.assembler, range.answer);
            next = self.assembler.branch(code::JUMP_EQUAL, range.from, answer, next);
        }
        next
    }
}
