//! Registries on loopback: Debian's `docker-registry`, and one with faults that a test chooses.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use runner::digest::Digest;

use crate::built::wait_for;
use crate::project::Project;

#[expect(dead_code, reason = "other tests use the other faults")]
#[path = "../../src/http/server.rs"]
pub mod server;

use server::{Answer, Received, Server};

/// A registry on loopback, which ends with the test.
pub struct Registry {
    process: Child,
    pub address: String,
}

impl Registry {
    pub fn start(project: &Project) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Self::start_at(project, port)
    }

    fn start_at(project: &Project, port: u16) -> Self {
        let address = format!("127.0.0.1:{port}");
        let config = format!(
            "version: 0.1\nlog: {{ level: error }}\nstorage: {{ filesystem: {{ rootdirectory: {} }} }}\nhttp: {{ addr: '{address}' }}\n",
            project.path("registry").display()
        );
        project.write("registry.yml", &config);
        let mut command = Command::new("docker-registry");
        command.args(["serve", "registry.yml"]).current_dir(project.path(""));
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        wait_for("the registry", || std::net::TcpStream::connect(&address).ok());
        Self { process, address }
    }

    pub fn push(&self, project: &Project, layout: &str, name: &str) {
        project
            .script(&format!("skopeo copy -q --dest-tls-verify=false oci:{layout} docker://{}/{name}", self.address));
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Answers some requests in place of the registry.
pub type Fault = Box<dyn Fn(&Received) -> Option<Answer> + Send>;

/// A registry that takes pushes, and has the faults of a test.
pub struct FaultyRegistry {
    pub server: Server,
    /// Its blobs and manifests, by path.
    pub stored: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
    fault: Arc<Mutex<Fault>>,
}

impl FaultyRegistry {
    pub fn start() -> Self {
        let (stored, fault) = (Arc::<Mutex<BTreeMap<String, Vec<u8>>>>::default(), Arc::new(Mutex::new(none())));
        let (there, current) = (Arc::clone(&stored), Arc::clone(&fault));
        let server = Server::start(move |request, _| {
            let answer = current.lock().unwrap()(request);
            answer.unwrap_or_else(|| answer_of(&mut there.lock().unwrap(), request))
        });
        Self { server, stored, fault }
    }

    /// Sets the fault, or with none ends it, and forgets everything.
    pub fn set(&self, fault: Option<Fault>) {
        *self.fault.lock().unwrap() = fault.unwrap_or_else(none);
        self.stored.lock().unwrap().clear();
    }

    /// Returns whether it has a manifest.
    pub fn has_manifest(&self) -> bool {
        self.stored.lock().unwrap().keys().any(|path| path.contains("/manifests/"))
    }
}

fn none() -> Fault {
    Box::new(|_| None)
}

fn answer_of(stored: &mut BTreeMap<String, Vec<u8>>, request: &Received) -> Answer {
    let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
    match request.method.as_str() {
        "HEAD" => match stored.get(path) {
            Some(bytes) => Answer::new(200, "").header("Docker-Content-Digest", Digest::of_bytes(bytes).to_string()),
            None => Answer::new(404, ""),
        },
        "POST" => Answer::new(202, "").header("Location", format!("{path}one")),
        "PUT" => {
            let digest = Digest::of_bytes(&request.body).to_string();
            let place = match path.split_once("uploads/") {
                Some((before, _)) => {
                    assert_eq!(query.replace("%3A", ":"), format!("digest={digest}"));
                    format!("{before}{digest}")
                }
                None => path.to_owned(),
            };
            stored.insert(place, request.body.clone());
            Answer::new(201, "").header("Docker-Content-Digest", digest)
        }
        _ => Answer::new(404, ""),
    }
}
