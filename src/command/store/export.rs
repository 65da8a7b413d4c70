//! `runner store export`: writes a layer's image to a file or into a pipe.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::path::Path;

use super::location::StoreLocation;
use crate::command::command_error::CommandError;
use crate::command::command_error::store_error;
use crate::command::console::notice;
use crate::command::console::print;
use crate::command::naming::named;
use crate::error::{Error, Exit};
use crate::fs::named_file::NamedFile;
use crate::fs::output::OutputPlace;
use crate::named_paths::NamedPathError;
use crate::report::size;

/// The name of standard output on the command line.
const STDOUT: &str = "-";

/// Writes the image to a file, which gets the whole image or is not changed. Copies the image into standard output, a FIFO
/// or `/dev/stdout`.
pub fn export(location: &StoreLocation, name: &str, file: &Path) -> Result<(), CommandError> {
    let is_stdout = file == Path::new(STDOUT);
    if is_stdout && io::stdout().is_terminal() {
        let hint = "write it to a file or into a pipe: `runner store export LAYER - > FILE`".to_owned();
        let error = Error::new(Exit::Usage, "standard output is a terminal, and an image is binary");
        return Err(error.with_hint(Some(hint)).into());
    }
    let output = std::path::absolute(file).map_err(|error| {
        Error::new(
            Exit::Usage,
            format!("cannot find the current directory, which {} is relative to: {error}", file.display()),
        )
    })?;
    let (store, facts) = location.facts()?;
    let digest = named(&facts.inventory, name)?;
    let pin = store.pin_layer(&digest).map_err(store_error)?;
    let pin =
        pin.ok_or_else(|| Error::new(Exit::Host, format!("the layer {digest} has just been removed from the store")))?;
    // The file does not carry its digest, so a damaged image is found here or never.
    if !store.verify_layer(&digest).map_err(store_error)? {
        let hint = "`runner store verify` sets it aside, and the next build writes it again".to_owned();
        return Err(Error::new(Exit::Mismatch, format!("the layer {digest} is damaged")).with_hint(Some(hint)).into());
    }
    let bytes = facts.inventory.layers.get(&digest).map_or(0, |layer| layer.size);
    let wrote = |output: &Path| format!("wrote {} ({}, {digest})\n", output.display(), size(bytes));
    if is_stdout {
        let output = Path::new("standard output");
        return copied(pin.path(), output, io::stdout().as_fd().try_clone_to_owned().map(File::from), &wrote(output));
    }
    // `OutputPlace::open` below refuses everything else that is not a regular file.
    if let Ok(stream) = NamedFile::find(&output)
        && stream.is_stream()
    {
        return copied(pin.path(), &output, stream.create(), &wrote(&output));
    }
    let output = OutputPlace::open(&output).map_err(|source| {
        let error = NamedPathError::Output { path: output.clone(), source };
        let hint = error.hint();
        Error::new(error.exit(), error).with_hint(hint)
    })?;
    let lease = store.lease().map_err(store_error)?;
    let published = lease.publish(pin.path(), &output);
    let closed = lease.close();
    published.and(closed).map_err(store_error)?;
    print(wrote(output.path()).as_bytes())
}

/// Copies the image into a stream, and prints a notice to standard error.
fn copied(image: &Path, output: &Path, to: io::Result<File>, wrote: &str) -> Result<(), CommandError> {
    match to.and_then(|mut to| io::copy(&mut File::open(image)?, &mut to)) {
        // The reader may close the pipe early.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(Error::new(Exit::Host, format!("cannot write to {}: {error}", output.display())).into()),
        Ok(_) => {
            notice(wrote.trim_end());
            Ok(())
        }
    }
}
