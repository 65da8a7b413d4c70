//! Imports rootfs sources: makes each a layer of the store, once for each content.
//!
//! A record of the store, under a key of the source's digest and of the writer of images, names the layer. So a source that was
//! imported before is found in the time of a look-up, whatever its path and its container are. Keys of segments have the digest of
//! the source and never that of the layer: a collection may remove the layer, and the next build imports the source again.

mod error;
mod image;
mod stored;
mod url;

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Instant, SystemTime};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, fstat};

pub use error::ImportError;
pub use stored::imported_layers;

use crate::cache::key::{KeyFields, Parents};
use crate::cache::lacks_user_attributes;
use crate::content::{ContentError, Contents};
use crate::digest::Digest;
use crate::event::{ImportMethod, ImportStage};
use crate::fs::opened::OpenedPaths;
use crate::model::{self, Compression, FileSource};
use crate::mount::is_on_overlay;
use crate::pull::{Arrival, Reporter};
use crate::rootfs::{self, Bounds, UnpackRoom};
use crate::session::{Scratch, Workspace};
use crate::snapshot;
use crate::squashfs::{self, WriteOptions, WriteProgress};
use crate::store::{CacheRecord, LayerPin, LayerState, Lease, RecordedLayer, Store};

/// The compression of imported layers: they are read by each build and written once.
const COMPRESSION: Compression = Compression::Zstd;

/// The time between two looks whether another runner has finished the import.
const POLL_INTERVAL: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

/// The number of imports of a source that changes meanwhile.
const MAX_TRIES: u32 = 3;

/// The reasons for which an import ends early.
#[derive(Debug, Clone)]
pub struct StopSignal<'a> {
    /// Set as soon as the build is interrupted.
    pub flag: Arc<AtomicBool>,
    /// Readable from then on.
    pub descriptor: BorrowedFd<'a>,
}

/// Imports sources for one build. Threads share it.
#[derive(Debug)]
pub struct Importer<'a> {
    store: &'a Store,
    lease: &'a Lease,
    /// Opened by the first archive: most builds have none.
    contents: OnceLock<Contents>,
    opened: Arc<OpenedPaths>,
    stop: StopSignal<'a>,
    reporter: &'a Reporter,
    /// The number of imports so far, for names of files.
    number: AtomicU32,
}

/// The container for which a source is imported: its names in listings of the store, and the room that the source may take.
#[derive(Debug, Clone, Copy)]
pub struct Importing<'n> {
    /// The build.
    pub build: &'n str,
    /// The container.
    pub container: &'n str,
    /// The place of the container's changes, whose size the manifest can set: the source may take as much.
    pub scratch: model::Scratch,
    /// Makes the place where the source is unpacked.
    pub workspace: &'n Workspace,
}

impl Importing<'_> {
    fn room(&self) -> UnpackRoom {
        self.workspace.room(self.scratch)
    }

    /// Makes a place like that of the container's changes: in memory, where the manifest does not say `disk`, because most of the
    /// time of an import on disk is that of making and removing its files there. `only_memory` where no place on disk will do.
    fn place(&self, only_memory: bool) -> io::Result<Scratch> {
        let kind = match self.scratch {
            model::Scratch::Disk if only_memory => model::Scratch::Default,
            // A root in memory would lose the `user.*` attributes of its files.
            _ if lacks_user_attributes() && !only_memory => model::Scratch::Disk,
            scratch => scratch,
        };
        self.workspace.scratch(kind)
    }
}

impl<'a> Importer<'a> {
    /// Makes an importer that reads paths which were opened before, and reports what arrives.
    pub fn new(
        store: &'a Store,
        lease: &'a Lease,
        opened: Arc<OpenedPaths>,
        stop: StopSignal<'a>,
        reporter: &'a Reporter,
    ) -> Self {
        Self { store, lease, contents: OnceLock::new(), opened, stop, reporter, number: AtomicU32::new(0) }
    }

    fn contents(&self) -> &Contents {
        self.contents.get_or_init(|| {
            let contents = Contents::open(&self.store.root().join("stat"));
            contents.with(Arc::clone(&self.opened)).until(Arc::clone(&self.stop.flag))
        })
    }

