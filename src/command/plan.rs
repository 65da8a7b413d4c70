//! `runner plan`: what would run, in order, and why.

use super::inside::notice;
use super::limits::PlannedLimits;
use super::lock::failed;
use super::site::{LongReads, runtime};
use super::{Stop, absent_secrets, columns, loaded, print, settings_with_warning, warn_of_order};
use crate::build::{Build, StepId};
use crate::cli::{Cli, ManifestArgs, PlanArgs, targets};
use crate::error::told;
use crate::escape;
use crate::freshness::{self, Judge, forecast};
use crate::key::Reason;
use crate::plan::{self, Note, Plan, Segments};
use crate::settings::{Partial, STORE_OF_ROOT, Settings};
use crate::store::{Existing, Store};

/// Prints the plan as text or as JSON.
pub fn plan(cli: &Cli, args: &PlanArgs) -> Result<(), Stop> {
    let text = noted(cli, args.runtime.clone(), &args.manifest, &args.targets, |build, plan, note| {
        absent_secrets::warn_of(build);
        warn_of_order(build, plan);
        let limits = PlannedLimits::of(build, plan);
        if args.json {
            let mut value = plan::json(build, plan, note);
            value["limits"] = limits.json();
            escape::json(&format!("{value:#}\n")).into_owned()
        } else {
            plan::text(build, plan, note, columns()) + &limits.text(columns())
        }
    })?;
    print(text.as_bytes())
}

/// Says which store a user who is not root has looked at, where that is none: only root builds, by default into another one.
pub fn tell_empty_store(settings: &Settings) {
    if settings.is_default_store && !rustix::process::geteuid().is_root() {
        let store = settings.store.display();
        notice(&format!("note: this user has no store in {store}; `--store {STORE_OF_ROOT}` looks at that of root"));
    }
}

/// Shows the plan of a manifest, of each step with what is known of it. A store that is not there has
/// nothing; of one that this user may not read, nothing is known.
pub fn noted(
    cli: &Cli,
    runtime_wished: Option<String>,
    manifest: &ManifestArgs,
    names: &[String],
    show: impl FnOnce(&Build, &Plan, &dyn Fn(StepId) -> Note) -> String,
) -> Result<String, Stop> {
    let flags = Partial { store: cli.store.clone(), runtime: runtime_wished, ..Partial::default() };
    let settings = settings_with_warning(flags, &manifest.manifest)?;
    let build = loaded(&manifest.manifest, &manifest.sets)?;
    let plan = Plan::new(&build, &targets(&build, names)?);
    let (store, unreadable) = match Store::open_existing(&settings.store).map_err(|error| failed(error.into()))? {
        Existing::Store(store) => (Some(store), None),
        Existing::None => (None, None),
        Existing::Unreadable(error) => (None, Some(told(&error))),
    };
    if store.is_none() && unreadable.is_none() {
        tell_empty_store(&settings);
    }
    let segments = Segments::new(&build, &plan);
    let options = freshness::Options {
        runtime: runtime(&settings.runtime)?,
        long_read: LongReads::default().reporter(),
        unreadable,
        ..Default::default()
    };
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
            unknown: !reasons.is_empty() && reasons.iter().all(Reason::is_open),
            reasons: reasons.iter().map(|reason| (reason.to_string(), as_value(reason))).collect(),
        }
    };
    Ok(show(&build, &plan, &note))
}
