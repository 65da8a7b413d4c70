//! Turns a preforked process into a step: sets its streams, limits, user and working directory, and executes its program.
//!
//! The order is for safety. First every descriptor but the standard streams and the status socket closes; then the user
//! is set; and only then the process enters the working directory, through no magic link of proc(5). That directory must lie
//! below the root, because an image or an earlier step decides where the path leads.

use crate::STATUS;
use crate::reaper;
use crate::sys::{
    self, AT_FDCWD, Errno, FileKind, O_DIRECTORY, O_NOCTTY, O_NOFOLLOW, O_NONBLOCK, O_PATH, O_RDWR, Received, operation,
};
use crate::wire::{self, CapabilitySets, INIT, NO_NEW_PRIVILEGES, Request, StepSetup, TERMINAL, kind, stage};

/// Why a process could not become a step.
#[derive(Clone, Copy)]
pub struct Failure {
    /// The failed stage, see [`wire::stage`].
    pub stage: u8,
    /// The kernel's reason.
    pub error: Errno,
    /// A number whose meaning depends on the stage.
    pub detail: u64,
}

impl Failure {
    /// Adds the stage to an error.
    pub fn new(stage: u8) -> impl FnOnce(Errno) -> Self {
        move |error| Self { stage, error, detail: 0 }
    }
}

type StepResult = core::result::Result<(), Failure>;

/// Ignores the error of a kernel without keyrings, which has none to protect.
pub fn ignore_missing_keyrings(error: Errno) -> sys::Result<()> {
    if error == sys::ENOSYS { Ok(()) } else { Err(error) }
}

/// Turns this process into the step's program. Returns only when that fails.
///
/// `score` is the descriptor of its oom_score_adj.
pub fn exec_step(request: &Request<'_>, setup: &StepSetup<'_>, received: &Received, score: i32) -> Failure {
    // The score is lowered for init and preforked processes alone, so that the kernel kills a step when memory runs out.
    let set = set_oom_score(score, request.oom_score_adj).map_err(Failure::new(stage::OOM_SCORE));
    let set_up = set.and_then(|()| set_up(request, setup, received));
    let fork = || if request.has(INIT) { reaper::fork_program().map_err(Failure::new(stage::INIT)) } else { Ok(()) };
    match set_up.and_then(|()| fork()) {
        Ok(()) => execute(request),
        Err(failure) => failure,
    }
}

