//! The same inputs give the same bytes.

use serde_json::Value;

use crate::project::Project;

const STEPS: &str = r#"
  next: { rootfs: { snapshot: layer }, mounts: [{ type: tmpfs, target: /a/b/c }], scratch: SCRATCH }
steps:
  - name: write
    container: base
    run: |
      mkdir -p /data/folder /a; echo one > /data/folder/one; ln /data/folder/one /data/linked; ln -s one /data/folder/link
      i=0; while [ $i -lt 200 ]; do echo $i > /data/$i; i=$((i + 1)); done
      setfattr -n user.zeta -v 1 /data/linked; setfattr -n user.alpha -v 2 /data/linked; setfattr -n user.mid -v 3 /data/linked
      mkfifo /data/fifo; mknod /data/null c 1 3; rm /data/17; touch -d @1000 /data/18; rm -rf /usr/none
  - { name: layer, container: base, snapshot: { output: out/layer.squashfs } }
  - { name: more, container: next, run: "rm -r /data/folder; mkdir /data/folder; echo > /a/b/beside; echo more >> /data/1" }
  - { name: upper, container: next, snapshot: { output: out/upper.squashfs } }
  - { name: full, container: next, snapshot: { mode: full, output: out/full.squashfs, compression: gzip } }
"#;

fn manifest(scratch: &str) -> String {
    let programs = "/bin/sh, /bin/ln, /bin/mkdir, /bin/mknod, /usr/bin/mkfifo, /bin/rm, /bin/touch, /usr/bin/setfattr";
    let base = format!("  base: {{ rootfs: {{ programs: [{programs}] }}, scratch: SCRATCH }}");
    format!("version: 1\ncontainers:\n{base}{STEPS}").replace("SCRATCH", scratch)
}

/// Returns the digests that a run of this shell command around runner reports; `"$@"` is runner and its arguments.
fn digests(project: &Project, shell: &str) -> Vec<(String, String)> {
    let run = project.runner_in_shell(shell, &["apply", "--progress", "json"]);
    assert_eq!(run.code, 0, "{run}");
    let events = run.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut digests: Vec<_> = events
        .filter(|event| event["event"] == "snapshot_written")
        .map(|event| (event["step"].as_str().unwrap().to_owned(), event["digest"].as_str().unwrap().to_owned()))
        .collect();
    digests.sort();
    assert_eq!(digests.len(), 3, "{run}");
    digests
}

#[test]
fn images_are_the_same_in_memory_and_on_disk_under_any_umask() {
    let memory = manifest("{ tmpfs: 1GiB }");
    let expected = digests(&Project::new(&memory), r#"exec "$@""#);
    assert_eq!(digests(&Project::new(&memory), r#"umask 077; exec "$@""#), expected, "with umask 077");
    assert_eq!(digests(&Project::new(&memory), r#"umask 0; exec nice "$@" -j 1"#), expected, "one job at a time");
    let disk = manifest("{ disk: true }");
    assert_eq!(digests(&Project::new(&disk), r#"exec "$@""#), expected, "with scratch on disk");
    assert_eq!(digests(&Project::new(&disk), r#"umask 027; exec "$@""#), expected, "on disk with umask 027");
}
