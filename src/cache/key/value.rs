//! The texts of single values in a key: equal values have equal texts, and other values other texts.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::digest::Digest;
use crate::model::{
    Capability, Compression, Copy, CopySource, Device, Export, Mount, MountKind, Network, OciImage, OciLayers,
    Principal, Seccomp, Secret, Snapshot, SnapshotMode, User,
};
use crate::seccomp::Profile;

pub(super) fn network(network: Network) -> &'static str {
    match network {
        Network::None => "none",
        Network::Host => "host",
    }
}

pub(super) fn capabilities(capabilities: &[Capability]) -> String {
    let names: Vec<String> = capabilities.iter().map(ToString::to_string).collect();
    names.join(" ")
}

/// Returns a value for a profile by its content, not its path; the default one may differ between runners.
pub(super) fn seccomp(seccomp: &Seccomp) -> String {
    static STANDARD: OnceLock<Digest> = OnceLock::new();
    match seccomp {
        Seccomp::Default => format!("default {}", STANDARD.get_or_init(|| Profile::standard().digest())),
        Seccomp::Unconfined => "unconfined".to_owned(),
        Seccomp::Profile(profile, _) => profile.digest().to_string(),
    }
}

pub(super) fn user(user: &User) -> String {
    let principal = |principal: &Principal| match principal {
        Principal::Id(id) => id.to_string(),
        Principal::Name(name) => name.clone(),
    };
    match &user.group {
        Some(group) => format!("{}:{}", principal(&user.user), principal(group)),
        None => principal(&user.user),
    }
}

pub(super) fn mount(mount: &Mount) -> String {
    let what = match &mount.kind {
        MountKind::Bind(_) => "bind".to_owned(),
        MountKind::Tmpfs => "tmpfs".to_owned(),
        MountKind::Cache(cache) => format!("cache {:?}", cache.id),
        // A file's id is its target, because its path belongs to the host.
        MountKind::Secret(Secret::File(_)) => "secret".to_owned(),
        MountKind::Secret(Secret::Variable(name)) => format!("secret {name:?}"),
        MountKind::Snapshot { path: shown, .. } => format!("snapshot {:?}", path(shown)),
        // The name of an image belongs to the host.
        MountKind::Image(_) => "image".to_owned(),
        // Never the agent or its path: it makes a step succeed, and must not change its result.
        MountKind::Ssh(_) => "ssh".to_owned(),
        MountKind::Kernel(kind, source) => format!("{kind} {source:?}"),
    };
    let ignored = if mount.ignored { " ignored" } else { "" };
    format!("{what}{ignored} {}", quoted(&mount.options))
}

pub(super) fn device(device: &Device) -> String {
    let mut text = path(&device.path) + " ";
    let access = device.access;
    let letters = [(access.read, 'r'), (access.write, 'w'), (access.mknod, 'm')];
    text.extend(letters.iter().filter(|(on, _)| *on).map(|(_, letter)| letter));
    let optional = [("uid", device.uid), ("gid", device.gid)];
    for (name, id) in optional.into_iter().filter_map(|(name, id)| Some((name, id?))) {
        // Writing to a string cannot fail.
        let _ = write!(text, " {name}={id}");
    }
    if let Some(mode) = device.mode {
        let _ = write!(text, " mode={mode:04o}");
    }
    text
}

/// Returns a copy without the step that its files come from, and without the directories of the host's files: their contents are
/// fields of their own.
pub(super) fn copy(copy: &Copy) -> String {
    let source = |source: &PathBuf| match copy.from {
        CopySource::Snapshot(_) => path(source),
        CopySource::Host => copy.name(source).map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
    };
    let from = match copy.from {
        CopySource::Snapshot(_) => "snapshot",
        CopySource::Host => "host",
    };
    let sources: Vec<String> = copy.sources.iter().map(source).collect();
    let into = if copy.into { "into" } else { "to" };
    let mut text = format!("{from} {} {into} {:?}", quoted(&sources), path(&copy.target));
    if let Some(owner) = &copy.owner {
        let _ = write!(text, " owner={}", user(owner));
    }
    if let Some(mode) = copy.mode {
        let _ = write!(text, " mode={mode:04o}");
    }
    text
}

pub(super) fn snapshot(snapshot: &Snapshot) -> String {
    let mode = match snapshot.mode {
        SnapshotMode::Layer => "layer",
        SnapshotMode::Full => "full",
    };
    let compression = match snapshot.compression {
        Compression::Zstd => "zstd",
        Compression::Gzip => "gzip",
        Compression::Xz => "xz",
        Compression::Lz4 => "lz4",
        Compression::None => "none",
    };
    let subtree = snapshot.subtree.as_ref().map_or(String::new(), |subtree| format!(" of {}", path(subtree)));
    match snapshot.level {
        Some(level) => format!("{mode} {compression} {level}{subtree}"),
        None => format!("{mode} {compression}{subtree}"),
    }
}

pub(super) fn export(export: &Export) -> String {
    let mut text = format!("{} {:?}", export.format.name(), path(&export.path));
    if export.is_image() {
        // Writing to a string cannot fail.
        let _ = write!(text, " {}", export.compression.name());
    }
    if let Some(level) = export.level {
        let _ = write!(text, " {level}");
    }
    if let Some(image) = &export.oci {
        text.push_str(&self::oci(image));
    }
    text
}

/// Returns the settings of an OCI image that are not the default ones.
fn oci(image: &OciImage) -> String {
    let mut text = format!(" {:?}", image.tag);
    if let Some(name) = &image.name {
        let _ = write!(text, " {name:?}");
    }
    if image.is_archive {
        text.push_str(" archive");
    }
    if image.layers == OciLayers::Squashfs {
        text.push_str(" squashfs");
    }
    let lists = [("entrypoint", &image.entrypoint), ("cmd", &image.cmd)];
    for (name, words) in lists.into_iter().filter_map(|(name, words)| Some((name, words.as_ref()?))) {
        let _ = write!(text, " {name}=[{}]", quoted(words));
    }
    for (name, map) in [("env", &image.env), ("label", &image.labels)] {
        for (key, value) in map {
            let _ = write!(text, " {name}={key:?}={value:?}");
        }
    }
    let cwd = image.cwd.as_ref().map(|cwd| path(cwd));
    for (name, value) in [("cwd", &cwd), ("user", &image.user), ("stop_signal", &image.stop_signal)] {
        if let Some(value) = value {
            let _ = write!(text, " {name}={value:?}");
        }
    }
    text
}

/// Returns each word in quotes, so that its end is unambiguous.
pub(super) fn quoted(words: &[String]) -> String {
    words.iter().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(" ")
}

/// Returns the text of a path of the manifest, which is UTF-8.
pub(super) fn path(path: &Path) -> String {
    PathBuf::from(path).display().to_string()
}
