//! From a spare to a step: its streams, its limits, its user, its working directory, its program.
//!
//! The order is for safety. Every descriptor but the standard streams and the status socket closes first; then the user
//! is set; and only then the working directory is entered, through no magic link of proc(5), and must lie below the
//! root: an image or an earlier step decides where that path leads.

use crate::STATUS;
use crate::reaper;
use crate::sys::{
    self, AT_FDCWD, Errno, FileKind, O_DIRECTORY, O_NOCTTY, O_NOFOLLOW, O_NONBLOCK, O_PATH, O_RDWR, Received, operation,
};
use crate::wire::{self, CapabilitySets, INIT, NO_NEW_PRIVILEGES, Request, TERMINAL, View, kind, stage};

/// Why a process is no step.
#[derive(Clone, Copy)]
pub struct Failure {
    /// Where, see [`wire::stage`].
    pub stage: u8,
    /// The kernel's reason.
    pub error: Errno,
    /// As the stage says.
    pub detail: u64,
}

impl Failure {
    /// Says where an error came up.
    pub fn new(stage: u8) -> impl FnOnce(Errno) -> Self {
        move |error| Self { stage, error, detail: 0 }
    }
}

type Done = core::result::Result<(), Failure>;

/// A kernel without keyrings has none to protect.
pub fn without_keyrings(error: Errno) -> sys::Result<()> {
    if error == sys::ENOSYS { Ok(()) } else { Err(error) }
}

/// Turns this process into the step's program. Comes back only when that fails.
///
/// `score` is open on its oom_score_adj.
pub fn become_step(request: &Request<'_>, view: &View<'_>, received: &Received, score: i32) -> Failure {
    // Lowered for init and spare alone, so that a step is what the kernel ends for want of memory.
    let set = set_oom_score(score, request.oom_score_adj).map_err(Failure::new(stage::OOM_SCORE));
    let set_up = set.and_then(|()| set_up(request, view, received));
    let behind = || if request.has(INIT) { reaper::go_behind().map_err(Failure::new(stage::INIT)) } else { Ok(()) };
    match set_up.and_then(|()| behind()) {
        Ok(()) => execute(request),
        Err(failure) => failure,
    }
}

fn set_up(request: &Request<'_>, view: &View<'_>, received: &Received) -> Done {
    streams(request, received)?;
    sys::umask(request.umask);
    for limit in request.limits() {
        if let Err(error) = sys::limit(limit.resource, Some((limit.soft, limit.hard))) {
            let detail = sys::limit(limit.resource, None).unwrap_or(0);
            return Err(Failure { stage: stage::LIMITS, error, detail });
        }
    }
    let filter = !view.filter_first && !view.own_filter.is_empty();
    let late = filter && request.has(NO_NEW_PRIVILEGES);
    if filter && !late {
        // Without no_new_privs only a process with CAP_SYS_ADMIN may load one, see seccomp(2).
        sys::load_filter(view.own_filter).map_err(Failure::new(stage::SECCOMP))?;
    }
    user(request, view)?;
    let directory =
        sys::open_without_magic(request.cwd, O_PATH | O_DIRECTORY).map_err(Failure::new(stage::DIRECTORY))?;
    sys::change_directory(directory).map_err(Failure::new(stage::DIRECTORY))?;
    sys::close(directory);
    if request.has(NO_NEW_PRIVILEGES) {
        let set = sys::prctl(operation::SET_NO_NEW_PRIVS, 1, 0);
        set.map_err(Failure::new(stage::NO_NEW_PRIVILEGES))?;
    }
    if late {
        sys::load_filter(view.own_filter).map_err(Failure::new(stage::SECCOMP))?;
    }
    Ok(())
}

fn set_oom_score(file: i32, score: i32) -> sys::Result<()> {
    let mut text = [0u8; DIGITS + 1];
    let mut digits = [0u8; DIGITS];
    let number = decimal(score.unsigned_abs(), &mut digits);
    text[0] = b'-';
    text[1..=number.len()].copy_from_slice(number);
    let text = &text[usize::from(score >= 0)..=number.len()];
    let written = sys::write(file, text);
    sys::close(file);
    written
}

/// The most digits of a number of four bytes.
pub const DIGITS: usize = 10;

/// A number in decimal digits.
pub fn decimal(number: u32, digits: &mut [u8; DIGITS]) -> &[u8] {
    let (mut left, mut first) = (number, DIGITS);
    while first > 0 && (left > 0 || first == DIGITS) {
        first -= 1;
        digits[first] = b'0' + (left % 10) as u8;
        left /= 10;
    }
    &digits[first..]
}

/// Sets the standard streams, and closes everything else but the status socket.
fn streams(request: &Request<'_>, received: &Received) -> Done {
    sys::new_session().map_err(Failure::new(stage::SESSION))?;
    let mut streams = [received.descriptors[0], received.descriptors[1], received.descriptors[2]];
    if request.has(TERMINAL) {
        let terminal = terminal(request).map_err(Failure::new(stage::TERMINAL))?;
        streams = [terminal; 3];
    } else {
        for stream in &mut streams {
            *stream = own_null(*stream).map_err(Failure::new(stage::STDIO))?;
        }
    }
    let set = || {
        for (to, from) in streams.iter().enumerate() {
            sys::duplicate(*from, to as i32, false)?;
        }
        sys::close_from(STATUS + 1)
    };
    set().map_err(Failure::new(stage::STDIO))
}

