//! Every warning: a fact about a build that the user should know, and that stops nothing.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cache::OwnFile;
use crate::fs::copy_tree::LeftOut;
use crate::model::{Build, ContainerId, size_text};
use crate::plan::Unordered;
use crate::written_through::WrittenThrough;

/// A warning. Its reason is the text of the error, with its causes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Warning {
    /// A step failed, and is tried again.
    Retry { reason: String, attempt: u32, of: u32, stays: Vec<WrittenThrough>, new_network: bool },
    /// A step was asked to end and still runs.
    StillRuns { left: Duration, is_interrupted: bool },
    /// Squashfs cannot store some files' access control lists.
    AclLost { files: u64, first: Vec<PathBuf> },
    /// Device nodes, fifos and sockets are not exported.
    NodesLeftOut { files: u64, first: Vec<PathBuf> },
    /// A tar archive has no sockets.
    SocketsLeftOut { sockets: u64 },
    /// A cpio archive has no extended attributes.
    AttributesLost { files: u64, first: Vec<PathBuf> },
    /// Exported files have no rights on the host.
    RightsRemoved { files: u64, first: Vec<PathBuf> },
    /// A step was slow enough for a checkpoint and got none.
    NoCheckpoint { why: NoCheckpoint },
    /// The store has a layer that differs from its digest.
    Damaged { digest: String },
    /// Another build of the same steps is running.
    BuiltElsewhere,
    /// Another step has locked a cache.
    CacheInUse { id: String },
    /// The results of some steps are not stored, so the steps run again in the next build.
    NotKept { step: String, why: NotKept, fix: InputFix },
    /// The base of a build cannot be read any more, so no result above it is stored.
    NotChecked { why: String },
    /// The digests of host files are not stored for the next build.
    NotLearnt { why: String },
    /// The session of a step that failed in an earlier build cannot be removed.
    FailedStays { why: String },
    /// The session of a step that failed cannot be stored.
    FailedNotKept { why: String },
    /// A session ended with an error.
    Session { container: String, why: String },
    /// A leftover of a killed runner cannot be removed.
    LeftOver { why: String },
    /// A cgroup of a killed runner is still in use.
    LeftCgroup { build: String },
    /// A `runner.toml` belongs to another user.
    SettingsIgnored { path: PathBuf, owner: u32 },
    /// The cgroup that runner was started in has so little memory that the kernel may end runner itself.
    LittleMemory { bytes: u64 },
    /// An input takes long to read, as one with large holes does.
    LongRead { path: PathBuf, bytes: u64 },
    /// A secret of the environment is not set.
    UnsetSecret { variable: String, containers: Vec<String> },
    /// A secret file does not exist, or cannot be looked at.
    AbsentSecret { path: PathBuf, containers: Vec<String> },
    /// No SSH agent answers.
    NoSshAgent { containers: Vec<String> },
    /// The host has no resolv.conf for containers with its network.
    NoResolvConf { containers: Vec<String> },
    /// The source of a bind contains the store.
    StoreInBind { source: PathBuf, store: PathBuf },
    /// A container reads files that the steps of another one write, with no order between them.
    NoOrder { source: PathBuf, order: MissingOrder },
    /// A mirror of a registry failed, and the next server was asked.
    MirrorSkipped { mirror: String, registry: String, why: String },
    /// Every build of the manifest is refused.
    BuildRefused { why: String },
}

/// Two containers of which one reads files that the other one writes, and the missing order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingOrder {
    pub reader: String,
    pub writer: String,
    /// The steps that must come first.
    pub needs: Vec<String>,
    /// The step that must wait for them.
    pub step: String,
}

impl MissingOrder {
    /// Names its containers and steps.
    pub fn of(build: &Build, unordered: &Unordered) -> Self {
        let name = |container: ContainerId| build.container(container).name.clone();
        Self {
            reader: name(unordered.reader),
            writer: name(unordered.writer),
            needs: unordered.last.iter().map(|step| build.step(*step).name.clone()).collect(),
            step: build.step(unordered.first).name.clone(),
        }
    }
}

impl fmt::Display for MissingOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`needs: [{}]` in step {}", self.needs.join(", "), self.step)
    }
}

/// The way to prevent an input from changing while steps run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InputFix {
    /// None is known.
    None,
    /// The steps do not read the files that changed.
    Ignore,
    /// A step of the same build wrote it.
    Order(Box<MissingOrder>),
    /// The build itself writes these files of it.
    Own(Vec<OwnFile>),
}

/// The reason why a step has no checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoCheckpoint {
    /// Files are in a tmpfs mount, which no layer contains.
    TmpfsLeft { targets: Vec<PathBuf> },
    /// An input has changed.
    InputsChanged,
    /// The steps may change the network of their container.
    Network,
    /// A copy of the steps' changes takes long compared with the steps.
    Dear,
    /// The checkpoint could not be written.
    Failed { why: String },
}