fn set_up(request: &Request<'_>, setup: &StepSetup<'_>, received: &Received) -> StepResult {
    streams(request, received)?;
    sys::umask(request.umask);
    for limit in request.limits() {
        if let Err(error) = sys::limit(limit.resource, Some((limit.soft, limit.hard))) {
            let detail = sys::limit(limit.resource, None).unwrap_or(0);
            return Err(Failure { stage: stage::LIMITS, error, detail });
        }
    }
    let filter = !setup.filter_first && !setup.own_filter.is_empty();
    let late = filter && request.has(NO_NEW_PRIVILEGES);
    if filter && !late {
        // Without no_new_privs only a process with CAP_SYS_ADMIN may load a filter, see seccomp(2).
        sys::load_filter(setup.own_filter).map_err(Failure::new(stage::SECCOMP))?;
    }
    user(request, setup)?;
    let directory =
        sys::open_without_magic(request.cwd, O_PATH | O_DIRECTORY).map_err(Failure::new(stage::DIRECTORY))?;
    sys::change_directory(directory).map_err(Failure::new(stage::DIRECTORY))?;
    sys::close(directory);
    if request.has(NO_NEW_PRIVILEGES) {
        let set = sys::prctl(operation::SET_NO_NEW_PRIVS, 1, 0);
        set.map_err(Failure::new(stage::NO_NEW_PRIVILEGES))?;
    }
    if late {
        sys::load_filter(setup.own_filter).map_err(Failure::new(stage::SECCOMP))?;
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

/// Writes a number in decimal digits.
pub fn decimal(number: u32, digits: &mut [u8; DIGITS]) -> &[u8] {
    let (mut remaining, mut first) = (number, DIGITS);
    while first > 0 && (remaining > 0 || first == DIGITS) {
        first -= 1;
        digits[first] = b'0' + (remaining % 10) as u8;
        remaining /= 10;
    }
    &digits[first..]
}

/// Sets the standard streams, and closes everything else but the status socket.
fn streams(request: &Request<'_>, received: &Received) -> StepResult {
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

/// Returns a stream, or the container's null device in place of the host's: through a descriptor of the host's, a step could
/// change that node's mode and owner.
fn own_null(stream: i32) -> sys::Result<i32> {
    if sys::kind(stream)? != FileKind::Null {
        return Ok(stream);
    }
    // Without blocking: the manifest may list another device at this path.
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
    // Opened from the master's descriptor and not by a path.
    let slave = sys::ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY)? as i32;
    sys::change_owner(slave, request.uid)?;
    if request.rows > 0 && request.columns > 0 {
        let side = |side: u32| u16::try_from(side).unwrap_or(u16::MAX);
        sys::set_terminal_size(slave, side(request.rows), side(request.columns))?;
    }
    sys::ioctl(slave, TIOCSCTTY, 0)?;
    link_console(master)?;
    sys::send(STATUS, &wire::status(kind::TERMINAL, 0, 0, 0), &[master])?;
    Ok(slave)
}

/// Makes /dev/console a link to the terminal: by now this process may no longer mount.
fn link_console(master: i32) -> sys::Result<()> {
    const PREFIX: &[u8] = b"pts/";
    const PATH: &[u8] = b"/dev/console\0";
    let mut target = [0u8; PREFIX.len() + DIGITS + 1];
    let mut digits = [0u8; DIGITS];
    let number = decimal(sys::terminal_number(master)?, &mut digits);
    target[..PREFIX.len()].copy_from_slice(PREFIX);
    target[PREFIX.len()..PREFIX.len() + number.len()].copy_from_slice(number);
    let target = &target[..=PREFIX.len() + number.len()];
    match sys::link(target, AT_FDCWD, PATH) {
        // The manifest lists a device at this path.
        Err(sys::EEXIST) => Ok(()),
        other => other,
    }
}

/// Removes the capabilities that are in `from` and not in `to` from the bounding set of this process and of its later clones, see
/// capabilities(7).
pub fn bound(from: u64, to: u64) -> sys::Result<()> {
    for capability in (0..64).filter(|capability| from & !to & 1 << capability != 0) {
        match sys::prctl(operation::CAPBSET_DROP, capability, 0) {
            // This kernel does not know this capability, nor any higher one.
            Err(sys::EINVAL) => break,
            other => other?,
        }
    }
    Ok(())
}

fn user(request: &Request<'_>, setup: &StepSetup<'_>) -> StepResult {
    let CapabilitySets { bounding, effective, permitted, inheritable, ambient } = request.capabilities;
    let failed = || Failure::new(stage::CAPABILITIES);
    // Init's bounding set has those that any step of this container may have.
    bound(setup.bounding, bounding).map_err(failed())?;
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
    /// `NGROUPS_MAX` of the kernel is 65536, but no real group(5) has more than this many for a user.
    const MAX_GROUPS: usize = 1024;
    let mut groups = [0u32; MAX_GROUPS];
    let all = groups.get_mut(..request.group_count()).ok_or(sys::EINVAL)?;
    for (to, from) in all.iter_mut().zip(request.groups()) {
        *to = from;
    }
    sys::set_groups(all)
}

/// Replaces this process by the step's program, which it looks up as execvp(3) does.
fn execute(request: &Request<'_>) -> Failure {
    let failed = Failure::new(stage::EXECUTE);
    let (argc, envc) = (request.argv.remaining(), request.env.remaining());
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
