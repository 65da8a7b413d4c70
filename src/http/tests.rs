//! The client against a server with every fault.

use std::io::{Read, Seek};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::server::{Answer, Content, Received, Server};
use super::*;
use crate::digest::Digest;

fn client() -> Client {
    let options = Options {
        timeout: Duration::from_secs(1),
        first_delay: Duration::from_millis(5),
        variables: |_| None,
        ..Options::default()
    };
    Client::new(options, Arc::default())
}

fn fetched(server: &Server, limit: u64) -> Result<Vec<u8>, HttpError> {
    client().fetch(&Request::get(server.url("/x")), limit).map(|(_, bytes)| bytes)
}

fn download(server: &Server, content: Option<&[u8]>) -> Result<Vec<u8>, HttpError> {
    let mut file = tempfile::tempfile().unwrap();
    let digest = content.map(Digest::of_bytes);
    let request = Request::get(server.url("/x"));
    let (found, size) =
        client().download(&Download { request, digest, size: None, limit: 1 << 30 }, &file, &|_, _| {
            ControlFlow::Continue(())
        })?;
    let mut bytes = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut bytes).unwrap();
    assert_eq!((found, size), (Digest::of_bytes(&bytes), bytes.len() as u64));
    Ok(bytes)
}

#[test]
fn temporary_answers_and_broken_connections_are_tried_again() {
    let server = Server::start(|_, number| match number {
        0 => Answer::new(500, "no"),
        1 => Answer::new(429, "").header("Retry-After", "0"),
        2 => Answer::content(Content::Broken),
        3 => Answer::content(Content::Cut(b"half".to_vec(), 9)),
        _ => Answer::new(200, "whole"),
    });
    assert_eq!(fetched(&server, 100).unwrap(), b"whole");
    assert_eq!(server.received().len(), 5);
}

