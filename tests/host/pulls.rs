//! Pulls and downloads as a user sees them: their progress, their waits, their failures, and mirrors that fail.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::built::{Built, Running};
use crate::images::{pack, with_root};
use crate::project::Project;
use crate::registry::server::{Answer, Content, Received, Server};

/// The bytes of the second layer, which is not compressed: it comes byte by byte.
const SLOW: usize = 10_240;

/// Answers requests for the documents and layers of `layout` in a project, as a registry does.
fn registry(project: &Project, answer: impl Fn(&Received, Vec<u8>) -> Answer + Send + Sync + 'static) -> Server {
    let index: Value = serde_json::from_slice(&fs::read(project.path("layout/index.json")).unwrap()).unwrap();
    let manifest = index["manifests"][0]["digest"].as_str().unwrap().to_owned();
    let blobs = project.path("layout/blobs/sha256");
    Server::start(move |request, _| {
        let name = request.path.rsplit('/').next().unwrap();
        let name = if name == "v1" { manifest.as_str() } else { name };
        match fs::read(blobs.join(name.trim_start_matches("sha256:"))) {
            Ok(bytes) => answer(request, bytes),
            Err(_) => Answer::new(404, ""),
        }
    })
}

/// Writes the manifest again, with the address of a registry.
fn set_address(project: &Project, address: &str) {
    let manifest = fs::read_to_string(project.path("build.yaml")).unwrap().replace("$REGISTRY", address);
    project.write("build.yaml", &manifest);
}

/// Returns an address on this host at which nobody listens.
fn nobody() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// Returns the events of a build whose image has a layer that comes slowly, after a wait.
pub fn slow_events() -> Vec<Value> {
    let project = with_root("image: $REGISTRY/o/n:v1");
    let has_waited = AtomicBool::new(false);
    let server = registry(&project, move |request, bytes| match request.path.contains("/blobs/") {
        true if bytes.len() == SLOW && !has_waited.swap(true, Ordering::SeqCst) => {
            Answer::new(503, "").header("Retry-After", "2")
        }
        true if bytes.len() == SLOW => Answer::content(Content::Slow(bytes, Duration::from_micros(80))),
        _ => Answer::new(200, bytes),
    });
    set_address(&project, &server.address);
    Built::succeed(&project).events
}

#[test]
fn a_pull_is_shown_once_for_all_containers_that_wait_for_it() {
    let project = with_root("image: $REGISTRY/o/n:v1");
    let server = registry(&project, |request, bytes| match request.path.contains("/blobs/") {
        true if bytes.len() == SLOW => Answer::content(Content::Slow(bytes, Duration::from_micros(80))),
        _ => Answer::new(200, bytes),
    });
    let root = format!("{{ image: '{}/o/n:v1' }}", server.address);
    let step =
        |name: &str, container: &str| format!("  - {{ name: {name}, container: {container}, run: cat /etc/marker }}\n");
    let manifest = format!("version: 1\ncontainers:\n  c: {{ rootfs: {root} }}\n  d: {{ rootfs: {root} }}\nsteps:\n");
    project.write("build.yaml", &(manifest + &step("look", "c") + &step("other", "d")));
    let built = Built::succeed(&project);
    assert_eq!((built.lines("other"), &*built.lines("look")[0]), (vec!["two".to_owned()], "two"));
    let source = format!("{}/o/n:v1", server.address);
    let [begins] = built.all("import_started")[..] else { panic!("{}", built.run) };
    assert_eq!((&begins["source"], &begins["method"]), (&Value::from(&*source), &Value::from("pull")));
    assert!(["c", "d"].contains(&begins["container"].as_str().unwrap()), "{begins}");
    let [ends] = built.all("import_finished")[..] else { panic!("{}", built.run) };
    assert_eq!((&ends["status"], &ends["digest"]), (&Value::from("done"), &begins["digest"]));
    // All layers together.
    assert_eq!(ends["size"], begins["size"]);
    assert!(begins["size"].as_u64().unwrap() > 100_000, "{begins}");
    let arrives: Vec<&Value> =
        built.all("import_progress").into_iter().filter(|event| event["stage"] == "arrives").collect();
    assert!(!arrives.is_empty(), "{}", built.run);
    let bytes: Vec<u64> = arrives.iter().map(|event| event["bytes"].as_u64().unwrap()).collect();
    assert!(bytes.is_sorted() && arrives.iter().all(|event| event["total"] == begins["size"]), "{arrives:?}");
    let mut requests = BTreeMap::new();
    server.received().iter().for_each(|request| *requests.entry(request.path.clone()).or_insert(0) += 1);
    assert!(requests.iter().all(|(path, count)| !path.contains("/blobs/") || *count == 1), "{requests:?}");
    // In a log it is a line at the beginning and one at the end.
    project.script("rm -rf store");
    let run = project.runner(&["apply", "--progress", "plain"]);
    let lines: Vec<&str> = run.stdout.lines().filter(|line| line.starts_with("pull")).collect();
    let [begins, ends] = lines[..] else { panic!("{run}") };
    assert!(begins.starts_with(&format!("pulling {source} for the container ")), "{begins}");
    let end = format!("pulled {source} (sha256:");
    assert!(ends.starts_with(&end) && ends.contains("), ") && ends.contains(" in "), "{ends}");
    assert!(!project.runner(&["apply", "--progress", "plain"]).stdout.contains("pull"), "it is in the store");
}

