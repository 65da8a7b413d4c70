//! Makes the OCI process of a step: command, user, environment, capabilities and limits, the same for all runtimes.

use std::collections::{BTreeMap, HashSet};

use oci_spec::OciSpecError;
use oci_spec::runtime::{
    Capability, LinuxCapabilities, LinuxCapabilitiesBuilder, PosixRlimitBuilder, PosixRlimitType, Process,
    ProcessBuilder, User, UserBuilder,
};

use crate::model::Container;
use crate::resource_limits;

/// The environment of every process, before the variables of the manifest.
const DEFAULT_ENV: [(&str, &str); 2] =
    [("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"), ("TERM", "xterm")];

/// A user in the kernel's terms, looked up in the rootfs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// User number.
    pub uid: u32,
    /// Group number.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// The home directory of passwd(5), else `/`.
    pub home: String,
}

impl Credentials {
    /// Returns user and group 0, without any look-up.
    pub fn root() -> Self {
        Self { uid: 0, gid: 0, groups: vec![0], home: "/root".into() }
    }
}

/// The properties of a step's process that its container does not define.
#[derive(Debug)]
pub struct Command<'a> {
    /// The argument vector.
    pub argv: Vec<String>,
    /// The variables that the step adds to the container's environment.
    pub env: &'a BTreeMap<String, String>,
    /// The working directory.
    pub cwd: &'a std::path::Path,
    /// The user that runs it.
    pub user: &'a Credentials,
    /// The value of `SOURCE_DATE_EPOCH` in its environment, unless the manifest sets that variable.
    pub source_date_epoch: Option<u64>,
}

/// Returns the process of one command in a container.
///
/// # Errors
/// None in practice: every required field is set.
pub fn process(container: &Container, command: Command<'_>) -> Result<Process, OciSpecError> {
    let mut env: BTreeMap<&str, String> =
        DEFAULT_ENV.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    // runc and similar runtimes set HOME where it is missing. Set here, it is the same with all of them.
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

/// The reason why the kernel refuses to execute a program, where only the error E2BIG is known.
pub const TOO_LARGE: &str = "an argument or a variable is longer than 128 KiB, or all of them together are longer than a \
                             quarter of the stack (`ulimit -s`), which is the most that the kernel takes";

/// Returns why the kernel would refuse to execute a program with these arguments and variables, see execve(2): a runtime
/// reports no more than the kernel's error.
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

/// Returns the capability sets of a user: for user 0 the same set in all but the ambient one. Ambient capabilities would make
/// every program that a step of another user starts as powerful as a set-uid one. Without them, such a user has none until a
/// file capability grants some.
///
/// Another user has none before execve(2) either, though that call would remove them: with them it could execute files that only
/// user 0 may, and no-new-privileges would not remove the capabilities of the file, because they would not be new.
fn capabilities(set: &[Capability], uid: u32) -> Result<LinuxCapabilities, OciSpecError> {
    let set: HashSet<Capability> = set.iter().copied().collect();
    let in_force = if uid == 0 { set.clone() } else { HashSet::new() };
    LinuxCapabilitiesBuilder::default()
        .bounding(set.clone())
        .effective(in_force.clone())
        .inheritable(set)
        .permitted(in_force)
        .ambient(HashSet::new())
        .build()
}
