//! Asks a credential helper of the host, a program `docker-credential-NAME`, for the credentials of a registry.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::{Credentials, RegistryError, password_of};

/// The time after which a helper that does not answer is ended.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The largest answer.
const MAX_ANSWER: u64 = 256 << 10;

/// The variables that helpers get.
const PASSED: [&str; 9] = [
    "PATH",
    "HOME",
    "USER",
    "LANG",
    "GNUPGHOME",
    "PASSWORD_STORE_DIR",
    "XDG_RUNTIME_DIR",
    "XDG_CONFIG_HOME",
    "DBUS_SESSION_BUS_ADDRESS",
];

/// The beginnings of the variables by which helpers of cloud providers know the caller.
const PASSED_PREFIXES: [&str; 4] = ["AWS_", "GOOGLE_", "CLOUDSDK_", "AZURE_"];

/// The words by which helpers say that they have none.
const NONE: &str = "credentials not found";

/// Whether a helper gets a variable.
pub(super) fn is_passed(name: &str) -> bool {
    PASSED.contains(&name) || PASSED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "Username")]
    user: String,
    #[serde(rename = "Secret")]
    secret: String,
}

/// Returns the credentials that a helper has for a registry.
pub(super) fn get(
    helper: &str,
    registry: &str,
    variables: &BTreeMap<String, String>,
    stop: &Arc<AtomicBool>,
) -> Result<Option<Credentials>, RegistryError> {
    let program = format!("docker-credential-{helper}");
    let failed =
        |problem: String| RegistryError::Helper { program: program.clone(), registry: registry.to_owned(), problem };
    if !helper.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)) {
        return Err(failed("its name has characters that no program of helpers has".to_owned()));
    }
    let path = find(&program, variables).ok_or_else(|| failed("it is not in PATH".to_owned()))?;
    let mut command = Command::new(path);
    command.arg("get").env_clear().envs(variables).current_dir("/");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(|error| failed(format!("it cannot be started: {error}")))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A helper may answer without reading.
        let _ = stdin.write_all(format!("{registry}\n").as_bytes());
    }
    let stdout = child.stdout.take();
    let reader = std::thread::spawn(move || {
        let mut answer = Vec::new();
        if let Some(stdout) = stdout {
            let _ = stdout.take(MAX_ANSWER).read_to_end(&mut answer);
        }
        answer
    });
    let begin = Instant::now();
    let status = loop {
        match child.try_wait().map_err(|error| failed(error.to_string()))? {
            Some(status) => break status,
            None if stop.load(Ordering::SeqCst) || begin.elapsed() > TIMEOUT => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(failed(format!("it did not answer within {} seconds", begin.elapsed().as_secs())));
            }
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    let answer = reader.join().unwrap_or_default();
    if !status.success() {
        // Helpers write their errors to their standard output.
        let text: String = String::from_utf8_lossy(&answer).trim().chars().take(200).collect();
        if text.to_ascii_lowercase().contains(NONE) {
            return Ok(None);
        }
        return Err(failed(format!("{status}: {}", text.escape_debug())));
    }
    let answer: Answer =
        serde_json::from_slice(&answer).map_err(|_| failed("its answer is not the JSON of a helper".to_owned()))?;
    Ok(Some(password_of(&answer.user, &answer.secret)))
}

/// Looks a program up in the absolute directories of `PATH`.
fn find(program: &str, variables: &BTreeMap<String, String>) -> Option<std::path::PathBuf> {
    let path = variables.get("PATH").map_or("/usr/local/bin:/usr/bin:/bin", String::as_str);
    let directories = path.split(':').map(std::path::Path::new).filter(|directory| directory.is_absolute());
    directories.map(|directory| directory.join(program)).find(|path| path.is_file())
}
