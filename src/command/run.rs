//! `runner run`: one command in a fresh session of a container.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;
use std::thread;

use rustix::fs::FileType;

use super::site::Site;
use super::{Stop, apply, loaded, settings};
use crate::build::{Build, ContainerId, Rootfs};
use crate::cli::{Cli, RunArgs, TargetArgs};
use crate::diagnostic::nearest;
use crate::error::{Error, Exit};
use crate::event::Events;
use crate::execute::{self, Attempt, Context, Options, Rooms};
use crate::freshness::{self, Judge};
use crate::plan::{Plan, Segments};
use crate::report::{self, Beside, Mode};
use crate::session::{Session, SessionError};
use crate::settings::{Partial, Settings};
use crate::terminal;

/// Runs the command and passes its exit code on.
pub fn run(cli: &Cli, args: &RunArgs) -> Result<(), Stop> {
    if args.terminal {
        return run_on_terminal(cli, &args.target, |_| Ok(args.command.clone()));
    }
    in_session(cli, &args.target, |context, rooms, container| {
        execute::run(context, rooms, container, &args.command, stdin()?, &mut report::pass_through)
    })
}

/// Runs a command on this terminal and passes its exit code on; `argv` is chosen when the root can be looked at.
pub fn run_on_terminal(
    cli: &Cli,
    target: &TargetArgs,
    argv: impl FnOnce(&Session<'_>) -> io::Result<Vec<String>>,
) -> Result<(), Stop> {
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        let hint = "without one: `runner run CONTAINER -- CMD…`".to_owned();
        let error = "cannot open a terminal inside: standard input or standard output is no terminal";
        return Err(Error::new(Exit::Usage, error).with_hint(Some(hint)).into());
    }
    let keyboard =
        terminal::keyboard().map_err(|error| Error::new(Exit::Host, format!("cannot open the terminal: {error}")))?;
    in_session(cli, target, |context, rooms, container| {
        execute::run_on_terminal(context, rooms, container, argv, keyboard.as_fd(), &mut io::stdout())
    })
}

/// Opens a session of a container for what `work` does in it; gives the exit code of that.
fn in_session(
    cli: &Cli,
    target: &TargetArgs,
    work: impl for<'a> FnOnce(Context<'a>, &Rooms<'a>, ContainerId) -> Result<Attempt, SessionError>,
) -> Result<(), Stop> {
    let flags = Partial { store: cli.store.clone(), runtime: target.runtime.runtime.clone(), ..Partial::default() };
    let settings = settings(flags, &target.manifest)?;
    let build = loaded(&target.manifest, &target.sets)?;
    let container = container(&build, &target.container)?;
    let mut site = Site::open(&settings)?;
    site.keep_bundles(target.runtime.bundle_dir.as_deref())?;
    let context = site.context(&build);
    let rooms = Rooms::new(context);
    let result = build_below(context, &settings, &rooms, container).and_then(|()| {
        work(context, &rooms, container).map_err(|error| {
            let hint = error.hint();
            Error::new(Exit::Host, error).with_hint(hint).into()
        })
    });
    drop(rooms);
    site.close()?;
    end(&result?)
}

/// What the program ends with after a command.
fn end(attempt: &Attempt) -> Result<(), Stop> {
    if attempt.interrupted {
        return Err(Exit::Interrupted.into());
    }
    if let execute::Outcome::NotStarted { why, .. } = &attempt.outcome {
        let text = format!("error: cannot start: {why}\n");
        report::pass_through(crate::event::Stream::Stderr, text.as_bytes()).ok();
    }
    match u8::try_from(attempt.outcome.exit_code()) {
        Ok(0) => Ok(()),
        Ok(code) => Err(Stop::Code(ExitCode::from(code))),
        Err(_) => Err(Exit::StepFailed.into()),
    }
}

fn container(build: &Build, name: &str) -> Result<ContainerId, Error> {
    let names = || build.containers.iter().map(|container| container.name.as_str());
    names().position(|known| known == name).map(ContainerId).ok_or_else(|| {
        let step = build.steps.iter().find(|step| step.name == name);
        let hint = match (step, nearest(name, names())) {
            (Some(step), _) => {
                format!("a step has that name, in the container `{}`", build.container(step.container).name)
            }
            (None, Some(near)) => format!("did you mean `{near}`?"),
            (None, None) => format!("the manifest has: {}", names().collect::<Vec<_>>().join(", ")),
        };
        Error::new(Exit::Usage, format!("cannot find the container `{name}`")).with_hint(Some(hint))
    })
}

/// Builds the snapshot that the container's root is, if it is one; shown on standard error.
fn build_below<'a>(
    context: Context<'a>,
    settings: &Settings,
    rooms: &Rooms<'a>,
    container: ContainerId,
) -> Result<(), Stop> {
    let Rootfs::Snapshot(step) = context.build.container(container).rootfs else { return Ok(()) };
    let plan = Plan::new(context.build, &[step]);
    let (events, receiver) = Events::channel();
    let reporter =
        thread::spawn(move || report::run(receiver, Mode::Plain { colour: false }, io::stderr(), Beside::default()));
    let options = Options { jobs: settings.jobs.get(), keep_going: false };
    let segments = Segments::new(context.build, &plan);
    let judged_by = freshness::Options { no_cache: false, runtime: context.workspace.runtime().clone() };
    let judge = Judge::new(context.build, &segments, Some(context.store), judged_by);
    let summary = execute::apply(context, &plan, &judge, options, rooms, &events);
    // What it would have learnt is learnt again the next time.
    let _ = judge.close();
    drop(events);
    // Nothing is left to do about a standard error that cannot be written to.
    let _ = reporter.join();
    apply::exit(&summary)
}

/// Standard input for what runs inside, which is hostile: it could type into a terminal (TIOCSTI of tty_ioctl(4)), and give
/// a file another owner, or write to it, by a descriptor that is open for reading. So it gets a pipe.
///
/// Starts a thread.
fn stdin() -> io::Result<OwnedFd> {
    let stdin = io::stdin();
    if stdin.is_terminal() {
        return Ok(File::open("/dev/null")?.into());
    }
    let stdin = stdin.as_fd().try_clone_to_owned()?;
    if FileType::from_raw_mode(rustix::fs::fstat(&stdin)?.st_mode) == FileType::Fifo {
        return Ok(stdin);
    }
    let (reader, mut writer) = io::pipe()?;
    // It ends with the input, or when nobody reads any more.
    let pass_on = move || io::copy(&mut File::from(stdin), &mut writer);
    thread::Builder::new().name("stdin".into()).spawn(pass_on)?;
    Ok(reader.into())
}
