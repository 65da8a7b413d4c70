//! Assembles classic BPF from the end: so the target of each jump exists already, and its distance is known.

/// The instructions that filters are made of, see linux/bpf_common.h: the accumulator, a constant, and jumps forward.
pub(super) mod code {
    pub const LOAD: u16 = 0x20;
    pub const AND: u16 = 0x54;
    pub const JUMP: u16 = 0x05;
    pub const JUMP_EQUAL: u16 = 0x15;
    pub const JUMP_GREATER: u16 = 0x25;
    pub const JUMP_GREATER_OR_EQUAL: u16 = 0x35;
    pub const RETURN: u16 = 0x06;
}

/// One instruction, as `struct sock_filter` of linux/filter.h.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Instruction {
    pub code: u16,
    /// The instructions to skip where the condition is true.
    pub yes: u8,
    /// And where it is false.
    pub no: u8,
    pub constant: u32,
}

impl Instruction {
    /// Returns its eight bytes in memory, read as one number of a little-endian machine.
    pub fn pack(self) -> u64 {
        u64::from(self.code) | u64::from(self.yes) << 16 | u64::from(self.no) << 24 | u64::from(self.constant) << 32
    }

    pub fn unpack(packed: u64) -> Self {
        let [code_low, code_high, yes, no, constant @ ..] = packed.to_le_bytes();
        let code = u16::from_le_bytes([code_low, code_high]);
        Self { code, yes, no, constant: u32::from_le_bytes(constant) }
    }
}

/// A position in the program: the number of instructions from it to the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Label(usize);

/// The farthest target of a jump with a condition, with room for a jump or two put before the target.
const NEAR: usize = 250;

/// An unfinished program.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    /// The last instruction first.
    reversed: Vec<Instruction>,
    /// The last return of each value.
    returns: Vec<(u32, Label)>,
}

impl Assembler {
    /// Returns the program, from its beginning.
    pub fn program(self) -> Vec<u64> {
        self.reversed.into_iter().rev().map(Instruction::pack).collect()
    }

    pub fn len(&self) -> usize {
        self.reversed.len()
    }

    fn push(&mut self, code: u16, yes: u8, no: u8, constant: u32) -> Label {
        self.reversed.push(Instruction { code, yes, no, constant });
        Label(self.reversed.len())
    }

    /// Ends the program with a value: uses an earlier such end where one is near.
    pub fn end(&mut self, value: u32) -> Label {
        let now = self.reversed.len();
        if let Some((_, label)) = self.returns.iter().find(|(other, label)| *other == value && now - label.0 < NEAR / 2)
        {
            return *label;
        }
        let label = self.push(code::RETURN, 0, 0, value);
        self.returns.retain(|(other, _)| *other != value);
        self.returns.push((value, label));
        label
    }

    /// Loads the word at that offset of the input; the code put before runs after it.
    pub fn load(&mut self, offset: u32, next: Label) -> Label {
        self.follow(next);
        self.push(code::LOAD, 0, 0, offset)
    }

    /// Masks the accumulator.
    pub fn and(&mut self, mask: u32, next: Label) -> Label {
        self.follow(next);
        self.push(code::AND, 0, 0, mask)
    }

    /// Compares the accumulator, and continues at one of two labels.
    pub fn branch(&mut self, code: u16, constant: u32, yes: Label, no: Label) -> Label {
        let (yes, no) = (self.near(yes), self.near(no));
        let now = self.reversed.len();
        // Both are at most NEAR + 1 away.
        let [yes, no] = [yes, no].map(|label| u8::try_from(now - label.0).unwrap_or(u8::MAX));
        self.push(code, yes, no, constant)
    }

    /// Continues the next instruction at that label.
    fn follow(&mut self, next: Label) {
        let distance = self.reversed.len() - next.0;
        if distance > 0 {
            self.push(code::JUMP, 0, 0, u32::try_from(distance).unwrap_or(u32::MAX));
        }
    }

    /// Returns a label within reach that leads to that one.
    fn near(&mut self, label: Label) -> Label {
        let distance = self.reversed.len() - label.0;
        if distance <= NEAR {
            return label;
        }
        self.push(code::JUMP, 0, 0, u32::try_from(distance).unwrap_or(u32::MAX))
    }
}
