//! `runner plan`: the steps in their order, which of them would run, and why.

use super::absent_secrets;
use super::annotated_plan::show_plan;
use super::command_error::CommandError;
use super::console::{columns, print, warn};
use super::planned_limits::PlannedLimits;
use crate::cli::{Cli, PlanArgs};
use crate::escape;
use crate::plan;

/// Prints the plan as text or as JSON.
pub fn plan(cli: &Cli, args: &PlanArgs) -> Result<(), CommandError> {
    let text = show_plan(cli, args.runtime.clone(), &args.manifest, &args.targets, |analysis, note| {
        let (build, plan) = (analysis.build, &analysis.plan);
        absent_secrets::warn_of(build);
        analysis.order_warnings().iter().for_each(|warning| warn(warning));
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
