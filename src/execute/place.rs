//! Finds the place of a step in the manifest, when a message shows it.

use std::cell::OnceCell;

use crate::diagnostic::{At, Path, YamlPlaces};
use crate::event::Place;
use crate::fs::regular;
use crate::manifest;
use crate::model::{Build, StepId};

/// The number of lines that are shown before and after the step's name.
const AROUND: usize = 1;

/// Finds places in a build's manifest, which it reads at the first call.
#[derive(Debug, Default)]
pub struct Places(OnceCell<Option<(String, YamlPlaces)>>);

impl Places {
    /// Returns the place of a step's name; none where the manifest cannot be read any more, or has changed since.
    pub fn of(&self, build: &Build, id: StepId) -> Option<Place> {
        let read = || {
            let text = regular::read_text(&build.manifest, manifest::MAX_BYTES as u64).ok()?;
            let text = text.strip_prefix('\u{feff}').unwrap_or(&text).to_owned();
            let places = YamlPlaces::read(&text);
            Some((text, places))
        };
        let (text, places) = self.0.get_or_init(read).as_ref()?;
        let path = Path::top().then("steps").then(id.0).then("name");
        let range = places.find(text, &path, &At::Value)?;
        if !text.get(range.clone())?.contains(&build.step(id).name) {
            return None;
        }
        let starts: Vec<usize> = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        let line = starts.partition_point(|start| *start <= range.start) - 1;
        let first = line.saturating_sub(AROUND);
        let end = starts.get(line + AROUND + 1).map_or(text.len(), |end| *end);
        Some(Place {
            manifest: build.manifest.to_string_lossy().into_owned(),
            line: line + 1,
            column: text[starts[line]..range.start].chars().count() + 1,
            first_line: first + 1,
            lines: text[starts[first]..end].to_owned(),
            name: range.start - starts[first]..range.end - starts[first],
        })
    }
}
