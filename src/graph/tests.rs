//! Tests of the same graph in each format.

use std::path::PathBuf;

use super::*;
use crate::model::{Compression, Copy, CopySource, Snapshot};
use crate::plan::fixture::build;

/// Returns a graph of two containers, the second on a layer of the first, and a third that a step of the second waits
/// for.
fn graph() -> Graph {
    let needs: [(&str, usize, &[usize]); 6] = [
        ("packages", 0, &[]),
        ("layer", 0, &[0]),
        ("after", 0, &[1]),
        ("hello", 1, &[1, 4]),
        ("manual", 2, &[]),
        ("image", 1, &[1, 3]),
    ];
    let mut build = build(&needs);
    build.name = "a \"b\" <c>".into();
    build.containers[0].rootfs = Rootfs::Tar("/work/a<b>\"&\\.tar".into());
    build.containers[1].rootfs = Rootfs::Snapshot(StepId(1));
    let snapshot = |mode, output| {
        Action::Snapshot(Snapshot { mode, output, compression: Compression::Zstd, level: None, subtree: None })
    };
    build.steps[1].action = snapshot(SnapshotMode::Layer, Some(PathBuf::from("/work/out/base.squashfs")));
    build.steps[5].action = snapshot(SnapshotMode::Full, None);
    Graph::new(&build, &Plan::new(&build, &[]))
}

fn mark(step: StepId) -> Mark {
    [Mark::Fresh, Mark::Fresh, Mark::Due, Mark::Ran, Mark::Failed, Mark::Skipped][step.0]
}

#[test]
fn dot_has_a_cluster_for_each_container_and_an_edge_to_it_for_its_snapshot() {
    assert_eq!(
        dot(&graph(), None),
        r#"digraph "a \"b\" <c>" {
  compound=true;
  fontname="monospace";
  node [shape=box, style="rounded,filled", fillcolor=white, fontname="monospace"];
  subgraph cluster_0 {
    label="c0\ntar: a<b>\"&\\.tar";
    s0 [label="packages"];
    s1 [label="layer\nlayer → out/base.squashfs", shape=cylinder, style=filled];
    s2 [label="after"];
  }
  subgraph cluster_1 {
    label="c1\nsnapshot: layer";
    s4 [label="hello"];
    s5 [label="image\nfull image", shape=cylinder, style=filled];
  }
  subgraph cluster_2 {
    label="c2\nscratch";
    s3 [label="manual"];
  }
  s1 -> s4 [lhead=cluster_1, style=bold];
  s0 -> s1;
  s1 -> s2;
  s3 -> s4;
  s4 -> s5;
  subgraph cluster_legend {
    label="Legend";
    l_step [label="step"];
    l_snapshot [label="snapshot", shape=cylinder, style=filled];
    l_container [label="container", style=filled];
    l_step -> l_snapshot [label="before"];
    l_snapshot -> l_container [label="root of", style=bold];
  }
}
"#
    );
}

#[test]
fn mermaid_has_a_subgraph_for_each_container_and_nothing_unescaped() {
    assert_eq!(
        mermaid(&graph(), None),
        r#"flowchart TB
  subgraph c0["c0 (tar: a#60;b#62;#34;#38;#92;.tar)"]
    s0["packages"]
    s1[("layer<br/>layer → out/base.squashfs")]
    s2["after"]
  end
  subgraph c1["c1 (snapshot: layer)"]
    s4["hello"]
    s5[("image<br/>full image")]
  end
  subgraph c2["c2 (scratch)"]
    s3["manual"]
  end
  s1 ==> c1
  s0 --> s1
  s1 --> s2
  s3 --> s4
  s4 --> s5
  subgraph legend["Legend"]
    l_step["step"]
    l_snapshot[("snapshot")]
    l_step -->|"before"| l_snapshot
    l_snapshot ==>|"root of"| l_container["container"]
  end
"#
    );
}

