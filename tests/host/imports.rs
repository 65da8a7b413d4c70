//! Archives are imported into a layer of the store: once for each content, whatever happens meanwhile.

use std::fs;
use std::process::Stdio;

use crate::built::{Built, project};
use crate::project::Project;

const MANIFEST: &str = r#"
vars: { word: one }
containers: { c: { rootfs: { tar: base.tar } } }
steps:
  - { name: look, run: "cat /etc/marker; echo ${{ word }}" }
  - { name: layer, snapshot: { output: layer.squashfs } }
"#;

/// Makes the project's archive: a small root with this text in /etc/marker.
fn archive(project: &Project, marker: &str) {
    project.script(&format!(
        "rm -rf root base.new; mkdir -p root/bin root/etc root/lib root/lib64
         cp /bin/sh /bin/cat root/bin; for file in $(ldd /bin/sh /bin/cat | grep -o '/[^ :)]*' | grep lib); do
         mkdir -p root$(dirname $file); cp $file root$file; done; echo {marker} > root/etc/marker
         tar -C root -cf base.new .; mv base.new base.tar"
    ));
}

/// Returns the digests in the lines of `runner store ls` that name an import.
fn imports(project: &Project) -> Vec<String> {
    let run = project.runner(&["store", "ls"]);
    assert_eq!(run.code, 0, "{run}");
    let lines = run.stdout.lines().filter(|line| line.contains("tar base.tar"));
    lines.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

#[test]
fn an_archive_is_unpacked_once_for_each_content_and_its_layer_is_listed() {
    let project = project(MANIFEST);
    archive(&project, "first");
    let built = Built::succeed(&project);
    assert_eq!(built.lines("look"), ["first", "one"]);
    let layers = imports(&project);
    assert_eq!(layers.len(), 1, "{layers:?}");
    // Another step, and the same archive at other times and under another name: no call reads the whole archive.
    project.script("cp base.tar other; mv other base.tar; touch base.tar");
    project.runner(&["plan"]);
    let run = project.runner(&["apply", "--set", "word=two"]);
    assert_eq!(run.code, 0, "{run}");
    assert_eq!(imports(&project), layers);
    archive(&project, "second");
    let built = Built::succeed(&project);
    assert_eq!(built.lines("look"), ["second", "one"]);
    assert_eq!(imports(&project).len(), 2);
    assert_eq!(project.leftovers(built.run.pid), Vec::<String>::new());
}

#[test]
fn a_removed_or_damaged_import_is_made_again() {
    let project = project(MANIFEST);
    archive(&project, "here");
    Built::succeed(&project);
    let layer = || {
        let run = project.runner(&["store", "ls", "--json"]);
        let listed: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
        let all = listed["layers"].as_array().unwrap_or_else(|| listed.as_array().unwrap()).clone();
        let of_import = all.iter().find(|layer| layer.to_string().contains("tar base.tar")).unwrap();
        let digest = of_import["digest"].as_str().unwrap().trim_start_matches("sha256:").to_owned();
        project.store().join(format!("layers/sha256/{digest}.squashfs"))
    };
    let path = layer();
    for damage in ["rm -f $IT", "chmod 600 $IT; : > $IT", "chmod 600 $IT; truncate -s 5000 $IT"] {
        project.script(&damage.replace("$IT", path.to_str().unwrap()));
        let run = project.runner(&["apply", "--no-cache"]);
        assert_eq!(run.code, 0, "{damage}: {run}");
        assert_eq!(layer(), path, "{damage}");
        assert!(fs::metadata(&path).unwrap().len() > 5000, "{damage}");
    }
}

#[test]
fn builds_at_the_same_time_import_an_archive_once() {
    let project = project(MANIFEST);
    archive(&project, "shared");
    let runners: Vec<_> = (0..4)
        .map(|number| {
            let word = format!("word={number}");
            let mut command = project.command(&["apply", "--set", &word, "--progress", "plain"]);
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    for runner in runners {
        let output = runner.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    assert_eq!(imports(&project).len(), 1);
}

#[test]
fn an_archive_that_changes_while_it_is_imported_is_refused_or_used_as_it_is_now() {
    let project = project(MANIFEST);
    for round in 0..6 {
        archive(&project, &format!("old{round}"));
        project.script("cp base.tar old.tar");
        archive(&project, &format!("new{round}"));
        project.script("mv base.tar new.tar; mv old.tar base.tar; touch -d '1 minute ago' base.tar new.tar");
        let mut command = project.command(&["apply", "--progress", "plain"]);
        let runner = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(40 * round));
        // Written into the same file, as `tar -cf` would.
        project.script("cat new.tar > base.tar");
        runner.wait_with_output().unwrap();
        // A record of the new bytes never names a root of the old ones.
        let built = Built::succeed(&project);
        let cached = built.run.stdout.contains("\"status\":\"cached\"");
        if !cached {
            assert_eq!(built.lines("look"), [format!("new{round}"), "one".to_owned()], "{}", built.run);
        }
        project
            .script("rm -rf check; unsquashfs -q -n -d check layer.squashfs > /dev/null; test ! -e check/etc/marker");
        let run = project.runner(&["apply", "--no-cache", "--progress", "plain"]);
        assert!(run.code == 0 && run.stdout.contains(&format!("new{round}")), "{run}");
    }
}
