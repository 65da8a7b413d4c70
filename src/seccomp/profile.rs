//! A seccomp profile: rules, and the capabilities, architectures and kernels that each applies to.

use std::sync::OnceLock;

use oci_spec::OciSpecError;
use oci_spec::runtime::{
    Arch, Capability, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompArgBuilder, LinuxSeccompBuilder,
    LinuxSeccompOperator, LinuxSyscall, LinuxSyscallBuilder,
};
use serde::Serialize;

use super::{Architecture, ProfileError, default, document};
use crate::digest::Digest;

/// The version of a kernel, as far as rules need it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Kernel {
    /// 6 of 6.1.
    pub version: u32,
    /// 1 of 6.1.
    pub revision: u32,
}

impl Kernel {
    /// Reads the release that uname(2) gives, such as `6.1.0-13-amd64`.
    pub fn of_release(release: &str) -> Option<Self> {
        let (version, rest) = release.split_once('.')?;
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        Some(Self { version: version.parse().ok()?, revision: rest[..digits].parse().ok()? })
    }
}

/// A profile. Serialised, it is the same text for the same rules, however its file was written.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Profile {
    pub(super) default: LinuxSeccompAction,
    pub(super) default_errno: Option<u32>,
    pub(super) architectures: Architectures,
    pub(super) rules: Vec<Rule>,
}

/// The architectures whose calls are checked. All others end the process.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) enum Architectures {
    /// The machine's own, and these.
    Listed(Vec<Arch>),
    /// The machine's own, and its related ones.
    ByMachine(Vec<(Arch, Vec<Arch>)>),
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Rule {
    /// The rule applies only if all of these are true.
    pub(super) includes: Condition,
    /// The rule does not apply if any of these is true.
    pub(super) excludes: Condition,
    pub(super) names: Vec<String>,
    pub(super) action: LinuxSeccompAction,
    pub(super) errno: Option<u32>,
    pub(super) arguments: Vec<Argument>,
}

/// The comparison of an argument.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Argument {
    pub(super) index: usize,
    pub(super) op: LinuxSeccompOperator,
    /// Where the operator has a mask, the mask.
    pub(super) value: u64,
    /// Where the operator has a mask, the value of the masked argument.
    pub(super) value_two: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub(super) struct Condition {
    pub(super) capabilities: Vec<Capability>,
    /// At least one of these.
    pub(super) architectures: Vec<String>,
    pub(super) kernel: Option<Kernel>,
}

impl Condition {
    fn includes(&self, capabilities: &[Capability], architecture: Architecture, kernel: Kernel) -> bool {
        self.capabilities.iter().all(|wanted| capabilities.contains(wanted))
            && (self.architectures.is_empty() || self.architectures.iter().any(|word| word == architecture.word()))
            && self.kernel.is_none_or(|least| kernel >= least)
    }

    fn excludes(&self, capabilities: &[Capability], architecture: Architecture, kernel: Kernel) -> bool {
        self.capabilities.iter().any(|unwanted| capabilities.contains(unwanted))
            || self.architectures.iter().any(|word| word == architecture.word())
            || self.kernel.is_some_and(|least| kernel >= least)
    }
}

impl Profile {
    /// Returns the profile of a container whose manifest names none.
    pub fn standard() -> &'static Self {
        static STANDARD: OnceLock<Profile> = OnceLock::new();
        STANDARD.get_or_init(default::profile)
    }

    /// Reads Docker's JSON.
    ///
    /// # Errors
    /// Where it is not JSON, or has a key, an action, an operator or a value that does not belong there.
    pub fn parse(text: &[u8]) -> Result<Self, ProfileError> {
        document::parse(text)
    }

    /// Returns the digest of the profile's meaning.
    pub fn digest(&self) -> Digest {
        // Only strings, numbers and lists: this cannot fail.
        Digest::of_bytes(&serde_json::to_vec(self).unwrap_or_default())
    }

    /// Returns the rules that apply to steps with these capabilities in their bounding set, on this machine.
    ///
    /// # Errors
    /// None in practice: every required field is set.
    pub fn resolve(
        &self,
        capabilities: &[Capability],
        machine: Architecture,
        kernel: Kernel,
    ) -> Result<LinuxSeccomp, OciSpecError> {
        let holds = |rule: &&Rule| {
            rule.includes.includes(capabilities, machine, kernel)
                && !rule.excludes.excludes(capabilities, machine, kernel)
        };
        let rules: Vec<LinuxSyscall> =
            self.rules.iter().filter(holds).map(Rule::to_oci).collect::<Result<_, OciSpecError>>()?;
        let mut architectures = vec![machine.oci()];
        let more: &[Arch] = match &self.architectures {
            Architectures::Listed(more) => more,
            Architectures::ByMachine(map) => {
                map.iter().find(|(of, _)| *of == machine.oci()).map_or(&[], |(_, more)| more.as_slice())
            }
        };
        for other in more {
            if *other != Arch::ScmpArchNative && !architectures.contains(other) {
                architectures.push(*other);
            }
        }
        let builder = LinuxSeccompBuilder::default();
        let builder = builder.default_action(self.default).architectures(architectures).syscalls(rules);
        match self.default_errno {
            Some(errno) => builder.default_errno_ret(errno).build(),
            None => builder.build(),
        }
    }
}

impl Rule {
    fn to_oci(&self) -> Result<LinuxSyscall, OciSpecError> {
        let mut builder = LinuxSyscallBuilder::default().names(self.names.clone()).action(self.action);
        if let Some(errno) = self.errno {
            builder = builder.errno_ret(errno);
        }
        if !self.arguments.is_empty() {
            let arguments: Result<Vec<_>, _> = self.arguments.iter().map(Argument::to_oci).collect();
            builder = builder.args(arguments?);
        }
        builder.build()
    }
}

impl Argument {
    fn to_oci(&self) -> Result<LinuxSeccompArg, OciSpecError> {
        let builder = LinuxSeccompArgBuilder::default().index(self.index).value(self.value).op(self.op);
        match self.value_two {
            Some(value) => builder.value_two(value).build(),
            None => builder.build(),
        }
    }
}
