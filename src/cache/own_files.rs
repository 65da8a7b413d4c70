//! Finds the files that a build writes into the inputs of its own steps: a reason for which their results are not
//! stored.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::inputs::ReadBind;
use super::{CacheChecker, lock};
use crate::content::RULES_FILE;

/// A file that the build writes and that is in a read-only bind, where no rule excludes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnFile {
    /// The file.
    pub path: PathBuf,
    /// The file of rules that can exclude it.
    pub rules: PathBuf,
}

/// The outputs that this build has written.
#[derive(Debug, Default)]
pub(super) struct Written {
    outputs: Vec<PathBuf>,
    /// By segment: the number of outputs that had been written when it was checked.
    before: HashMap<usize, usize>,
}

impl Written {
    pub(super) fn len(&self) -> usize {
        self.outputs.len()
    }

    /// Notes the number of outputs that had been written when a segment was checked.
    pub(super) fn checked(&mut self, segment: usize, before: usize) {
        self.before.insert(segment, before);
    }
}

impl CacheChecker<'_> {
    /// Notes that an output was written: binds may show it.
    pub fn wrote(&self, output: &Path) {
        lock(&self.checked).written.outputs.push(output.to_owned());
        self.forget();
    }

    /// Returns the files that this build has written to the inputs of a segment since the segment was checked.
    pub fn own_inputs(&self, segment: usize) -> Vec<OwnFile> {
        let mut written = {
            let written = &lock(&self.checked).written;
            let before = written.before.get(&segment).copied().unwrap_or_default();
            written.outputs.get(before..).unwrap_or_default().to_vec()
        };
        written.extend(self.options.log.clone());
        self.inputs_among(&written, segment)
    }

    /// Returns the inputs of a segment that this build writes after everything else.
    pub fn own_reports(&self, segment: usize) -> Vec<OwnFile> {
        self.inputs_among(&self.options.reports, segment)
    }

    fn inputs_among(&self, paths: &[PathBuf], segment: usize) -> Vec<OwnFile> {
        let written: Vec<(&PathBuf, PathBuf)> = paths.iter().map(|path| (path, real(path))).collect();
        let mut own = Vec::new();
        for ReadBind { source, .. } in self.host_inputs(segment) {
            let Ok(top) = source.canonicalize() else { continue };
            for (path, real) in &written {
                let below = real.strip_prefix(&top).ok().filter(|below| !below.as_os_str().is_empty());
                if let Some(below) = below
                    // A log that is being written may make reading the directory fail.
                    && self.content(source).map_or(true, |found| found.listing.entries().any(|file| file.path == below))
                {
                    own.push(OwnFile { path: (*path).clone(), rules: source.join(RULES_FILE) });
                }
            }
        }
        own
    }
}

/// Returns the path of a file with the links to its directory followed, as far as the directory exists.
pub(super) fn real(path: &Path) -> PathBuf {
    let above = path.ancestors().skip(1).find_map(|above| Some((above, above.canonicalize().ok()?)));
    above.map_or_else(|| path.to_owned(), |(above, real)| real.join(path.strip_prefix(above).unwrap_or(path)))
}