#[test]
fn downloads_and_archives_are_shown_too() {
    let project = with_root("tar: one.tar");
    let manifest = fs::read_to_string(project.path("build.yaml")).unwrap();
    let manifest = manifest.replace("; cat /link/through /becomes-file /usr/data/hard", "");
    project.write("build.yaml", &manifest);
    let imports = |built: &Built| {
        let all = built.all("import_started").into_iter().chain(built.all("import_finished"));
        all.map(|event| format!("{} {}", event["method"], event["source"]).replace('"', "")).collect::<Vec<_>>()
    };
    let path = project.path("one.tar").display().to_string();
    let built = Built::succeed(&project);
    assert_eq!(imports(&built), [format!("import {path}"), format!("import {path}")]);
    assert_eq!(built.all("import_finished")[0]["size"], fs::metadata(&path).unwrap().len());
    assert_eq!(imports(&Built::of(&project, &["--no-cache"])), [""; 0], "the store has it");
    let served = fs::read(&path).unwrap();
    let server = Server::start(move |_, _| Answer::new(200, served.clone()));
    let url = format!("http://{}/one.tar", server.address);
    // A query may have a secret.
    project.write("build.yaml", &manifest.replace("tar: one.tar", &format!("url: '{url}?token=secret'")));
    let run = project.runner(&["lock"]);
    assert_eq!(run.code, 0, "{run}");
    assert!(run.stderr.contains(&format!("downloading {url} for the container c\ndownloaded {url} (sha256:")), "{run}");
    assert!(run.stdout.contains(&format!("importing {url} for the container c: ")), "{run}");
    assert!(!format!("{run}").contains("secret"), "{run}");
    project.script("rm -rf store");
    assert_eq!(imports(&Built::succeed(&project)), [format!("download {url}"), format!("download {url}")]);
}

