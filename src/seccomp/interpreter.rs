//! Computes the answer of a filter to a call as the kernel does: by running the program.

use std::collections::HashSet;

use super::assembler::{Instruction, code};
use super::{Action, Architecture};

/// The offset of the call's number in a filter's input: `struct seccomp_data` of linux/seccomp.h.
pub(super) const NUMBER: u32 = 0;

/// The offset of the architecture.
pub(super) const ARCHITECTURE: u32 = 4;

/// The offset of the arguments. Before them is the address of the instruction.
const ARGUMENTS: u32 = 16;

/// The words in the input.
const WORDS: usize = 16;

/// Returns the offsets of the lower and the upper half of an argument, on little-endian machines.
pub(super) fn argument(index: u8) -> (u32, u32) {
    let low = ARGUMENTS + 8 * u32::from(index);
    (low, low + 4)
}

/// Returns the kernel's action for a call under that filter. The number is that of [`number`](super::number); a program that the
/// kernel would refuse, or that does not end, ends the process.
pub fn status(program: &[u64], architecture: Architecture, number: u32, arguments: &[u64; 6]) -> Action {
    let mut input = [0; WORDS];
    (input[0], input[1]) = (number, architecture.audit());
    for (words, argument) in input[4..].chunks_exact_mut(2).zip(arguments) {
        (words[0], words[1]) = (*argument as u32, (*argument >> 32) as u32);
    }
    run(program, &input).map_or(Action::KillProcess, |(value, _)| Action::from_return(value))
}

/// Returns whether a filter allows a call whatever its arguments are, but for the known ones: by their number and value.
pub fn always_allows(program: &[u64], architecture: Architecture, number: u32, known: &[(u8, u64)]) -> bool {
    outcomes(program, architecture, number, known).is_some_and(|all| all.iter().all(|action| *action == Action::Allow))
}

/// Returns whether a filter answers a call with success, and does not make it.
pub fn may_fake(program: &[u64], architecture: Architecture, number: u32, known: &[(u8, u64)]) -> bool {
    outcomes(program, architecture, number, known).unwrap_or_default().contains(&Action::Errno(0))
}

/// Returns whether a filter allows a call with some arguments.
pub fn may_allow(program: &[u64], architecture: Architecture, number: u32) -> bool {
    let all = outcomes(program, architecture, number, &[]).unwrap_or_default();
    all.iter().any(|action| matches!(action, Action::Allow | Action::Log))
}

/// Returns all answers to a call of which some arguments are known: where a program loads an unknown one, both branches are
/// followed. None for a program that the kernel would refuse.
fn outcomes(program: &[u64], architecture: Architecture, number: u32, known: &[(u8, u64)]) -> Option<Vec<Action>> {
    let mut input: [Option<u32>; WORDS] = [None; WORDS];
    (input[0], input[1]) = (Some(number), Some(architecture.audit()));
    for (index, value) in known {
        let (low, high) = argument(*index);
        (input[low as usize / 4], input[high as usize / 4]) = (Some(*value as u32), Some((*value >> 32) as u32));
    }
    let mut found = Vec::new();
    let mut seen = HashSet::new();
    let mut open: Vec<(usize, Option<u32>)> = vec![(0, Some(0))];
    while let Some((at, accumulator)) = open.pop() {
        // Jumps lead forward only, so that this ends.
        if !seen.insert((at, accumulator)) {
            continue;
        }
        let Instruction { code, yes, no, constant } = Instruction::unpack(*program.get(at)?);
        let mut go = |skipped: usize, accumulator| open.push((at + skipped + 1, accumulator));
        let mut branch = |holds: Option<bool>| {
            for (way, skipped) in [(true, yes), (false, no)] {
                if holds.is_none_or(|holds| holds == way) {
                    go(usize::from(skipped), accumulator);
                }
            }
        };
        match code {
            code::LOAD if constant % 4 == 0 => go(0, *input.get(constant as usize / 4)?),
            code::AND => go(0, accumulator.map(|value| value & constant)),
            code::JUMP => go(constant as usize, accumulator),
            code::JUMP_EQUAL => branch(accumulator.map(|value| value == constant)),
            code::JUMP_GREATER => branch(accumulator.map(|value| value > constant)),
            code::JUMP_GREATER_OR_EQUAL => branch(accumulator.map(|value| value >= constant)),
            code::RETURN => found.push(Action::from_return(constant)),
            _ => return None,
        }
    }
    Some(found)
}

/// Runs a program: returns its result, and the number of instructions that it took.
pub(super) fn run(program: &[u64], input: &[u32; WORDS]) -> Option<(u32, usize)> {
    let (mut accumulator, mut at, mut steps) = (0, 0_usize, 0);
    // Jumps lead forward only, so that this ends.
    loop {
        let Instruction { code, yes, no, constant } = Instruction::unpack(*program.get(at)?);
        let by = |holds: bool| usize::from(if holds { yes } else { no });
        let mut skipped = 0;
        match code {
            code::LOAD if constant % 4 == 0 => accumulator = *input.get(constant as usize / 4)?,
            code::AND => accumulator &= constant,
            code::JUMP => skipped = constant as usize,
            code::JUMP_EQUAL => skipped = by(accumulator == constant),
            code::JUMP_GREATER => skipped = by(accumulator > constant),
            code::JUMP_GREATER_OR_EQUAL => skipped = by(accumulator >= constant),
            code::RETURN => return Some((constant, steps + 1)),
            _ => return None,
        }
        at = at.checked_add(skipped)?.checked_add(1)?;
        steps += 1;
    }
}
