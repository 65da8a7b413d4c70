//! `runner diff`: what differs between two images.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use rustix::fs::{CWD, FileType, Mode, XattrFlags, makedev, mknodat, setxattr};
use serde_json::Value;

use crate::built::project;
use crate::project::{Project, Run};

const MANIFEST: &str = r#"
name: demo
containers:
  base: { rootfs: $TOOLS }
  app: { rootfs: { snapshot: base-layer } }
steps:
  - name: tools
    container: base
    run: "mkdir -p /opt /data/old; echo 1 > /data/file; echo x > /data/old/gone; cp /bin/sh /opt/tool; chmod 4755 /opt/tool"
  - { name: base-layer, container: base, snapshot: {} }
  - { name: sign, container: app, run: "rm -r /data/old; echo signed > /data/sign; touch /data/file" }
  - { name: app-layer, container: app, snapshot: { output: out/app.squashfs } }
"#;

/// The manifest after a change of both containers.
fn changed() -> String {
    let changed = MANIFEST.replace("echo 1 >", "echo 1234 >").replace("4755", "6755");
    changed.replace("echo signed > /data/sign;", "mkdir /data/new; echo 12345 > /data/new/a;")
}

/// Writes the changed manifest of a project.
fn change(project: &Project) {
    let other = self::project(&changed());
    project.write("build.yaml", &fs::read_to_string(other.path("build.yaml")).unwrap());
}

#[track_caller]
fn diff(project: &Project, arguments: &[&str]) -> Run {
    let run = project.runner(&[&["diff"], arguments].concat());
    assert_eq!(project.leftovers(run.pid), Vec::<String>::new(), "{run}");
    run
}

#[track_caller]
fn json(project: &Project, arguments: &[&str]) -> Value {
    let run = diff(project, &[arguments, &["--format", "json"]].concat());
    assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{run}");
    serde_json::from_str(&run.stdout).unwrap()
}

/// Returns the paths that a document lists.
fn paths(list: &Value) -> Vec<&str> {
    list["list"].as_array().unwrap().iter().map(|file| file["path"].as_str().unwrap()).collect()
}

fn image_of(directory: &Path, image: &Path) {
    let made =
        Command::new("mksquashfs").arg(directory).arg(image).args(["-quiet", "-no-progress", "-noappend"]).status();
    assert!(made.unwrap().success());
}

#[test]
fn the_last_two_results_of_a_snapshot_are_compared_as_whole_roots() {
    let project = project(MANIFEST);
    project.apply();
    let once = diff(&project, &["--exit-code"]);
    assert_eq!(once.code, 0, "{once}");
    assert!(once.stdout.contains("the store has one result of this snapshot"), "{once}");
    change(&project);
    project.apply();
    let run = diff(&project, &["--exit-code"]);
    assert_eq!(run.code, 1, "{run}");
    let lines: Vec<&str> = run.stdout.lines().collect();
    assert!(lines[1].starts_with("old         app-layer sha256:") && lines[2].starts_with("new  "), "{run}");
    let expected = [
        "privileges  1 changed (set-uid, set-gid, file capabilities)",
        "            ! ~ /opt/tool  set-uid 0 → set-uid 0, set-gid 0; mode 4755 → 6755",
        "files       2 added, 1 removed, 2 changed",
        "            ~ /data/file  content 2 B → 5 B (+3 B)",
        "            + /data/new  directory 0755 0:0, with 1 file of 6 B",
        "            - /data/sign  file 0644 0:0 7 B",
        "            !~ /opt/tool  mode 4755 → 6755",
    ];
    for line in expected {
        assert!(lines.contains(&line), "{line}: {run}");
    }
    // A cached build changes nothing, and the other way round the difference is the other one.
    project.apply();
    assert_eq!(diff(&project, &[]).stdout, run.stdout);
    let backwards = json(&project, &["app-layer", "app-layer~"]);
    assert_eq!(
        paths(&backwards["images"][0]["files"]),
        ["/data/file", "/data/new", "/data/new/a", "/data/sign", "/opt/tool"]
    );
    assert_eq!(backwards["images"][0]["files"]["list"][1]["change"], "removed");
    let same = diff(&project, &["app-layer", "app-layer~0", "--exit-code"]);
    assert_eq!(same.code, 0, "{same}");
    assert!(same.stdout.ends_with("files       no difference\n"), "{same}");
}

