//! The answer of a filter to a call, found as the kernel finds it: by running the program.

use super::assembler::{Instruction, code};
use super::{Action, Architecture};

/// Where a filter's input has the call's number: `struct seccomp_data` of linux/seccomp.h.
pub(super) const NUMBER: u32 = 0;

/// Where it has the architecture.
pub(super) const ARCHITECTURE: u32 = 4;

/// Where it has the arguments. Before them is the address of the instruction.
const ARGUMENTS: u32 = 16;

/// The words in the input.
const WORDS: usize = 16;

/// Where the lower and the upper half of an argument are, on machines that have the lower one first.
pub(super) fn argument(index: u8) -> (u32, u32) {
    let low = ARGUMENTS + 8 * u32::from(index);
    (low, low + 4)
}

/// What the kernel does with a call under that filter. The number is that of [`number`](super::number); a program that
/// the kernel would not take, or that does not end, ends the process.
pub fn verdict(program: &[u64], architecture: Architecture, number: u32, arguments: &[u64; 6]) -> Action {
    let mut input = [0; WORDS];
    (input[0], input[1]) = (number, architecture.audit());
    for (words, argument) in input[4..].chunks_exact_mut(2).zip(arguments) {
        (words[0], words[1]) = (*argument as u32, (*argument >> 32) as u32);
    }
    run(program, &input).map_or(Action::KillProcess, |(value, _)| Action::from_return(value))
}

/// Runs a program: the value that it returns, and how many instructions that took.
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
