//! Reports of a whole build, several at once, and the output for CI systems.

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
fn each_kind_of_report_shows_a_failed_build() {
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
    assert_eq!(project.leftovers(run.pid), Vec::<String>::new());
}

#[test]
fn a_report_that_cannot_be_written_is_refused_before_anything_runs() {
    let project = project(MANIFEST);
    for (report, why) in [
        ("none/r.html", "cannot write the report none/r.html: the directory none does not exist"),
        ("build.yaml/r.xml", "cannot write the report build.yaml/r.xml: build.yaml is not a directory"),
        ("r.pdf", "the name must end in .html, .xml or .json"),
    ] {
        let run = project.runner(&["apply", "--report", report]);
        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{run}");
        assert!(run.stderr.contains(why), "{run}");
    }
    assert!(!project.store().exists());
}

#[test]
fn github_gets_groups_an_annotation_at_the_steps_line_and_a_summary() {
    let project = project(MANIFEST);
    let top = project.path("").display().to_string();
    let shell = format!(
        "GITHUB_ACTIONS=true GITHUB_WORKSPACE={top} GITHUB_STEP_SUMMARY={top}summary.md; \
         export GITHUB_ACTIONS GITHUB_WORKSPACE GITHUB_STEP_SUMMARY; exec \"$@\""
    );
    fs::write(project.path("summary.md"), "before\n").unwrap();
    let run = project.runner_in_shell(&shell, &["apply"]);
    assert_eq!(run.code, 1, "{run}");
    assert!(run.stdout.contains("::group::bad (next)\n"), "{run}");
    assert!(
        run.stdout.contains("::endgroup::\n::error file=build.yaml,line=9,title=step bad failed::exit code 7\n"),
        "{run}"
    );
    let commands = run.stdout.lines().filter(|line| line.starts_with("::error")).count();
    assert_eq!(commands, 1, "{run}");
    let summary = fs::read_to_string(project.path("summary.md")).unwrap();
    assert!(summary.starts_with("before\n### ") && summary.contains("| ❌ | bad: exit code 7 | next |"), "{summary}");
    assert!(summary.contains("```mermaid\nflowchart TB\n"), "{summary}");
}

#[test]
fn gitlab_gets_sections() {
    let project = project(MANIFEST);
    let run = project.runner_in_shell("GITLAB_CI=true; export GITLAB_CI; exec \"$@\"", &["apply"]);
    assert_eq!(run.code, 1, "{run}");
    for text in [":bad\r\u{1b}[0Kbad (next)\n", "build.yaml:9: step bad failed: exit code 7"] {
        assert!(run.stdout.contains(text), "{text}: {run}");
    }
    let count = |text: &str| run.stdout.matches(text).count();
    assert_eq!((count("section_start:"), count("section_end:")), (3, 3), "{run}");
}
