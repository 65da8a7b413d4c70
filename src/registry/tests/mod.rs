//! Pulls against a registry with every fault.

mod push;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek};
use std::sync::Mutex;
use std::time::Duration;

use super::credentials::Sources;
use super::*;
use crate::digest::Digest;
use crate::http::server::{Answer, Content, Received, Server};
use crate::oci::{Blobs, Image, LayerBlob, Platform, read_image};

fn options() -> crate::http::Options {
    crate::http::Options {
        timeout: Duration::from_secs(2),
        first_delay: Duration::from_millis(5),
        variables: |_| None,
        ..crate::http::Options::default()
    }
}

fn registries(options: RegistryOptions) -> Registries {
    Registries::new(options, super::tests::options(), Sources::default(), Arc::default())
}

/// Credentials in a file, for a registry.
fn with_password(registry: &str) -> (tempfile::TempDir, Registries) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("auth.json");
    let content = format!(r#"{{"auths": {{"{registry}": {{"username": "user", "password": "secret"}}}}}}"#);
    std::fs::write(&path, content).unwrap();
    let sources = Sources { files: vec![path], ..Sources::default() };
    (directory, Registries::new(RegistryOptions::default(), options(), sources, Arc::default()))
}

/// The documents and layers of an image by their paths, and the digest of its manifest.
#[derive(Clone)]
struct ServedImage {
    paths: BTreeMap<String, Vec<u8>>,
    manifest: Digest,
}

fn image(layers: &[&[u8]]) -> ServedImage {
    let mut paths = BTreeMap::new();
    let mut put = |place: &str, bytes: &[u8]| {
        let digest = Digest::of_bytes(bytes);
        paths.insert(format!("/v2/o/n/{place}/{digest}"), bytes.to_vec());
        let media_type = "application/vnd.oci.image.layer.v1.tar";
        serde_json::json!({ "mediaType": media_type, "digest": digest.to_string(), "size": bytes.len() })
    };
    let layers: Vec<serde_json::Value> = layers.iter().map(|layer| put("blobs", layer)).collect();
    let diff_ids: Vec<&serde_json::Value> = layers.iter().map(|layer| &layer["digest"]).collect();
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "rootfs": { "type": "layers", "diff_ids": diff_ids },
    });
    let config = put("blobs", config.to_string().as_bytes());
    let manifest = serde_json::json!({ "schemaVersion": 2, "config": config, "layers": layers }).to_string();
    let manifest_digest = put("manifests", manifest.as_bytes())["digest"].as_str().unwrap().parse().unwrap();
    paths.insert("/v2/o/n/manifests/v1".to_owned(), manifest.into_bytes());
    ServedImage { paths, manifest: manifest_digest }
}

fn serve(content: &ServedImage, request: &Received) -> Answer {
    match content.paths.get(&request.path) {
        Some(bytes) => Answer::new(200, bytes.clone()),
        None => Answer::new(404, r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"unknown"}]}"#),
    }
}

fn pull(registries: &Registries, name: &str) -> Result<(Image, Vec<Vec<u8>>), RegistryError> {
    let repository = Repository::new(registries, name.parse().unwrap());
    let first = repository.resolve()?;
    let image = read_image(&repository, &first.digest, &"linux/amd64".parse::<Platform>().unwrap())?;
    let mut layers = Vec::new();
    each_layer::<_, RegistryError>(&repository, &image.layers, &tempfile::tempfile, &|_, _| (), |number, mut file| {
        assert_eq!(number, layers.len());
        let mut bytes = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut bytes).unwrap();
        layers.push(bytes);
        Ok(())
    })?;
    Ok((image, layers))
}

fn name(server: &Server, version: &str) -> String {
    format!("{}/o/n{version}", server.address)
}

#[test]
fn a_tag_and_a_digest_lead_to_the_layers_in_their_order() {
    let layers: Vec<Vec<u8>> = (0..9_u8).map(|n| vec![n; 1000 * usize::from(9 - n)]).collect();
    let content = image(&layers.iter().map(Vec::as_slice).collect::<Vec<_>>());
    let served = content.clone();
    let server = Server::start(move |request, _| serve(&served, request));
    for version in [":v1".to_owned(), format!("@{}", content.manifest)] {
        let (image, found) = pull(&registries(RegistryOptions::default()), &name(&server, &version)).unwrap();
        assert_eq!((image.digest, &found), (content.manifest, &layers));
    }
    let accept = &server.received()[0].headers["accept"];
    assert!(accept.contains("oci.image.index") && accept.contains("docker.distribution.manifest.list"));
}

#[test]
fn an_unknown_image_is_reported_with_its_name() {
    let server = Server::start(|_, _| Answer::new(404, ""));
    let error = pull(&registries(RegistryOptions::default()), &name(&server, ":v2")).unwrap_err();
    assert_eq!(error.to_string(), format!("{0} has no image {0}/o/n:v2", server.address));
}

