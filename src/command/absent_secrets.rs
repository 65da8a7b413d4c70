//! The secrets that a manifest names and the host does not have: warnings, or the refusal of a build that needs one.

use std::collections::HashSet;

use super::analysis::Analysis;
use super::command_error::CommandError;
use super::console::style;
use super::environment::containers_of;
use super::manifest_file::ManifestFile;
use crate::cache::{CacheChecker, CacheStatus};
use crate::diagnostic::{Problem, render};
use crate::error::Exit;
use crate::model::{AbsentSecret, Build, ContainerId, Mount, MountKind, Secret};
use crate::warning::Warning;

/// Returns a warning for each secret that a build would miss, with the problem of a build that needs it.
pub fn warnings(build: &Build) -> Vec<(Warning, &Problem)> {
    let mut known = HashSet::new();
    let mut warning = |absent: &AbsentSecret| {
        let mut containers: Vec<String> =
            build.containers_with(&absent.secret).map(|id| build.container(id).name.clone()).collect();
        // A test has a container of the same name.
        let mut names = HashSet::new();
        containers.retain(|name| names.insert(name.clone()));
        if containers.is_empty() || !known.insert(absent.secret.clone()) {
            return None;
        }
        let is_agent = |mount: &Mount| matches!(&mount.kind, MountKind::Ssh(agent) if *agent == absent.secret);
        if build.containers.iter().any(|container| container.mounts.iter().any(is_agent)) {
            return Some(Warning::NoSshAgent { containers });
        }
        Some(match &absent.secret {
            Secret::Variable(name) => Warning::UnsetSecret { variable: name.clone(), containers },
            Secret::File(path) => Warning::AbsentSecret { path: path.clone(), containers },
        })
    };
    build.absent_secrets.iter().filter_map(|absent| Some((warning(absent)?, &absent.problem))).collect()
}

/// Refuses a build if a container that runs needs a secret that is absent.
///
/// # Errors
/// Every such secret, with its place in the manifest.
pub fn refuse(manifest: &ManifestFile, runs: impl Fn(ContainerId) -> bool) -> Result<(), CommandError> {
    let build = &manifest.build;
    let is_needed = |secret: &Secret| build.containers_with(secret).any(&runs);
    let absent = build.absent_secrets.iter().filter(|absent| is_needed(&absent.secret));
    let problems: Vec<Problem> = absent.map(|absent| absent.problem.clone()).collect();
    if problems.is_empty() {
        return Ok(());
    }
    let path = manifest.path.display().to_string();
    Err(CommandError::Report(Exit::Usage, render(&problems, &path, &manifest.text, style())))
}

/// Refuses a plan likewise. A container does not run if the store has the results of all its planned steps.
///
/// # Errors
/// As [`refuse`], and if an input of the plan cannot be read.
pub fn refuse_planned(
    manifest: &ManifestFile,
    analysis: &Analysis<'_>,
    checker: &CacheChecker<'_>,
) -> Result<(), CommandError> {
    let build = &manifest.build;
    if build.absent_secrets.is_empty() {
        return Ok(());
    }
    let forecast = analysis.forecast(checker)?;
    let is_fresh = |segment: usize| matches!(forecast.status(segment), CacheStatus::Fresh(_));
    let stale = analysis.plan.order().iter().filter(|step| !analysis.segments.of_step(**step).is_some_and(is_fresh));
    let running: HashSet<ContainerId> = containers_of(build, stale.copied()).collect();
    refuse(manifest, |container| running.contains(&container))
}
