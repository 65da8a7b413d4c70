//! The rootfs sources below the layers of the store: found among the layers of the store, imported ones too, and among the sources of
//! the manifest, by the digests of their contents.

use std::collections::HashMap;
use std::path::PathBuf;

use crate::cache;
use crate::command::analysis::{Analysis, StoreView};
use crate::command::command_error::CommandError;
use crate::digest::Digest;
use crate::import::imported_layers;
use crate::model::{Build, Rootfs};
use crate::settings::Settings;
use crate::store::Store;

/// The id of an empty root.
pub const SCRATCH: &str = "scratch";

/// A rootfs source that can be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Nothing.
    Empty,
    /// Layers of the store, the lowest first.
    Layers(Vec<Digest>),
    /// A squashfs or EROFS image.
    Image(PathBuf),
    /// A directory.
    Directory(PathBuf),
    /// A tar archive.
    Archive(PathBuf),
    /// Programs of the host.
    Programs(Vec<PathBuf>),
}

/// The rootfs sources of the manifest by their ids, as parents have them; digested when one is needed.
pub struct Sources<'a> {
    store: &'a Store,
    settings: &'a Settings,
    build: Option<&'a Build>,
    of_manifest: Option<HashMap<String, Source>>,
}

impl<'a> Sources<'a> {
    pub fn new(store: &'a Store, settings: &'a Settings, build: Option<&'a Build>) -> Self {
        Self { store, settings, build, of_manifest: None }
    }

    /// Returns the source of an id; none where neither the store nor the manifest has it.
    ///
    /// # Errors
    /// A source of the manifest cannot be read.
    pub fn find(&mut self, id: &str) -> Result<Option<Source>, CommandError> {
        if id == SCRATCH {
            return Ok(Some(Source::Empty));
        }
        // An image that another manifest wrote is a layer of the store.
        let digest = id.strip_prefix("squashfs ").and_then(|digest| digest.parse::<Digest>().ok());
        if let Some(digest) = digest.filter(|digest| self.store.layer_path(digest).exists()) {
            return Ok(Some(Source::Layers(vec![digest])));
        }
        if let Some(layers) = imported_layers(self.store, id) {
            return Ok(Some(Source::Layers(layers)));
        }
        let found = match self.of_manifest.take() {
            Some(found) => found,
            None => self.build.map(|build| self.digested(build)).transpose()?.unwrap_or_default(),
        };
        let source = found.get(id).cloned();
        self.of_manifest = Some(found);
        Ok(source)
    }

    fn digested(&self, build: &Build) -> Result<HashMap<String, Source>, CommandError> {
        let analysis = Analysis::new(build, &[]);
        let view = StoreView { store: Some(self.store.clone()), unreadable: None };
        let checker = analysis.read_only_checker(self.settings, &view, cache::Options::default())?;
        let locked = checker.sources().map_err(crate::command::command_error::check_error)?;
        // If the digests of inputs cannot be stored, the next command reads the inputs again.
        let _ = checker.close();
        let mut sources = HashMap::new();
        for found in locked {
            let Some(container) = build.containers.iter().find(|container| container.name == found.container) else {
                continue;
            };
            let all: Vec<Source> = match &container.rootfs {
                Rootfs::Squashfs(layers) => layers.iter().map(|layer| Source::Image(layer.path.clone())).collect(),
                Rootfs::Erofs(image) => vec![Source::Image(image.path.clone())],
                Rootfs::Dir(path) => vec![Source::Directory(path.clone())],
                Rootfs::Tar(archive) => vec![Source::Archive(archive.path.clone())],
                Rootfs::Programs(programs) => vec![Source::Programs(programs.clone())],
                // A comparison asks no registry and no web server.
                Rootfs::Image(_) | Rootfs::Url(_) | Rootfs::Snapshot(_) | Rootfs::Scratch => Vec::new(),
            };
            sources.extend(found.digests.iter().map(|digest| format!("{} {digest}", found.kind)).zip(all));
        }
        Ok(sources)
    }
}
