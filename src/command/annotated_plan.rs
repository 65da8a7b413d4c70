//! A plan with the cache status of each step, for `runner plan` and `runner graph`. Nothing runs.

use std::sync::Arc;

use super::analysis::{Analysis, StoreView};
use super::command_error::CommandError;
use super::effective_settings::settings_with_warning;
use super::lock_file::LockFile;
use super::manifest_file::ManifestFile;
use super::target;
use crate::cache::key::Reason;
use crate::cache::{self, CacheStatus, OutputState};
use crate::cli::{Cli, ManifestArgs};
use crate::model::{Action, StepId};
use crate::pull::{self, Pins};
use crate::report::plan::Note;
use crate::settings::Partial;

/// Plans the requested steps, and returns the text that `show` makes of the plan, of the note on each step, and of the state of its
/// output, which is read only where `show` asks for it.
///
/// A store that does not exist has no results. The results in a store that this user may not read are unknown.
pub fn show_plan(
    cli: &Cli,
    runtime: Option<String>,
    args: &ManifestArgs,
    targets: &[String],
    show: impl FnOnce(&Analysis<'_>, &dyn Fn(StepId) -> Note, &dyn Fn(StepId) -> OutputState) -> String,
) -> Result<String, CommandError> {
    let flags = Partial { store: cli.store.clone(), runtime, ..Partial::default() };
    let settings = settings_with_warning(flags, &args.manifest)?;
    let manifest = ManifestFile::load(&args.manifest, &args.sets)?;
    let analysis = Analysis::new(&manifest.build, &target::steps(&manifest.build, targets)?);
    let store = StoreView::open(&settings)?;
    store.notice_if_missing(&settings);
    let lock = LockFile::of(&settings, &manifest.build, args)?.pins(&manifest.build)?;
    let pins = Pins { lock: lock.as_ref(), pulls: false, learns: false };
    let images = Arc::new(pull::known(&manifest.build, store.store.as_ref(), pins));
    let checker = analysis.read_only_checker(&settings, &store, cache::Options { images, ..Default::default() })?;
    let forecast = analysis.forecast(&checker)?;
    let segments = &analysis.segments;
    let output = |step: StepId| match (segments.of_step(step), analysis.build.step(step).action.output()) {
        (Some(segment), Some(_)) => match forecast.status(segment) {
            CacheStatus::Fresh(recorded) if forecast.reasons(segment).is_empty() => {
                checker.output_state(step, segment, recorded)
            }
            _ => OutputState::Same,
        },
        _ => OutputState::Same,
    };
    let is_pushed =
        |step: StepId| matches!(&analysis.build.step(step).action, Action::Export(export) if export.push.is_some());
    let note = |step: StepId| {
        let segment = segments.of_step(step);
        let is_resumed = |segment: &usize| segments.get(*segment).steps[..forecast.resumed(*segment)].contains(&step);
        let running = segment.filter(|segment| !is_resumed(segment));
        let reasons = running.map_or(&[][..], |segment| forecast.reasons(segment));
        let as_value = |reason| serde_json::to_value(reason).unwrap_or_default();
        Note {
            output: OutputState::Same,
            may_push: reasons.is_empty() && is_pushed(step),
            fresh: reasons.is_empty(),
            unknown: !reasons.is_empty() && reasons.iter().all(Reason::is_open),
            reasons: reasons.iter().map(|reason| (reason.to_string(), as_value(reason))).collect(),
        }
    };
    let text = show(&analysis, &note, &output);
    // A user who may not write to the store reads the inputs and the outputs again the next time.
    let _ = checker.close();
    Ok(text)
}
