//! Images that a build pushes to a registry on this host: once, from the store, and reported where the registry fails.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::built::{Built, Running, project};
use crate::project::Project;
use crate::registry::server::{Answer, Content, Received, Server};
use crate::registry::{Fault, FaultyRegistry, Registry};

const MANIFEST: &str = r#"
containers:
  base: { rootfs: $TOOLS }
  product: { rootfs: { snapshot: base-layer } }
steps:
  - { name: fill, container: base, run: "echo hello > /hello" }
  - { name: base-layer, container: base, snapshot: {} }
  - { name: change, container: product, run: "echo more > /more" }
  - { name: image, container: product, export: { format: oci, push: "$REGISTRY/o/hello:v1", config: { cmd: [cat, /hello] } } }
"#;

/// Returns a project whose image goes to this registry.
fn pushing(address: &str) -> Project {
    project(&MANIFEST.replace("$REGISTRY", address))
}

fn replace(project: &Project, old: &str, new: &str) {
    let manifest = fs::read_to_string(project.path("build.yaml")).unwrap();
    assert!(manifest.contains(old), "{old} in {manifest}");
    project.write("build.yaml", &manifest.replace(old, new));
}

/// Returns the event of the pushed image.
#[track_caller]
fn pushed(built: &Built) -> &Value {
    let events = built.all("image_pushed");
    assert_eq!(events.len(), 1, "{}", built.run);
    events[0]
}

/// Returns the steps that ran.
fn ran(built: &Built) -> Vec<&str> {
    let finished = built.all("step_finished").into_iter().filter(|event| event["status"] == "ran");
    finished.map(|event| event["step"].as_str().unwrap()).collect()
}

#[test]
fn an_image_is_pushed_once_and_pulled_by_its_digest() {
    let project = pushing("$ADDRESS");
    let registry = Registry::start(&project);
    replace(&project, "$ADDRESS", &registry.address);
    let first = Built::succeed(&project);
    let event = pushed(&first).clone();
    let digest = event["digest"].as_str().unwrap();
    let name = format!("{}/o/hello", registry.address);
    assert_eq!(event["image"], format!("{name}:v1@{digest}"));
    assert!(event["changed"] == true && event["sent"].as_u64().unwrap() > 100_000, "{event}");
    let seen = project.script(&format!("skopeo inspect --tls-verify=false docker://{name}:v1"));
    assert_eq!(serde_json::from_str::<Value>(&seen).unwrap()["Digest"], digest);

    // Nothing is sent again.
    let again = Built::succeed(&project);
    assert_eq!(ran(&again), Vec::<&str>::new(), "{}", again.run);
    assert!(pushed(&again)["changed"] == false && pushed(&again)["sent"] == 0, "{}", again.run);

    let pulling = self::project(&format!(
        "containers: {{ c: {{ rootfs: {{ image: '{name}@{digest}' }} }} }}\nsteps: [{{ name: look, run: cat /hello /more }}]\n"
    ));
    assert_eq!(Built::succeed(&pulling).lines("look"), ["hello", "more"]);

    // Another tag makes no step run, and the registry has all blobs.
    replace(&project, "hello:v1", "hello:v2");
    let moved = Built::succeed(&project);
    assert_eq!(ran(&moved), Vec::<&str>::new(), "{}", moved.run);
    assert_eq!(pushed(&moved)["image"], format!("{name}:v2@{digest}"));
    assert!(pushed(&moved)["changed"] == true && pushed(&moved)["sent"] == 0, "{}", moved.run);

    // A registry that has lost everything gets all of it from the store.
    project.script("rm -r registry");
    let lost = Built::succeed(&project);
    assert_eq!(ran(&lost), Vec::<&str>::new(), "{}", lost.run);
    assert_eq!(pushed(&lost)["sent"], event["sent"]);

    // A plan does not ask it.
    let address = registry.address.clone();
    drop(registry);
    let plan = project.runner(&["plan"]);
    assert!(plan.code == 0 && plan.stdout.contains("the build asks the registry where the tag leads"), "{plan}");
    let plan: Value = serde_json::from_str(&project.runner(&["plan", "--json"]).stdout).unwrap();
    let step = plan["steps"].as_array().unwrap().iter().find(|step| step["name"] == "image").unwrap();
    assert_eq!((&step["push"], &step["may_push"]), (&format!("{name}:v2").into(), &true.into()));
    let failed = Built::of(&project, &[]);
    assert_eq!(failed.run.code, 3, "{}", failed.run);
    let reason = failed.reason("image");
    let url = format!("http://{address}/v2/o/hello/manifests/v2");
    assert!(reason.contains(&format!("cannot push {name}:v2: cannot get {url}: the connection")), "{reason}");
}