/// The reason why results are not stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotKept {
    /// An input has changed by now.
    Changed { reasons: Vec<String> },
    /// These inputs were touched while the steps ran, and are unchanged by now.
    ChangedBack { inputs: Vec<String> },
    /// An input is a file that this build writes at its very end.
    WillChange,
    /// The input could not be checked again, or the record not be written.
    Failed { why: String },
}

impl Warning {
    /// Returns the warnings of the files that an export of a path left out.
    pub fn of_left_out(left_out: LeftOut, exported: &Path) -> Vec<Self> {
        let whole = |(first, files): (Vec<PathBuf>, u64)| {
            let path = |path: PathBuf| {
                if path.as_os_str().is_empty() { exported.to_owned() } else { exported.join(path) }
            };
            (files > 0).then(|| (files, first.into_iter().map(path).collect::<Vec<_>>()))
        };
        let nodes = whole(left_out.nodes).map(|(files, first)| Self::NodesLeftOut { files, first });
        let rights = whole(left_out.privileges).map(|(files, first)| Self::RightsRemoved { files, first });
        nodes.into_iter().chain(rights).collect()
    }

    /// Returns the warnings of these pairs of containers.
    pub fn of_unordered(build: &Build, all: &[Unordered]) -> Vec<Self> {
        let of = |unordered: &Unordered| Self::NoOrder {
            source: unordered.source.clone(),
            order: MissingOrder::of(build, unordered),
        };
        all.iter().map(of).collect()
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Retry { reason, attempt, of, stays, new_network } => {
                write!(f, "{reason}; try {attempt} of {of}")?;
                if !stays.is_empty() {
                    let stays = WrittenThrough::list(stays);
                    write!(f, " begins with the root as it was; files that this one wrote to {stays} stay")?;
                }
                if *new_network { f.write_str("; the container's network begins anew") } else { Ok(()) }
            }
            Self::StillRuns { left, is_interrupted } => {
                let left =
                    humantime::format_duration(Duration::from_secs((*left + Duration::from_millis(500)).as_secs()));
                let sooner = if *is_interrupted { "; another Ctrl-C kills it at once" } else { "" };
                write!(f, "it was sent SIGTERM and still runs; it is killed in {left}{sooner}")
            }
            Self::AclLost { files, first } => {
                let (what, lose) = if *files == 1 {
                    ("file or directory", "loses its")
                } else {
                    ("files or directories", "lose theirs")
                };
                let more = if *files > first.len() as u64 { ", …" } else { "" };
                let first = list(first);
                write!(f, "squashfs cannot store POSIX access control lists; {files} {what} {lose}: {first}{more}")
            }
            Self::NodesLeftOut { files, first } => {
                let more = if *files > first.len() as u64 { ", …" } else { "" };
                let first = list(first);
                write!(f, "device nodes, fifos and sockets are not exported; {files} left out: {first}{more}")
            }
            Self::SocketsLeftOut { sockets } => {
                let what = if *sockets == 1 { "socket is" } else { "sockets are" };
                write!(f, "a tar archive has no place for sockets; {sockets} {what} left out")
            }
            Self::AttributesLost { files, first } => {
                let (what, lose) = if *files == 1 { ("file", "loses its") } else { ("files", "lose theirs") };
                let more = if *files > first.len() as u64 { ", …" } else { "" };
                let first = list(first);
                write!(
                    f,
                    "a cpio archive has no place for extended attributes, file capabilities among them; {files} {what} {lose}: {first}{more}"
                )
            }
            Self::RightsRemoved { files, first } => {
                let (what, have) =
                    if *files == 1 { ("file or directory", "has") } else { ("files or directories", "have") };
                let more = if *files > first.len() as u64 { ", …" } else { "" };
                let first = list(first);
                write!(
                    f,
                    "set-uid and set-gid bits and file capabilities are not exported; {files} {what} {have} none on the host: {first}{more}"
                )
            }
            Self::NoCheckpoint { why } => write!(f, "no checkpoint after it: {why}"),
            Self::Damaged { digest } => {
                write!(f, "the layer {digest} in the store is damaged; it is set aside and built again")
            }
            Self::BuiltElsewhere => {
                f.write_str("the same steps run already, here or in another runner; waiting for them")
            }
            Self::CacheInUse { id } => write!(
                f,
                "waiting for the cache {id}: another step uses it, here or in another runner, and `sharing: locked` lets one step \
                 at a time use it"
            ),
            Self::NotKept { step, why, fix } => write!(f, "{step} is not stored for the next build: {why}{fix}"),
            Self::NotChecked { why } => write!(f, "the results up to now may not be stored for the next build: {why}"),
            Self::NotLearnt { why } => {
                write!(f, "the digests of the inputs are not stored, so the next build reads them again: {why}")
            }
            Self::FailedStays { why } => {
                write!(f, "the stored session of a step that failed in an earlier build stays in the store: {why}")
            }
            Self::FailedNotKept { why } => write!(f, "its session is not stored for `runner shell`: {why}"),
            Self::Session { container, why } => write!(f, "container {container}: {why}"),
            Self::LeftOver { why } => {
                write!(f, "a leftover of a killed runner stays until the next start: {why}")
            }
            Self::SettingsIgnored { path, owner } => write!(
                f,
                "{} is not read: user {owner} owns it, and not root or the user who called runner; `sudo chown root` makes it \
                 count",
                path.display()
            ),
            Self::LeftCgroup { build } => {
                write!(
                    f,
                    "a cgroup of the killed build {build} is still in use; the next start tries again to remove it"
                )
            }
            Self::LittleMemory { bytes } => {
                let size = size_text(*bytes);
                write!(
                    f,
                    "the cgroup that runner was started in, or one above it, has a limit of {size} of memory, and the kernel \
                     may kill runner without a word; raise that limit to 64MiB or more, for a systemd service with `MemoryMax=`"
                )
            }
            Self::LongRead { path, bytes } => write!(
                f,
                "reading {}, all {} of it, to know whether it changed takes long; holes in it count as zeros and save no time",
                path.display(),
                size_text(*bytes)
            ),
            Self::UnsetSecret { variable, containers } => write!(
                f,
                "the variable {variable} of a secret is not set, so no step of {} can start; run `export {variable}=…` before a \
                 build",
                containers.join(", ")
            ),
            Self::AbsentSecret { path, containers } => write!(
                f,
                "the secret file {} does not exist, or this user cannot see it, so no step of {} can start; make it before a build",
                path.display(),
                containers.join(", ")
            ),
            Self::NoSshAgent { containers } => write!(
                f,
                "no SSH agent answers (SSH_AUTH_SOCK, or the `source` of a mount), so no step of {} that has it can start; start one with \
                 `eval $(ssh-agent)` before a build",
                containers.join(", ")
            ),
            Self::NoResolvConf { containers } => write!(
                f,
                "/etc/resolv.conf of this host is missing, or a link that leads nowhere, so the steps of {} resolve no names but \
                 those in /etc/hosts, in spite of `network: host`; `ls -l /etc/resolv.conf` shows where it leads",
                containers.join(", ")
            ),
            Self::NoOrder { source, order } => write!(
                f,
                "container {} reads {}, which steps of container {} write, and nothing orders them: the files may be those of the \
                 build before; {order} makes it wait",
                order.reader,
                source.display(),
                order.writer
            ),
            Self::MirrorSkipped { mirror, registry, why } => {
                write!(f, "the mirror {mirror} of {registry} failed, and the next server is asked: {why}")
            }
            Self::BuildRefused { why } => write!(f, "a build will be refused: {why}"),
            Self::StoreInBind { source, store } => {
                let (source, store) = (source.display(), store.display());
                write!(
                    f,
                    "the bind source {source} contains the store {store}: steps find an empty, read-only directory in its \
                     place; `--store DIRECTORY` chooses a store elsewhere"
                )
            }
        }
    }
}