#[test]
fn a_long_wait_is_shown_and_ctrl_c_ends_it() {
    let project = with_root("image: $REGISTRY/o/n:v1");
    let server = registry(&project, |request, bytes| match request.path.contains("/blobs/") && bytes.len() > 5_000 {
        true => Answer::new(429, r#"{"errors":[{"message":"slow down"}]}"#).header("Retry-After", "40"),
        false => Answer::new(200, bytes),
    });
    set_address(&project, &server.address);
    let mut running = Running::start(&project, &[]);
    let mut lines = BufReader::new(running.stdout()).lines().map(Result::unwrap);
    let waits = lines.find(|line| line.contains("request_waits")).unwrap();
    let waits: Value = serde_json::from_str(&waits).unwrap();
    assert_eq!((&waits["wait_ms"], &waits["source"]), (&40_000.into(), &format!("{}/o/n:v1", server.address).into()));
    let reason = format!("{} answered 429: slow down", server.address);
    assert_eq!(waits["reason"], *reason);
    let begin = Instant::now();
    running.signal(Signal::INT);
    let rest: Vec<String> = lines.collect();
    let built = running.end();
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    assert_eq!(built.run.code, 130, "{rest:?}");
    assert!(rest.iter().any(|line| line.contains("import_finished") && line.contains("failed")), "{rest:?}");
    assert_eq!(project.leftovers(built.run.pid), Vec::<String>::new());
}

#[test]
fn a_wait_before_the_build_is_shown_and_ctrl_c_ends_it() {
    let project = with_root("image: $REGISTRY/o/n:v1");
    let server = Server::start(|_, _| Answer::new(429, "").header("Retry-After", "40"));
    set_address(&project, &server.address);
    let mut child = project.spawn(&["apply"]);
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let source = format!("{}/o/n:v1", server.address);
    assert_eq!(lines.next().unwrap(), format!("{source}: waits 40.0s: {} answered 429", server.address));
    let begin = Instant::now();
    let pid = rustix::process::Pid::from_raw(child.id().cast_signed()).unwrap();
    rustix::process::kill_process(pid, Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
}

#[test]
fn a_registry_that_is_not_there_is_reported_within_seconds() {
    let project = with_root("image: $REGISTRY/o/n:v1");
    set_address(&project, &nobody());
    let begin = Instant::now();
    let run = project.runner(&["apply"]);
    assert!(begin.elapsed() < Duration::from_secs(4), "{:?}: {run}", begin.elapsed());
    assert!(run.code == 3 && run.stderr.contains("Connection refused"), "{run}");
}

#[test]
fn a_server_whose_certificate_is_not_trusted_is_asked_once() {
    let project = with_root("image: localhost:$PORT/o/n:v1");
    project.script(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost \
           -addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE -keyout key -out cert 2> log
         cp cert other && printf '[registries.\"localhost:%s\"]\nca = \"ca.pem\"\n' PORT > runner.toml
         openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=other -keyout k2 -out ca.pem 2> log",
    );
    let address = nobody();
    let port = address.rsplit(':').next().unwrap();
    for file in ["build.yaml", "runner.toml"] {
        let text = fs::read_to_string(project.path(file)).unwrap();
        project.write(file, &text.replace("$PORT", port).replace("PORT", port));
    }
    let mut server = std::process::Command::new("openssl");
    server.args(["s_server", "-quiet", "-accept", port, "-key", "key", "-cert", "cert", "-www"]);
    let log = fs::File::create(project.path("server.log")).unwrap();
    server
        .current_dir(project.path(""))
        .stdin(std::process::Stdio::null())
        .stderr(log)
        .stdout(std::process::Stdio::null());
    let mut server = server.spawn().unwrap();
    crate::built::wait_for("the server", || std::net::TcpStream::connect(format!("localhost:{port}")).ok());
    let begin = Instant::now();
    let run = project.runner(&["apply"]);
    let elapsed = begin.elapsed();
    server.kill().unwrap();
    server.wait().unwrap();
    assert!(run.code == 3 && run.stderr.contains("the certificate of localhost:"), "{run}");
    assert!(elapsed < Duration::from_secs(4), "{elapsed:?}: {run}");
}

#[test]
fn a_mirror_that_fails_is_named_once() {
    let project = with_root("image: $REGISTRY/o/n:v1");
    pack(&project, |_, tar| tar);
    let server = registry(&project, |_, bytes| Answer::new(200, bytes));
    let broken = Server::start(|request, _| match request.path.contains("/blobs/") {
        true => Answer::new(403, "no blobs here"),
        false => Answer::new(404, ""),
    });
    set_address(&project, &server.address);
    let nobody = nobody();
    let mirrors =
        format!("[registries.\"{}\"]\nmirrors = [\"{nobody}/hub\", \"{}\"]\n", server.address, broken.address);
    project.write("runner.toml", &mirrors);
    let run = project.runner(&["apply", "--progress", "plain"]);
    assert_eq!(run.code, 0, "{run}");
    let all = format!("{}{}", run.stdout, run.stderr);
    let warnings: Vec<&str> = all.lines().filter(|line| line.starts_with("warning: the mirror ")).collect();
    let of = |mirror: &str| {
        let lead = format!("warning: the mirror {mirror} of {} failed, and the next server is asked: ", server.address);
        let found: Vec<&str> = warnings.iter().filter_map(|line| line.strip_prefix(&*lead)).collect();
        assert_eq!(found.len(), 1, "{run}");
        found[0]
    };
    assert!(of(&format!("{nobody}/hub")).ends_with("Connection refused (os error 111)"), "{run}");
    // That it lacks the manifest is no failure.
    assert!(of(&broken.address).ends_with("no blobs here"), "{run}");
    assert_eq!(warnings.len(), 2, "{run}");
}
