//! Nested directories, as deep as a path can name.

use crate::namespace::in_private_namespace;
use crate::project::Project;
use crate::tree::Tree;

#[test]
fn a_directory_of_1200_levels_comes_back_from_a_layer_and_a_full_image() {
    let path = ["d"; 1200].join("/");
    let project = Project::new(&format!(
        "
version: 1
containers:
  base: {{ rootfs: {{ programs: [/bin/sh, /bin/mkdir] }} }}
  next: {{ rootfs: {{ snapshot: layer }} }}
steps:
  - {{ name: deep, container: base, run: \"mkdir -p /{path}; echo bottom > /{path}/file\" }}
  - {{ name: layer, container: base, snapshot: {{ output: layer.squashfs }} }}
  - {{ name: more, container: next, run: \"echo more >> /{path}/file\" }}
  - {{ name: upper, container: next, snapshot: {{ output: upper.squashfs }} }}
  - {{ name: full, container: next, snapshot: {{ mode: full, output: full.squashfs }} }}
"
    ));
    let run = project.runner_in_shell("ulimit -Sn 1024; exec \"$@\"", &["apply"]);
    assert_eq!(run.code, 0, "{run}");
    // Before this test mounts the images itself.
    assert_eq!(project.leftovers(run.pid), Vec::<String>::new());
    let size = |image: &str| {
        in_private_namespace(|mounts| Tree::read(&mounts.image(&project.path(image)))).get(&format!("{path}/file")).size
    };
    assert_eq!(["layer.squashfs", "upper.squashfs", "full.squashfs"].map(size), [Some(7), Some(12), Some(12)]);
}
