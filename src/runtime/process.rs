//! The OCI process of a step: command, user, environment, capabilities and limits, the same for all runtimes.

use std::collections::{BTreeMap, HashSet};

use oci_spec::OciSpecError;
use oci_spec::runtime::{
    Capability, LinuxCapabilities, LinuxCapabilitiesBuilder, PosixRlimitBuilder, PosixRlimitType, Process,
    ProcessBuilder, User, UserBuilder,
};

use crate::model::Container;
use crate::resource_limits;

/// The environment of every process before what the manifest adds.
const DEFAULT_ENV: [(&str, &str); 2] =
    [("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"), ("TERM", "xterm")];

/// A user as the kernel knows it, looked up in the rootfs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// User number.
    pub uid: u32,
    /// Group number.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// The home folder of passwd(5), else `/`.
    pub home: String,
}

impl Credentials {
    /// User and group 0, where nothing is looked up.
    pub fn root() -> Self {
        Self { uid: 0, gid: 0, groups: vec![0], home: "/root".into() }
    }
}

/// What a step changes of its container's process.
#[derive(Debug)]
pub struct Command<'a> {
    /// The argument vector.
    pub argv: Vec<String>,
    /// Added to the container's environment.
    pub env: &'a BTreeMap<String, String>,
    /// Where it starts.
    pub cwd: &'a std::path::Path,
    /// Who runs it.
    pub user: &'a Credentials,
    /// `SOURCE_DATE_EPOCH` of its environment, unless the manifest sets that.
    pub source_date_epoch: Option<u64>,
}

/// The process of one command in a container.
///
/// # Errors
/// None in practice: every required field is given.
pub fn process(container: &Container, command: Command<'_>) -> Result<Process, OciSpecError> {
    let mut env: BTreeMap<&str, String> =
        DEFAULT_ENV.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    // runc and its like set HOME where it is not given; given here, it is the same with all of them.
    env.insert("HOME", command.user.home.clone());
    if let Some(seconds) = command.source_date_epoch {
        env.insert("SOURCE_DATE_EPOCH", seconds.to_string());
    }
    for (name, value) in container.env.iter().chain(command.env) {
        env.insert(name, value.clone());
    }
    let files = container.limits.nofile.unwrap_or_else(resource_limits::default_nofile);
    let nofile = PosixRlimitBuilder::default().typ(PosixRlimitType::RlimitNofile).soft(files).hard(files).build()?;
    ProcessBuilder::default()
        .terminal(false)
        .user(user(command.user)?)
        .args(command.argv)
        .env(env.into_iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>())
        .cwd(command.cwd)
        .capabilities(capabilities(&container.capabilities, command.user.uid)?)
        .rlimits(vec![nofile])
        .no_new_privileges(container.no_new_privileges)
        .build()
}

/// Why the kernel executes no program with so large an environment, for where only that is known.
pub const TOO_LARGE: &str = "an argument or a variable is longer than 128 KiB, or all of them together are longer than a \
                             quarter of the stack (`ulimit -s`), which is the most that the kernel takes";

/// Returns why the kernel would refuse to execute a program with these arguments and variables, see execve(2): a runtime
/// reports no more than the kernel's words.
pub fn too_large(process: &Process) -> Option<String> {
    let all = process.args().iter().chain(process.env()).flatten();
    let length = all.fold(0, |sum: u64, text| sum + (text.len() + 1 + size_of::<*const u8>()) as u64);
    let most = resource_limits::longest_arguments();
    (length > most).then(|| {
        format!(
            "its arguments and variables take {length} bytes, and the kernel takes at most {most} here; put what is large \
             into a file and mount that, or raise the limit of the stack (`ulimit -s`)"
        )
    })
}

fn user(credentials: &Credentials) -> Result<User, OciSpecError> {
    UserBuilder::default()
        .uid(credentials.uid)
        .gid(credentials.gid)
        .umask(0o022u32)
        .additional_gids(credentials.groups.clone())
        .build()
}

/// For user 0 the same set in all but the ambient one: ambient capabilities would make every program that a step of
/// another user starts as powerful as a set-uid one. Without them, such a user has none until a file capability gives
/// some.
///
/// Another user has none before execve(2) either, which would take them away: with them it could execute what only user 0
/// may, and no-new-privileges would leave it the capabilities of the file, for they would not be new.
fn capabilities(set: &[Capability], uid: u32) -> Result<LinuxCapabilities, OciSpecError> {
    let set: HashSet<Capability> = set.iter().copied().collect();
    let at_once = if uid == 0 { set.clone() } else { HashSet::new() };
    LinuxCapabilitiesBuilder::default()
        .bounding(set.clone())
        .effective(at_once.clone())
        .inheritable(set)
        .permitted(at_once)
        .ambient(HashSet::new())
        .build()
}
