//! Capabilities: the default set, and the changes that a manifest makes to it.

use std::str::FromStr as _;

use super::build::Capability;
use super::check::Check;
use crate::diagnostic::{Problem, Trail};
use crate::manifest::CapabilitiesDef;

/// The capabilities of steps, unless the manifest changes them.
pub const DEFAULT_CAPABILITIES: [Capability; 12] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fsetid,
    Capability::Fowner,
    Capability::Mknod,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setfcap,
    Capability::Setpcap,
    Capability::SysChroot,
    Capability::Kill,
    Capability::AuditWrite,
];

/// All names, as in capabilities(7), without `CAP_`.
const NAMES: [&str; 41] = [
    "AUDIT_CONTROL",
    "AUDIT_READ",
    "AUDIT_WRITE",
    "BLOCK_SUSPEND",
    "BPF",
    "CHECKPOINT_RESTORE",
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "IPC_LOCK",
    "IPC_OWNER",
    "KILL",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "MKNOD",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_RAW",
    "PERFMON",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYSLOG",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_CHROOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "WAKE_ALARM",
];

impl Check<'_> {
    /// Returns these capabilities with the changes of the manifest.
    pub(super) fn capabilities(
        &mut self,
        before: &[Capability],
        def: Option<&CapabilitiesDef>,
        at: &Trail<'_>,
    ) -> Vec<Capability> {
        let mut set = before.to_vec();
        let add = self.capability_list(def.and_then(|def| def.add.as_deref()), &at.key("add"));
        let drop = self.capability_list(def.and_then(|def| def.drop.as_deref()), &at.key("drop"));
        for (n, capability) in &drop {
            if let Some((first, _)) = add.iter().find(|(_, added)| added == capability) {
                let problem = Problem::new(&at.key("drop").index(*n), format!("`{capability}` is added and dropped"));
                let problem = problem.label("dropped here").related(&at.key("add").index(*first), "added here");
                self.add(problem.help("keep one of them"));
            }
            set.retain(|other| other != capability);
        }
        set.extend(add.into_iter().map(|(_, capability)| capability));
        set.sort_by_key(ToString::to_string);
        set.dedup();
        set
    }

    /// Returns the capabilities of a list, each with its index.
    fn capability_list(&mut self, list: Option<&[String]>, at: &Trail<'_>) -> Vec<(usize, Capability)> {
        let mut known = Vec::new();
        for (n, written) in list.unwrap_or_default().iter().enumerate() {
            let upper = written.to_uppercase();
            let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
            match Capability::from_str(name) {
                Ok(capability) => known.push((n, capability)),
                Err(_) => {
                    let near = self.nearest(name, NAMES.into_iter());
                    let help = match near {
                        Some(near) => format!("did you mean `{near}`?"),
                        None => "see capabilities(7) for the names".to_owned(),
                    };
                    let problem = Problem::new(&at.index(n), format!("unknown capability `{written}`"));
                    self.add(problem.label("not a capability").help(help));
                }
            }
        }
        known
    }
}

#[cfg(test)]
mod tests {
    use super::{Capability, NAMES};
    use std::str::FromStr as _;

    #[test]
    fn every_name_is_a_capability() {
        for name in NAMES {
            assert!(Capability::from_str(name).is_ok(), "{name}");
        }
    }
}
