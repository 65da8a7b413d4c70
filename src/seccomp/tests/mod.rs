//! Profiles, filters and their answers, compared with each other.

mod compiled;
mod debian;
mod documents;
mod standard;

use oci_spec::runtime::{Capability, LinuxSeccomp};

use super::{Architecture, Kernel, Profile};

/// A kernel to which each rule of the default profile applies that requires one.
const KERNEL: Kernel = Kernel { version: 6, revision: 1 };

fn standard(capabilities: &[Capability]) -> LinuxSeccomp {
    Profile::standard().resolve(capabilities, Architecture::X86_64, KERNEL).unwrap()
}
