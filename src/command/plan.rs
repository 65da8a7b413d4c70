//! `runner plan`: what would run, in order.

use super::{Stop, loaded, print};
use crate::cli::{PlanArgs, targets};
use crate::plan::{self, Plan};

/// Prints the plan as text or as JSON.
pub fn plan(args: &PlanArgs) -> Result<(), Stop> {
    let build = loaded(&args.manifest.manifest, &args.manifest.sets)?;
    let plan = Plan::new(&build, &targets(&build, &args.targets)?);
    let text = if args.json { format!("{:#}\n", plan::json(&build, &plan)) } else { plan::text(&build, &plan) };
    print(text.as_bytes())
}
