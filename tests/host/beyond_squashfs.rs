//! Attributes that squashfs cannot store: the same before and after an image, in the first build, the second, and a resumed one.

use std::fs;

use rustix::fs::{XattrFlags, lsetxattr};

use crate::built::{Built, names_in, project};
use crate::project::Project;
use crate::root;

/// Default lists give user 1000 all rights to files made below.
fn acl_for_1000(group: u8, mask: u8) -> Vec<u8> {
    let mut bytes = vec![2, 0, 0, 0];
    for (tag, permissions, id) in
        [(1, 7, u32::MAX), (2, 7, 1000), (4, group, u32::MAX), (0x10, mask, u32::MAX), (0x20, 5, u32::MAX)]
    {
        bytes.extend([tag, 0, permissions, 0]);
        bytes.extend(u32::to_le_bytes(id));
    }
    bytes
}

/// Fills the directory `root` of a project with the usual programs, without directories for the kernel's filesystems.
#[track_caller]
fn make_root(project: &Project) {
    let root = project.path("root");
    root::make_root(&root);
    for name in ["proc", "sys", "dev"] {
        let _ = fs::remove_dir(root.join(name));
    }
}

#[test]
fn an_access_control_list_is_removed_in_the_first_build_and_in_the_second() {
    let project = project(
        r#"
containers:
  c: { rootfs: { dir: root } }
  d: { rootfs: { snapshot: layer } }
  e: { rootfs: { snapshot: full } }
steps:
  - { name: make, container: c, run: "mkdir /shared/in; echo x > /shared/in/f" }
  - { name: layer, container: c, snapshot: {} }
  - { name: after, container: c, run: "stat -c '%n %a' /shared /shared/in /shared/in/f" }
  - { name: full, container: c, snapshot: { mode: full } }
  - { name: look, container: d, run: "stat -c '%n %a' /shared /shared/in /shared/in/f" }
  - { name: write, container: d, user: "1000", run: "touch /shared/in/x 2> /dev/null && echo written || echo refused" }
  - { name: whole, container: e, run: "stat -c '%n %a' /shared /shared/in /shared/in/f /kept" }
"#,
    );
    make_root(&project);
    for (name, list) in [("shared", acl_for_1000(5, 7)), ("kept", acl_for_1000(0, 7))] {
        let path = project.path("root").join(name);
        fs::create_dir(&path).unwrap();
        lsetxattr(&path, "system.posix_acl_access", &list, XattrFlags::empty()).unwrap();
        lsetxattr(&path, "system.posix_acl_default", &list, XattrFlags::empty()).unwrap();
    }
    let first = Built::succeed(&project);
    let warnings: Vec<&str> = first.all("warning").iter().map(|event| event["message"].as_str().unwrap()).collect();
    assert!(
        warnings.iter().any(|message| message.contains("lose theirs: ") && message.contains("/shared/in")),
        "{warnings:?}"
    );
    assert!(warnings.iter().any(|message| message.ends_with("loses its: /kept")), "{warnings:?}");
    let modes = ["/shared 755", "/shared/in 755", "/shared/in/f 644"];
    for step in ["after", "look"] {
        assert_eq!(first.lines(step), modes, "{step}");
    }
    assert_eq!(first.lines("whole"), [&modes[..], &["/kept 705"]].concat());
    assert_eq!(first.lines("write").last().unwrap(), "refused");
    let second = Built::succeed(&project);
    assert_eq!(second.status("layer"), "cached");
    assert_eq!(second.lines("look"), modes);
    assert_eq!(second.lines("write").last().unwrap(), "refused");
}

#[test]
fn a_full_image_of_a_directory_an_archive_or_an_erofs_image_clamps_times_out_of_its_range() {
    for (epoch, future) in [("", "1980-01-01 00:00"), ("source_date_epoch: none", "2106-02-07 06:28")] {
        let project = project(&format!(
            r#"
{epoch}
containers:
  c: {{ rootfs: {{ dir: root }} }}
  t: {{ rootfs: {{ tar: root.tar }} }}
  e: {{ rootfs: {{ erofs: root.erofs }} }}
steps:
  - {{ name: c, container: c, run: ":" }}
  - {{ name: c-full, container: c, snapshot: {{ mode: full, output: c.squashfs }} }}
  - {{ name: t, container: t, run: ":" }}
  - {{ name: t-full, container: t, snapshot: {{ mode: full, output: t.squashfs }} }}
  - {{ name: e, container: e, run: ":" }}
  - {{ name: e-full, container: e, snapshot: {{ mode: full, output: e.squashfs }} }}
"#
        ));
        make_root(&project);
        project.script(
            "touch -d @-100 root/past; ln root/past root/past-too; touch -d @5000000000 root/future; mkdir root/old
             touch -h -d @-7 root/old; touch -d @1000 root/held; tar -C root --format=pax -cf root.tar .; mkfs.erofs root.erofs root",
        );
        Built::succeed(&project);
        for image in ["c.squashfs", "t.squashfs", "e.squashfs"] {
            let list = project.script(&format!("TZ=UTC unsquashfs -lls -d '' {image}"));
            let time = |name: &str| {
                let line = list.lines().find(|line| line.ends_with(&format!(" {name}"))).unwrap();
                line.split_whitespace().skip(3).take(2).collect::<Vec<_>>().join(" ")
            };
            for name in ["/past", "/past-too", "/old"] {
                assert_eq!(time(name), "1970-01-01 00:00", "{image} {epoch} {name}");
            }
            assert_eq!(time("/held"), "1970-01-01 00:16", "{image} {epoch}");
            assert_eq!(time("/future"), future, "{image} {epoch}");
            project.script(&format!(
                "unsquashfs -q -n -d u {image} past past-too > /dev/null; [ u/past -ef u/past-too ]; rm -r u"
            ));
        }
        // The directory itself is only read.
        assert_eq!(project.script("stat -c %Y root/past root/old"), "-100\n-7\n");
    }
}

