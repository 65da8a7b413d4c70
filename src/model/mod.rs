//! The checked model of a build, and `validate`, the only way to make one.

mod build;
mod capabilities;
mod check;
mod checkpointing;
mod containers;
mod copy;
mod debian;
mod devices;
mod edge;
mod exports;
mod host;
mod mounts;
mod order;
mod outputs;
mod own_settings;
mod process;
mod quantity;
mod seccomp;
mod shell;
mod steps;
mod test_steps;
mod unmask;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

pub use build::*;
pub use capabilities::DEFAULT_CAPABILITIES;
pub use checkpointing::{Checkpointing, SLOW_STEP};
pub use host::{FileKind, Host, PROGRAM_PATH};
pub use quantity::{size, size_text};
pub use shell::{DEFAULT_SHELL, interpreter};
pub use unmask::{MASKED_PATHS, READ_ONLY_PATHS};

pub use self::check::lexical;
use self::check::{Check, missing};
use self::containers::Definitions;
use crate::diagnostic::{Place, Problem, Trail};
use crate::manifest::{Epoch, Manifest, StepDef, UnknownPaths};

/// The version of the manifest's format.
const VERSION: u64 = 1;
/// 1980-01-01, the earliest time that a zip archive can contain.
const DEFAULT_EPOCH: u64 = 315_532_800;

/// Checks a manifest and resolves it. `path` is the manifest's absolute path: relative paths start from its directory.
///
/// # Errors
/// All problems, in no order.
pub fn validate(manifest: &Manifest, path: &Path, host: &dyn Host) -> Result<Build, Vec<Problem>> {
    let unknown_paths = UnknownPaths::none();
    let (build, problems) = check(manifest, path, host, &unknown_paths);
    if problems.is_empty() { Ok(build) } else { Err(problems) }
}

/// Returns the problems of a manifest with unreadable parts, except those that only follow from these parts.
pub fn problems(manifest: &Manifest, path: &Path, host: &dyn Host, unknown_paths: &UnknownPaths) -> Vec<Problem> {
    check(manifest, path, host, unknown_paths).1
}

/// Returns the build and its problems. The build is valid only if there is no problem: placeholders replace wrong
/// parts.
fn check(manifest: &Manifest, path: &Path, host: &dyn Host, unknown_paths: &UnknownPaths) -> (Build, Vec<Problem>) {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let mut check = Check::new(host, directory, unknown_paths);
    let top = Trail::TOP;
    check.version(manifest.version);
    let name = check.build_name(manifest.name.as_deref(), directory);
    for (name, value) in manifest.vars.iter().flat_map(|vars| vars.iter()) {
        let at = top.key("vars");
        check.name(|| Place::key(at.key(name).path()), "variable", name);
        check.no_nul(&at.key(name), value);
    }

    let commit_time = match manifest.source_date_epoch {
        Some(Epoch::LastCommit) => check.commit_time(&top.key("source_date_epoch")),
        _ => None,
    };
    let expanded = check.expand_debian(manifest);
    let manifest = expanded.as_ref().unwrap_or(manifest);
    let step_defs = manifest.steps.as_deref().unwrap_or_default();
    let known = known(&mut check, manifest, step_defs);
    let containers = match &manifest.containers {
        Some(defs) => {
            if defs.0.is_empty() && !unknown_paths.covers(&top.key("containers").path()) {
                let problem = Problem::new(&top.key("containers"), "there is no container").label("empty");
                check.add(problem.help("write at least one: `containers: { base: { rootfs: … } }`"));
            }
            check.containers(defs, &known)
        }
        None => {
            let problem = Problem::new(missing(&top, "containers"), "the manifest has no `containers`");
            check.add(problem.label("in this manifest").help("write `containers: { base: { rootfs: … } }`"));
            Vec::new()
        }
    };
    let mut ordered = check.steps(step_defs, &containers, &known);
    check.outputs(&ordered, &containers, path);
    check.pushes(&ordered);
    check.order(&ordered, &containers);

    let mut containers = containers;
    for Step { container, action, .. } in ordered.iter().map(|ordered| &ordered.step) {
        if let (Action::Run(text), Some(container)) = (action, containers.get_mut(container.0)) {
            container.has_scripts |= interpreter(text).is_some();
        }
    }
    let problems = std::mem::take(&mut check.problems);
    if problems.is_empty() {
        test_steps::separate(&mut containers, &mut ordered);
        own_settings::separate(&mut containers, &mut ordered);
    }
    let absent_secrets = std::mem::take(&mut check.absent_secrets);
    let steps = ordered.into_iter().map(|ordered| {
        let mut needs: Vec<StepId> = ordered.edges.iter().map(|edge| edge.on).collect();
        needs.sort_unstable();
        needs.dedup();
        Step { needs, ..ordered.step }
    });
    let build = Build {
        name,
        manifest: path.to_owned(),
        // The path of a pipe differs each time.
        project: Some(host.real(path)).filter(|real| !real.starts_with("/proc")).unwrap_or_else(|| path.to_owned()),
        directory: directory.to_owned(),
        source_date_epoch: match manifest.source_date_epoch {
            Some(Epoch::RealTimes) => None,
            Some(Epoch::Seconds(seconds)) => Some(seconds),
            Some(Epoch::LastCommit) => commit_time,
            None => Some(DEFAULT_EPOCH),
        },
        steps: steps.collect(),
        containers,
        absent_secrets,
    };
    (build, problems)
}