#[test]
fn retry_after_is_obeyed_and_a_longer_wait_than_a_minute_is_reported() {
    let server = Server::start(|_, number| match number {
        0 => Answer::new(429, "").header("Retry-After", "1"),
        _ => Answer::new(429, r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down"}]}"#)
            .header("Retry-After", "3600"),
    });
    let begin = Instant::now();
    let error = fetched(&server, 100).unwrap_err();
    assert!(begin.elapsed() >= Duration::from_secs(1));
    assert!(crate::error::error_chain(&error).ends_with("answered 429: slow down"), "{error:?}");
    assert!(error.hint().unwrap().contains("3600 seconds"));
    assert_eq!(server.received().len(), 2);
}

#[test]
fn a_final_status_is_not_tried_again_and_a_lasting_one_is_reported() {
    let server = Server::start(|_, _| Answer::new(404, "gone"));
    assert_eq!(client().send(&Request::get(server.url("/x"))).unwrap().status, 404);
    assert_eq!(server.received().len(), 1);
    let server = Server::start(|_, _| Answer::new(503, "<html>no</html>"));
    let error = fetched(&server, 100).unwrap_err();
    assert_eq!((error.status(), server.received().len()), (Some(503), 5));
    assert!(crate::error::error_chain(&error).ends_with("answered 503"), "{error:?}");
}

#[test]
fn credentials_are_sent_to_their_server_alone() {
    let cdn = Server::start(|_, _| Answer::new(200, "blob"));
    let to = cdn.url("/blob?signature=secret");
    let server = Server::start(move |request, _| match request.path.as_str() {
        "/x" => Answer::new(302, "").header("Location", "/y"),
        _ => Answer::new(307, "").header("Location", to.clone()),
    });
    let request = Request { authorization: Some("Basic c2VjcmV0".to_owned()), ..Request::get(server.url("/x")) };
    assert_eq!(client().fetch(&request, 100).unwrap().1, b"blob");
    let sent = |received: &Received| received.headers.contains_key("authorization");
    assert!(server.received().iter().all(sent) && server.received().len() == 2);
    assert!(!cdn.received().iter().any(sent) && cdn.received().len() == 1);
}

#[test]
fn redirects_end_and_lead_to_web_servers_only() {
    let server = Server::start(|_, _| Answer::new(302, "").header("Location", "/x"));
    let error = fetched(&server, 100).unwrap_err();
    assert!(matches!(&*error.problem, Problem::Redirect { problem, .. } if problem.contains("10 times")), "{error:?}");
    let server = Server::start(|_, _| Answer::new(302, "").header("Location", "file:///etc/shadow"));
    assert!(matches!(fetched(&server, 100).unwrap_err().problem.as_ref(), Problem::Redirect { .. }));
    let request = Request { method: ureq::http::Method::POST, ..Request::get(server.url("/x")) };
    assert!(matches!(client().send(&request).unwrap_err().problem.as_ref(), Problem::Redirect { .. }));
}

#[test]
fn a_body_for_memory_is_bounded() {
    let server = Server::start(|_, _| Answer::content(Content::Announced(1 << 30)));
    let begin = Instant::now();
    assert!(
        matches!(fetched(&server, 4 << 20).unwrap_err().problem.as_ref(), Problem::TooLarge { limit, .. } if *limit == 4 << 20)
    );
    let server = Server::start(|_, _| Answer::content(Content::Endless(vec![b'x'; 1 << 16])));
    assert!(matches!(fetched(&server, 4 << 20).unwrap_err().problem.as_ref(), Problem::TooLarge { .. }));
    assert!(begin.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_silent_and_a_trickling_server_are_given_up() {
    let options = || Options {
        timeout: Duration::from_millis(300),
        first_delay: Duration::ZERO,
        variables: |_| None,
        ..Options::default()
    };
    for content in [
        Content::Silent(Duration::from_secs(2)),
        Content::Slow(vec![b'x'; 30], Duration::from_millis(100)),
        Content::Announced(100),
    ] {
        let server = Server::start(move |_, _| Answer::content(content.clone()));
        let error = Client::new(options(), Arc::default()).fetch(&Request::get(server.url("/x")), 100).unwrap_err();
        assert!(matches!(*error.problem, Problem::Timeout { .. }), "{error:?}");
    }
}

#[test]
fn an_interruption_ends_a_request_that_waits() {
    let server = Server::start(|_, _| Answer::content(Content::Silent(Duration::from_secs(30))));
    let stop = Arc::new(AtomicBool::new(false));
    let client = Client::new(Options { variables: |_| None, ..Options::default() }, Arc::clone(&stop));
    let begin = Instant::now();
    let stopper = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(200));
        stop.store(true, Ordering::SeqCst);
    });
    let error = client.send(&Request::get(server.url("/x"))).unwrap_err();
    assert!(error.is_interruption(), "{error:?}");
    assert!(begin.elapsed() < Duration::from_secs(5));
    stopper.join().unwrap();
}

#[test]
fn a_long_wait_is_reported_and_an_interruption_ends_it() {
    let server = Server::start(|_, _| Answer::new(429, "slow down").header("Retry-After", "30"));
    let stop = Arc::new(AtomicBool::new(false));
    let (reported, stops) = (Arc::new(std::sync::Mutex::new(Vec::new())), Arc::clone(&stop));
    let report = Arc::clone(&reported);
    let waits = WaitReport::by(move |wait, why| {
        report.lock().unwrap().push((wait, why.to_owned()));
        stops.store(true, Ordering::SeqCst);
    });
    let client = Client::new(Options { waits, variables: |_| None, ..Options::default() }, stop);
    let begin = Instant::now();
    let error = client.send(&Request::get(server.url("/x"))).unwrap_err();
    assert!(error.is_interruption() && begin.elapsed() < Duration::from_secs(2), "{error:?}");
    let reason = format!("{} answered 429: slow down", server.address);
    assert_eq!(*reported.lock().unwrap(), [(Duration::from_secs(30), reason)]);
}

#[test]
fn a_closed_port_and_an_unknown_name_are_reported() {
    let begin = Instant::now();
    let patient = Client::new(Options { variables: |_| None, ..Options::default() }, Arc::default());
    let error = patient.send(&Request::get("http://127.0.0.1:1/x")).unwrap_err();
    assert!(begin.elapsed() < Duration::from_secs(1), "two tries");
    assert!(matches!(*error.problem, Problem::Connection { .. }), "{error:?}");
    let error = client().send(&Request::get("http://name.invalid/x")).unwrap_err();
    assert!(matches!(&*error.problem, Problem::UnknownHost(name) if name == "name.invalid"), "{error:?}");
    for url in ["ftp://h/x", "/x", "", "http://", "http://a b/"] {
        let error = client().send(&Request::get(url)).unwrap_err();
        assert!(matches!(*error.problem, Problem::Url(_)), "{url}: {error:?}");
    }
}