#[test]
fn a_token_is_asked_for_once_with_the_credentials_of_the_file() {
    let content = image(&[b"one", b"two", b"three"]);
    let address = Arc::new(Mutex::new(String::new()));
    let place = Arc::clone(&address);
    let server = Server::start(move |request, _| {
        if request.path.starts_with("/token?") {
            assert_eq!(request.headers["authorization"], "Basic dXNlcjpzZWNyZXQ=");
            assert_eq!(request.path, "/token?scope=repository%3Ao%2Fn%3Apull&client_id=runner&service=a%20b");
            return Answer::new(200, r#"{"token":"t1"}"#);
        }
        if request.headers.get("authorization").map(String::as_str) != Some("Bearer t1") {
            let realm = format!("http://{}/token", place.lock().unwrap());
            let challenge = format!(r#"Bearer realm="{realm}",service="a b",scope="repository:o/n:pull""#);
            return Answer::new(401, "").header("WWW-Authenticate", challenge);
        }
        serve(&content, request)
    });
    *address.lock().unwrap() = server.address.clone();
    let (_directory, registries) = with_password(&server.address);
    assert_eq!(pull(&registries, &name(&server, ":v1")).unwrap().1, [&b"one"[..], b"two", b"three"]);
    assert_eq!(server.received().iter().filter(|it| it.path.starts_with("/token")).count(), 1);
}

#[test]
fn basic_credentials_go_to_the_registry_and_never_to_where_it_leads() {
    let content = image(&[b"layer"]);
    let blobs = content.clone();
    let elsewhere = Server::start(move |request, _| serve(&blobs, request));
    let to = elsewhere.address.clone();
    let server = Server::start(move |request, _| {
        if request.headers.get("authorization").map(String::as_str) != Some("Basic dXNlcjpzZWNyZXQ=") {
            return Answer::new(401, "").header("WWW-Authenticate", "Basic realm=x");
        }
        match request.path.contains("/blobs/") {
            true => Answer::new(307, "").header("Location", format!("http://{to}{}", request.path)),
            false => serve(&content, request),
        }
    });
    let (_directory, registries) = with_password(&server.address);
    assert_eq!(pull(&registries, &name(&server, ":v1")).unwrap().1, [b"layer"]);
    assert!(!elsewhere.received().is_empty());
    assert!(elsewhere.received().iter().all(|request| !request.headers.contains_key("authorization")));
}

#[test]
fn refusals_say_which_credentials_were_sent() {
    let server = Server::start(|_, _| {
        let body = r#"{"errors":[{"code":"UNAUTHORIZED","message":"access denied"}]}"#;
        Answer::new(401, body).header("WWW-Authenticate", "Basic realm=x")
    });
    let error = pull(&registries(RegistryOptions::default()), &name(&server, ":v1")).unwrap_err();
    assert_eq!(error.to_string(), format!("{0} refuses to pull {0}/o/n:v1: access denied", server.address));
    assert!(error.hint().unwrap().contains(&format!("docker login {}", server.address)));
    let (directory, registries) = with_password(&server.address);
    let error = pull(&registries, &name(&server, ":v1")).unwrap_err();
    assert!(error.hint().unwrap().contains(&directory.path().display().to_string()), "{:?}", error.hint());
    assert!(error.is_of_input());
    assert_eq!(server.received().len(), 3);
}

#[test]
fn a_token_service_without_tls_gets_no_credentials() {
    let server = Server::start(|_, _| {
        Answer::new(401, "").header("WWW-Authenticate", r#"Bearer realm="http://192.0.2.1/token""#)
    });
    let (_directory, registries) = with_password(&server.address);
    let error = pull(&registries, &name(&server, ":v1")).unwrap_err();
    assert!(error.to_string().ends_with("the address of its token service has no https"), "{error}");
}

#[test]
fn wrong_content_is_refused_and_nothing_is_passed_on() {
    let content = image(&[b"layer"]);
    let layer = format!("/v2/o/n/blobs/{}", Digest::of_bytes(b"layer"));
    for (path, bytes) in [(layer, &b"LAYER"[..]), (format!("/v2/o/n/manifests/{}", content.manifest), b"{}")] {
        let mut changed = content.clone();
        changed.paths.insert(path, bytes.to_vec());
        let server = Server::start(move |request, _| serve(&changed, request));
        let error = pull(&registries(RegistryOptions::default()), &name(&server, &format!("@{}", content.manifest)));
        let error = error.unwrap_err();
        let RegistryError::Http(http) = &error else { panic!("{error:?}") };
        assert!(matches!(*http.problem, crate::http::Problem::Digest { .. }), "{error:?}");
    }
}

#[test]
fn huge_manifests_and_broken_blobs_are_no_danger() {
    let server = Server::start(|_, _| Answer::content(Content::Announced(1 << 30)));
    let error = pull(&registries(RegistryOptions::default()), &name(&server, ":v1")).unwrap_err();
    assert!(crate::error::error_chain(&error).contains("more than 4194304 bytes"), "{error}");
    let content = image(&[b"0123456789"]);
    let server = Server::start(move |request, number| {
        match request.path.contains(&Digest::of_bytes(b"0123456789").to_string()) {
            true if number < 4 => Answer::content(Content::Cut(b"0123".to_vec(), 10)),
            _ => match serve(&content, request) {
                // The rest of a broken download.
                answer if request.headers.contains_key("range") => {
                    Answer { status: 206, content: Content::Whole(b"456789".to_vec()), ..answer }
                        .header("Content-Range", "bytes 4-9/10")
                }
                answer => answer,
            },
        }
    });
    assert_eq!(pull(&registries(RegistryOptions::default()), &name(&server, ":v1")).unwrap().1, [b"0123456789"]);
}

#[test]
fn a_mirror_is_asked_first_and_the_registry_where_it_fails() {
    let content = image(&[b"layer"]);
    let mirror_content: BTreeMap<String, Vec<u8>> =
        content.paths.iter().map(|(path, bytes)| (path.replace("/v2/", "/v2/hub/"), bytes.clone())).collect();
    let mirror_content = ServedImage { paths: mirror_content, ..content.clone() };
    for works in [true, false] {
        let (served, mirrored) = (content.clone(), mirror_content.clone());
        let server = Server::start(move |request, _| serve(&served, request));
        let mirror =
            Server::start(move |request, _| if works { serve(&mirrored, request) } else { Answer::new(404, "") });
        let settings = RegistrySettings { mirrors: vec![format!("{}/hub", mirror.address)], ca: None };
        let options = RegistryOptions { registries: BTreeMap::from([(server.address.clone(), settings)]) };
        assert_eq!(pull(&registries(options), &name(&server, ":v1")).unwrap().1, [b"layer"]);
        assert_eq!((mirror.received().is_empty(), server.received().is_empty()), (false, works));
    }
}

/// The mirrors that were reported, with their errors.
#[derive(Debug, Default)]
struct Reported(Mutex<Vec<(String, String)>>);

impl Notices for Reported {
    fn waits(&self, _: &str, _: Duration, _: &str) {}

    fn skips_mirror(&self, mirror: &str, _: &str, why: &str) {
        self.0.lock().unwrap().push((mirror.to_owned(), why.to_owned()));
    }
}

#[test]
fn a_mirror_that_fails_is_reported_once_and_one_without_a_connection_is_not_asked_again() {
    let layers: Vec<Vec<u8>> = (0..9_u8).map(|n| vec![n; 100]).collect();
    let content = image(&layers.iter().map(Vec::as_slice).collect::<Vec<_>>());
    let server = Server::start(move |request, _| serve(&content, request));
    let silent = Server::start(|_, _| Answer::content(Content::Broken));
    let other = Server::start(|_, _| Answer::new(403, "not you"));
    let empty = Server::start(|_, _| Answer::new(404, ""));
    let mirrors = [&silent, &other, &empty].map(|mirror| mirror.address.clone()).to_vec();
    let options = RegistryOptions {
        registries: BTreeMap::from([(server.address.clone(), RegistrySettings { mirrors, ca: None })]),
    };
    let reported = Arc::new(Reported::default());
    let registries = registries(options).reporting(Arc::<Reported>::clone(&reported));
    assert_eq!(pull(&registries, &name(&server, ":v1")).unwrap().1, layers);
    let reported = reported.0.lock().unwrap();
    let [(first, broken), (second, refused)] = &reported[..] else { panic!("{reported:?}") };
    assert_eq!([first, second], [&silent.address, &other.address]);
    assert!(broken.contains("the connection to") && refused.ends_with("not you"), "{reported:?}");
    // Five tries of one request; each mirror with a connection is asked for the manifest and each blob.
    assert_eq!([&silent, &other, &empty].map(|mirror| mirror.received().len()), [5, 11, 11]);
}

#[test]
fn an_error_of_a_layer_ends_the_others() {
    let layers: Vec<LayerBlob> = image_layers(8);
    struct Slow;
    impl Blobs for Slow {
        type Error = crate::oci::OciError;
        fn document(&self, _: &Digest, _: bool) -> Result<Vec<u8>, Self::Error> {
            Ok(Vec::new())
        }
        fn layer(
            &self,
            layer: &LayerBlob,
            _: &File,
            progress: &dyn Fn(u64) -> std::ops::ControlFlow<()>,
        ) -> Result<(), Self::Error> {
            if layer.size == 1 {
                return Err(crate::oci::OciError::Size { digest: layer.digest, expected: 1, found: 2 });
            }
            for count in 0.. {
                if progress(count).is_break() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            Ok(())
        }
    }
    let result = each_layer::<_, crate::oci::OciError>(&Slow, &layers, &tempfile::tempfile, &|_, _| (), |_, _| Ok(()));
    assert!(matches!(result, Err(crate::oci::OciError::Size { .. })));
}

fn image_layers(count: u64) -> Vec<LayerBlob> {
    let digest = Digest::of_bytes(b"x");
    let layer = |size| LayerBlob { digest, size, kind: crate::oci::LayerKind::Tar, diff_id: digest, chain_id: digest };
    (0..count).map(layer).collect()
}