/// Returns the definitions that containers and steps look up by name.
fn known<'m>(check: &mut Check<'_>, manifest: &'m Manifest, step_defs: &'m [StepDef]) -> Definitions<'m> {
    let written = step_defs.iter().filter_map(|def| {
        let output = def.output()?;
        Some((check.directory.join(output).components().collect(), def.name.clone()?))
    });
    check.outputs = written.collect();
    let mut steps = HashMap::with_capacity(step_defs.len());
    let mut snapshots = Vec::new();
    let mut outputs = HashMap::new();
    for (n, def) in step_defs.iter().enumerate() {
        let Some(name) = def.name.as_deref() else { continue };
        steps.entry(name).or_insert(n);
        if def.snapshot.is_some() {
            snapshots.push((n, name));
        }
        if let Some(output) = def.output() {
            outputs.entry(check.real_output(&check.directory.join(output))).or_insert(name);
        }
    }
    let mut known = Definitions { mounts: BTreeMap::new(), devices: BTreeMap::new(), steps, snapshots, outputs };
    let (mounts_at, devices_at) = (Trail::TOP.key("mounts"), Trail::TOP.key("devices"));
    let mounts = manifest.mounts.iter().flat_map(|mounts| mounts.iter());
    known.mounts = mounts.map(|(name, def)| (name, check.mount(def, &mounts_at.key(name), &known))).collect();
    let devices = manifest.devices.iter().flat_map(|devices| devices.iter());
    known.devices = devices.map(|(name, def)| (name, check.device(def, &devices_at.key(name)))).collect();
    known
}

impl Check<'_> {
    fn version(&mut self, version: Option<u64>) {
        let top = Trail::TOP;
        let problem = match version {
            Some(VERSION) => return,
            Some(other) => Problem::new(&top.key("version"), format!("the version {other} is not known"))
                .label(format!("this runner knows version {VERSION}")),
            None => Problem::new(missing(&top, "version"), "the manifest has no `version`").label("in this manifest"),
        };
        self.add(problem.help(format!("write `version: {VERSION}`")));
    }

    fn build_name(&mut self, name: Option<&str>, directory: &Path) -> String {
        let Some(name) = name else {
            // Only the root directory has no name.
            return directory
                .file_name()
                .map_or_else(|| "build".to_owned(), |name| name.to_string_lossy().into_owned());
        };
        let at = Trail::TOP.key("name");
        if name.trim().is_empty() {
            self.add(Problem::new(&at, "the build's name is empty").label("a name is missing").help("leave it out"));
        } else if let Some(bad) = name.chars().find(|c| c.is_control()) {
            let problem = Problem::new(&at, format!("the build's name has {bad:?} in it")).label("a name is one line");
            self.add(problem.help("remove it"));
        }
        name.to_owned()
    }
}