/// Answers with a part of the content that the request asks for, and breaks after `count` bytes.
fn partial(content: &'static [u8], count: usize, tag: &'static str) -> impl Fn(&Received, usize) -> Answer {
    move |request, _| {
        let from = request.headers.get("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-'));
        let from = from.map_or(0, |from| from.parse::<usize>().unwrap());
        let rest = &content[from..];
        let body = match rest.len() > count {
            true => Content::Cut(rest[..count].to_vec(), rest.len() as u64),
            false => Content::Whole(rest.to_vec()),
        };
        let answer = Answer { status: if from > 0 { 206 } else { 200 }, ..Answer::content(body) };
        let range = format!("bytes {from}-{}/{}", content.len() - 1, content.len());
        let answer = if from > 0 { answer.header("Content-Range", range) } else { answer };
        if tag.is_empty() { answer } else { answer.header("ETag", tag) }
    }
}

#[test]
fn a_broken_download_continues_where_it_ended() {
    for (tag, digest) in [("\"v1\"", None), ("", Some(&b"0123456789"[..]))] {
        let server = Server::start(partial(b"0123456789", 4, tag));
        assert_eq!(download(&server, digest).unwrap(), b"0123456789");
        let ranges: Vec<_> = server.received().iter().map(|request| request.headers.get("range").cloned()).collect();
        assert_eq!(ranges, [None, Some("bytes=4-".to_owned()), Some("bytes=8-".to_owned())]);
        let tags = server.received().iter().filter(|request| request.headers.contains_key("if-range")).count();
        assert_eq!(tags, if tag.is_empty() { 0 } else { 2 });
    }
}

#[test]
fn parts_without_a_version_or_a_digest_are_never_joined() {
    let server = Server::start(partial(b"0123456789", 4, "W/\"weak\""));
    let error = download(&server, None).unwrap_err();
    assert!(matches!(*error.problem, Problem::Connection { .. }), "{error:?}");
    assert!(server.received().iter().all(|request| !request.headers.contains_key("range")));
}

#[test]
fn content_that_changed_between_two_answers_is_received_again() {
    let server = Server::start(|request, number| match number {
        0 => Answer::content(Content::Cut(b"old-".to_vec(), 8)).header("ETag", "\"1\""),
        1 => {
            assert_eq!(request.headers["if-range"], "\"1\"");
            Answer::new(200, "new-file").header("ETag", "\"2\"")
        }
        _ => Answer::new(404, ""),
    });
    assert_eq!(download(&server, None).unwrap(), b"new-file");
    // A server that ignores the version: only the digest shows it.
    let server = Server::start(|_, number| match number {
        0 => Answer::content(Content::Cut(b"old-".to_vec(), 8)),
        1 => Answer::new(206, "file").header("Content-Range", "bytes 4-7/8"),
        _ => Answer::new(200, "new-file"),
    });
    assert_eq!(download(&server, Some(b"new-file")).unwrap(), b"new-file");
}

#[test]
fn wrong_content_and_wrong_sizes_are_refused() {
    let server = Server::start(|_, _| Answer::new(200, "other"));
    let error = download(&server, Some(b"right")).unwrap_err();
    assert!(matches!(*error.problem, Problem::Digest { .. }) && error.is_of_input(), "{error:?}");
    assert_eq!(server.received().len(), 1);
    let file = tempfile::tempfile().unwrap();
    for (size, is_too_large) in [(4, true), (6, false)] {
        let request = Request::get(server.url("/x"));
        let download = Download { request, digest: None, size: Some(size), limit: 1 << 30 };
        let error = client().download(&download, &file, &|_, _| ControlFlow::Continue(())).unwrap_err();
        assert_eq!(matches!(*error.problem, Problem::TooLarge { .. }), is_too_large, "{error:?}");
        assert_eq!(matches!(*error.problem, Problem::Size { expected: 6, found: 5, .. }), !is_too_large, "{error:?}");
    }
}
