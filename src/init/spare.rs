//! A spare: a process in namespaces of its own, with its view mounted, that waits for a request to become a step.

use crate::dev::Dev;
use crate::proc;
use crate::step;
use crate::sys::{self, Buffer, Fork, Namespace, O_WRONLY, POLLIN, POLLRDHUP, Poll, Received, Result};
use crate::view::{self, Mounted};
use crate::watched::Watched;
use crate::wire::{self, MAX_INLINE, REQUEST_DESCRIPTORS, Request, View, kind, stage};
use crate::{CONTROL, FEED, PROC, STATUS};

/// A process that waits to become a step.
#[derive(Clone, Copy)]
pub struct Spare {
    /// A descriptor of the process.
    pub process: i32,
    /// Its number in this container.
    pub number: u32,
    /// Its mount namespace, for the janitor to take down when it has ended; -1 where there is none.
    pub mounts: i32,
    /// Its PID namespace, in which its processes are told to end; -1 where there is none.
    pub pids: i32,
    /// Whether its first process is a `reaper`, once it is a step.
    pub is_behind: bool,
}

/// How far init has given up what no step may have; a spare has the rest to do.
#[derive(Clone, Copy)]
pub struct Privileges {
    /// Whether it has dropped the capabilities.
    pub is_bound: bool,
    /// Whether it is behind the filter that all inherit.
    pub filtered: Result<()>,
}

impl Privileges {
    /// Gives up as much as this kernel allows.
    pub fn give_up(view: &View<'_>) -> Self {
        let filter = view.inherited_filter;
        let filtered = if filter.is_empty() { Ok(()) } else { sys::load_filter(filter) };
        Self { is_bound: step::bound(u64::MAX, view.bounding).is_ok(), filtered }
    }
}

/// The things that a spare has made ready.
struct Ready {
    mounted: Mounted,
    /// Its oom_score_adj, open for writing.
    score: i32,
}

/// A request's bytes. Its pages are touched as far as it is long.
static REQUEST: Buffer<MAX_INLINE> = Buffer::new();