#[test]
fn a_layer_is_compared_with_everything_below_it_and_an_image_file_alone() {
    let project = project(MANIFEST);
    project.apply();
    let image = &json(&project, &["base-layer", "app-layer"])["images"][0];
    // `touch` changed the time of a file, which is no difference.
    assert_eq!(paths(&image["files"]), ["/data/old", "/data/old/gone", "/data/sign"]);
    assert_eq!(image["old"]["layers"][0].as_str().unwrap().split(' ').next(), Some("programs"));
    assert_eq!(image["new"]["layers"].as_array().unwrap().len(), 3);
    assert_eq!(image["files"]["list"][0]["inside"]["files"], 1);
    let digest = image["new"]["digest"].as_str().unwrap();
    let by_digest = json(&project, &["demo/base/base-layer", &digest[..20]]);
    assert_eq!(by_digest["images"][0]["files"], image["files"]);
    // The image of a layer has removals, which are shown as such.
    let alone = json(&project, &["./out/app.squashfs", "app-layer"]);
    let removal = &alone["images"][0]["files"]["list"];
    let of_old = removal.as_array().unwrap().iter().find(|file| file["path"] == "/data/old").unwrap();
    assert_eq!(of_old["old"]["type"], "removal");
}

#[test]
fn a_lost_base_image_is_reported_and_the_layers_are_compared_without_it() {
    let project = Project::new(
        "version: 1\ncontainers: { c: { rootfs: { squashfs: base.squashfs } } }\nsteps:\n  - { name: s, run: \"echo one > /file\" }\n  \
         - { name: layer, snapshot: { output: layer.squashfs } }\n",
    );
    let base = |text: &str| {
        let root = crate::project::Project::new("");
        root.write("root/from-the-base", text);
        fs::create_dir(root.path("root/bin")).unwrap();
        for tool in ["sh", "rm"] {
            copy_program(&format!("/bin/{tool}"), &root.path("root"));
        }
        image_of(&root.path("root"), &project.path("base.squashfs"));
    };
    base("old");
    project.apply();
    base("new");
    project.apply();
    let image = &json(&project, &["layer"])["images"][0];
    assert!(image["warnings"][0].as_str().unwrap().contains("is neither in the store nor in the manifest"), "{image}");
    assert_eq!(image["different"], false);
}

/// Copies a program of the host with its libraries into a root.
fn copy_program(program: &str, root: &Path) {
    let libraries = Command::new("ldd").arg(program).output().unwrap();
    let libraries = String::from_utf8(libraries.stdout).unwrap();
    let libraries = libraries.split_whitespace().filter(|word| word.starts_with('/'));
    for file in libraries.chain([program]) {
        let to = root.join(file.trim_start_matches('/'));
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(file, to).unwrap();
    }
}

#[test]
fn packages_that_dpkg_installs_and_upgrades_are_reported() {
    let project = Project::new("");
    let package = |name: &str, version: &str| {
        let control = format!(
            "Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: x <x@example.org>\nInstalled-Size: {}\nDescription: x\n",
            version.len()
        );
        project.write(&format!("{name}/DEBIAN/control"), &control);
        project.write(&format!("{name}/usr/share/{name}/file"), version);
        let file = project.path(&format!("{name}-{version}.deb"));
        let mut command = Command::new("dpkg-deb");
        command.args(["--build", "--root-owner-group"]).arg(project.path(name)).arg(&file);
        let made = command.output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        file
    };
    let dpkg = |root: &str, arguments: &[&std::ffi::OsStr]| {
        let root = project.path(root);
        for directory in ["info", "updates", "triggers"] {
            fs::create_dir_all(root.join("var/lib/dpkg").join(directory)).unwrap();
        }
        let status = root.join("var/lib/dpkg/status");
        if !status.exists() {
            fs::write(status, "").unwrap();
        }
        let run = Command::new("dpkg")
            .arg(format!("--root={}", root.display()))
            .args(["--force-not-root", "--force-script-chrootless", "--log=/dev/null"])
            .args(arguments)
            .output()
            .unwrap();
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    };
    let [one, two, other] = [package("alpha", "1.0"), package("alpha", "1:1.1-2"), package("beta", "3")];
    dpkg("old", &["-i".as_ref(), one.as_ref()]);
    dpkg("new", &["-i".as_ref(), one.as_ref(), other.as_ref()]);
    dpkg("new", &["-i".as_ref(), two.as_ref()]);
    for root in ["old", "new"] {
        image_of(&project.path(root), &project.path(&format!("{root}.squashfs")));
    }
    for [old, new] in [["./old", "./new"], ["./old.squashfs", "./new.squashfs"], ["./old", "./new.squashfs"]] {
        let run = diff(&project, &[old, new]);
        let packages: Vec<&str> = run.stdout.lines().skip(2).take(3).collect();
        let expected = [
            "packages    1 added, 1 changed (dpkg), +4.0 KiB installed",
            "            ~ alpha:all  1.0 → 1:1.1-2  +4.0 KiB",
            "            + beta:all  3  +1.0 KiB",
        ];
        assert_eq!(packages[1..], expected[1..], "{run}");
        assert!(packages[0].starts_with("packages    1 added, 1 changed (dpkg), +"), "{run}");
    }
    dpkg("new", &["--purge".as_ref(), "alpha".as_ref()]);
    let image = &json(&project, &["./old", "./new"])["images"][0];
    assert_eq!(image["packages"]["list"][0]["change"], "removed");
}

