//! Names of hosts: /etc/hosts and /etc/resolv.conf of a root, which are in no snapshot unless a step writes them.

use std::fs;

use crate::built::{Built, names_in, project};
use crate::project::{Project, Run};

const ROOT: &str = "{ programs: [/bin/sh, /bin/cat, /bin/ln, /bin/mv, /bin/rm, /bin/mkdir, /bin/sed, /bin/hostname, /bin/readlink, /usr/bin/getent, /usr/bin/stat] }";

fn with_root(manifest: &str) -> Project {
    project(&manifest.replace("$ROOT", ROOT))
}

#[test]
fn localhost_and_the_own_host_name_resolve_in_a_root_without_a_hosts_file() {
    let project = with_root(
        r#"
containers:
  none: { rootfs: $ROOT }
  host: { rootfs: $ROOT, network: host, hostname: box.example.org }
  closed: { rootfs: $ROOT, read_only: true }
  own: { rootfs: { snapshot: own-layer } }
steps:
  - { name: in-none, container: none, run: getent hosts localhost; getent hosts $(hostname) }
  - { name: in-host, container: host, run: getent hosts localhost; getent hosts box.example.org; getent hosts box }
  - { name: in-closed, container: closed, run: getent hosts closed }
  - { name: nothing, container: none, snapshot: { output: nothing.squashfs } }
  - { name: write, container: none, run: echo 10.0.0.1 other > /etc/hosts }
  - { name: own-layer, container: none, snapshot: {} }
  - { name: again, container: none, run: cat /etc/hosts }
  - { name: look, container: own, run: cat /etc/hosts }
"#,
    );
    let built = Built::succeed(&project);
    let names = |step: &str| -> Vec<String> {
        built.lines(step).iter().map(|line| line.split_whitespace().take(2).collect::<Vec<_>>().join(" ")).collect()
    };
    assert_eq!(names("in-none"), ["::1 localhost", "127.0.1.1 none"]);
    assert_eq!(names("in-host"), ["::1 localhost", "127.0.1.1 box.example.org", "127.0.1.1 box.example.org"]);
    assert_eq!(names("in-closed"), ["127.0.1.1 closed"]);
    assert_eq!(names_in(&project.path("nothing.squashfs")).len(), 1);
    for step in ["again", "look"] {
        assert_eq!(built.lines(step), ["10.0.0.1 other"], "{step}");
    }
}

const REPLACED: &str = r#"
containers:
  c: { rootfs: $ROOT, network: host }
  d: { rootfs: { snapshot: layer } }
steps:
  - { name: change, run: "CHANGE", container: c }
  - { name: layer, container: c, snapshot: { output: layer.squashfs } }
  - { name: after, container: c, run: "readlink /etc/resolv.conf || cat /etc/resolv.conf 2> /dev/null || echo none; echo LAST" }
  - { name: next, container: c, snapshot: { output: next.squashfs } }
  - { name: below, container: d, run: "readlink /etc/resolv.conf || cat /etc/resolv.conf 2> /dev/null || echo none" }
"#;

#[test]
fn a_step_can_replace_resolv_conf_and_later_steps_see_its_file() {
    let of_host = fs::read_to_string("/etc/resolv.conf").unwrap();
    for (change, in_layer, expected) in [
        ("ln -sf /run/x /etc/resolv.conf", true, "/run/x\n".to_owned()),
        ("echo own > /new; mv /new /etc/resolv.conf", true, "own\n".to_owned()),
        ("sed -i 's/^/# /' /etc/resolv.conf", true, of_host.lines().map(|line| format!("# {line}\n")).collect()),
        ("rm /etc/resolv.conf", true, "none\n".to_owned()),
        (":", false, of_host.clone()),
    ] {
        let project = with_root(&REPLACED.replace("CHANGE", change));
        let built = Built::succeed(&project);
        assert_eq!(built.text("after"), format!("{expected}LAST\n"), "{change}");
        let names = names_in(&project.path("layer.squashfs"));
        assert_eq!(names.iter().any(|name| name == "/etc/resolv.conf"), in_layer, "{change}: {names:?}");
        let without = if in_layer { expected.clone() } else { "none\n".to_owned() };
        assert_eq!(built.text("below"), without, "{change}");
        assert_eq!(names_in(&project.path("next.squashfs")).len(), 1, "{change}");
        // The session now begins above the layer in the store.
        let text = fs::read_to_string(project.path("build.yaml")).unwrap().replace("LAST", "AGAIN");
        project.write("build.yaml", &text);
        let again = Built::succeed(&project);
        assert_eq!((again.status("layer"), again.text("after")), ("cached", format!("{expected}AGAIN\n")), "{change}");
    }
}

#[test]
fn a_dangling_resolv_conf_of_the_host_is_reported() {
    let project = with_root(
        r#"
containers: { c: { rootfs: $ROOT, network: host }, d: { rootfs: $ROOT } }
steps:
  - { name: c, container: c, run: "[ ! -e /etc/resolv.conf ]" }
  - { name: d, container: d, run: ":" }
"#,
    );
    let broken = "mkdir etc && cp -a /etc/. etc && rm -f etc/resolv.conf && ln -s ../run/nowhere/resolv.conf etc/ && \
                  exec unshare -m sh -c 'mount --bind etc /etc && exec \"$@\"' sh \"$@\"";
    let output = project.shell(broken, &["apply", "--progress", "json"]).output().unwrap();
    let built = Built::from_run(Run::new(0, &output));
    assert_eq!(built.run.code, 0, "{}", built.run);
    let messages: Vec<&str> = built.all("warning").iter().map(|event| event["message"].as_str().unwrap()).collect();
    assert_eq!(messages.len(), 1, "{messages:?}");
    assert!(
        messages[0].contains("resolv.conf of this host is missing, or a link that leads nowhere, so the steps of c "),
        "{messages:?}"
    );
}

also_with_runc! {
    localhost_and_the_own_host_name_resolve_in_a_root_without_a_hosts_file,
    a_step_can_replace_resolv_conf_and_later_steps_see_its_file,
    a_dangling_resolv_conf_of_the_host_is_reported,
}
