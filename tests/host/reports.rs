//! Reports of a whole build, several at once, and what CI systems are told.

use std::fs;

use serde_json::Value;

use crate::built::project;

const MANIFEST: &str = r#"
containers:
  c: { rootfs: $TOOLS }
  next: { rootfs: { snapshot: layer } }
steps:
  - { name: write, container: c, run: "echo '<b>&amp;</b>'; touch /file" }
  - { name: layer, container: c, snapshot: { output: layer.squashfs } }
  - { name: bad, container: next, run: "echo '::error::</pre>]]>' >&2; exit 7" }
  - { name: never, container: next, run: "true" }
"#;

#[test]
fn a_build_that_fails_is_told_in_each_kind_of_report() {
    let project = project(MANIFEST);
    fs::create_dir(project.path("out")).unwrap();
    let reports = ["--report", "r.html", "--report", "out/r.xml", "--report", "r.json"];
    let run = project.runner(&[&["apply", "--progress", "quiet"], &reports[..]].concat());
    assert_eq!(run.code, 1, "{run}");
    let html = fs::read_to_string(project.path("r.html")).unwrap();
    for text in ["&lt;b&gt;&amp;amp;&lt;/b&gt;", "::error::&lt;/pre&gt;]]&gt;", "exit code 7", "build.yaml:9", "<svg "]
    {
        assert!(html.contains(text), "{text}: {html}");
    }
    assert!(!html.contains("<b>") && !html.contains("<script"), "{html}");
    let xml = fs::read_to_string(project.path("out/r.xml")).unwrap();
    assert!(xml.contains("tests=\"4\" skipped=\"1\" failures=\"1\""), "{xml}");
    assert!(
        xml.contains("<failure message=\"exit code 7\">") && xml.contains("file=\"build.yaml\" line=\"9\""),
        "{xml}"
    );
    let json: Value = serde_json::from_slice(&fs::read(project.path("r.json")).unwrap()).unwrap();
    assert_eq!((&json["status"], &json["ran"], &json["failed"]), (&"failed".into(), &2.into(), &1.into()));
    let layer = json["steps"].as_array().unwrap().iter().find(|step| step["name"] == "layer").unwrap();
    assert_eq!(layer["snapshot"]["size"], fs::metadata(project.path("layer.squashfs")).unwrap().len());
    assert_eq!(project.left_over(run.pid), Vec::<String>::new());
}

#[test]
fn a_report_that_cannot_be_written_is_refused_before_anything_runs() {
    let project = project(MANIFEST);
    for (report, why) in [
        ("none/r.html", "cannot write the report none/r.html: none: No such file or directory"),
        ("build.yaml/r.xml", "cannot write the report build.yaml/r.xml: build.yaml is no folder"),
        ("r.pdf", "end its name in .html, .xml or .json"),
    ] {
        let run = project.runner(&["apply", "--report", report]);
        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{run}");
        assert!(run.stderr.contains(why), "{run}");
    }
    assert!(!project.store().exists());
}
