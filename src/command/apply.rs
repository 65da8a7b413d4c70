//! `runner apply`: builds.

use std::io;
use std::thread;

use super::site::Site;
use super::{Stop, loaded, settings};
use crate::cli::{ApplyArgs, Cli, targets};
use crate::error::{Error, Exit};
use crate::event::{BuildStatus, Events};
use crate::execute::{self, Options, Rooms, Summary};
use crate::plan::Plan;
use crate::report::{self, Surroundings};
use crate::settings::Partial;

/// Runs the plan of a manifest.
pub fn apply(cli: &Cli, args: &ApplyArgs) -> Result<(), Stop> {
    let flags = Partial { store: cli.store.clone(), jobs: args.jobs, progress: args.progress, ..Partial::default() };
    let settings = settings(flags, &args.manifest.manifest)?;
    let build = loaded(&args.manifest.manifest, &args.manifest.sets)?;
    let plan = Plan::new(&build, &targets(&build, &args.targets)?);
    let site = Site::open(&settings)?;
    let (events, receiver) = Events::channel();
    let mode = Surroundings::of_stdout().mode(settings.progress);
    let reporter = thread::spawn(move || report::run(receiver, mode, io::stdout()));
    site.warn(&events);
    let context = site.context(&build);
    let rooms = Rooms::new(context);
    let options = Options { jobs: settings.jobs.get(), keep_going: args.keep_going };
    let summary = execute::apply(context, &plan, options, &rooms, &events);
    drop((rooms, events));
    site.close()?;
    let shown = reporter.join();
    exit(&summary)?;
    match shown {
        Ok(Err(error)) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::new(Exit::Host, format!("write to standard output: {error}")).into())
        }
        _ => Ok(()),
    }
}

/// What the end of a run ends the program with.
pub fn exit(summary: &Summary) -> Result<(), Stop> {
    match summary.status {
        BuildStatus::Done => Ok(()),
        BuildStatus::Interrupted => Err(Exit::Interrupted.into()),
        BuildStatus::Failed if summary.step_failed => Err(Exit::StepFailed.into()),
        BuildStatus::Failed => Err(Exit::Host.into()),
    }
}
