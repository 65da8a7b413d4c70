//! Preforks a step: makes a process in namespaces of its own, with its mounts made, that waits for a request.

use crate::dev::Dev;
use crate::mounts::{self, Mounted};
use crate::proc;
use crate::step;
use crate::sys::{self, Buffer, Fork, Namespace, O_WRONLY, POLLIN, POLLRDHUP, Poll, Received, Result};
use crate::watched::WatchedMounts;
use crate::wire::{self, MAX_INLINE, REQUEST_DESCRIPTORS, Request, StepSetup, kind, stage};
use crate::{CONTROL, PROC, REPORT, STATUS};

/// A process that waits for a request, to become a step.
#[derive(Clone, Copy)]
pub struct PreforkedStep {
    /// A descriptor of the process.
    pub pidfd: i32,
    /// The process' number in this container.
    pub number: u32,
    /// Its mount namespace, which the janitor closes when the step has ended; -1 where it could not be opened.
    pub mounts: i32,
    /// Its PID namespace, in which its processes get SIGTERM; -1 where it could not be opened.
    pub pids: i32,
    /// Whether the first process of the step is a `reaper`.
    pub has_reaper: bool,
}

/// The privileges that init could drop because no step may have them; a preforked process drops the others.
#[derive(Clone, Copy)]
pub struct Privileges {
    /// Whether init has dropped the capabilities.
    pub is_bound: bool,
    /// Whether init has loaded the filter that all descendants inherit.
    pub filtered: Result<()>,
}

impl Privileges {
    /// Drops as many as this kernel allows.
    pub fn drop_all(setup: &StepSetup<'_>) -> Self {
        let filter = setup.inherited_filter;
        let filtered = if filter.is_empty() { Ok(()) } else { sys::load_filter(filter) };
        Self { is_bound: step::bound(u64::MAX, setup.bounding).is_ok(), filtered }
    }
}

/// The parts of a step that are made before a request arrives.
struct Ready {
    mounted: Mounted,
    /// The oom_score_adj of this process, open for writing.
    score: i32,
}

/// The bytes of a request. Only the pages that a request fills are touched.
static REQUEST: Buffer<MAX_INLINE> = Buffer::new();