#[test]
fn marks_distinguish_steps_in_each_format() {
    let graph = graph();
    assert!(
        dot(&graph, Some(&mark)).contains("s0 [label=\"packages\", fillcolor=lightblue, tooltip=\"in the store\"];")
    );
    let mermaid = mermaid(&graph, Some(&mark));
    assert!(mermaid.contains("s0[\"packages\"]:::fresh") && mermaid.contains("classDef fresh "), "{mermaid}");
    assert!(mermaid.contains("    l_fresh[\"in the store\"]:::fresh\n"), "{mermaid}");
    let svg = svg(&graph, Some(&mark));
    for class in ["g-dot g-fresh", "g-dot g-due", "g-dot g-ran", "g-dot g-failed", "g-dot g-skipped"] {
        assert!(svg.contains(class), "{class}");
    }
}

#[test]
fn the_picture_is_the_same_each_time_and_is_escaped() {
    let first = svg(&graph(), None);
    for _ in 0..20 {
        assert!(svg(&graph(), None) == first);
    }
    assert!(
        first.contains("aria-label=\"a &quot;b&quot; &lt;c&gt;\"")
            && first.contains("tar: a&lt;b&gt;&quot;&amp;\\.tar")
    );
    assert_eq!(first.matches("class=\"g-box\"").count(), 3);
    // Each kind of edge once in the picture and once in its legend.
    assert_eq!(first.matches("g-edge g-snapshot").count(), 2);
    assert_eq!(first.matches("g-edge g-need").count(), 2);
}

#[test]
fn the_legend_has_the_signs_and_colours_of_the_picture_and_no_others() {
    let texts = |svg: &str| -> Vec<String> {
        let texts = svg.lines().filter(|line| line.starts_with("<text class=\"g-text g-faint\""));
        texts.map(|line| line.split(['>', '<']).nth(2).unwrap().to_owned()).collect()
    };
    let all = texts(&svg(&graph(), None));
    let legend = ["step", "snapshot", "order in a container", "snapshot is the root of", "needed by"];
    assert!(all.ends_with(&legend.map(String::from)), "{all:?}");
    let all = texts(&svg(&graph(), Some(&mark)));
    let legend = ["needed by", "in the store", "runs", "ran", "failed", "skipped"];
    assert!(all.ends_with(&legend.map(String::from)) && !all.contains(&"step".to_owned()), "{all:?}");
    let build = build(&[("a", 0, &[]), ("b", 0, &[0])]);
    let all = texts(&svg(&Graph::new(&build, &Plan::new(&build, &[])), None));
    assert_eq!(all, ["scratch", "step", "order in a container"]);
}

#[test]
fn a_build_without_steps_is_drawn() {
    let build = build(&[]);
    let graph = Graph::new(&build, &Plan::new(&build, &[]));
    assert!(svg(&graph, None).ends_with("</svg>\n") && dot(&graph, None).ends_with("}\n"));
    assert!(!svg(&graph, None).contains("<text") && !mermaid(&graph, None).contains("Legend"));
}

#[test]
fn the_line_from_a_snapshot_to_a_step_that_copies_its_files_has_a_sign_of_its_own() {
    let mut build = build(&[("make", 0, &[]), ("layer", 0, &[0]), ("copy", 1, &[1])]);
    build.steps[1].action = Action::Snapshot(Snapshot {
        mode: SnapshotMode::Layer,
        output: None,
        compression: Compression::Zstd,
        level: None,
        subtree: None,
    });
    build.steps[2].action = Action::Copy(Copy {
        from: CopySource::Snapshot(StepId(1)),
        sources: vec!["/opt/tool".into()],
        target: "/opt".into(),
        into: true,
        owner: None,
        mode: None,
    });
    let graph = Graph::new(&build, &Plan::new(&build, &[]));
    assert!(dot(&graph, None).contains("s1 -> s2 [label=\"files\", style=dashed];"));
    assert!(mermaid(&graph, None).contains("s1 -.->|\"files\"| s2"));
    let svg = svg(&graph, None);
    assert_eq!((svg.matches("g-edge g-files").count(), svg.matches("g-edge g-need").count()), (2, 0), "{svg}");
    assert!(svg.contains("files used by") && graph.commands().any(|(_, text)| text == "copy: layer:/opt/tool → /opt/"));
}
