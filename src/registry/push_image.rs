//! Pushes a whole image: its blobs a few at a time, and then its manifest under the tag of the name. So a tag never leads to an
//! image that the registry does not have completely.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::RegistryError;
use super::parallel::AT_ONCE;
use super::push::{Pushed, PushedBlob};
use super::repository::Repository;
use crate::oci::StoredImage;

/// The progress of a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PushProgress {
    /// The bytes of blobs that were sent.
    pub sent: u64,
    /// The bytes that the registry has, with those that it had before.
    pub done: u64,
    /// The bytes of all blobs.
    pub total: u64,
}

/// The result of a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PushReport {
    /// The bytes of blobs that were sent.
    pub sent: u64,
    /// The tag led to another image before, or to none.
    pub is_changed: bool,
}

impl Repository<'_> {
    /// Puts an image under the tag of the name, unless it is there. `mount_from` is a repository of the same registry that may have
    /// some of its blobs.
    ///
    /// # Errors
    /// See [`RegistryError`]: the first one. The other uploads end then, and the tag leads where it led before.
    pub fn push_image(
        &self,
        image: &StoredImage,
        mount_from: Option<&str>,
        progress: &(dyn Fn(PushProgress) + Sync),
    ) -> Result<PushReport, RegistryError> {
        if self.tagged()? == Some(image.digest) {
            return Ok(PushReport { sent: 0, is_changed: false });
        }
        let uploads = Uploads::new(image);
        let work = || uploads.work(|blob, step| self.push_blob(blob, step), mount_from, progress);
        std::thread::scope(|scope| {
            // The caller's thread works too, also where the host grants no other.
            for _ in 1..AT_ONCE.min(image.blobs.len()) {
                let _ = std::thread::Builder::new().name("push".to_owned()).spawn_scoped(scope, work);
            }
            work();
        });
        let sent = uploads.progress().sent;
        if let Some(error) = uploads.failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(error);
        }
        self.push_manifest(&image.media_type, &image.manifest)?;
        Ok(PushReport { sent, is_changed: true })
    }
}

/// The blobs of one push, which several threads take.
struct Uploads<'i> {
    image: &'i StoredImage,
    next: AtomicUsize,
    is_over: AtomicBool,
    failure: Mutex<Option<RegistryError>>,
    /// The bytes of each blob that were sent.
    sent: Vec<AtomicU64>,
    /// The bytes of blobs that need not be sent.
    spared: AtomicU64,
}

impl<'i> Uploads<'i> {
    fn new(image: &'i StoredImage) -> Self {
        Self {
            image,
            next: AtomicUsize::new(0),
            is_over: AtomicBool::new(false),
            failure: Mutex::default(),
            sent: image.blobs.iter().map(|_| AtomicU64::new(0)).collect(),
            spared: AtomicU64::new(0),
        }
    }

    fn progress(&self) -> PushProgress {
        let sent = self.sent.iter().map(|sent| sent.load(Ordering::Relaxed)).sum();
        let total = self.image.blobs.iter().map(|(_, content)| content.size).sum();
        PushProgress { sent, done: sent + self.spared.load(Ordering::Relaxed), total }
    }

    /// Takes one blob after the other, until none remains or one has failed.
    fn work(
        &self,
        push: impl Fn(&PushedBlob<'_>, &(dyn Fn(u64) -> ControlFlow<()> + Sync)) -> Result<Pushed, RegistryError>,
        mount_from: Option<&str>,
        progress: &(dyn Fn(PushProgress) + Sync),
    ) {
        while !self.is_over.load(Ordering::SeqCst) {
            let number = self.next.fetch_add(1, Ordering::SeqCst);
            let Some(((digest, content), sent)) = self.image.blobs.get(number).zip(self.sent.get(number)) else {
                return;
            };
            let step = |count| {
                sent.store(count, Ordering::Relaxed);
                progress(self.progress());
                if self.is_over.load(Ordering::SeqCst) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            };
            match push(&PushedBlob { digest: *digest, content, mount_from }, &step) {
                // The client does not ask the content for its end.
                Ok(Pushed::Uploaded) => sent.store(content.size, Ordering::Relaxed),
                Ok(Pushed::Existing | Pushed::Mounted) => {
                    sent.store(0, Ordering::Relaxed);
                    self.spared.fetch_add(content.size, Ordering::Relaxed);
                }
                Err(error) => {
                    // The first one: the others may only have been ended by it.
                    self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                    self.is_over.store(true, Ordering::SeqCst);
                    return;
                }
            }
            progress(self.progress());
        }
    }
}
