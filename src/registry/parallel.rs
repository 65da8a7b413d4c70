//! Gets layers in parallel, and passes each on in its order.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;

use crate::oci::{Blobs, LayerBlob, OciError};

/// The number of layers that arrive, or blobs that are sent, at the same time.
pub(super) const AT_ONCE: usize = 4;

/// Gets layers into files that `open` makes, and gives each to `take` as soon as it and those before it are there. `progress`
/// gets the number of a layer and the bytes that are there.
///
/// # Errors
/// The first error of the place or of `take`; what is still arriving is stopped then.
pub fn each_layer<B: Blobs + Sync, E: From<B::Error>>(
    blobs: &B,
    layers: &[LayerBlob],
    open: &(dyn Fn() -> io::Result<File> + Sync),
    progress: &(dyn Fn(usize, u64) + Sync),
    mut take: impl FnMut(usize, File) -> Result<(), E>,
) -> Result<(), E>
where
    B::Error: Send,
{
    let (next, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let (sender, receiver) = mpsc::channel();
    let get = |number: usize, layer: &LayerBlob| -> Result<File, B::Error> {
        let file = open().map_err(OciError::Write)?;
        blobs.layer(layer, &file, &|count| {
            progress(number, count);
            if is_over.load(Ordering::SeqCst) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        Ok(file)
    };
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(layers.len()) {
            let (sender, get, next, is_over) = (sender.clone(), &get, &next, &is_over);
            scope.spawn(move || {
                while !is_over.load(Ordering::SeqCst) {
                    let number = next.fetch_add(1, Ordering::SeqCst);
                    let Some(layer) = layers.get(number) else { return };
                    // Nobody receives after an error.
                    let _ = sender.send((number, get(number, layer)));
                }
            });
        }
        drop(sender);
        let (mut arrived, mut expected) = (BTreeMap::new(), 0);
        let result = (|| {
            while expected < layers.len() {
                let Ok((number, file)) = receiver.recv() else { break };
                arrived.insert(number, file?);
                while let Some(file) = arrived.remove(&expected) {
                    take(expected, file)?;
                    expected += 1;
                }
            }
            Ok(())
        })();
        is_over.store(true, Ordering::SeqCst);
        result
    })
}
