//! Writes a body to a file while it is hashed. A broken download continues where it ended, if the server has the same content.

use std::fs::File;
use std::io::{Seek, Write};
use std::ops::ControlFlow;

use ureq::http::Uri;
use ureq::http::header::{CONTENT_RANGE, ETAG, HeaderName, IF_RANGE, RANGE};

use super::{Client, HttpError, Problem, Request, retry};
use crate::digest::{Digest, Hasher};

/// A download that made that much progress has all its tries again.
const PROGRESS: u64 = 1 << 20;

/// A file to download.
#[derive(Debug)]
pub struct Download<'a> {
    /// The request.
    pub request: Request<'a>,
    /// The digest that the content must have, if it is known.
    pub digest: Option<Digest>,
    /// The size that it must have, if it is known.
    pub size: Option<u64>,
    /// The size that it may have at most.
    pub limit: u64,
}

/// The part of a download that is in the file.
#[derive(Default)]
struct Received {
    hasher: Hasher,
    size: u64,
    /// The strong name of the content's version.
    tag: Option<String>,
    /// Whether it comes from several answers.
    is_resumed: bool,
}

impl Client {
    /// Writes the content into an empty file and returns its digest and size. `progress` gets the bytes so far and, where it is
    /// known, their final number; it may end the download.
    ///
    /// # Errors
    /// See [`Problem`]; the content of the file is undefined then.
    pub fn download(
        &self,
        download: &Download<'_>,
        file: &File,
        progress: &dyn Fn(u64, Option<u64>) -> ControlFlow<()>,
    ) -> Result<(Digest, u64), HttpError> {
        let (mut received, mut began_again) = (Received::default(), false);
        loop {
            let before = received.size;
            let result = self.retrying(&download.request, || {
                let result = self.receive(download, &mut received, file, progress);
                match &result {
                    // Enough progress to begin counting again: ends this round of tries.
                    Err(problem) if is_resumable(problem) && received.size > before + PROGRESS => Ok(None),
                    _ => result.map(Some),
                }
            })?;
            if result.is_none() {
                continue;
            }
            let digest = std::mem::take(&mut received.hasher).finish();
            match download.digest.filter(|expected| *expected != digest) {
                None => return Ok((digest, received.size)),
                // The content may have changed between two answers.
                Some(_) if received.is_resumed && !began_again => {
                    (received, began_again) = (Received::default(), true);
                }
                Some(expected) => {
                    let uri = download.request.url.parse::<Uri>().ok();
                    let host = uri.as_ref().and_then(Uri::host).unwrap_or_default().to_owned();
                    return Err(self.failed(&download.request, Problem::Digest { host, expected, found: digest }));
                }
            }
        }
    }

    /// Receives one answer, and adds it to the earlier ones or replaces them.
    fn receive(
        &self,
        download: &Download<'_>,
        received: &mut Received,
        mut file: &File,
        progress: &dyn Fn(u64, Option<u64>) -> ControlFlow<()>,
    ) -> Result<(), Problem> {
        let file_problem = |action| move |source| Problem::File { action, source };
        // Without its version or a digest to check, parts of two contents could be joined.
        let may_resume = received.size > 0 && (received.tag.is_some() || download.digest.is_some());
        let mut further: Vec<(HeaderName, String)> = Vec::new();
        if may_resume {
            further.push((RANGE, format!("bytes={}-", received.size)));
            further.extend(received.tag.clone().map(|tag| (IF_RANGE, tag)));
        }
        let mut reply = self.once(&download.request, &further)?;
        let continues = may_resume && reply.status == 206 && starts_at(reply.header(CONTENT_RANGE), received.size);
        match reply.status {
            206 if continues => received.is_resumed = true,
            200 => {
                *received = Received::default();
                let tag = reply.header(ETAG).filter(|tag| tag.starts_with('"'));
                received.tag = tag.map(str::to_owned);
                file.set_len(0).and_then(|()| file.rewind()).map_err(file_problem("write the download"))?;
            }
            // The part that is there cannot be continued: it begins again.
            206 | 416 if may_resume => {
                *received = Received::default();
                return self.receive(download, received, file, progress);
            }
            _ => return Err(reply.into_problem()),
        }
        let host = reply.host().to_owned();
        let limit = download.size.unwrap_or(download.limit);
        let announced = reply.content_length().and_then(|length| length.checked_add(received.size));
        if announced.is_some_and(|announced| announced > limit) {
            return Err(Problem::TooLarge { host, limit });
        }
        let total = download.size.or(announced);
        reply.each(|part| {
            if received.size + part.len() as u64 > limit {
                return Err(Problem::TooLarge { host: host.clone(), limit });
            }
            file.write_all(part).map_err(file_problem("write the download"))?;
            received.hasher.update(part);
            received.size += part.len() as u64;
            match progress(received.size, total) {
                ControlFlow::Continue(()) => Ok(()),
                ControlFlow::Break(()) => Err(Problem::Interrupted),
            }
        })?;
        match total.filter(|total| *total != received.size) {
            Some(expected) => Err(Problem::Size { host, expected, found: received.size }),
            None => Ok(()),
        }
    }
}

fn is_resumable(problem: &Problem) -> bool {
    retry::delay(problem, 1, std::time::Duration::ZERO).is_some()
}

/// Whether a `Content-Range` begins at that offset.
fn starts_at(range: Option<&str>, offset: u64) -> bool {
    let first = range.and_then(|range| range.trim().strip_prefix("bytes ")?.split('-').next()?.trim().parse().ok());
    first == Some(offset)
}