#[test]
fn privileges_and_hostile_names_are_shown_and_do_nothing() {
    // A manifest with mistakes, which two files do not need.
    let project = Project::new("version: 2\n");
    let name = "x\u{1b}[2J\n::error::y`|<b>@user";
    for root in ["old", "new"] {
        project.write(&format!("{root}/program"), "same");
        fs::create_dir(project.path(&format!("{root}/directory"))).unwrap();
    }
    let new = |name: &str| project.path("new").join(name);
    fs::write(new(name), "1").unwrap();
    fs::set_permissions(new(name), fs::Permissions::from_mode(0o2755)).unwrap();
    // CAP_NET_RAW, permitted and effective.
    let capability: Vec<u8> = [0x0200_0001_u32, 1 << 13, 0, 0, 0].iter().flat_map(|word| word.to_le_bytes()).collect();
    setxattr(new("program"), "security.capability", &capability, XattrFlags::empty()).unwrap();
    mknodat(CWD, new("zero"), FileType::CharacterDevice, Mode::from_raw_mode(0o600), makedev(1, 5)).unwrap();
    mknodat(CWD, new("fifo"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    symlink("/etc/shadow", new("link")).unwrap();
    image_of(&project.path("old"), &project.path("old.squashfs"));
    image_of(&project.path("new"), &project.path("new.squashfs"));
    let run = diff(&project, &["old.squashfs", "new.squashfs"]);
    for line in [
        "            ! ~ /program  none → cap_net_raw=ep; attributes +security.capability",
        "            ! + /x\\u{1b}[2J\\n::error::y`|<b>@user  set-gid 0; file 2755 0:0 1 B",
        "            + /zero  character device 0600 0:0 1:5",
        "            + /link  link 0777 0:0 → /etc/shadow",
    ] {
        assert!(run.stdout.lines().any(|shown| shown == line), "{line}: {run}");
    }
    let markdown = diff(&project, &["old.squashfs", "new.squashfs", "--format", "markdown"]);
    for text in ["\u{1b}", "<b>", "@user", "\n::"] {
        assert!(!markdown.stdout.contains(text) && !run.stdout.contains("\u{1b}"), "{text:?}: {markdown}");
    }
    let document = json(&project, &["old.squashfs", "new.squashfs"]);
    assert!(paths(&document["images"][0]["files"]).contains(&format!("/{name}").as_str()), "{document}");
    assert_eq!(paths(&document["images"][0]["privileges"]), ["/program", &format!("/{name}")]);
}

#[test]
fn what_cannot_be_compared_is_refused_with_the_fix() {
    let project = project(MANIFEST);
    project.write("file", "no image");
    for (arguments, code, text) in [
        (&["app-layer"][..], 2, "the store has no two results of the snapshot `app-layer`"),
        (&["sign"], 2, "`sign` is not a snapshot step of the manifest"),
        (&[], 2, "has no result of a snapshot of this manifest"),
        (&["app-layer", "base-layer"], 2, "the store has no result of the snapshot `app-layer`"),
        (&["nothing", "file"], 2, "`nothing`: it is not a file or directory, and there is no store"),
        (&["./file", "./build.yaml"], 2, "./file is neither a squashfs nor an EROFS image"),
        (&["./file", "./file", "-m", "none.yaml"], 2, "cannot read the manifest none.yaml"),
    ] {
        let run = diff(&project, arguments);
        assert_eq!((run.code, run.stdout.as_str()), (code, ""), "{arguments:?}: {run}");
        assert!(run.stderr.contains(text) && run.stderr.contains("\n  help: "), "{arguments:?}: {run}");
    }
    assert!(!project.store().exists());
    project.apply();
    for (arguments, text) in [
        (&["app-layer~", "app-layer"][..], "the store has one result of the snapshot `app-layer`"),
        (&["nothing", "app-layer"], "`nothing` is not a file or directory"),
    ] {
        let run = diff(&project, arguments);
        assert_eq!(run.code, 2, "{run}");
        assert!(run.stderr.contains(text) && run.stderr.contains("\n  help: "), "{run}");
    }
    fs::create_dir_all(project.path("a/mounted")).unwrap();
    fs::create_dir_all(project.path("b/mounted")).unwrap();
    let script = "unshare -m sh -c 'mount -t tmpfs none a/mounted && exec \"$@\"' x \"$@\"";
    let run = project.runner_in_shell(script, &["diff", "./a", "./b"]);
    assert_eq!(run.code, 3, "{run}");
    assert!(run.stderr.contains("another filesystem is mounted on it"), "{run}");
}

#[test]
fn an_inspection_and_the_reports_have_the_sizes_by_layer_and_directory() {
    let project = project(MANIFEST);
    let run = project.runner(&["apply", "--report", "report.html", "--report", "report.json"]);
    assert_eq!(run.code, 0, "{run}");
    assert_eq!(project.leftovers(run.pid), Vec::<String>::new());
    let report: Value = serde_json::from_str(&fs::read_to_string(project.path("report.json")).unwrap()).unwrap();
    let steps = report["steps"].as_array().unwrap();
    let content = |step: &str| {
        let step = steps.iter().find(|found| found["name"] == step).unwrap();
        step["snapshot"]["content"].clone()
    };
    let base = content("base-layer");
    assert_eq!((&base["files"], &base["largest"][0]["path"]), (&3.into(), &"/opt/tool".into()), "{base}");
    let app = content("app-layer");
    let expected = serde_json::json!([{ "path": "/data", "size": 9 }]);
    assert_eq!(app["directories"], expected, "{app}");
    let page = fs::read_to_string(project.path("report.html")).unwrap();
    assert!(page.contains("<pre>\ndirectories\n") && page.contains("  /opt/tool\n"), "{page}");

    let run = project.runner(&["store", "inspect", "app-layer"]);
    assert_eq!(project.leftovers(run.pid), Vec::<String>::new());
    let lines: Vec<&str> = run.stdout.lines().collect();
    assert!(
        lines.iter().any(|line| line.starts_with("stack       ") && line.ends_with(" in 2 layers, the lowest first")),
        "{run}"
    );
    for line in ["content     9 B in 3 files", "                   9 B  /data", "                   7 B  /data/sign"] {
        assert!(lines.contains(&line), "{line:?}: {run}");
    }
    let run = project.runner(&["store", "inspect", "base-layer", "--json"]);
    let inspected: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!((&inspected["content"], &inspected["content_error"]), (&base, &Value::Null), "{run}");
    assert_eq!(inspected["stack"][0]["digest"], inspected["digest"]);
}

#[test]
fn the_base_of_a_result_is_found_among_the_imported_layers_of_the_store() {
    for root in ["oci: layout:v1", "tar: one.tar", "url: 'http://$SERVER/one.tar', digest: '$DIGEST'"] {
        let project = crate::images::with_root(root);
        let archive = fs::read(project.path("one.tar")).unwrap();
        let digest = runner::digest::Digest::of_bytes(&archive).to_string();
        let server = crate::registry::server::Server::start(move |_, _| {
            crate::registry::server::Answer::new(200, archive.clone())
        });
        let root = root.replace("$SERVER", &server.address).replace("$DIGEST", &digest);
        let manifest = |text: &str| {
            format!(
                "version: 1\ncontainers: {{ c: {{ rootfs: {{ {root} }} }} }}\nsteps:\n  - {{ name: change, run: 'echo {text} > /etc/marker' }}\n  \
                 - {{ name: layer, snapshot: {{}} }}\n"
            )
        };
        for text in ["first", "longer than before"] {
            project.write("build.yaml", &manifest(text));
            let run = project.runner(&["apply"]);
            assert_eq!(run.code, 0, "{run}");
        }
        // The store alone has the base.
        project.script("rm -r layout one.tar");
        project.write("build.yaml", &manifest("longer than before").replace(&root, "scratch: true"));
        let document = json(&project, &["layer"]);
        let image = &document["images"][0];
        assert_eq!(paths(&image["files"]), ["/etc/marker"], "{root}: {document}");
        assert!(!document.to_string().contains("without their rootfs"), "{root}: {document}");
    }
}
