//! `runner plan`: the steps in their order, which of them would run, and why.

use super::absent_secrets;
use super::annotated_plan::show_plan;
use super::command_error::CommandError;
use super::console::{columns, print, warn};
use crate::cgroup::GroupSet;
use crate::cli::{Cli, PlanArgs};
use crate::escape;
use crate::report::plan::{self, HostLimits, Note, PlannedLimits};
use crate::resource_limits::{default_nofile, settable_nofile};

/// Prints the plan as text or as JSON.
pub fn plan(cli: &Cli, args: &PlanArgs) -> Result<(), CommandError> {
    let text = show_plan(cli, args.runtime.clone(), &args.manifest, &args.targets, |analysis, note, output| {
        let note = |step| Note { output: output(step), ..note(step) };
        let (build, plan) = (analysis.build, &analysis.plan);
        absent_secrets::warnings(build).iter().for_each(|(warning, _)| warn(warning));
        analysis.order_warnings().iter().for_each(|warning| warn(warning));
        // A user who may not read the cgroups of this process, which would be those of a build, gets no list of limits.
        let limits = GroupSet::of_this_process().map_or_else(
            |_| PlannedLimits::default(),
            |home| {
                let standing = |controller: &str| home.limit_support(controller);
                let (settable, default) = (settable_nofile(), default_nofile());
                PlannedLimits::new(build, plan, &HostLimits { standing: &standing, settable, default })
            },
        );
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
