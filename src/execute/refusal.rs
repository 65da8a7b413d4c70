//! Why a step failed, where its container's seccomp profile may have refused what it tried.

use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use crate::build::Container;
use crate::fs::regular;
use crate::runtime::spec;
use crate::seccomp::{Architecture, hint};

/// As much of the end of a log is read.
const TAIL: u64 = 4096;

/// What to do, where the end of the step's log says that a call was refused.
pub(super) fn hint_of(container: &Container, log: &Path) -> Option<String> {
    let (profile, machine) = (container.seccomp.profile()?, Architecture::native()?);
    let filter = spec::seccomp(container).ok().flatten()?;
    let printed = tail(log).ok()?;
    hint(profile, &filter, machine, &printed, &container.name)
}

fn tail(log: &Path) -> io::Result<String> {
    let mut file = regular::open(log)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
