//! Replaces each `debian` root by a container with two steps that make it: mmdebstrap(1), and a snapshot of its result.
//!
//! Maintainer scripts of packages are as hostile as any step, so mmdebstrap runs in a container of its own: a root from nothing,
//! with read-only views of the host's programs and certificates, and no other file of the host. Its program and the keys are in
//! the key of the step; the host's other programs are not.

use std::path::{Path, PathBuf};

use super::check::{Check, missing};
use super::host::FileKind;
use crate::diagnostic::{Place, Problem, Trail};
use crate::manifest::{
    ContainerDef, DebianDef, Manifest, MountDef, Named, Reference, RootfsDef, SnapshotDef, StepDef, Text,
};

/// The directory of the new root in the root of the container that makes it.
const ROOT: &str = "/debian";

/// The keys of Debian's archive, of the package debian-archive-keyring.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The directories of the host that mmdebstrap and its programs need: of those, a host without a merged /usr has all apart.
const VIEWS: [&str; 7] = ["/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc/alternatives", "/etc/ssl/certs"];

/// The sets of packages of mmdebstrap that give a root with packages.
const VARIANTS: [&str; 7] = ["essential", "apt", "required", "minbase", "buildd", "important", "standard"];

impl Check<'_> {
    /// Returns the manifest with a container and steps in the place of each `debian` root; none where there is no such root.
    pub(super) fn expand_debian(&mut self, manifest: &Manifest) -> Option<Manifest> {
        let defs = manifest.containers.as_ref()?;
        let of = |def: &ContainerDef| def.rootfs.as_ref().is_some_and(|rootfs| rootfs.debian.is_some());
        if !defs.iter().any(|(_, def)| of(def)) {
            return None;
        }
        let mut expanded = manifest.clone();
        let (mut containers, mut makers, mut steps) =
            (Vec::new(), Vec::new(), expanded.steps.take().unwrap_or_default());
        if let [(only, _)] = defs.0.as_slice() {
            // Its steps need not name it.
            for step in &mut steps {
                step.container.get_or_insert_with(|| only.clone());
            }
        }
        for (name, def) in defs.iter() {
            let at = Trail::TOP.key("containers");
            let at = at.key(name);
            let at = at.key("rootfs");
            let mut def = def.clone();
            if let Some(rootfs) = &mut def.rootfs
                && let Some(debian) = rootfs.debian.clone()
            {
                let [maker, root] = [format!("{name}.debian"), format!("{name}.root")];
                let at = at.key("debian");
                if self.are_taken(&at, manifest, [&maker, &root]) {
                    *rootfs = RootfsDef { scratch: Some(true), ..RootfsDef::default() };
                    containers.push((name.to_owned(), def));
                    continue;
                }
                makers.push((maker.clone(), self.maker(&debian, &at)));
                let command = self.command(&debian, &at);
                steps.push(StepDef {
                    name: Some(maker.clone()),
                    container: Some(maker.clone()),
                    exec: Some(command.into_iter().map(Text::new).collect()),
                    ..StepDef::default()
                });
                let snapshot = SnapshotDef {
                    mode: Some("full".into()),
                    subtree: Some(PathBuf::from(ROOT)),
                    ..SnapshotDef::default()
                };
                steps.push(StepDef {
                    name: Some(root.clone()),
                    container: Some(maker),
                    snapshot: Some(Box::new(snapshot)),
                    ..StepDef::default()
                });
                // Another source beside it is reported where the root is checked.
                if is_only_source(rootfs) {
                    *rootfs = RootfsDef { snapshot: Some(root), ..RootfsDef::default() };
                }
            }
            containers.push((name.to_owned(), def));
        }
        containers.append(&mut makers);
        expanded.containers = Some(Named(containers));
        expanded.steps = Some(steps);
        Some(expanded)
    }

    /// Returns whether the manifest itself has a step or the container of the first of these names, and reports it.
    fn are_taken(&mut self, at: &Trail<'_>, manifest: &Manifest, names: [&String; 2]) -> bool {
        let top = Trail::TOP;
        let mut taken = Vec::new();
        for (n, step) in manifest.steps.iter().flatten().enumerate() {
            if let Some(name) = step.name.as_ref().filter(|name| names.contains(name)) {
                let steps = top.key("steps");
                taken.push(("step", name.as_str(), Place::value(steps.index(n).key("name").path())));
            }
        }
        for (name, _) in manifest.containers.iter().flat_map(|defs| defs.iter()).filter(|(name, _)| *name == names[0]) {
            let containers = top.key("containers");
            taken.push(("container", name, Place::key(containers.key(name).path())));
        }
        let is_taken = !taken.is_empty();
        for (what, name, place) in taken {
            let problem = Problem::new(Place::key(at.path()), format!("runner makes this root in the {what} `{name}`"));
            let problem = problem.label("needs the name").related(place, "has the name");
            self.add(problem.help(format!("give that {what} another name")));
        }
        is_taken
    }

    /// Returns the container in which mmdebstrap runs.
    fn maker(&mut self, debian: &DebianDef, at: &Trail<'_>) -> ContainerDef {
        let mut mounts: Vec<MountDef> = Vec::new();
        for view in VIEWS {
            if self.host.kind(Path::new(view)).is_ok_and(|kind| kind == FileKind::Dir) {
                mounts.push(MountDef { cache: Some("ignore".into()), ..view_of(view, view) });
            }
        }
        mounts.push(MountDef {
            r#type: Some("tmpfs".into()),
            target: Some("/tmp".into()),
            options: Some(vec!["mode=1777".into()]),
            ..MountDef::default()
        });
        match self.host.program("mmdebstrap") {
            Some(program) => mounts.push(view_of(&program.to_string_lossy(), "/mmdebstrap")),
            None => {
                let problem = Problem::new(Place::key(at.path()), "mmdebstrap is not on this host");
                let problem = problem.label("it makes such a root");
                self.add(problem.help("`apt-get install mmdebstrap` installs it"));
            }
        }
        mounts.extend(self.keyring(debian, at));
        ContainerDef {
            rootfs: Some(RootfsDef { scratch: Some(true), ..RootfsDef::default() }),
            hostname: Some("debian".into()),
            network: Some("host".into()),
            mounts: Some(mounts.into_iter().map(|mount| Reference::Here(Box::new(mount))).collect()),
            ..ContainerDef::default()
        }
    }

    fn keyring(&mut self, debian: &DebianDef, at: &Trail<'_>) -> Option<MountDef> {
        if let Some(written) = &debian.keyring {
            let at = at.key("keyring");
            let path = self.on_host(&at, "keyring", written);
            let is_file = !written.is_empty() && self.exists(&at, "keyring", &path, &[FileKind::File]);
            return is_file.then(|| view_of(&path.to_string_lossy(), &keyring_target(debian)));
        }
        if self.host.kind(Path::new(KEYRING)).is_ok() {
            return Some(view_of(KEYRING, &keyring_target(debian)));
        }
        let problem = Problem::new(Place::key(at.path()), format!("the keyring {KEYRING} is not on this host"));
        let problem = problem.label("the packages cannot be verified");
        self.add(problem.help("`apt-get install debian-archive-keyring` installs it; `keyring` names another one"));
        None
    }

    /// Returns the command that makes the root.
    fn command(&mut self, debian: &DebianDef, at: &Trail<'_>) -> Vec<String> {
        let suite = match &debian.suite {
            Some(suite) => {
                self.words(&at.key("suite"), "suite", std::slice::from_ref(suite), false);
                suite.clone()
            }
            None => {
                let problem = Problem::new(missing(at, "suite"), "the Debian root has no suite").label("in this root");
                self.add(problem.help("write one, such as `suite: bookworm`"));
                String::new()
            }
        };
        let variants: Vec<(&str, &str)> = VARIANTS.iter().map(|variant| (*variant, *variant)).collect();
        let variant = match &debian.variant {
            Some(variant) => self.choice(&at.key("variant"), "variant", variant, &variants, "minbase"),
            None => "minbase",
        };
        let mut command: Vec<String> =
            ["/mmdebstrap", "--mode=root", "--format=directory", "--aptopt=Acquire::Retries \"3\""]
                .map(String::from)
                .into();
        command.push(format!("--variant={variant}"));
        command.push(format!("--keyring={}", keyring_target(debian)));
        // mmdebstrap copies these from the host, and a root must not depend on where it was made.
        command.push("--customize-hook=rm -f \"$1/etc/resolv.conf\" \"$1/etc/hostname\"".into());
        for (key, what, words) in
            [("include", "package", &debian.include), ("components", "component", &debian.components)]
        {
            let Some(words) = words else { continue };
            self.words(&at.key(key), what, words, true);
            if !words.is_empty() {
                command.push(format!("--{key}={}", words.join(",")));
            }
        }
        command.push(suite);
        command.push(ROOT.into());
        if let Some(mirror) = &debian.mirror {
            let at = at.key("mirror");
            let is_url = ["http://", "https://"].iter().any(|scheme| mirror.starts_with(scheme));
            if !is_url || mirror.chars().any(|c| c.is_whitespace() || c.is_control()) {
                let problem =
                    Problem::new(&at, format!("the mirror {mirror:?} is not a URL of an archive")).label("here");
                self.add(problem.help("write one such as http://deb.debian.org/debian"));
            }
            command.push(mirror.clone());
        }
        command
    }

    /// Refuses words that mmdebstrap would take for an option or for several words.
    fn words(&mut self, at: &Trail<'_>, what: &str, words: &[String], is_list: bool) {
        for (n, word) in words.iter().enumerate() {
            let is_allowed = |c: char| c.is_ascii_alphanumeric() || "+-.:~=/_".contains(c);
            if word.starts_with(|c: char| c.is_ascii_alphanumeric()) && word.chars().all(is_allowed) {
                continue;
            }
            let problem = if is_list {
                Problem::new(&at.index(n), format!("{word:?} is not the name of a {what}"))
            } else {
                Problem::new(at, format!("{word:?} is not the name of a {what}"))
            };
            self.add(problem.label("here").help("write letters, digits, and `+-.:~=/_` after the first character"));
        }
    }
}

/// Returns whether the root has no source beside `debian`.
fn is_only_source(rootfs: &RootfsDef) -> bool {
    *rootfs == RootfsDef { debian: rootfs.debian.clone(), ..RootfsDef::default() }
}

/// Returns the path of the keys in the container. apt reads their format from the name.
fn keyring_target(debian: &DebianDef) -> String {
    let name = debian.keyring.as_deref().unwrap_or(KEYRING);
    let is_text = Path::new(name).extension().is_some_and(|extension| extension == "asc");
    if is_text { "/keyring.asc".into() } else { "/keyring.gpg".into() }
}

/// Returns a read-only bind.
fn view_of(source: &str, target: &str) -> MountDef {
    MountDef {
        r#type: Some("bind".into()),
        source: Some(source.into()),
        target: Some(target.into()),
        options: Some(vec!["ro".into()]),
        ..MountDef::default()
    }
}
