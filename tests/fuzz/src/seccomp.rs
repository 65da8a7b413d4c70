//! Fuzzes seccomp profiles in Docker's JSON: the kernel would load each filter, and none allows more than its rules.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oci_spec::runtime::{Capability, LinuxSeccomp, LinuxSeccompAction};
use runner::seccomp::{Action, Architecture, CompileError, Kernel, MAX_INSTRUCTIONS, Profile, compile, status};

/// The bytes of `struct seccomp_data`.
const INPUT: u64 = 64;

fuzz_target!(|bytes: &[u8]| {
    let profile = match Profile::parse(bytes) {
        Ok(profile) => profile,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    assert_eq!(profile.digest(), Profile::parse(bytes).expect("a profile is refused the second time").digest());
    let kernel = Kernel { version: 6, revision: 1 };
    for capabilities in [&[][..], &[Capability::SysAdmin, Capability::Bpf, Capability::SysPtrace]] {
        for machine in [Architecture::X86_64, Architecture::Aarch64] {
            let filter = profile.resolve(capabilities, machine, kernel).expect("a profile that was read has no filter");
            match compile(&filter) {
                Ok(program) => check(&filter, &program, machine),
                Err(CompileError::TooLong(length)) => assert!(length > MAX_INSTRUCTIONS),
                Err(error) => panic!("a profile that was read cannot be compiled: {error}"),
            }
        }
    }
});

fn check(filter: &LinuxSeccomp, program: &[u64], machine: Architecture) {
    assert!((1..=MAX_INSTRUCTIONS).contains(&program.len()));
    for (at, instruction) in program.iter().enumerate() {
        check_instruction(*instruction, program.len() - at - 1);
    }
    let rules = filter.syscalls().iter().flatten().map(|rule| rule.action());
    let actions: Vec<LinuxSeccompAction> = rules.chain([filter.default_action()]).collect();
    let may = |action| actions.contains(&action);
    for number in (0..480).chain([0x4000_0000, 0x4000_0208, 0x00ff_ffff, u32::MAX]) {
        for arguments in [[0; 6], [u64::MAX; 6], [1, 2, 3, 4, 5, 6]] {
            match status(program, machine, number, &arguments) {
                Action::Allow => assert!(may(LinuxSeccompAction::ScmpActAllow)),
                Action::Log => assert!(may(LinuxSeccompAction::ScmpActLog)),
                Action::Trace(_) => assert!(may(LinuxSeccompAction::ScmpActTrace)),
                Action::Errno(_) | Action::Trap | Action::KillThread | Action::KillProcess => {}
            }
        }
    }
}

/// Checks one `struct sock_filter` as the kernel does, with `rest` instructions after it.
fn check_instruction(instruction: u64, rest: usize) {
    let [c0, c1, yes, no, k0, k1, k2, k3] = instruction.to_le_bytes();
    let (code, constant) = (u16::from_le_bytes([c0, c1]), u32::from_le_bytes([k0, k1, k2, k3]));
    match code {
        // Loads a word of the input, or masks it.
        0x20 => assert!(constant % 4 == 0 && u64::from(constant) < INPUT),
        0x54 => {}
        // Jumps.
        0x05 => assert!((constant as usize) < rest),
        0x15 | 0x25 | 0x35 | 0x45 => assert!(usize::from(yes.max(no)) < rest),
        // Returns.
        0x06 => return,
        other => panic!("the kernel's seccomp does not know the instruction {other:#x}"),
    }
    assert!(rest > 0, "the last instruction does not return");
}