/// A stream, with the container's null device in place of the host's: through a descriptor of that one a step could
/// change its mode and owner.
fn own_null(stream: i32) -> sys::Result<i32> {
    if sys::kind(stream)? != FileKind::Null {
        return Ok(stream);
    }
    // Not blocking: the manifest may list another device in its place.
    let null = sys::open(AT_FDCWD, b"/dev/null\0", O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY)?;
    if sys::kind(null)? != FileKind::Null {
        return Err(sys::EINVAL);
    }
    sys::block(null)?;
    Ok(null)
}

/// Makes a terminal the controlling one of this process, and sends the master's side to runner.
fn terminal(request: &Request<'_>) -> sys::Result<i32> {
    const TIOCGPTPEER: usize = 0x5441;
    const TIOCSCTTY: usize = 0x540e;
    let master = sys::open(AT_FDCWD, b"/dev/ptmx\0", O_RDWR | O_NOCTTY | O_NONBLOCK)?;
    sys::block(master)?;
    sys::unlock_terminal(master)?;
    // By the master and not by a path.
    let slave = sys::ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY)? as i32;
    sys::give(slave, request.uid)?;
    if request.rows > 0 && request.columns > 0 {
        let side = |side: u32| u16::try_from(side).unwrap_or(u16::MAX);
        sys::set_terminal_size(slave, side(request.rows), side(request.columns))?;
    }
    sys::ioctl(slave, TIOCSCTTY, 0)?;
    console(master)?;
    sys::send(STATUS, &wire::status(kind::TERMINAL, 0, 0, 0), &[master])?;
    Ok(slave)
}

/// Makes /dev/console lead to the terminal: a link, for by now the step may not mount any more.
fn console(master: i32) -> sys::Result<()> {
    const PREFIX: &[u8] = b"pts/";
    const PATH: &[u8] = b"/dev/console\0";
    let mut target = [0u8; PREFIX.len() + DIGITS + 1];
    let mut digits = [0u8; DIGITS];
    let number = decimal(sys::terminal_number(master)?, &mut digits);
    target[..PREFIX.len()].copy_from_slice(PREFIX);
    target[PREFIX.len()..PREFIX.len() + number.len()].copy_from_slice(number);
    let target = &target[..=PREFIX.len() + number.len()];
    match sys::link(target, AT_FDCWD, PATH) {
        // A device that the manifest lists.
        Err(sys::EEXIST) => Ok(()),
        other => other,
    }
}

/// Takes capabilities that are in `from` and not in `to` out of the bounding set of this process and of those that it
/// clones, see capabilities(7).
pub fn bound(from: u64, to: u64) -> sys::Result<()> {
    for capability in (0..64).filter(|capability| from & !to & 1 << capability != 0) {
        match sys::prctl(operation::CAPBSET_DROP, capability, 0) {
            // The last that this kernel knows is behind.
            Err(sys::EINVAL) => break,
            other => other?,
        }
    }
    Ok(())
}

fn user(request: &Request<'_>, view: &View<'_>) -> Done {
    let CapabilitySets { bounding, effective, permitted, inheritable, ambient } = request.capabilities;
    let failed = || Failure::new(stage::CAPABILITIES);
    // Init has left a step those that any step of this container may have.
    bound(view.bounding, bounding).map_err(failed())?;
    if request.uid != 0 {
        sys::prctl(operation::SET_KEEPCAPS, 1, 0).map_err(failed())?;
    }
    groups(request).map_err(Failure::new(stage::GROUPS))?;
    sys::set_gid(request.gid).map_err(Failure::new(stage::GROUP))?;
    sys::set_uid(request.uid).map_err(Failure::new(stage::USER))?;
    sys::set_capabilities(effective, permitted, inheritable).map_err(failed())?;
    sys::prctl(operation::CAP_AMBIENT, operation::CAP_AMBIENT_CLEAR_ALL, 0).map_err(failed())?;
    for capability in (0..64).filter(|capability| ambient & 1 << capability != 0) {
        sys::prctl(operation::CAP_AMBIENT, operation::CAP_AMBIENT_RAISE, capability).map_err(failed())?;
    }
    Ok(())
}

fn groups(request: &Request<'_>) -> sys::Result<()> {
    /// `NGROUPS_MAX` of the kernel is 65536; more than this few come from no group(5).
    const MOST: usize = 1024;
    let mut groups = [0u32; MOST];
    let all = groups.get_mut(..request.group_count()).ok_or(sys::EINVAL)?;
    for (to, from) in all.iter_mut().zip(request.groups()) {
        *to = from;
    }
    sys::set_groups(all)
}

/// Replaces this process by the step's program, sought as execvp(3) does.
fn execute(request: &Request<'_>) -> Failure {
    let failed = Failure::new(stage::EXECUTE);
    let (argc, envc) = (request.argv.count_left(), request.env.count_left());
    let Ok(words) = sys::map_words(argc + envc + 2) else { return failed(sys::ENOMEM) };
    let (argv, env) = words.split_at_mut(argc + 1);
    for (to, from) in argv.iter_mut().zip(request.argv) {
        *to = from.as_ptr() as usize;
    }
    for (to, from) in env.iter_mut().zip(request.env) {
        *to = from.as_ptr() as usize;
    }
    let mut failure = sys::ENOENT;
    for path in request.candidates {
        match sys::execute(path, argv, env) {
            sys::ENOENT | sys::ENOTDIR => {}
            sys::EACCES => failure = sys::EACCES,
            other => return failed(other),
        }
    }
    failed(failure)
}