    /// Returns the layer of a tar archive, which is open, and imports the archive first if the store lacks the layer.
    ///
    /// # Errors
    /// The archive is broken, has another digest than the manifest names, changes, or cannot be read; the store cannot be written.
    pub fn tar(
        &self,
        source: &FileSource,
        archive: BorrowedFd<'_>,
        of: Importing<'_>,
    ) -> Result<LayerPin, ImportError> {
        let FileSource { path, digest: expected } = source;
        for _ in 0..MAX_TRIES {
            let (digest, state) = self.contents().of_expected_file(path, expected.as_ref())?;
            let name = path.file_name().unwrap_or_default().display();
            let size = fstat(archive).ok().and_then(|stat| u64::try_from(stat.st_size).ok());
            let arrival = self.arrival(of, path.display().to_string(), ImportMethod::Import).of(digest, size);
            let import = Import {
                source: format!("tar {digest}"),
                step: format!("tar {name}"),
                of,
                arrival: &arrival,
                is_on_others: false,
            };
            let pin = self.layer(&import, |to, _| {
                rootfs::unpack(path, archive, to, &self.bounds(&import, &unpacked(&arrival)))?;
                // The unpacked bytes are those of the digest only if the file is the same before and after.
                Ok(self.contents().of_file_with_state(path)? == (digest, state))
            })?;
            if let Some(pin) = pin {
                arrival.done(&digest);
                return Ok(pin);
            }
        }
        Err(ImportError::Changing { path: path.to_owned() })
    }

