//! Credentials in the files of other tools, and from helpers.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;

fn find(sources: &Sources, registry: &str, repository: &str) -> Result<Option<String>, String> {
    let found = sources.find(registry, repository, &Arc::default()).map_err(|error| error.to_string())?;
    Ok(found.map(|(credentials, _)| match credentials {
        Credentials::Password { user, password } => format!("{user}:{password}"),
        Credentials::Identity(token) => format!("identity {token}"),
    }))
}

fn with(content: &str) -> (tempfile::TempDir, Sources) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.json");
    fs::write(&path, content).unwrap();
    let variables = BTreeMap::from([("PATH".to_owned(), directory.path().display().to_string())]);
    (directory, Sources { files: vec!["/none/auth.json".into(), path], variables })
}

#[test]
fn the_entry_with_the_longest_name_counts() {
    let auth = |text: &str| BASE64_STANDARD.encode(text);
    let (_directory, sources) = with(&format!(
        r#"{{"auths": {{
            "https://index.docker.io/v1/": {{"auth": "{}"}},
            "ghcr.io": {{"auth": "{}"}},
            "ghcr.io/o": {{"username": "o", "password": "p:q"}},
            "localhost:5000": {{"identitytoken": "t", "auth": "{}"}}
        }}, "HttpHeaders": {{}}}}"#,
        auth("hub:secret"),
        auth("all:a:b"),
        auth("x:y"),
    ));
    let found = |registry, repository| find(&sources, registry, repository).unwrap();
    assert_eq!(found("docker.io", "library/debian").as_deref(), Some("hub:secret"));
    assert_eq!(found("ghcr.io", "else/n").as_deref(), Some("all:a:b"));
    assert_eq!(found("ghcr.io", "o/n").as_deref(), Some("o:p:q"));
    assert_eq!(found("ghcr.io", "other/n").as_deref(), Some("all:a:b"));
    assert_eq!(found("localhost:5000", "x").as_deref(), Some("identity t"));
    assert_eq!(found("localhost:5001", "x"), None);
    assert_eq!(found("evil.io", "ghcr.io/o"), None);
}

#[test]
fn a_broken_file_is_reported_without_its_secrets() {
    for content in [
        r#"{"auths": {"x.io": {"auth": "c2VjcmV0"}}}"#,
        r#"{"auths": {"x.io": {"auth": "secret!"}}}"#,
        r#"{"auths": secret"#,
    ] {
        let (_directory, sources) = with(content);
        let error = find(&sources, "x.io", "n").unwrap_err();
        assert!(error.contains("config.json") && !error.contains("secret") && !error.contains("c2Vj"), "{error}");
    }
    assert_eq!(find(&with(" \n").1, "x.io", "n"), Ok(None));
}

#[test]
fn a_helper_gets_the_registry_and_few_variables() {
    let (directory, sources) = with(r#"{"credsStore": "all", "credHelpers": {"x.io": "own"}, "auths": {"y.io": {}}}"#);
    let write = |name: &str, script: &str| {
        let path = directory.path().join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    };
    write("docker-credential-own", r#"read host; echo "{\"Username\":\"$1-$host\",\"Secret\":\"$HOME$LD_AUDIT\"}""#);
    write("docker-credential-all", "echo credentials not found in native keychain; exit 1");
    assert_eq!(find(&sources, "x.io", "n").unwrap().as_deref(), Some("get-x.io:"));
    assert_eq!(find(&sources, "y.io", "n"), Ok(None));
    write("docker-credential-all", r#"echo '{"Username":"<token>","Secret":"t"}'"#);
    assert_eq!(find(&sources, "y.io", "n").unwrap().as_deref(), Some("identity t"));
    write("docker-credential-all", "echo locked; exit 3");
    assert!(find(&sources, "y.io", "n").unwrap_err().ends_with("locked"));
    write("docker-credential-all", "echo secret");
    assert!(!find(&sources, "y.io", "n").unwrap_err().contains("secret"));
    fs::remove_file(directory.path().join("docker-credential-all")).unwrap();
    assert!(find(&sources, "y.io", "n").unwrap_err().ends_with("it is not in PATH"));
    let (_directory, sources) = with(r#"{"credsStore": "../../tmp/x"}"#);
    assert!(find(&sources, "y.io", "n").unwrap_err().contains("characters"));
}

#[test]
fn the_files_are_those_of_skopeo_and_docker() {
    let of = |pairs: &[(&str, &str)]| {
        let variables = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let sources = Sources::of(variables, 7);
        let files: Vec<String> = sources.files.iter().map(|path| path.display().to_string()).collect();
        (files, sources.variables.into_keys().collect::<Vec<_>>())
    };
    let (files, variables) = of(&[("HOME", "/h"), ("LD_PRELOAD", "x"), ("AWS_REGION", "r"), ("RUNNER_STORE", "s")]);
    assert_eq!(files, ["/run/containers/7/auth.json", "/h/.config/containers/auth.json", "/h/.docker/config.json"]);
    assert_eq!(variables, ["AWS_REGION", "HOME"]);
    let all =
        [("REGISTRY_AUTH_FILE", "/a"), ("XDG_RUNTIME_DIR", "/r"), ("DOCKER_CONFIG", "/d"), ("XDG_CONFIG_HOME", "/c")];
    assert_eq!(of(&all).0, ["/a", "/r/containers/auth.json", "/c/containers/auth.json", "/d/config.json"]);
}
