//! Pushes to a registry with every fault.

use std::io::Write;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::oci::{FilePart, StoredImage};

/// Blobs and manifests by their paths.
type Stored = Arc<Mutex<BTreeMap<String, Vec<u8>>>>;

/// A registry that takes uploads: its blobs and manifests by path.
fn writable() -> (Server, Stored) {
    let stored = Stored::default();
    let there = Arc::clone(&stored);
    let server = Server::start(move |request, _| {
        let mut stored = there.lock().unwrap();
        let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
        match request.method.as_str() {
            "HEAD" => match stored.get(path) {
                Some(bytes) => {
                    Answer::new(200, "").header("Docker-Content-Digest", Digest::of_bytes(bytes).to_string())
                }
                None => Answer::new(404, ""),
            },
            "POST" if query.contains("from=o%2Fbase") => Answer::new(201, ""),
            "POST" => Answer::new(202, "").header("Location", "/upload/1?state=x"),
            "PUT" if path.starts_with("/upload") => {
                let digest = query.split_once("&digest=").unwrap().1.replace("%3A", ":");
                assert_eq!(Digest::of_bytes(&request.body).to_string(), digest);
                stored.insert(format!("/v2/o/n/blobs/{digest}"), request.body.clone());
                Answer::new(201, "")
            }
            "PUT" => {
                stored.insert(path.to_owned(), request.body.clone());
                Answer::new(201, "").header("Docker-Content-Digest", Digest::of_bytes(&request.body).to_string())
            }
            _ => Answer::new(404, ""),
        }
    });
    (server, stored)
}

/// A blob as a part of a larger file.
fn blob(content: &[u8]) -> FilePart {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"before").unwrap();
    file.write_all(content).unwrap();
    file.write_all(b"after").unwrap();
    FilePart { file, offset: 6, size: content.len() as u64 }
}

fn goes_on(_: u64) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

#[test]
fn a_push_sends_only_what_the_registry_lacks() {
    let (server, stored) = writable();
    let registries = registries(RegistryOptions::default());
    let repository = Repository::new(&registries, name(&server, ":v1").parse().unwrap());
    let content = blob(b"layer");
    let pushed = PushedBlob { digest: Digest::of_bytes(b"layer"), content: &content, mount_from: None };
    assert_eq!(repository.push_blob(&pushed, &goes_on).unwrap(), Pushed::Uploaded);
    assert_eq!(repository.push_blob(&pushed, &goes_on).unwrap(), Pushed::Existing);
    let other = blob(b"base layer");
    let mounted = PushedBlob { digest: Digest::of_bytes(b"base layer"), content: &other, mount_from: Some("o/base") };
    assert_eq!(repository.push_blob(&mounted, &goes_on).unwrap(), Pushed::Mounted);
    let pushed = repository.push_manifest("application/vnd.oci.image.manifest.v1+json", b"{}").unwrap();
    assert_eq!(pushed.digest, Digest::of_bytes(b"{}"));
    let names: Vec<String> = stored.lock().unwrap().keys().cloned().collect();
    assert_eq!(names, [format!("/v2/o/n/blobs/{}", Digest::of_bytes(b"layer")), "/v2/o/n/manifests/v1".to_owned()]);
}

#[test]
fn a_broken_upload_begins_again_and_a_refused_one_says_so() {
    let puts = Arc::new(Mutex::new(0));
    let server = Server::start(move |request, _| match request.method.as_str() {
        "HEAD" => Answer::new(404, ""),
        "POST" => Answer::new(202, "").header("Location", "/upload/1"),
        _ => {
            let mut puts = puts.lock().unwrap();
            *puts += 1;
            Answer::new(if *puts == 1 { 416 } else { 201 }, "")
        }
    });
    let registries = registries(RegistryOptions::default());
    let content = blob(b"layer");
    let pushed = PushedBlob { digest: Digest::of_bytes(b"layer"), content: &content, mount_from: None };
    let repository = Repository::new(&registries, name(&server, ":v1").parse().unwrap());
    assert_eq!(repository.push_blob(&pushed, &goes_on).unwrap(), Pushed::Uploaded);
    let server = Server::start(|_, _| Answer::new(403, "read-only"));
    let repository = Repository::new(&registries, name(&server, ":v1").parse().unwrap());
    let error = repository.push_manifest("x", b"{}").unwrap_err();
    assert_eq!(error.to_string(), format!("{0} refuses to push {0}/o/n:v1: read-only", server.address));
}