    fn arrival(&self, of: Importing<'_>, source: String, method: ImportMethod) -> Arrival<'a> {
        Arrival::new(self.reporter, of.container, source, method)
    }

    /// Returns the bounds of unpacking a source. `report` gets the bytes so far.
    fn bounds<'b>(&'b self, import: &Import<'_>, report: &'b dyn Fn(u64)) -> Bounds<'b> {
        Bounds::new(&self.stop.flag, import.of.room()).reporting(report)
    }

    /// Refuses a file that has another digest than the manifest names, if it names one.
    ///
    /// # Errors
    /// [`ContentError::OtherDigest`], and those of reading the file.
    pub fn refuse_other_file(&self, source: &FileSource) -> Result<(), ContentError> {
        if source.digest.is_some() {
            self.contents().of_expected_file(&source.path, source.digest.as_ref())?;
        }
        Ok(())
    }

    /// Returns the layer of a source. Where the store lacks it, `make` makes the root in an empty directory, and returns whether it
    /// is that of the source; none if it is not.
    fn layer(
        &self,
        import: &Import<'_>,
        make: impl Fn(BorrowedFd<'_>, &Scratch) -> Result<bool, ImportError>,
    ) -> Result<Option<LayerPin>, ImportError> {
        let fields = fields(&import.source);
        let key = fields.key();
        loop {
            if let Some(pin) = self.stored(&key)? {
                return Ok(Some(pin));
            }
            let Some(_lock) = self.store.try_lock_key(&key)? else {
                if self.stop.flag.load(Ordering::SeqCst) {
                    return Err(ImportError::Stopped);
                }
                let mut polled = [PollFd::from_borrowed_fd(self.stop.descriptor, PollFlags::IN)];
                // The loop looks again, also after an early return.
                let _ = poll(&mut polled, Some(&POLL_INTERVAL));
                continue;
            };
            // Another runner may have imported it since the look.
            if let Some(pin) = self.stored(&key)? {
                return Ok(Some(pin));
            }
            return self.make(fields, import, &make);
        }
    }

    /// Returns the layer under a key, if the store has it undamaged.
    fn stored(&self, key: &Digest) -> Result<Option<LayerPin>, ImportError> {
        let Some(recorded) = self.store.recorded(key) else { return Ok(None) };
        let Some(layer) = &recorded.layer else { return Ok(None) };
        let Some(pin) = self.store.pin_layer(&layer.digest)? else { return Ok(None) };
        match self.store.look_at_layer(&layer.digest, layer.size)? {
            LayerState::Whole(_) => {
                self.store.touch(&recorded)?;
                Ok(Some(pin))
            }
            LayerState::Missing => Ok(None),
            LayerState::Damaged => {
                drop(pin);
                self.store.set_layer_aside(&layer.digest)?;
                Ok(None)
            }
        }
    }

    fn make(
        &self,
        fields: KeyFields,
        import: &Import<'_>,
        make: &dyn Fn(BorrowedFd<'_>, &Scratch) -> Result<bool, ImportError>,
    ) -> Result<Option<LayerPin>, ImportError> {
        import.arrival.begin();
        let began = Instant::now();
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let Some(image) = self.image_of(import, &format!("import{number}"), make)? else { return Ok(None) };
        let (digest, size) = Digest::with_size(&image)?;
        self.put(fields, import, &image, digest, size, began).map(Some)
    }

    /// Puts a source into the store that is an image already.
    fn put_image(&self, import: &Import<'_>, image: &Path, digest: Digest, size: u64) -> Result<LayerPin, ImportError> {
        self.put(fields(&import.source), import, image, digest, size, Instant::now())
    }

    fn put(
        &self,
        fields: KeyFields,
        import: &Import<'_>,
        image: &Path,
        digest: Digest,
        size: u64,
        began: Instant,
    ) -> Result<LayerPin, ImportError> {
        let pin = self.store.put_and_pin(image, &digest)?;
        self.store.record_import(&CacheRecord {
            fields,
            build: import.of.build.to_owned(),
            container: import.of.container.to_owned(),
            steps: vec![import.step.clone()],
            duration_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
            time: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            layer: Some(RecordedLayer::on(&Parents::default(), digest, size)),
            exports: Vec::new(),
            tmpfs_left: Vec::new(),
        })?;
        Ok(pin)
    }

    /// Makes the root of a source, and writes its image.
    fn image_of(
        &self,
        import: &Import<'_>,
        name: &str,
        make: &dyn Fn(BorrowedFd<'_>, &Scratch) -> Result<bool, ImportError>,
    ) -> Result<Option<PathBuf>, ImportError> {
        // A layer on others is unpacked onto an overlay of them, which cannot write to a store that is on an overlay itself.
        let scratch = import.of.place(import.is_on_others && is_on_overlay(self.store.root()))?;
        let directory = scratch.directory("root")?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let to = rustix::fs::open(&directory, flags, Mode::empty()).map_err(io::Error::from)?;
        let made = make(to.as_fd(), &scratch).map_err(|error| match error {
            // Each file of a tmpfs takes whole pages, so the tmpfs may be full before its bytes are counted.
            ImportError::Rootfs(error) if !scratch.is_on_disk() => error.of_full(import.of.room()).into(),
            error => error,
        })?;
        if !made {
            return Ok(None);
        }
        let image = self.lease.temp_file(&format!("{name}.squashfs"))?;
        // The times of the source, whatever the epoch of the build is: an import serves all builds.
        let options = WriteOptions {
            compression: COMPRESSION,
            level: None,
            time: 0,
            latest: u32::MAX,
            threads: thread::available_parallelism().map_or(1, usize::from),
            longest_path: snapshot::MAX_PATH_BYTES,
        };
        let mut report = |written: WriteProgress| {
            import.arrival.stage(ImportStage::Written, written.read, Some(written.all));
        };
        squashfs::write(&directory, &image, options, self.stop.descriptor, &mut report)?;
        Ok(Some(image))
    }
}

/// A source to be imported.
struct Import<'n> {
    /// Its kind and its digest.
    source: String,
    /// Its name in listings of the store, in the place of a step's: no step's name has a space.
    step: String,
    of: Importing<'n>,
    arrival: &'n Arrival<'n>,
    /// Whether it is a layer on others.
    is_on_others: bool,
}

/// Returns the report of the bytes of a source that are unpacked.
fn unpacked<'u>(arrival: &'u Arrival<'u>) -> impl Fn(u64) + 'u {
    move |bytes| arrival.stage(ImportStage::Unpacked, bytes, None)
}

/// Returns the fields of the key of a source.
fn fields(source: &str) -> KeyFields {
    KeyFields::of_import(source, &squashfs::writer(COMPRESSION))
}
