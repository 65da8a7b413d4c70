//! The paths of /proc and /sys that a container hides or write-protects, and those that a manifest opens again.

use std::path::{Path, PathBuf};

use super::build::Unmask;
use super::check::Check;
use crate::diagnostic::{Problem, Trail};
use crate::manifest::UnmaskDef;

/// Files and directories that nothing inside may read: they show facts of the host, or reach its firmware.
pub const MASKED_PATHS: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Files and directories that nothing inside may change.
pub const READ_ONLY_PATHS: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

impl Unmask {
    /// Returns whether a path is opened again.
    pub fn opens(&self, path: &str) -> bool {
        match self {
            Self::All => true,
            Self::Paths(paths) => paths.iter().any(|open| open == Path::new(path)),
        }
    }
}

impl Check<'_> {
    pub(super) fn unmask(&mut self, def: Option<&UnmaskDef>, at: &Trail<'_>) -> Unmask {
        let none = Unmask::Paths(Vec::new());
        match def {
            None => none,
            Some(UnmaskDef::Word(word)) if word == "all" => Unmask::All,
            Some(UnmaskDef::Word(word)) => {
                let problem = Problem::new(at, format!("unknown word `{word}` for `unmask`")).label("not known here");
                self.add(problem.help("write `all`, or a list of paths such as [/proc/kcore]"));
                none
            }
            Some(UnmaskDef::Paths(paths)) => {
                let known = || MASKED_PATHS.into_iter().chain(READ_ONLY_PATHS);
                let mut opened: Vec<PathBuf> = Vec::new();
                for (n, path) in paths.iter().enumerate() {
                    let at = at.index(n);
                    if known().any(|known| known == path) {
                        opened.push(path.into());
                        continue;
                    }
                    let problem = Problem::new(&at, format!("`{path}` is neither masked nor read-only"));
                    let near = self.nearest(path, known().collect::<Vec<_>>().into_iter());
                    self.add(problem.label("already as the kernel has it").help(match near {
                        Some(near) => format!("did you mean `{near}`?"),
                        None => {
                            format!("the paths are {}; or write `unmask: all`", known().collect::<Vec<_>>().join(", "))
                        }
                    }));
                }
                opened.sort();
                opened.dedup();
                Unmask::Paths(opened)
            }
        }
    }
}
