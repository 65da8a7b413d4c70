//! Checks of the exports of steps.

use std::collections::HashMap;
use std::path::PathBuf;

use super::build::{Action, Compression, Export, ExportFormat, OciImage, OciLayers};
use super::check::{Check, missing};
use super::host::FileKind;
use super::steps::OrderedStep;
use crate::diagnostic::{Place, Problem, Trail};
use crate::manifest::{ExportDef, Named, OciConfigDef, Text};
use crate::oci::{ImageName, Version};

/// The forms of an export, by their names in the manifest.
const FORMATS: [(&str, ExportFormat); 6] = [
    ("files", ExportFormat::Files),
    ("tar", ExportFormat::Tar),
    ("squashfs", ExportFormat::Squashfs),
    ("erofs", ExportFormat::Erofs),
    ("cpio", ExportFormat::Cpio),
    ("oci", ExportFormat::Oci),
];

impl Check<'_> {
    pub(super) fn export(&mut self, def: &ExportDef, at: &Trail<'_>) -> Export {
        let is_known = |check: &Self, key: &str| check.unknown_paths.covers(&at.key(key).path());
        let format = match &def.format {
            Some(word) => self.choice(&at.key("format"), "format", word, &FORMATS, ExportFormat::Files),
            None => {
                if !is_known(self, "format") {
                    let problem =
                        Problem::new(missing(at, "format"), "the export has no `format`").label("in this export");
                    let names = FORMATS.map(|(name, _)| format!("`{name}`")).join(", ");
                    self.add(problem.help(format!("write `format: …`: {names}")));
                }
                ExportFormat::Files
            }
        };
        let path = match &def.path {
            Some(path) => self.absolute(&at.key("path"), "path", path),
            None => PathBuf::from("/"),
        };
        let is_archive = def.output.as_deref().is_some_and(|output| output.ends_with(".tar"));
        let may_be_directory = format == ExportFormat::Files || format == ExportFormat::Oci && !is_archive;
        let output = match &def.output {
            Some(output) if may_be_directory => Some(self.export_output(&at.key("output"), output)),
            Some(output) => Some(self.output(&at.key("output"), output)),
            None => {
                let is_pushed = format == ExportFormat::Oci && (def.push.is_some() || is_known(self, "push"));
                if !is_pushed && !is_known(self, "output") {
                    let problem =
                        Problem::new(missing(at, "output"), "the export has no `output`").label("in this export");
                    let or = if format == ExportFormat::Oci { "; or `push: …`, its name in a registry" } else { "" };
                    self.add(
                        problem.help(format!("write `output: …`, the file or directory of the host to write{or}")),
                    );
                }
                None
            }
        };
        let compression = self.export_compression(def, format, at);
        if !format.compressions().is_empty() {
            self.level(def.level, compression, at);
        }
        let oci = self.oci_image(def, format, is_archive, at).map(Box::new);
        let push = def.push.as_deref().filter(|_| format == ExportFormat::Oci);
        let push = push.and_then(|name| self.pushed_name(&at.key("push"), name));
        Export { format, path, output, compression, level: def.level, oci, push }
    }

    /// Returns the name that an image is pushed to: one with a tag.
    fn pushed_name(&mut self, at: &Trail<'_>, written: &str) -> Option<ImageName> {
        let problem = match written.parse::<ImageName>() {
            Ok(name) if matches!(name.version, Version::Tag(_)) => return Some(name),
            Ok(_) => Problem::new(at, "an image cannot be pushed to a digest: its content makes it")
                .label("this name has a digest")
                .help("write a tag: ghcr.io/OWNER/NAME:TAG; runner reports the digest"),
            Err(problem) => {
                let help = "write it as in Compose: ghcr.io/OWNER/NAME:TAG, registry.example.org:5000/NAME or NAME:TAG";
                Problem::new(at, format!("the name of the image {problem}"))
                    .label("no name of an image")
                    .help(if written.contains("://") { "write it without `https://`" } else { help })
            }
        };
        self.add(problem);
        None
    }

    /// Refuses two exports to the same tag: the last one to be pushed would win.
    pub(super) fn pushes(&mut self, steps: &[OrderedStep]) {
        let mut known: HashMap<&ImageName, usize> = HashMap::new();
        let top = Trail::TOP.key("steps");
        for (n, ordered) in steps.iter().enumerate() {
            let Action::Export(Export { push: Some(name), .. }) = &ordered.step.action else { continue };
            let (Some(first), at) = (known.insert(name, n), top.index(n)) else { continue };
            let problem = Problem::new(&at.key("export").key("push"), format!("two exports are pushed to {name}"));
            let first = Place::value(top.index(first).key("export").key("push").path());
            self.add(
                problem
                    .label("this would replace the first")
                    .related(first, "the first")
                    .help("give one of them another tag"),
            );
        }
    }

    /// Returns the compression: the one that the manifest names, else of an archive that of its name, else the format's default.
    fn export_compression(&mut self, def: &ExportDef, format: ExportFormat, at: &Trail<'_>) -> Compression {
        let known = match (format, def.layers.as_deref()) {
            (ExportFormat::Oci, Some("squashfs")) => ExportFormat::Squashfs.compressions(),
            _ => format.compressions(),
        };
        let default = known.first().copied().unwrap_or(Compression::None);
        if known.is_empty() {
            for (key, _) in [("compression", def.compression.is_some()), ("level", def.level.is_some())]
                .into_iter()
                .filter(|(_, there)| *there)
            {
                let problem = Problem::new(Place::key(at.key(key).path()), format!("files have no `{key}`"));
                self.add(problem.label("means nothing here").help("remove it, or choose another `format`"));
            }
            return default;
        }
        match (&def.compression, format) {
            (Some(word), _) => {
                let choices: Vec<(&str, Compression)> = known.iter().map(|one| (one.name(), *one)).collect();
                self.choice(&at.key("compression"), "compression", word, &choices, default)
            }
            (None, ExportFormat::Tar | ExportFormat::Cpio) => {
                format.default_compression(def.output.as_deref().unwrap_or_default())
            }
            (None, _) => default,
        }
    }

    /// Returns the settings of an OCI image; refuses them for other forms.
    fn oci_image(
        &mut self,
        def: &ExportDef,
        format: ExportFormat,
        is_archive: bool,
        at: &Trail<'_>,
    ) -> Option<OciImage> {
        if format != ExportFormat::Oci {
            let keys = [
                ("config", def.config.is_some()),
                ("layers", def.layers.is_some()),
                ("tag", def.tag.is_some()),
                ("push", def.push.is_some()),
            ];
            for (key, _) in keys.into_iter().filter(|(_, there)| *there) {
                let problem = Problem::new(Place::key(at.key(key).path()), format!("only an OCI image has `{key}`"));
                self.add(problem.label("means nothing here").help("remove it, or write `format: oci`"));
            }
            return None;
        }
        let layers = [("tar", OciLayers::Tar), ("squashfs", OciLayers::Squashfs)];
        let layers = def
            .layers
            .as_ref()
            .map_or(OciLayers::Tar, |word| self.choice(&at.key("layers"), "layers", word, &layers, OciLayers::Tar));
        let (name, tag) = self.name_and_tag(def.tag.as_deref().unwrap_or("latest"), &at.key("tag"));
        let none = OciConfigDef::default();
        let (config, at) = (def.config.as_ref().unwrap_or(&none), at.key("config"));
        let mut words = |key: &str, words: &Option<Vec<Text>>| {
            words.as_ref().map(|words| {
                let at = at.key(key);
                for (n, word) in words.iter().enumerate() {
                    self.argument(&at.index(n), "argument", word, 0);
                }
                words.iter().map(|word| word.to_string()).collect::<Vec<_>>()
            })
        };
        let (entrypoint, cmd) = (words("entrypoint", &config.entrypoint), words("cmd", &config.cmd));
        let user = config.user.as_ref().map(|user| {
            // Reports a wrong one.
            let _ = self.user(&at.key("user"), user);
            user.to_string()
        });
        let labels_at = at.key("labels");
        let labels = config.labels.iter().flat_map(Named::iter).map(|(name, value)| {
            self.no_nul(&labels_at.key(name), value);
            (name.to_owned(), value.to_string())
        });
        let labels = labels.collect();
        if let Some(signal) = &config.stop_signal {
            let name = signal.strip_prefix("SIG").unwrap_or_default();
            let is_name = !name.is_empty()
                && name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '+' || c == '-');
            if !is_name && signal.parse::<u8>().is_err() {
                let problem =
                    Problem::new(&at.key("stop_signal"), format!("{signal:?} is no signal")).label("not a signal");
                self.add(problem.help("write the name of a signal, such as SIGTERM"));
            }
        }
        Some(OciImage {
            is_archive,
            layers,
            name,
            tag,
            entrypoint,
            cmd,
            env: self.env(&at.key("env"), config.env.as_ref()),
            cwd: config.cwd.as_ref().map(|cwd| self.absolute(&at.key("cwd"), "cwd", cwd)),
            user,
            labels,
            stop_signal: config.stop_signal.clone(),
        })
    }

    /// Returns the name of an image, if it is written before the tag, and the tag.
    fn name_and_tag(&mut self, written: &str, at: &Trail<'_>) -> (Option<String>, String) {
        let is_tag = |tag: &str| {
            let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
            tag.chars().all(known) && !tag.is_empty() && !tag.starts_with(['.', '-']) && tag.len() <= 128
        };
        let name = written.rsplit_once(':').map(|_| written.parse::<ImageName>());
        match (name, is_tag(written)) {
            (Some(Ok(ImageName { registry, repository, version: Version::Tag(tag) })), _)
                if written.ends_with(&format!(":{tag}")) =>
            {
                (Some(format!("{registry}/{repository}")), tag)
            }
            (_, true) => (None, written.to_owned()),
            _ => {
                let problem = Problem::new(at, format!("the tag {written:?} is not one")).label("not a tag");
                let help = "write at most 128 letters, digits, `_`, `.` and `-`, such as v1.2, or a name and a tag, such as hello:v1.2";
                self.add(problem.help(help));
                (None, written.to_owned())
            }
        }
    }

    fn export_output(&mut self, at: &Trail<'_>, written: &str) -> PathBuf {
        let path = self.on_host(at, "output", written);
        if written.is_empty() || written.contains('\0') {
            return path;
        }
        if path.file_name().is_none() || path == self.directory || self.directory.starts_with(&path) {
            let problem = Problem::new(at, format!("the output `{written}` contains the manifest"))
                .label("this would be replaced");
            self.add(problem.help("write a file or directory in it"));
        } else if let Ok(found) = self.host.node(&path)
            && !matches!(found, FileKind::File | FileKind::Dir)
        {
            let problem = Problem::new(at, format!("the output `{written}` is {}", found.name()));
            let problem = problem.label("this would be replaced");
            self.add(problem.help("write another path: an export replaces a file or a directory only"));
        }
        path
    }
}