/// Receives a request into the memory for it.
pub fn with_request<T>(wait: bool, user: impl FnOnce(Result<Received>, &'static [u8]) -> T) -> T {
    REQUEST.with(|bytes| {
        let received = sys::receive(CONTROL, bytes, wait);
        let length = received.as_ref().map_or(0, |received| received.length);
        user(received, &bytes[..length.min(MAX_INLINE)])
    })
}

/// Makes a spare of an init with these privileges; `asked` where a request waits for it. It takes the `/dev`.
pub fn make(view: &View<'_>, watched: Watched, privileges: Privileges, asked: bool, dev: Option<Dev>) -> Result<Spare> {
    match sys::fork_apart()? {
        Fork::Child => wait(view, watched, privileges, asked, dev),
        Fork::Parent(number, process) => {
            if let Some(dev) = dev {
                sys::close(dev.tree);
            }
            // Opened while it is init's own still: a step of another user is not init's to look into on every host.
            let open = |kind, path| sys::namespace(process, kind).or_else(|_| proc::open(number, path)).unwrap_or(-1);
            let (mounts, pids) = (open(Namespace::Mount, b"/ns/mnt\0"), open(Namespace::Pid, b"/ns/pid\0"));
            Ok(Spare { process, number, mounts, pids, is_behind: false })
        }
    }
}

/// Makes the way on which a spare passes on the status socket of the step that it becomes, and whether that is behind a
/// `reaper`. Returns init's end; the other one is at [`FEED`], the lowest descriptor that is free, for all spares.
pub fn feed() -> Result<i32> {
    let [fed, feed] = sys::socket_pair()?;
    if fed == FEED {
        return Ok(feed);
    }
    sys::close(fed);
    sys::close(feed);
    Err(sys::EBADMSG)
}

/// Gets ready, waits, and becomes the step.
fn wait(view: &View<'_>, watched: Watched, privileges: Privileges, asked: bool, dev: Option<Dev>) -> ! {
    // Of init's descriptors it keeps its own four, the root where a mount is watched, and a `/dev`: none of another step's.
    let end = watched.end();
    let kept = match dev {
        None => sys::close_from(end),
        Some(dev) => sys::duplicate(dev.tree, end, true).and_then(|()| sys::close_from(end + 1)),
    };
    if kept.is_err() {
        sys::exit(125);
    }
    let ready = prepare(view, watched, privileges, dev.map(|dev| Dev { tree: end, ..dev }));
    if !asked && !is_fit_at_request(&ready, view, watched) {
        // Init makes another one for that request.
        sys::exit(0);
    }
    with_request(true, |received, bytes| {
        let Ok(received) = received else { sys::exit(125) };
        if received.length == 0 || received.count < REQUEST_DESCRIPTORS {
            sys::exit(0);
        }
        let status = received.descriptors[REQUEST_DESCRIPTORS - 1];
        let request = parse(&received, bytes);
        let is_behind = request.as_ref().is_some_and(|request| request.has(wire::INIT));
        // From here on init follows this process as a step.
        let dev = ready.as_ref().ok().and_then(|ready| Some(ready.mounted.dev.as_ref()?.now()));
        let followed = begun(status, is_behind, dev).and_then(|()| sys::duplicate(status, STATUS, true));
        if let Err(error) = followed {
            // Where init does not follow this process, it cannot report why.
            let _ = sys::send(status, &wire::status(kind::FAILED, stage::PROCESS, error.0, 0), &[]);
            sys::exit(125);
        }
        sys::close(status);
        let failure = match (ready, request) {
            (Err(failure), _) => failure,
            (Ok(_), None) => step::Failure::new(stage::REQUEST)(sys::EBADMSG),
            (Ok(ready), Some(request)) => step::become_step(&request, view, &received, ready.score),
        };
        let message = wire::status(kind::FAILED, failure.stage, failure.error.0, failure.detail);
        let _ = sys::send(STATUS, &message, &[]);
        sys::exit(125)
    })
}

/// Waits for a request, which it does not take, and looks at the view as it is by then: a step of this container can
/// have removed or renamed the place of a mount, which takes the mount away in every namespace, or can have put back what
/// was missing.
fn is_fit_at_request(ready: &core::result::Result<Ready, step::Failure>, view: &View<'_>, watched: Watched) -> bool {
    let mut control = [Poll { descriptor: CONTROL, events: POLLIN | POLLRDHUP, happened: 0 }];
    sys::poll(&mut control).is_ok()
        && ready.as_ref().is_ok_and(|ready| ready.mounted.is_whole(view))
        && watched.lost(view).is_none()
}

/// The length of the message by which a spare says that it becomes a step.
const BEGUN: usize = 10;

/// Passes to init the status socket of the step that this process becomes, and its `/dev` for a later step.
fn begun(status: i32, is_behind: bool, dev: Option<Dev>) -> Result<()> {
    let mut bytes = [0u8; BEGUN];
    bytes[0] = u8::from(is_behind);
    let Some(dev) = dev else { return sys::send(FEED, &bytes, &[status]) };
    bytes[1] = u8::from(dev.is_settled);
    bytes[2..].copy_from_slice(&dev.made.to_le_bytes());
    sys::send(FEED, &bytes, &[status, dev.tree])
}

/// The message of a spare that becomes a step.
pub struct Begun {
    /// The status socket of the step; -1 where it could not be received.
    pub status: i32,
    /// See [`Spare::is_behind`].
    pub is_behind: bool,
    /// Its `/dev`, which a later step may have.
    pub dev: Option<Dev>,
}

/// Receives the message of a spare that becomes a step; none where there is none.
pub fn receive_begun(feed: i32) -> Option<Begun> {
    let mut bytes = [0u8; BEGUN];
    match sys::receive(feed, &mut bytes, false) {
        Err(sys::EAGAIN) => None,
        Err(_) => Some(Begun { status: -1, is_behind: false, dev: None }),
        Ok(received) => {
            let [is_behind, is_settled, made @ ..] = bytes;
            let dev = received.descriptors[..received.count].get(1).map(|tree| Dev {
                tree: *tree,
                made: u64::from_le_bytes(made),
                is_settled: is_settled != 0,
            });
            Some(Begun { status: received.descriptors[0], is_behind: is_behind != 0, dev })
        }
    }
}

fn prepare(
    view: &View<'_>,
    watched: Watched,
    privileges: Privileges,
    dev: Option<Dev>,
) -> core::result::Result<Ready, step::Failure> {
    if let Some(error) = watched.failed() {
        return Err(step::Failure::new(stage::PROCESS)(error));
    }
    if let Some((detail, error)) = watched.lost(view) {
        return Err(step::Failure { stage: stage::LOST_MOUNT, error, detail });
    }
    privileges.filtered.map_err(step::Failure::new(stage::SECCOMP))?;
    if !privileges.is_bound {
        step::bound(u64::MAX, view.bounding).map_err(step::Failure::new(stage::CAPABILITIES))?;
    }
    let mounted = view::mount(view, dev)?;
    sys::new_keyring().or_else(step::without_keyrings).map_err(step::Failure::new(stage::KEYRING))?;
    // Of a proc that is mounted nowhere, so not below the root.
    let score = sys::open(PROC, b"self/oom_score_adj\0", O_WRONLY).map_err(step::Failure::new(stage::OOM_SCORE))?;
    if view.confined {
        sys::confine_to_root().map_err(step::Failure::new(stage::LANDLOCK))?;
    }
    if view.filter_first && !view.own_filter.is_empty() {
        sys::load_filter(view.own_filter).map_err(step::Failure::new(stage::SECCOMP))?;
    }
    Ok(Ready { mounted, score })
}

/// The request, which lies in the packet or in the memory beside it.
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