impl fmt::Display for NoCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TmpfsLeft { targets } => write!(f, "files are left in {}, which is in no layer", list(targets)),
            Self::InputsChanged => f.write_str("an input of the steps has changed meanwhile"),
            Self::Network => {
                f.write_str("its steps may have changed the container's network (NET_ADMIN), which is in no layer")
            }
            Self::Dear => f.write_str(
                "a copy of their changes takes over 2% of the time that they took; `checkpoint: auto` makes it all the same",
            ),
            Self::Failed { why } => f.write_str(why),
        }
    }
}

impl fmt::Display for NotKept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ChangedBack { inputs } => {
                write!(
                    f,
                    "something wrote to, moved or removed files of {} while the steps ran, though all are the same again by now",
                    list(inputs)
                )
            }
            Self::Changed { reasons } => write!(f, "an input has changed meanwhile: {}", reasons.join("; ")),
            Self::WillChange => f.write_str("an input will change at the end"),
            Self::Failed { why } => f.write_str(why),
        }
    }
}

/// Follows the report of a change.
impl fmt::Display for InputFix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => Ok(()),
            Self::Ignore => f.write_str("; a `.runnerignore` there can name files that the steps do not read"),
            Self::Order(order) => {
                write!(f, "; container {} writes there at the same time: {order} gives them an order", order.writer)
            }
            Self::Own(own) => own_files(own, f),
        }
    }
}

/// Writes that the build wrote its own inputs, and how to exclude them.
fn own_files(own: &[OwnFile], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let paths: Vec<&Path> = own.iter().map(|file| file.path.as_path()).collect();
    let mut rules: Vec<&Path> = own.iter().map(|file| file.rules.as_path()).collect();
    rules.dedup();
    let them = if own.len() == 1 { "it" } else { "them" };
    let (paths, rules) = (list(&paths), list(&rules));
    write!(f, "; this build itself writes {paths}: if the steps do not read {them}, name {them} in {rules}")
}

fn list(paths: &[impl AsRef<Path>]) -> String {
    paths.iter().map(|path| path.as_ref().display().to_string()).collect::<Vec<_>>().join(", ")
}