/// An image of these blobs.
fn stored(blobs: &[&[u8]]) -> StoredImage {
    let manifest = b"{}".to_vec();
    StoredImage {
        digest: Digest::of_bytes(&manifest),
        media_type: "application/vnd.oci.image.manifest.v1+json".to_owned(),
        manifest,
        blobs: blobs.iter().map(|bytes| (Digest::of_bytes(bytes), blob(bytes))).collect(),
    }
}

fn methods(server: &Server) -> Vec<String> {
    server.received().into_iter().map(|request| request.method).collect()
}

#[test]
fn an_image_is_pushed_once_and_its_manifest_last() {
    let (server, there) = writable();
    let registries = registries(RegistryOptions::default());
    let repository = Repository::new(&registries, name(&server, ":v1").parse().unwrap());
    let blobs: Vec<Vec<u8>> = (0..9_u8).map(|n| vec![n; 100_000 + usize::from(n)]).collect();
    let image = stored(&blobs.iter().map(Vec::as_slice).collect::<Vec<_>>());
    let total: u64 = image.blobs.iter().map(|(_, content)| content.size).sum();
    let most = AtomicU64::new(0);
    let progress = |at: PushProgress| {
        assert!(at.done <= at.total && at.total == total, "{at:?}");
        most.fetch_max(at.done, Ordering::SeqCst);
    };
    let report = repository.push_image(&image, None, &progress).unwrap();
    assert_eq!((report, most.into_inner()), (PushReport { sent: total, is_changed: true }, total));
    assert_eq!(server.received().last().unwrap().path, "/v2/o/n/manifests/v1");
    let before = server.received().len();
    let report = repository.push_image(&image, None, &|_| ()).unwrap();
    assert_eq!(report, PushReport { sent: 0, is_changed: false });
    assert_eq!(methods(&server)[before..], ["HEAD"]);
    // Without the tag, only the manifest is sent.
    there.lock().unwrap().remove("/v2/o/n/manifests/v1");
    let report = repository.push_image(&image, None, &|_| ()).unwrap();
    assert_eq!(report, PushReport { sent: 0, is_changed: true });
}

#[test]
fn a_blob_that_is_refused_ends_the_others_and_no_manifest_follows() {
    let refused = Digest::of_bytes(&[0; 1000]).to_string().replace(':', "%3A");
    let server = Server::start(move |request, _| match request.method.as_str() {
        "HEAD" => Answer::new(404, ""),
        "POST" => Answer::new(202, "").header("Location", "/upload/1"),
        _ if request.path.contains(&refused) => Answer::new(413, "the blob is too large"),
        _ => {
            std::thread::sleep(Duration::from_millis(50));
            Answer::new(201, "")
        }
    });
    let registries = registries(RegistryOptions::default());
    let repository = Repository::new(&registries, name(&server, ":v1").parse().unwrap());
    let blobs: Vec<Vec<u8>> = (0..40_u8).map(|n| vec![n; 1000]).collect();
    let image = stored(&blobs.iter().map(Vec::as_slice).collect::<Vec<_>>());
    let error = repository.push_image(&image, None, &|_| ()).unwrap_err();
    assert!(crate::error::error_chain(&error).ends_with("answered 413: the blob is too large"), "{error:?}");
    assert!(server.received().iter().all(|request| !(request.method == "PUT" && request.path.contains("/manifests/"))));
    assert!(methods(&server).iter().filter(|method| *method == "POST").count() < 20);
}

#[test]
fn a_refused_mount_becomes_an_upload() {
    for status in [401, 404] {
        let (inner, there) = writable();
        let to = inner.address.clone();
        // Mounts are refused, and everything else is done by the other server.
        let server = Server::start(move |request, _| match request.method.as_str() {
            "POST" if request.path.contains("mount=") => {
                let answer = Answer::new(status, "not there");
                if status == 401 { answer.header("WWW-Authenticate", "Basic realm=x") } else { answer }
            }
            _ => Answer::new(307, "").header("Location", format!("http://{to}{}", request.path)),
        });
        let registries = registries(RegistryOptions::default());
        let repository = Repository::new(&registries, name(&server, ":v1").parse().unwrap());
        repository.push_image(&stored(&[b"layer"]), Some("private/base"), &|_| ()).unwrap();
        assert_eq!(there.lock().unwrap().len(), 2, "{:?}", methods(&server));
    }
}