/// Receives a request into its buffer.
pub fn with_request<T>(wait: bool, user: impl FnOnce(Result<Received>, &'static [u8]) -> T) -> T {
    REQUEST.with(|bytes| {
        let received = sys::receive(CONTROL, bytes, wait);
        let length = received.as_ref().map_or(0, |received| received.length);
        user(received, &bytes[..length.min(MAX_INLINE)])
    })
}

/// Forks a process that becomes a step, from an init with these privileges; `has_request` says whether a request waits already. The
/// process uses the `/dev`.
pub fn prefork(
    setup: &StepSetup<'_>,
    watched: WatchedMounts,
    privileges: Privileges,
    has_request: bool,
    dev: Option<Dev>,
) -> Result<PreforkedStep> {
    match sys::fork_apart()? {
        Fork::Child => wait(setup, watched, privileges, has_request, dev),
        Fork::Parent(number, pidfd) => {
            if let Some(dev) = dev {
                sys::close(dev.tree);
            }
            // Init opens these before the process changes its user: not every host lets init look into a process of another user.
            let open = |kind, path| sys::namespace(pidfd, kind).or_else(|_| proc::open(number, path)).unwrap_or(-1);
            let (mounts, pids) = (open(Namespace::Mount, b"/ns/mnt\0"), open(Namespace::Pid, b"/ns/pid\0"));
            Ok(PreforkedStep { pidfd, number, mounts, pids, has_reaper: false })
        }
    }
}

/// Makes the sockets on which a preforked process reports that it becomes a step. Returns init's end; the other one is at
/// [`REPORT`], the lowest free descriptor, for all preforked processes.
pub fn report_socket() -> Result<i32> {
    let [reporting, reports] = sys::socket_pair()?;
    if reporting == REPORT {
        return Ok(reports);
    }
    sys::close(reporting);
    sys::close(reports);
    Err(sys::EBADMSG)
}

/// Prepares the step, waits for a request, and becomes the step.
fn wait(
    setup: &StepSetup<'_>,
    watched: WatchedMounts,
    privileges: Privileges,
    has_request: bool,
    dev: Option<Dev>,
) -> ! {
    // Of init's descriptors, only the four common ones, the root where a mount is watched, and a `/dev` stay open: none belongs to
    // another step.
    let end = watched.end();
    let closed = match dev {
        None => sys::close_from(end),
        Some(dev) => sys::duplicate(dev.tree, end, true).and_then(|()| sys::close_from(end + 1)),
    };
    if closed.is_err() {
        sys::exit(125);
    }
    let ready = prepare(setup, watched, privileges, dev.map(|dev| Dev { tree: end, ..dev }));
    if !has_request && !is_fit_at_request(&ready, setup, watched) {
        // Init preforks another process for that request.
        sys::exit(0);
    }
    with_request(true, |received, bytes| {
        let Ok(received) = received else { sys::exit(125) };
        if received.length == 0 || received.count < REQUEST_DESCRIPTORS {
            sys::exit(0);
        }
        let status = received.descriptors[REQUEST_DESCRIPTORS - 1];
        let request = parse(&received, bytes);
        let has_reaper = request.as_ref().is_some_and(|request| request.has(wire::INIT));
        // As soon as init has this report, it follows this process as a step.
        let dev = ready.as_ref().ok().and_then(|ready| Some(ready.mounted.dev.as_ref()?.now()));
        let followed = report_begun(status, has_reaper, dev).and_then(|()| sys::duplicate(status, STATUS, true));
        if let Err(error) = followed {
            // Where init does not follow this process, it cannot report why.
            let _ = sys::send(status, &wire::status(kind::FAILED, stage::PROCESS, error.0, 0), &[]);
            sys::exit(125);
        }
        sys::close(status);
        let failure = match (ready, request) {
            (Err(failure), _) => failure,
            (Ok(_), None) => step::Failure::new(stage::REQUEST)(sys::EBADMSG),
            (Ok(ready), Some(request)) => step::exec_step(&request, setup, &received, ready.score),
        };
        let message = wire::status(kind::FAILED, failure.stage, failure.error.0, failure.detail);
        let _ = sys::send(STATUS, &message, &[]);
        sys::exit(125)
    })
}

/// Waits for a request, without receiving it, and checks the mounts again: meanwhile a step of this container can have removed or
/// renamed a mount point, which takes the mount away in every namespace, or can have restored a missing path.
fn is_fit_at_request(
    ready: &core::result::Result<Ready, step::Failure>,
    setup: &StepSetup<'_>,
    watched: WatchedMounts,
) -> bool {
    let mut control = [Poll { descriptor: CONTROL, events: POLLIN | POLLRDHUP, happened: 0 }];
    sys::poll(&mut control).is_ok()
        && ready.as_ref().is_ok_and(|ready| ready.mounted.is_complete(setup))
        && watched.lost(setup).is_none()
}

/// The length of the message by which a preforked process reports that it becomes a step.
const BEGUN: usize = 10;

/// Sends to init the status socket of the step that this process becomes, and its `/dev` for a later step.
fn report_begun(status: i32, has_reaper: bool, dev: Option<Dev>) -> Result<()> {
    let mut bytes = [0u8; BEGUN];
    bytes[0] = u8::from(has_reaper);
    let Some(dev) = dev else { return sys::send(REPORT, &bytes, &[status]) };
    bytes[1] = u8::from(dev.is_settled);
    bytes[2..].copy_from_slice(&dev.made.to_le_bytes());
    sys::send(REPORT, &bytes, &[status, dev.tree])
}

/// The message of a preforked process that becomes a step.
pub struct Started {
    /// The status socket of the step; -1 where it could not be received.
    pub status: i32,
    /// See [`PreforkedStep::has_reaper`].
    pub has_reaper: bool,
    /// Its `/dev`, which a later step may use.
    pub dev: Option<Dev>,
}

/// Receives the message of a preforked process that becomes a step; returns none where none has arrived.
pub fn receive_started(reports: i32) -> Option<Started> {
    let mut bytes = [0u8; BEGUN];
    match sys::receive(reports, &mut bytes, false) {
        Err(sys::EAGAIN) => None,
        Err(_) => Some(Started { status: -1, has_reaper: false, dev: None }),
        Ok(received) => {
            let [has_reaper, is_settled, made @ ..] = bytes;
            let dev = received.descriptors[..received.count].get(1).map(|tree| Dev {
                tree: *tree,
                made: u64::from_le_bytes(made),
                is_settled: is_settled != 0,
            });
            Some(Started { status: received.descriptors[0], has_reaper: has_reaper != 0, dev })
        }
    }
}

fn prepare(
    setup: &StepSetup<'_>,
    watched: WatchedMounts,
    privileges: Privileges,
    dev: Option<Dev>,
) -> core::result::Result<Ready, step::Failure> {
    if let Some(error) = watched.error() {
        return Err(step::Failure::new(stage::PROCESS)(error));
    }
    if let Some((detail, error)) = watched.lost(setup) {
        return Err(step::Failure { stage: stage::LOST_MOUNT, error, detail });
    }
    privileges.filtered.map_err(step::Failure::new(stage::SECCOMP))?;
    if !privileges.is_bound {
        step::bound(u64::MAX, setup.bounding).map_err(step::Failure::new(stage::CAPABILITIES))?;
    }
    let mounted = mounts::mount(setup, dev)?;
    sys::new_keyring().or_else(step::ignore_missing_keyrings).map_err(step::Failure::new(stage::KEYRING))?;
    // The proc is detached, so this file does not lie below the root.
    let score = sys::open(PROC, b"self/oom_score_adj\0", O_WRONLY).map_err(step::Failure::new(stage::OOM_SCORE))?;
    if setup.confined {
        sys::confine_to_root().map_err(step::Failure::new(stage::LANDLOCK))?;
    }
    if setup.filter_first && !setup.own_filter.is_empty() {
        sys::load_filter(setup.own_filter).map_err(step::Failure::new(stage::SECCOMP))?;
    }
    Ok(Ready { mounted, score })
}

/// Reads the request, which lies in the packet or in the memory beside it.
fn parse(received: &Received, bytes: &'static [u8]) -> Option<Request<'static>> {
    let bytes = match received.descriptors[..received.count].get(REQUEST_DESCRIPTORS) {
        None => bytes,
        Some(memory) => {
            let length = sys::size(*memory).ok()?;
            sys::map_file(*memory, length).ok()?
        }
    };
    Request::parse(bytes)
}
