//! Secrets that a manifest names and that are not there: a warning, or the refusal of a build that would need one.

use std::collections::HashSet;
use std::path::Path;

use super::lock::failed;
use super::{Stop, style, warn};
use crate::build::{Build, ContainerId, Secret};
use crate::diagnostic::{Problem, render};
use crate::error::Exit;
use crate::freshness::{Judge, Verdict, forecast};
use crate::plan::{Plan, Segments};
use crate::warning::Warning;

/// A manifest as its user knows it: its path, and the text that places are in.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// As the user gave it.
    pub path: &'a Path,
    /// Its text.
    pub text: &'a str,
}

/// Warns of those that a build would not find.
pub fn warn_of(build: &Build) {
    let mut known = HashSet::new();
    for absent in &build.absent_secrets {
        let containers: Vec<String> =
            build.containers_with(&absent.secret).map(|id| build.container(id).name.clone()).collect();
        if containers.is_empty() || !known.insert(&absent.secret) {
            continue;
        }
        warn(&match &absent.secret {
            Secret::Variable(name) => Warning::UnsetSecret { variable: name.clone(), containers },
            Secret::File(path) => Warning::AbsentSecret { path: path.clone(), containers },
        });
    }
}

/// Refuses a build in which these containers run and do not find a secret.
///
/// # Errors
/// Every problem, with its place in the manifest.
pub fn refuse(source: Source<'_>, build: &Build, runs: impl Fn(ContainerId) -> bool) -> Result<(), Stop> {
    let is_needed = |secret: &Secret| build.containers_with(secret).any(&runs);
    let absent = build.absent_secrets.iter().filter(|absent| is_needed(&absent.secret));
    let problems: Vec<Problem> = absent.map(|absent| absent.problem.clone()).collect();
    if problems.is_empty() {
        return Ok(());
    }
    let path = source.path.display().to_string();
    Err(Stop::Shown(Exit::Usage, render(&problems, &path, source.text, style())))
}

/// The same for a plan: a container of which the store has all that is planned does not run.
///
/// # Errors
/// As [`refuse`]; what judging the plan gives.
pub fn refuse_planned(source: Source<'_>, build: &Build, plan: &Plan, judge: &Judge<'_>) -> Result<(), Stop> {
    if build.absent_secrets.is_empty() {
        return Ok(());
    }
    let segments = Segments::new(build, plan);
    let forecast = forecast(judge, plan).map_err(failed)?;
    let is_fresh = |segment: usize| matches!(forecast.verdict(segment), Verdict::Fresh(_));
    let run = plan.order().iter().filter(|step| !segments.of_step(**step).is_some_and(is_fresh));
    let run: HashSet<ContainerId> = run.map(|step| build.step(*step).container).collect();
    refuse(source, build, |container| run.contains(&container))
}
