//! `runner plan`: what would run, in order, and why.

use super::lock::failed;
use super::site::runtime;
use super::{Stop, loaded, print, settings};
use crate::build::StepId;
use crate::cli::{Cli, PlanArgs, targets};
use crate::freshness::{self, Judge, forecast};
use crate::plan::{self, Note, Plan, Segments};
use crate::settings::Partial;
use crate::store::Store;

/// Prints the plan as text or as JSON. A store that is not there, or that this user may not read, has nothing.
pub fn plan(cli: &Cli, args: &PlanArgs) -> Result<(), Stop> {
    let flags = Partial { store: cli.store.clone(), runtime: args.runtime.clone(), ..Partial::default() };
    let settings = settings(flags, &args.manifest.manifest)?;
    let build = loaded(&args.manifest.manifest, &args.manifest.sets)?;
    let plan = Plan::new(&build, &targets(&build, &args.targets)?);
    let store = Store::open_existing(&settings.store).map_err(|error| failed(error.into()))?;
    let segments = Segments::new(&build, &plan);
    let options = freshness::Options { no_cache: false, runtime: runtime(&settings.runtime)? };
    let judge = Judge::new(&build, &segments, store.as_ref(), options);
    let forecast = forecast(&judge, &plan).map_err(failed)?;
    // What cannot be written is learnt again: a plan needs no privilege.
    let _ = judge.close();
    let note = |step: StepId| {
        let segment = segments.of_step(step);
        let is_resumed = |segment: &usize| segments.get(*segment).steps[..forecast.resumed(*segment)].contains(&step);
        let runs = segment.filter(|segment| !is_resumed(segment));
        let reasons = runs.map_or(&[][..], |segment| forecast.reasons(segment));
        let as_value = |reason| serde_json::to_value(reason).unwrap_or_default();
        Note {
            fresh: reasons.is_empty(),
            reasons: reasons.iter().map(|reason| (reason.to_string(), as_value(reason))).collect(),
        }
    };
    let text =
        if args.json { format!("{:#}\n", plan::json(&build, &plan, note)) } else { plan::text(&build, &plan, note) };
    print(text.as_bytes())
}