#[test]
fn a_full_image_of_a_root_without_proc_sys_and_dev_has_empty_ones() {
    let project = project(
        r#"
containers: { c: { rootfs: { dir: root } }, d: { rootfs: { snapshot: full } } }
steps:
  - { name: make, container: c, run: "mkdir -p /proc /sys /dev" }
  - { name: layer, container: c, snapshot: { output: layer.squashfs } }
  - { name: full, container: c, snapshot: { mode: full, output: full.squashfs } }
  - { name: look, container: d, run: "echo ran" }
"#,
    );
    make_root(&project);
    Built::succeed(&project);
    assert_eq!(names_in(&project.path("layer.squashfs")).len(), 1);
    let list = project.script("TZ=UTC unsquashfs -lls -d '' full.squashfs");
    let lines: Vec<&str> =
        list.lines().filter(|line| [" /proc", " /sys", " /dev"].iter().any(|end| line.ends_with(end))).collect();
    assert_eq!(lines.len(), 3, "{list}");
    assert!(lines.iter().all(|line| line.starts_with("drwxr-xr-x root/root")), "{lines:?}");
    assert!(!list.contains(" /dev/"), "{list}");
    let again = Built::of(&project, &["--no-cache"]);
    assert_eq!(Built::succeed(&project).digest("full"), again.digest("full"));
}

const RESUMED: &str = r#"
mounts:
  src: { type: bind, source: src, target: /src, options: [ro], cache: ignore }
containers:
  c: { rootfs: { dir: root }, mounts: [src], checkpoint: 1ms }
steps:
  - name: make
    run: |
      touch -d @-100 /past; touch -d @5000000000 /future; touch -d @7.25 /fraction; mkdir -p /shared/in; touch /shared/in/f
      ln -s nowhere /link; touch -h -d @-5.5 /link; mkdir /old; touch -d @-9 /old; sleep 0.1
  - { name: gate, run: "cat /src/good" }
  - { name: look, run: "stat -c '%n %y %a' /past /future /fraction /link /old /shared/in /shared/in/f" }
  - { name: layer, snapshot: { output: layer.squashfs } }
"#;

#[test]
fn a_session_resumed_at_a_checkpoint_has_the_same_times_and_lists_and_gives_the_same_bytes() {
    let prepared = || {
        let project = project(RESUMED);
        make_root(&project);
        project.write("src/other", "");
        let shared = project.path("root/shared");
        fs::create_dir(&shared).unwrap();
        project.script("find root -exec touch -h -d @1000 {} +");
        lsetxattr(&shared, "system.posix_acl_default", &acl_for_1000(5, 7), XattrFlags::empty()).unwrap();
        project
    };
    let resumed = prepared();
    assert_eq!(Built::of(&resumed, &[]).run.code, 1);
    resumed.write("src/good", "");
    let after = Built::succeed(&resumed);
    assert_eq!((after.status("make"), after.status("gate")), ("cached", "ran"));
    let at_once = prepared();
    at_once.write("src/good", "");
    let whole = Built::succeed(&at_once);
    let lines = after.lines("look");
    assert_eq!(lines[0], "/past 1969-12-31 23:58:20.000000000 +0000 644");
    assert_eq!(lines[2], "/fraction 1970-01-01 00:00:07.250000000 +0000 644");
    let stable = |built: &Built| built.lines("look")[..5].to_vec();
    assert_eq!(stable(&after), stable(&whole));
    let modes = |built: &Built| -> Vec<String> {
        built.lines("look").iter().map(|line| line.rsplit(' ').next().unwrap().to_owned()).collect()
    };
    assert_eq!(modes(&after), modes(&whole));
    assert_eq!(after.digest("layer"), whole.digest("layer"));
}