#[test]
fn an_archive_and_a_layout_at_an_output_are_pushed_as_the_same_image() {
    let project = pushing("$ADDRESS");
    let registry = Registry::start(&project);
    replace(&project, "$ADDRESS", &registry.address);
    let alone = pushed(&Built::succeed(&project)).clone();
    for output in ["out/hello", "out/hello.tar"] {
        replace(&project, "format: oci, ", &format!("format: oci, output: {output}, "));
        let built = Built::succeed(&project);
        assert_eq!(
            (pushed(&built)["digest"].clone(), pushed(&built)["sent"].clone()),
            (alone["digest"].clone(), 0.into())
        );
        assert!(project.path(output).exists());
        // The registry has the same image as the output.
        let form = if output.ends_with(".tar") { "oci-archive" } else { "oci" };
        let seen = project.script(&format!("skopeo inspect {form}:{output}"));
        assert_eq!(serde_json::from_str::<Value>(&seen).unwrap()["Digest"], alone["digest"]);
        replace(&project, &format!("output: {output}, "), "");
    }
}

#[test]
fn an_upload_that_breaks_half_way_begins_again() {
    let project = pushing("$ADDRESS");
    let registry = Registry::start(&project);
    let cut = Arc::new(AtomicUsize::new(0));
    let address = cutting_proxy(&registry.address, &cut);
    replace(&project, "$ADDRESS", &address);
    let built = Built::succeed(&project);
    assert!(cut.load(Ordering::SeqCst) >= 2, "no connection was cut");
    let name = format!("docker://{}/o/hello:v1", registry.address);
    let seen = project
        .script(&format!("skopeo copy -q --src-tls-verify=false {name} oci:copied:v1 && skopeo inspect oci:copied:v1"));
    assert_eq!(serde_json::from_str::<Value>(&seen).unwrap()["Digest"], pushed(&built)["digest"]);
}

/// Starts a proxy that cuts its first two connections with more than 100 kB.
fn cutting_proxy(to: &str, cut: &Arc<AtomicUsize>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (to, cut) = (to.to_owned(), Arc::clone(cut));
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let server = TcpStream::connect(&to).unwrap();
            let (mut back_from, mut back_to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut back_from, &mut back_to));
            let cut = Arc::clone(&cut);
            std::thread::spawn(move || {
                let (mut client, mut server) = (client, server);
                let (mut buffer, mut total) = ([0; 8192], 0);
                while let Ok(count @ 1..) = client.read(&mut buffer) {
                    total += count;
                    if total > 100_000 && cut.fetch_add(1, Ordering::SeqCst) < 2 {
                        break;
                    }
                    if server.write_all(&buffer[..count]).is_err() {
                        break;
                    }
                }
                let _ = client.shutdown(Shutdown::Both);
                let _ = server.shutdown(Shutdown::Both);
            });
        }
    });
    address
}

