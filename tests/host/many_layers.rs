//! A hundred layers, stacked by runner and by hand.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use crate::namespace::in_private_namespace;
use crate::project::Project;
use crate::tree::Tree;

const LAYERS: usize = 100;

fn manifest() -> String {
    let mut text = String::from(
        "version: 1
containers:
  base: { rootfs: { programs: [/bin/sh, /bin/cat, /bin/mkdir, /bin/rm] } }
  top: { rootfs: { snapshot: s99 } }
steps:
  - { name: root, container: base, snapshot: { mode: full, output: out/base.squashfs } }
",
    );
    for layer in 0..LAYERS {
        // Each layer adds a file, changes one of all and deletes the one that the layer before has added elsewhere.
        let previous = layer.wrapping_sub(1);
        let run = format!(
            "mkdir -p /layers /gone; echo {layer} > /layers/{layer}; echo {layer} >> /all; rm -f /gone/{previous}; echo > /gone/{layer}"
        );
        writeln!(text, "  - {{ name: r{layer}, container: base, run: \"{run}\" }}").unwrap();
        writeln!(text, "  - {{ name: s{layer}, container: base, snapshot: {{ output: out/{layer}.squashfs }} }}")
            .unwrap();
    }
    let script = "i=0; while [ $i -lt 100 ]; do read line < /layers/$i; test $line = $i; i=$((i + 1)); done; \
                  test -f /gone/99; test ! -e /gone/98; test ! -e /gone/0; echo seen > /seen; cat /all";
    writeln!(text, "  - {{ name: look, container: top, run: \"{script}\" }}").unwrap();
    text.push_str("  - { name: image, container: top, snapshot: { mode: full, output: out/full.squashfs } }\n");
    text
}

#[test]
fn a_hundred_layers_are_mounted_and_each_is_seen() {
    let project = Project::new(&manifest());
    let run = project.apply();
    let numbers: String = (0..LAYERS).map(|layer| format!("look | {layer}\n")).collect();
    let printed: String =
        run.stdout.lines().filter(|line| line.starts_with("look |")).map(|line| format!("{line}\n")).collect();
    assert_eq!(printed, numbers, "{run}");
    assert_eq!(project.leftovers(run.pid), Vec::<String>::new());

    let mut images = vec![project.path("out/base.squashfs")];
    images.extend((0..LAYERS).map(|layer| project.path(&format!("out/{layer}.squashfs"))));
    let (by_hand, full) = in_private_namespace(|mounts| {
        (Tree::read(&mounts.chain(&images)), Tree::read(&mounts.image(&project.path("out/full.squashfs"))))
    });
    let mut full = full;
    full.0.remove(Path::new("seen"));
    assert_eq!(by_hand.differences(&full, i64::MAX), Vec::<String>::new());
    let layers = by_hand.0.keys().filter(|path| path.parent() == Some(Path::new("layers"))).count();
    assert_eq!(layers, LAYERS);
    let gone: Vec<&PathBuf> = by_hand.0.keys().filter(|path| path.starts_with("gone")).collect();
    assert_eq!(gone, [Path::new("gone"), Path::new("gone/99")]);
}