#[test]
fn a_digest_that_the_registry_says_must_be_that_of_the_content() {
    for of_blob in [true, false] {
        let wrong = Digest::of_bytes(b"other").to_string();
        let shown = wrong.clone();
        let server = Server::start(move |request, _| match request.method.as_str() {
            "HEAD" => Answer::new(404, ""),
            "POST" => Answer::new(202, "").header("Location", "/upload/1"),
            _ if request.path.starts_with("/upload") == of_blob => {
                Answer::new(201, "").header("Docker-Content-Digest", wrong.clone())
            }
            _ => Answer::new(201, ""),
        });
        let registries = registries(RegistryOptions::default());
        let repository = Repository::new(&registries, name(&server, ":v1").parse().unwrap());
        let error = repository.push_image(&stored(&[b"layer"]), None, &|_| ()).unwrap_err().to_string();
        let content = if of_blob { "the blob" } else { "the manifest" };
        assert!(error.contains(&format!("it stored {content} as {shown}, and it is sha256:")), "{error}");
    }
}

#[test]
fn an_upload_elsewhere_gets_no_credentials() {
    let elsewhere = Server::start(|_, _| Answer::new(201, ""));
    let to = elsewhere.address.clone();
    let server = Server::start(move |request, _| {
        if !request.headers.contains_key("authorization") {
            return Answer::new(401, "").header("WWW-Authenticate", "Basic realm=x");
        }
        match request.method.as_str() {
            "HEAD" => Answer::new(404, ""),
            "POST" => Answer::new(202, "").header("Location", format!("http://{to}/upload/1")),
            _ => Answer::new(201, ""),
        }
    });
    let (_directory, registries) = with_password(&server.address);
    let repository = Repository::new(&registries, name(&server, ":v1").parse().unwrap());
    repository.push_image(&stored(&[b"layer", b"other"]), None, &|_| ()).unwrap();
    let received = elsewhere.received();
    assert_eq!(received.len(), 2);
    assert!(received.iter().all(|request| !request.headers.contains_key("authorization")));
}

#[test]
fn a_repository_that_must_be_made_first_and_a_login_are_named() {
    let server = Server::start(|request, _| match request.method.as_str() {
        "HEAD" => Answer::new(404, ""),
        _ => Answer::new(404, r#"{"errors":[{"code":"NAME_UNKNOWN","message":"unknown"}]}"#),
    });
    let registries = registries(RegistryOptions::default());
    let repository = Repository::new(&registries, name(&server, ":v1").parse().unwrap());
    let error = repository.push_image(&stored(&[b"layer"]), None, &|_| ()).unwrap_err();
    assert_eq!(error.to_string(), format!("{} has no repository o/n", server.address));
    let server = Server::start(|_, _| Answer::new(401, "").header("WWW-Authenticate", "Basic realm=x"));
    let (directory, registries) = with_password("registry.example.org");
    let repository = Repository::new(&registries, name(&server, ":v1").parse().unwrap());
    let error = repository.push_image(&stored(&[b"layer"]), None, &|_| ()).unwrap_err();
    let file = directory.path().join("auth.json");
    let expected = format!("`skopeo login {}` (no credentials for it are in {})", server.address, file.display());
    assert!(error.hint().unwrap().starts_with("log in: ") && error.hint().unwrap().ends_with(&expected), "{error:?}");
}

#[test]
fn a_push_goes_to_no_mirror() {
    let (server, there) = writable();
    let mirror = Server::start(|_, _| Answer::new(201, ""));
    let settings = RegistrySettings { mirrors: vec![mirror.address.clone()], ca: None };
    let registries = registries(RegistryOptions { registries: BTreeMap::from([(server.address.clone(), settings)]) });
    let repository = Repository::new(&registries, name(&server, ":v1").parse().unwrap());
    repository.push_image(&stored(&[b"layer"]), None, &|_| ()).unwrap();
    assert_eq!((there.lock().unwrap().len(), mirror.received().len()), (2, 0));
}