#[test]
fn a_registry_that_fails_is_reported_and_the_next_build_only_pushes() {
    let registry = FaultyRegistry::start();
    let project = pushing(&registry.server.address);
    let address = registry.server.address.clone();
    let on = |method: &'static str, path: &'static str, answer: Answer| -> Fault {
        Box::new(move |request: &Received| {
            (request.method == method && request.path.contains(path)).then(|| answer.clone())
        })
    };
    let unauthorized =
        Answer::new(401, r#"{"errors":[{"message":"who are you"}]}"#).header("WWW-Authenticate", "Basic realm=x");
    let wrong = Answer::new(201, "").header("Docker-Content-Digest", format!("sha256:{}", "0".repeat(64)));
    let whole = format!("cannot push {address}/o/hello:v1: ");
    let cases = [
        (
            on("POST", "", unauthorized),
            2,
            vec![
                format!("{address} refuses to push {address}/o/hello:v1: who are you"),
                format!("`docker login {address}`"),
                "no credentials for it are in ".to_owned(),
            ],
        ),
        (
            on("POST", "", Answer::new(404, "")),
            2,
            vec![format!("{address} has no repository o/hello"), "make the repository there first".to_owned()],
        ),
        (
            on("PUT", "/manifests/", Answer::new(413, "too many layers")),
            2,
            vec![format!(
                "cannot send to http://{address}/v2/o/hello/manifests/v1: {address} answered 413: too many layers"
            )],
        ),
        (
            on("HEAD", "/blobs/", Answer::new(429, "").header("Retry-After", "3600")),
            3,
            vec![format!("{address} answered 429"), "try again in 3600 seconds".to_owned()],
        ),
        (
            on("PUT", "/manifests/", Answer::new(500, "the disk is full")),
            3,
            vec![format!("{address} answered 500: the disk is full"), "try again later".to_owned()],
        ),
        (
            on("HEAD", "/manifests/", Answer::content(Content::Broken)),
            3,
            vec![format!("the connection to {address} failed")],
        ),
        (
            on("PUT", "/uploads/", wrong.clone()),
            3,
            vec![format!("{address} does not answer as a registry: it stored the blob as sha256:000")],
        ),
        (on("PUT", "/manifests/", wrong), 3, vec!["it stored the manifest as sha256:000".to_owned()]),
        (on("POST", "", Answer::new(202, "")), 3, vec!["begins an upload without an address".to_owned()]),
    ];
    for (number, (fault, code, words)) in cases.into_iter().enumerate() {
        registry.set(Some(fault));
        let failed = Built::of(&project, &[]);
        assert_eq!(failed.run.code, code, "{words:?} {}", failed.run);
        let reason = failed.reason("image");
        assert!(reason.starts_with(&whole) && words.iter().all(|word| reason.contains(word)), "{words:?}: {reason}");
        assert!(!registry.has_manifest() && failed.all("image_pushed").is_empty(), "{words:?}");
        assert_eq!(project.leftovers(failed.run.pid), Vec::<String>::new());
        // The first build has run the steps, and the export is in the store nevertheless.
        assert_eq!(ran(&failed).is_empty(), number > 0, "{}", failed.run);
    }
    // One that asks for patience gets it.
    let asked = Arc::new(AtomicUsize::new(0));
    let asks = Arc::clone(&asked);
    registry.set(Some(Box::new(move |_| {
        let is_first = asks.fetch_add(1, Ordering::SeqCst) == 0;
        is_first.then(|| Answer::new(429, "").header("Retry-After", "1"))
    })));
    let built = Built::succeed(&project);
    assert!(ran(&built).is_empty() && pushed(&built)["changed"] == true, "{}", built.run);
}

#[test]
fn credentials_go_to_the_registry_alone_and_a_refused_login_names_its_file() {
    let elsewhere = Server::start(|_, _| Answer::new(201, ""));
    let registry = FaultyRegistry::start();
    let project = pushing(&registry.server.address);
    project.write(
        "auth.json",
        &format!(r#"{{"auths": {{"{}": {{"auth": "dXNlcjpzZWNyZXQ="}}}}}}"#, registry.server.address),
    );
    let apply =
        || project.runner_in_shell("REGISTRY_AUTH_FILE=$PWD/auth.json exec \"$@\"", &["apply", "--progress", "json"]);
    registry.set(Some(Box::new(|_| Some(Answer::new(401, "").header("WWW-Authenticate", "Basic realm=x")))));
    let refused = Built::from_run(apply());
    assert_eq!(refused.run.code, 2, "{}", refused.run);
    let file = project.path("auth.json");
    let expected = format!("the credentials of {} do not suffice: log in again", file.display());
    assert!(refused.reason("image").contains(&expected), "{}", refused.run);
    assert!(!refused.run.to_string().contains("dXNlcjpzZWNyZXQ") && !refused.run.to_string().contains("secret"));
    let to = elsewhere.address.clone();
    registry.set(Some(Box::new(move |request| {
        if request.headers.get("authorization").map(String::as_str) != Some("Basic dXNlcjpzZWNyZXQ=") {
            return Some(Answer::new(401, "").header("WWW-Authenticate", "Basic realm=x"));
        }
        match (request.method.as_str(), request.path.contains("/manifests/")) {
            ("POST", _) => Some(Answer::new(202, "").header("Location", format!("http://{to}/upload"))),
            // Followed, and also without credentials.
            ("PUT", true) => Some(Answer::new(307, "").header("Location", format!("http://{to}/manifest"))),
            _ => None,
        }
    })));
    let built = Built::from_run(apply());
    assert_eq!(built.run.code, 0, "{}", built.run);
    let received = elsewhere.received();
    assert!(received.len() >= 3 && received.iter().all(|request| !request.headers.contains_key("authorization")));
}

#[test]
fn an_interrupted_push_ends_soon_and_the_next_build_only_pushes() {
    let registry = FaultyRegistry::start();
    // A root with no files of the host, which an interrupted build does not read again.
    let root =
        "containers: { c: { rootfs: $TOOLS } }\nsteps: [{ name: root, export: { format: oci, output: root.tar } }]\n";
    let project = project(root);
    Built::succeed(&project);
    let manifest = MANIFEST.replace("$TOOLS", "{ oci: root.tar }").replace("$REGISTRY", &registry.server.address);
    project.write("build.yaml", &format!("version: 1\n{manifest}"));
    registry.set(Some(Box::new(|request| {
        (request.method == "PUT").then(|| Answer::content(Content::Silent(Duration::from_secs(600))))
    })));
    let mut build = Running::start(&project, &[]);
    build.wait_for("an upload", || registry.server.received().iter().any(|it| it.method == "PUT").then_some(()));
    let since = Instant::now();
    build.signal(Signal::INT);
    let built = build.end();
    assert!(since.elapsed() < Duration::from_secs(20), "{:?}", since.elapsed());
    assert_eq!(built.run.code, 130, "{}", built.run);
    assert_eq!(built.ending("image")["failure"]["stopped"], true, "{}", built.run);
    assert_eq!(project.leftovers(built.run.pid), Vec::<String>::new());
    registry.set(None);
    let again = Built::succeed(&project);
    assert!(ran(&again).is_empty() && registry.has_manifest(), "{}", again.run);
}

#[test]
fn only_a_build_pushes_and_its_output_is_there_before() {
    let registry = FaultyRegistry::start();
    let project = pushing(&registry.server.address);
    Built::succeed(&project);
    let before = registry.server.received().len();
    for command in [&["verify"][..], &["plan"], &["validate"], &["graph"]] {
        let run = project.runner(command);
        assert_eq!(run.code, 0, "{run}");
    }
    assert_eq!(registry.server.received().len(), before);
    // The output is written before the push, which may fail.
    replace(&project, "format: oci, ", "format: oci, output: out/hello, ");
    registry.set(Some(Box::new(|request| (request.method != "HEAD").then(|| Answer::new(403, "read-only")))));
    let failed = Built::of(&project, &[]);
    assert!(failed.reason("image").contains("read-only"), "{}", failed.run);
    assert_eq!(failed.all("export_written").len(), 1, "{}", failed.run);
    assert!(project.path("out/hello/index.json").exists());
}

#[test]
fn the_summary_of_a_job_and_the_plain_lines_have_the_name_to_pull_by() {
    let registry = FaultyRegistry::start();
    let project = pushing(&registry.server.address);
    let shell = "GITHUB_ACTIONS=true GITHUB_STEP_SUMMARY=$PWD/summary.md exec \"$@\"";
    let run = project.runner_in_shell(
        shell,
        &["apply", "--progress", "plain", "--report", "report.html", "--report", "report.json"],
    );
    assert_eq!(run.code, 0, "{run}");
    let name =
        run.stdout.lines().find_map(|line| line.split_once("pushed ")).unwrap().1.split(' ').next().unwrap().to_owned();
    assert!(name.starts_with(&format!("{}/o/hello:v1@sha256:", registry.server.address)), "{run}");
    for file in ["summary.md", "report.html", "report.json"] {
        let text = fs::read_to_string(project.path(file)).unwrap();
        assert!(text.contains(&name), "{file}: {text}");
    }
}
