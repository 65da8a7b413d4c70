//! The words about sources of roots that arrive: images that are pulled, files that are downloaded, archives that are imported.

use super::words::{duration, size};
use crate::event::{Event, ImportMethod, ImportStage, ImportStatus};

/// Returns the line that says that an import begins or has succeeded, or that a request waits; none for every other event.
pub fn line(event: &Event) -> Option<String> {
    match event {
        Event::ImportStarted { container, source, method, size: bytes, .. } => {
            let bytes = bytes.map(|bytes| format!(": {}", size(bytes))).unwrap_or_default();
            Some(format!("{} {source} for the container {container}{bytes}", present(*method)))
        }
        Event::RequestWaits { source, wait_ms, reason } => {
            Some(format!("{source}: waits {}: {reason}", duration(*wait_ms)))
        }
        Event::ImportFinished {
            source, method, status: ImportStatus::Done, digest, size: bytes, duration_ms, ..
        } => {
            let digest = digest.as_ref().map(|digest| format!(" ({digest})")).unwrap_or_default();
            Some(format!("{} {source}{digest}, {} in {}", past(*method), size(*bytes), duration(*duration_ms)))
        }
        _ => None,
    }
}

/// Returns the progress of an import in a long and in a short text.
pub(super) fn progress(
    source: &str,
    method: ImportMethod,
    stage: ImportStage,
    bytes: u64,
    total: Option<u64>,
) -> [String; 2] {
    let short = match (stage, total) {
        (ImportStage::Written, Some(total)) => {
            // All files are read before the image is complete.
            format!("{}%", (u128::from(bytes) * 100 / u128::from(total.max(1))).min(99))
        }
        (_, Some(total)) => format!("{} of {}", size(bytes), size(total)),
        (_, None) => size(bytes),
    };
    let verb = match stage {
        ImportStage::Arrives => present(method),
        ImportStage::Unpacked => "unpacking",
        ImportStage::Written => "writing a layer of",
    };
    [format!("{verb} {source}, {short}"), short]
}

fn present(method: ImportMethod) -> &'static str {
    match method {
        ImportMethod::Pull => "pulling",
        ImportMethod::Download => "downloading",
        ImportMethod::Import => "importing",
    }
}

fn past(method: ImportMethod) -> &'static str {
    match method {
        ImportMethod::Pull => "pulled",
        ImportMethod::Download => "downloaded",
        ImportMethod::Import => "imported",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_import_has_a_line_at_its_beginning_and_one_at_its_end() {
        let (container, source) = ("base".to_owned(), "docker.io/library/debian:12".to_owned());
        let finished = |status| Event::ImportFinished {
            container: container.clone(),
            source: source.clone(),
            method: ImportMethod::Pull,
            status,
            digest: Some("sha256:07".into()),
            size: 48 << 20,
            duration_ms: 3_140,
        };
        let begins = Event::ImportStarted {
            container: container.clone(),
            source: source.clone(),
            method: ImportMethod::Download,
            digest: None,
            size: None,
        };
        let reason = "docker.io answered 429".to_owned();
        let waits = Event::RequestWaits { source: source.clone(), wait_ms: 10_000, reason };
        assert_eq!(
            [begins, waits, finished(ImportStatus::Done)].map(|event| line(&event).unwrap()),
            [
                "downloading docker.io/library/debian:12 for the container base",
                "docker.io/library/debian:12: waits 10.0s: docker.io answered 429",
                "pulled docker.io/library/debian:12 (sha256:07), 48.0 MiB in 3.14s",
            ]
        );
        assert_eq!(line(&finished(ImportStatus::Failed)), None);
    }
}
