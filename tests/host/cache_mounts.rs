//! Cache mounts in the store: listed, and emptied unless a build uses them.

use std::fs;

use serde_json::Value;

use crate::built::{Gate, Running, project};
use crate::project::{Project, Run};

const MANIFEST: &str = r#"
mounts:
  $GATE
  used: { type: cache, id: my-apt, target: /used }
  idle: { type: cache, target: /idle, options: [uid=1000] }
containers:
  a: { rootfs: $TOOLS, mounts: [gate, used] }
  b: { rootfs: $TOOLS, mounts: [idle] }
steps:
  - { name: fill, container: b, run: "dd if=/dev/zero of=/idle/file bs=1024 count=200; [ -p /idle/fifo ] || mkfifo /idle/fifo; ln -sfT / /idle/link" }
  - { name: stay, container: a, needs: [fill], run: "cat /used/was 2>/dev/null || echo new; echo was > /used/was; sh /gate/meet stay" }
"#;

fn caches(project: &Project, arguments: &[&str]) -> Run {
    project.runner(&[&["store"], arguments].concat())
}

#[track_caller]
fn json(project: &Project, arguments: &[&str]) -> Value {
    let run = caches(project, arguments);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{run}");
    serde_json::from_str(&run.stdout).unwrap()
}

#[test]
fn caches_are_listed_and_emptied_except_those_in_use() {
    let project = project(MANIFEST);
    let gate = Gate::new(&project);
    let build = Running::start(&project, &["-j", "1"]);
    gate.await_step("stay");
    // Another build has filled the cache, and has ended.
    let idle = Running::start(&project, &["--target", "fill"]).end();
    assert_eq!(idle.run.code, 0, "{}", idle.run);

    let listed = json(&project, &["ls", "--caches", "--json"]);
    let of = |id: &str| listed["caches"].as_array().unwrap().iter().find(|cache| cache["id"] == id).unwrap();
    assert_eq!(
        (&of("my-apt")["in_use"], &of("/idle")["in_use"]),
        (&true.into(), &true.into()),
        "the first build has both"
    );
    assert!(of("/idle")["size"].as_u64().unwrap() >= 200 << 10, "{listed}");
    let run = caches(&project, &["gc", "--caches"]);
    assert!(
        run.stdout.contains("cache my-apt (") && run.stdout.contains("not removed, because a build uses it"),
        "{run}"
    );
    assert!(run.code == 0 && run.stdout.ends_with("nothing to remove\n"), "{run}");
    gate.open("stay");
    assert_eq!(build.end().run.code, 0);

    let run = caches(&project, &["ls", "--caches"]);
    let names: Vec<&str> = run.stdout.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(names.len(), 4, "{run}");
    assert!(names[0] == "CACHE" && names[1..3].contains(&"my-apt") && names[1..3].contains(&"/idle"), "{run}");
    // A collection does not remove them, and neither does one of caches that were used since.
    assert_eq!(caches(&project, &["gc", "--keep-days", "0"]).code, 0);
    assert_eq!(caches(&project, &["gc", "--caches", "--keep-days", "1"]).stdout, "nothing to remove\n");
    let dry = json(&project, &["gc", "--caches", "--dry-run", "--json"]);
    assert_eq!(dry["would_remove"].as_array().unwrap().len(), 2, "{dry}");
    let idle = fs::canonicalize(of("/idle")["path"].as_str().unwrap()).unwrap();
    assert!(idle.join("file").exists());
    let run = caches(&project, &["gc", "--caches"]);
    assert!(run.stdout.contains("cache my-apt (") && run.stdout.contains("\nremoved 2 caches, "), "{run}");
    assert!(!idle.exists());
    assert_eq!(caches(&project, &["ls", "--caches"]).stdout.lines().count(), 1);
    assert_eq!(project.leftovers(run.pid), Vec::<String>::new());
}

#[test]
fn an_emptied_cache_is_made_again() {
    let project = project(MANIFEST);
    let gate = Gate::new(&project);
    gate.open("stay");
    let texts = [(); 3].map(|()| {
        let built = Running::start(&project, &["--target", "stay"]).end();
        assert_eq!(built.run.code, 0, "{}", built.run);
        let text = built.text("stay");
        if text.ends_with("was\n") {
            assert_eq!(caches(&project, &["gc", "--caches"]).code, 0);
        }
        text.lines().last().unwrap().to_owned()
    });
    assert_eq!(texts, ["new", "was", "new"]);
}
