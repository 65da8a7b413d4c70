//! Seccomp: the system calls that the steps of a container may make, as a profile and as a filter of the kernel. Pure.
//!
//! ```text
//! the default ───────┐                                        ┌─▶ config.json, for external runtimes
//! Docker's JSON ─────┴─▶ Profile ──resolve──▶ LinuxSeccomp ───┴─compile──▶ classic BPF, status
//! ```
//!
//! - A [`Profile`] depends on no machine: each of its rules names the capabilities, architectures and kernels that it applies to.
//! - [`Profile::resolve`] selects the rules that apply here. All runtimes get the same ones.
//! - [`compile`] makes the filter that the kernel runs at each system call, and [`status`] returns the answer of such a filter.
//! - [`hint`] names the fix where a step failed for a refused call, or for a missing capability.
//!
//! # Several rules of one call
//!
//! As in runc and libseccomp:
//!
//! - A rule whose action is the default one has no effect.
//! - A rule without conditions replaces all rules with conditions, and the first of several such rules counts.
//! - Otherwise the first rule counts whose conditions are all true, and the default where there is none. A rule with two
//!   conditions on one argument is as many rules with one condition each.
//! - On an architecture of 32 bits, including x32, only the lower half of arguments, values and masks counts.
//! - On x86 of 32 bits, a rule on a call that socketcall(2) or ipc(2) can make applies there too, without its conditions on the
//!   first argument, which selects the call there.
//! - A call that is newer than all that the filter names for its architecture gives ENOSYS, unless the default allows it: the C
//!   library has another way then, and takes EPERM for an answer.
//! - A call of another architecture ends the process.
//!
//! Names that no architecture has are ignored, as Docker ignores them.

mod answer;
mod assembler;
mod compile;
mod default;
mod document;
mod errno;
mod hint;
mod interpreter;
mod needs;
mod numbers;
mod profile;
mod rules;
mod step_calls;
#[cfg(test)]
mod tests;
mod tree;

pub use compile::{CompileError, MAX_INSTRUCTIONS, Split, compile, compile_split};
pub use document::ProfileError;
pub use hint::{Permissions, hint, killed};
pub use interpreter::{always_allows, may_allow, may_fake, status};
pub use numbers::number;
use oci_spec::runtime::Arch;
pub use profile::{Kernel, Profile};
pub use step_calls::{SETUP_CALLS, STEP_CALLS, StepCallError, starts_steps};

/// An architecture that a filter can be made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// x86 of 64 bits.
    X86_64,
    /// x86 of 32 bits, which a kernel for x86-64 runs too.
    X86,
    /// x86-64 with pointers of 32 bits.
    X32,
    /// arm of 64 bits.
    Aarch64,
    /// arm of 32 bits, which a kernel for aarch64 may run too.
    Arm,
}

impl Architecture {
    /// All architectures.
    pub const ALL: [Self; 5] = [Self::X86_64, Self::X86, Self::X32, Self::Aarch64, Self::Arm];

    /// Returns the architecture of the machine that runner is compiled for.
    pub fn native() -> Option<Self> {
        match std::env::consts::ARCH {
            "x86_64" => Some(Self::X86_64),
            "aarch64" => Some(Self::Aarch64),
            _ => None,
        }
    }

    /// Returns its name in config.json.
    pub fn oci(self) -> Arch {
        match self {
            Self::X86_64 => Arch::ScmpArchX86_64,
            Self::X86 => Arch::ScmpArchX86,
            Self::X32 => Arch::ScmpArchX32,
            Self::Aarch64 => Arch::ScmpArchAarch64,
            Self::Arm => Arch::ScmpArchArm,
        }
    }

    /// Returns its name in the conditions of a profile.
    fn word(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::X86 => "x86",
            Self::X32 => "x32",
            Self::Aarch64 => "arm64",
            Self::Arm => "arm",
        }
    }

    /// Returns whether all 64 bits of an argument are compared.
    fn has_wide_arguments(self) -> bool {
        matches!(self, Self::X86_64 | Self::Aarch64)
    }

    /// Returns the architecture's number in a filter's input, see linux/audit.h. Only the call's number distinguishes x32.
    pub fn audit(self) -> u32 {
        match self {
            Self::X86_64 | Self::X32 => 0xc000_003e,
            Self::X86 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
            Self::Arm => 0x4000_0028,
        }
    }
}

/// The action for a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The call is made.
    Allow,
    /// The call is made, and the kernel logs it.
    Log,
    /// The call fails with that error.
    Errno(u16),
    /// A tracer decides; without one the call fails with ENOSYS.
    Trace(u16),
    /// The thread gets SIGSYS.
    Trap,
    /// The thread ends.
    KillThread,
    /// The process ends.
    KillProcess,
}

impl Action {
    /// Returns the value that a filter returns for it, see seccomp(2).
    fn to_return(self) -> u32 {
        match self {
            Self::KillProcess => 0x8000_0000,
            Self::KillThread => 0,
            Self::Trap => 0x0003_0000,
            Self::Errno(errno) => 0x0005_0000 | u32::from(errno),
            Self::Trace(data) => 0x7ff0_0000 | u32::from(data),
            Self::Log => 0x7ffc_0000,
            Self::Allow => 0x7fff_0000,
        }
    }

    /// Returns the kernel's action for the value of a filter; an unknown value ends the process.
    fn from_return(value: u32) -> Self {
        let data = (value & 0xffff) as u16;
        match value & 0xffff_0000 {
            0 => Self::KillThread,
            0x0003_0000 => Self::Trap,
            0x0005_0000 => Self::Errno(data),
            0x7ff0_0000 => Self::Trace(data),
            0x7ffc_0000 => Self::Log,
            0x7fff_0000 => Self::Allow,
            _ => Self::KillProcess,
        }
    }
}
