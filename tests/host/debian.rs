//! A Debian root is made by steps like any others, without a file of the host in it, and always the same.

use std::fs;

use crate::built::{Built, project};
use crate::project::Project;

/// Returns the first URL of a package archive in the host's own sources.
fn mirror() -> String {
    let lists = ["/etc/apt/sources.list.d/debian.sources", "/etc/apt/sources.list"];
    let text: String = lists.iter().filter_map(|list| fs::read_to_string(list).ok()).collect();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.flat_map(str::split_whitespace).find(|word| word.starts_with("http")).unwrap().to_owned()
}

fn manifest(rest: &str) -> String {
    format!(
        "
containers:
  c: {{ rootfs: {{ debian: {{ suite: bookworm, variant: essential, mirror: {}{rest} }} }} }}
steps:
  - name: look
    run: |
      cat /etc/debian_version; dpkg -l dpkg | tail -n 1 | cut -c 1-7
      for file in /etc/resolv.conf /etc/hostname /debian /mmdebstrap /keyring.gpg; do test ! -e $file || echo $file; done
  - name: packages
    run: dpkg-query -W -f '${{Package}}:${{Architecture}} ${{Version}}\\n'
  - {{ name: image, snapshot: {{ output: image.squashfs }} }}
",
        mirror()
    )
}

#[test]
fn a_debian_root_is_made_once_and_has_the_same_bytes_when_it_is_made_again() {
    let project = project(&manifest(""));
    let built = Built::succeed(&project);
    let lines = built.lines("look");
    assert!(lines[0].starts_with("12."), "{lines:?}");
    assert_eq!(lines[1..], ["ii  dpk"], "{lines:?}");
    let packages = built.lines("packages");
    let status = |built: &Built, step: &str| built.ending(step)["status"].as_str().unwrap().to_owned();
    assert_eq!(["c.debian", "c.root", "look"].map(|step| status(&built, step)), ["ran"; 3]);
    let built = Built::succeed(&project);
    assert_eq!(["c.debian", "c.root", "look"].map(|step| status(&built, step)), ["cached"; 3]);
    // The host's own files are not in the root.
    assert_eq!(
        project.script("unsquashfs -l image.squashfs | grep -c -e mmdebstrap -e keyring.gpg || true").trim(),
        "0"
    );
    assert_eq!(project.runner(&["lock"]).code, 0);
    locks_its_packages(&project, &packages);
    let run = project.runner(&["verify"]);
    assert_eq!(run.code, 0, "{run}");
    assert_eq!(project.leftovers(run.pid), Vec::<String>::new());
}

/// The lock names the packages of the root, and a root with others than the locked ones is refused by their names.
fn locks_its_packages(project: &Project, packages: &[String]) {
    let text = fs::read_to_string(project.path("runner.lock")).unwrap();
    let lock: toml::Table = toml::from_str(&text).unwrap();
    let snapshots = lock["manifest"][0]["snapshot"].as_array().unwrap();
    let of = |step: &str| snapshots.iter().find(|snapshot| snapshot["step"].as_str() == Some(step)).unwrap();
    let locked = of("c.root")["packages"].as_table().unwrap();
    let locked: Vec<String> =
        locked.iter().map(|(name, version)| format!("{name} {}", version.as_str().unwrap())).collect();
    let mut packages = packages.to_vec();
    packages.sort();
    assert_eq!(locked, packages);
    assert!(of("image").get("packages").is_none(), "{text}");
    // Another archive that the root was locked with.
    let (name, version) = packages.iter().find(|line| line.starts_with("dpkg:")).unwrap().split_once(' ').unwrap();
    let digest = of("c.root")["digest"].as_str().unwrap();
    let other = text.replace(&format!("digest = \"{digest}\""), &format!("digest = \"sha256:{}\"", "0".repeat(64)));
    let other =
        other.replace(&format!("\"{name}\" = \"{version}\""), &format!("\"{name}\" = \"0.1\"\n\"gone:all\" = \"1\""));
    project.write("runner.lock", &other);
    let cause = format!("; cause: its packages changed: {name} 0.1 → {version}, gone:all 1 was removed");
    for arguments in [&["lock", "--check"][..], &["apply", "--locked"]] {
        let run = project.runner(arguments);
        assert!(run.code == 4 && format!("{}{}", run.stdout, run.stderr).contains(&cause), "{run}");
        assert_eq!(project.leftovers(run.pid), Vec::<String>::new());
    }
    project.write("runner.lock", &text);
}

#[test]
fn an_archive_without_a_valid_signature_gives_no_root() {
    let manifest = manifest(", keyring: other.gpg");
    let project = project(&manifest);
    // A valid file of keys, with none that the archive is signed with.
    project.script(": > other.gpg");
    let run = project.runner(&["apply", "--progress", "plain"]);
    assert_eq!(run.code, 1, "{run}");
    assert!(run.stdout.contains("c.debian") && run.stdout.contains("is not signed"), "{run}");
    assert!(!project.path("image.squashfs").exists());
    assert_eq!(project.leftovers(run.pid), Vec::<String>::new());
}
