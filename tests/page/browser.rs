//! Chromium without a window, driven by the DevTools protocol through a pipe.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

/// The time that an answer may take before a test gives up.
const TIMEOUT: Duration = Duration::from_secs(60);

/// It takes commands from descriptor 3, and answers on 4. Root has no sandbox, and containers have little /dev/shm.
const START: &str = "exec chromium --headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run \
     --disable-background-networking --remote-debugging-pipe --user-data-dir=\"$HOME\" about:blank \
     3<&0 4>&1 </dev/null >/dev/null 2>\"$HOME/stderr\"";

/// A browser with one page.
pub struct Browser {
    child: Child,
    commands: ChildStdin,
    answers: Receiver<Value>,
    stderr: PathBuf,
    count: u64,
    session: Option<Value>,
    events: Vec<Value>,
}

impl Browser {
    /// Starts it with its files in that directory.
    pub fn start(directory: &Path) -> Self {
        fs::create_dir_all(directory).unwrap();
        let mut command = Command::new("sh");
        command
            .args(["-c", START])
            .env("HOME", directory)
            .env("XDG_CONFIG_HOME", directory)
            .env("XDG_CACHE_HOME", directory);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (commands, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (sender, answers) = channel();
        thread::spawn(move || {
            for message in BufReader::new(stdout).split(0).map_while(Result::ok) {
                let Ok(()) = sender.send(serde_json::from_slice(&message).unwrap()) else { return };
            }
        });
        let stderr = directory.join("stderr");
        let mut browser = Self { child, commands, answers, stderr, count: 0, session: None, events: Vec::new() };
        let targets = browser.call("Target.getTargets", json!({}));
        let page = targets["targetInfos"].as_array().unwrap().iter().find(|target| target["type"] == "page").unwrap();
        let attach = json!({ "targetId": page["targetId"], "flatten": true });
        browser.session = Some(browser.call("Target.attachToTarget", attach)["sessionId"].clone());
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        browser
    }

    /// Opens a file in a window of that width, light or dark.
    pub fn open(&mut self, file: &Path, width: u32, scheme: &str) {
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.call("Emulation.setEmulatedMedia", features);
        let size = json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false });
        self.call("Emulation.setDeviceMetricsOverride", size);
        self.events.clear();
        self.call("Page.navigate", json!({ "url": format!("file://{}", file.display()) }));
        while !self.events.iter().any(|event| event["method"] == "Page.loadEventFired") {
            let event = self.receive();
            self.events.push(event);
        }
    }

    /// Returns the value of a JavaScript expression in the page.
    pub fn value(&mut self, expression: &str) -> Value {
        let answer = self.call("Runtime.evaluate", json!({ "expression": expression, "returnByValue": true }));
        assert!(answer.get("exceptionDetails").is_none(), "{answer:#}");
        answer["result"]["value"].clone()
    }

    /// Returns the events of that type since the page was opened.
    pub fn events(&self, method: &str) -> Vec<&Value> {
        self.events.iter().filter(|event| event["method"] == method).map(|event| &event["params"]).collect()
    }

    pub fn close(mut self) {
        self.session = None;
        self.call("Browser.close", json!({}));
        self.child.wait().unwrap();
    }

    fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.count += 1;
        let mut command = json!({ "id": self.count, "method": method, "params": parameters });
        if let Some(session) = &self.session {
            command["sessionId"] = session.clone();
        }
        // Where the browser has ended, the missing answer shows it.
        let _ = self.commands.write_all(format!("{command}\0").as_bytes());
        loop {
            let mut message = self.receive();
            if message["id"] == self.count {
                assert!(message.get("error").is_none(), "{method}: {message:#}");
                return message["result"].take();
            }
            self.events.push(message);
        }
    }

    fn receive(&self) -> Value {
        let errors = || fs::read_to_string(&self.stderr).unwrap_or_default();
        self.answers
            .recv_timeout(TIMEOUT)
            .unwrap_or_else(|error| panic!("chromium (apt-get install chromium): {error}\n{}", errors()))
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
