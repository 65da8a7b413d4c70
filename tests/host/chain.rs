//! Five layers with every possible change of a tree, against the same commands on a plain directory.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::namespace::in_private_namespace;
use crate::project::Project;
use crate::root::unpack;
use crate::tree::Tree;

/// The programs of the root. GNU's, whose own version output is not compared.
const BASE: &str = "
version: 1
source_date_epoch: none
containers:
  base:
    rootfs:
      programs: [/bin/sh, /bin/cat, /bin/chmod, /bin/chown, /bin/cp, /bin/dd, /bin/ln, /bin/mkdir, /bin/mknod, /bin/mv,
        /bin/rm, /bin/rmdir, /bin/touch, /usr/bin/mkfifo, /usr/bin/truncate, /usr/bin/setfattr, /usr/sbin/setcap]
steps:
  - name: tree
    container: base
    run: |
      mkdir -p /opt/base/sub /srv/kept
      echo base > /opt/base/file; echo sub > /opt/base/sub/file; echo kept > /srv/kept/file
      touch -d @900000000 /srv/kept /srv/kept/file /opt/base/sub/file
  - { name: image, container: base, snapshot: { mode: full, output: base.squashfs } }
";

/// The changes of each layer.
const LAYERS: [&str; 5] = [
    r#"
mkdir -p /data/deep/a/b/c /data/emptied/sub /data/to-file/sub /data/move/in /data/times/in /data/gone/sub /data/attributes
echo one > /data/changed; echo one > /data/appended; echo one > /data/deleted; echo one > /data/renamed
echo one > /data/to-folder; echo one > /data/replaced; echo one > /data/mode-only
echo one > /data/emptied/old; echo one > /data/emptied/sub/old; echo one > /data/to-file/sub/file
echo one > /data/move/in/file; echo one > /data/gone/sub/file; echo one > /data/deep/a/b/c/file
: > /data/empty-file; mkdir /data/empty-folder
echo linked > /data/link-1; ln /data/link-1 /data/link-2; ln /data/link-1 /data/deep/link-3
echo later > /data/later-linked
ln -s changed /data/relative; ln -s /data/nowhere /data/dangling; ln -s ../../.. /data/climbing
ln -s changed /data/link-to-file; ln -s deep /data/link-to-folder
mkfifo -m 600 /data/fifo; chown 70000:70001 /data/fifo
mknod /data/zero c 1 5; mknod -m 660 /data/disk b 7 200; mknod /data/large c 4000 1000000
touch /data/set-uid /data/set-gid; chmod 4755 /data/set-uid; chmod 2711 /data/set-gid
mkdir -m 1777 /data/sticky; mkdir -m 2775 /data/set-gid-folder; touch /data/set-gid-folder/inherits
touch /data/capable; setcap cap_net_raw,cap_net_admin=ep /data/capable
touch /data/owned; chown 4000000000:65536 /data/owned; mkdir /data/owned-folder; chown 100000:200000 /data/owned-folder
chown -h 65535:65536 /data/relative
setfattr -n user.text -v value /data/changed; setfattr -n user.binary -v 0x00ff0a /data/changed
setfattr -n user.empty /data/attributes; setfattr -n trusted.of-root -v root /data/attributes
setfattr -h -n trusted.on-link -v link /data/dangling; setfattr -h -n trusted.on-device -v device /data/zero
truncate -s 100M /data/sparse; printf middle | dd of=/data/sparse bs=1 seek=50000000 conv=notrunc status=none
truncate -s 10M /data/sparse-later
long=$(printf '%0255d' 7); echo long > "/data/$long"; mkdir "/data/deep/$long"; ln -s "$long" "/data/link-$(printf '%0250d' 7)"
newline=$(printf 'two\nlines\n\n.'); echo newline > "/data/$newline"; mkdir "/data/ folder with  spaces "
echo bytes > "/data/$(printf '\377\376not utf-8')"; echo star > '/data/* ? [a] \ " $x'; echo dots > /data/...
echo dash > '/data/-n'; echo "wh" > /data/.wh.changed; echo "opq" > /data/.wh..wh..opq
touch -d @1 /data/old; touch -d @0 /data/epoch; touch -d @4000000000 /data/future; touch -h -d @86400 /data/dangling
touch -d @100000000 /data/times/in; touch -d @200000000 /data/times; touch -d @300000000 /data/mode-only
touch -d @310000000 /data/fifo /data/disk; touch -d @320000000 /data/move/in/file; touch -d @330000000 /data/move/in
touch -d @340000000 /data/move; touch -d @350000000 /data/renamed; touch -d @360000000 /data/later-linked
touch -d @370000000 /data/deep/a/b/c/file; touch -d @380000000 /data/deep/a/b/c; touch -d @390000000 /data/deep/a/b
"#,
    r#"
echo two > /data/changed; echo two >> /data/appended; rm /data/deleted /data/dangling /data/fifo
mv /data/renamed /data/new-name; mv /data/move /data/moved
rm -r /data/to-file; echo file > /data/to-file
rm /data/to-folder; mkdir /data/to-folder; echo in > /data/to-folder/in
rm -rf /data/emptied; mkdir /data/emptied; echo two > /data/emptied/new
rm -r /data/gone; rm -rf /opt/base; mkdir -p /opt/base/sub; echo new > /opt/base/sub/new
echo other > /data/.tmp; mv /data/.tmp /data/replaced
chmod 640 /data/mode-only; chown 1000:1000 /data/moved/in/file; touch -d @340000000 /data/moved
ln /data/later-linked /data/deep/later-linked; ln /data/disk /data/disk-linked; ln -P /data/relative /data/relative-linked
echo content >> /data/deep/a/b/c/file; touch -d @370000001 /data/deep/a/b/c/file
setfattr -x user.text /data/changed; setfattr -n user.more -v more /data/empty-folder
setfattr -n user.of-root -v root /; chmod 711 /; chown 12:34 /
printf end | dd of=/data/sparse bs=1 seek=99000000 conv=notrunc status=none
"#,
    r#"
rm /data/to-file; mkdir /data/to-file; echo again > /data/to-file/again
rm -r /data/to-folder; ln -s changed /data/to-folder
rm -rf /data/emptied; mkdir -m 700 /data/emptied; mkdir /data/emptied/sub; touch -d @500000000 /data/emptied
rm /data/link-to-folder; mkdir /data/link-to-folder; rm /data/link-to-file; mkfifo /data/link-to-file
echo back > /data/deleted; mkdir -p /data/gone/other; mknod /data/fifo c 1 3
rm /data/empty-file; mknod /data/empty-file b 1 1
mv /data/deep/a/b /data/deep/moved-b; mv /data/zero /data/moved-zero
mkdir /data/many; i=0; while [ $i -lt 300 ]; do echo $i > /data/many/$i; i=$((i + 1)); done
mkdir /data/l; echo x > /data/l/1; ln /data/l/1 /data/l/2; ln /data/l/1 /data/l/3; echo y >> /data/l/2; rm /data/l/3
setcap cap_chown=ei /data/capable; chmod u-s /data/set-uid; chown 5:6 /data/set-gid
"#,
    r#"
rm -rf /data/many; mkdir /data/many; echo one > /data/many/1
rmdir /data/gone/other; rmdir /data/gone; rm -rf /data/emptied; echo now a file > /data/emptied
rm /data/deleted; truncate -s 20M /data/sparse-later
rm -rf /srv/kept/none; echo beside > /srv/beside
mv /data/moved/in /data/moved/out; mv "/data/ folder with  spaces " /data/'moved
folder'; long=$(printf '%0255d' 7); echo more >> "/data/$long"; rm -r "/data/deep/$long"
rm "/data/$(printf '\377\376not utf-8')"; echo bytes > "/data/$(printf '\376')"
rm /data/link-1 /data/link-2 /data/deep/link-3; echo anew > /data/link-2; ln /data/link-2 /data/link-1
setfattr -x trusted.of-root /data/attributes; setfattr -x user.of-root /; setfattr -n user.of-root-too -v x /
"#,
    r#"
rm /data/emptied; mkdir /data/emptied; echo last > /data/emptied/last
echo deep > /data/deep/moved-b/c/new; touch -d @600000000 /data/deep/moved-b/c
rm -r /data/to-file /data/l; mkdir /data/l; cp -a /data/link-1 /data/l/copy; ln /data/l/copy /data/l/link
cp -a /data/mode-only /data/copied; chmod 1755 /; chown 0:70000 /; touch -d @700000000 /
"#,
];

/// The base, and the result of all layers in a plain directory: the same for all tests, so it is made once.
struct Expected {
    /// The image of the base. The file has no name, so it is removed with the process.
    base: File,
    tree: Tree,
    /// Every file of the tree is newer than that time, in seconds since 1970.
    since: i64,
}

fn expected() -> &'static Expected {
    static EXPECTED: OnceLock<Expected> = OnceLock::new();
    EXPECTED.get_or_init(|| {
        let project = Project::new(BASE);
        project.apply();
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let directory = project.path("plain");
        unpack(&project.path("base.squashfs"), &directory);
        // The GNU programs need /proc to change the mode of anything but a file.
        in_private_namespace(|_| {
            rustix::mount::mount_bind("/proc", directory.join("proc")).unwrap();
            for script in LAYERS {
                let script = format!("umask 022\n{script}");
                let mut chroot = Command::new("chroot");
                chroot.arg(&directory).args(["/bin/sh", "-ec", &script]).env_clear();
                let done = chroot.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").output().unwrap();
                assert!(done.status.success(), "{}\nof {script}", String::from_utf8_lossy(&done.stderr));
            }
        });
        let time = fs::metadata(&directory).unwrap().modified().unwrap();
        File::open(&directory).unwrap().set_modified(time).unwrap();
        let base = File::open(project.path("base.squashfs")).unwrap();
        Expected { base, tree: Tree::read(&directory), since: i64::try_from(since).unwrap() }
    })
}

/// Returns a manifest of all layers on the base: in one container, or each in one on the layer before.
fn manifest(mode: &str, one_container: bool) -> String {
    let mut containers = String::new();
    let mut steps = String::new();
    for (index, script) in LAYERS.iter().enumerate() {
        let container = if one_container { "c0".to_owned() } else { format!("c{index}") };
        if index == 0 || !one_container {
            let rootfs = match index {
                0 => "squashfs: base.squashfs".to_owned(),
                _ => format!("snapshot: s{}", index - 1),
            };
            containers.push_str(&format!(
                "  {container}: {{ rootfs: {{ {rootfs} }}, capabilities: {{ add: [SYS_ADMIN] }} }}\n"
            ));
        }
        let script = script.trim().replace('\n', "\n      ");
        steps.push_str(&format!("  - name: r{index}\n    container: {container}\n    run: |\n      {script}\n"));
        let snapshot = format!("{{ mode: {mode}, output: out/{index}.squashfs }}");
        steps.push_str(&format!("  - {{ name: s{index}, container: {container}, snapshot: {snapshot} }}\n"));
    }
    format!("version: 1\nsource_date_epoch: none\ncontainers:\n{containers}steps:\n{steps}")
}

/// Builds all layers and compares the tree of the images of `chosen`, mounted, with the plain directory.
fn compare(mode: &str, one_container: bool, images: &[&str]) {
    let Expected { base, tree, since } = expected();
    let project = Project::new(&manifest(mode, one_container));
    fs::copy(format!("/proc/self/fd/{}", base.as_raw_fd()), project.path("base.squashfs")).unwrap();
    let run = project.apply();
    let images: Vec<PathBuf> = images.iter().map(|image| project.path(image)).collect();
    let found = in_private_namespace(|mounts| match &images[..] {
        [image] => Tree::read(&mounts.image(image)),
        images => Tree::read(&mounts.chain(images)),
    });
    let differences = found.differences(tree, *since);
    assert!(differences.is_empty(), "{}\n{run}", differences.join("\n"));
    assert_eq!(project.leftovers(run.pid), Vec::<String>::new());
    holes_take_no_room(&images, &project.path("base.squashfs"), &found);
}

fn holes_take_no_room(images: &[PathBuf], base: &Path, found: &Tree) {
    let sparse = found.get("data/sparse");
    assert_eq!(sparse.size, Some(100 << 20));
    assert!(sparse.allocated <= 1 << 20, "{} bytes are allocated", sparse.allocated);
    let size: u64 = images.iter().map(|image| fs::metadata(image).unwrap().len()).sum();
    let base = fs::metadata(base).unwrap().len();
    assert!(size <= 2 * base + (2 << 20), "{size} bytes of images, {base} of them the base");
}

const LAYER_IMAGES: [&str; 6] =
    ["base.squashfs", "out/0.squashfs", "out/1.squashfs", "out/2.squashfs", "out/3.squashfs", "out/4.squashfs"];

#[test]
fn five_layers_of_one_container_are_equal_to_a_plain_directory() {
    compare("layer", true, &LAYER_IMAGES);
}

#[test]
fn five_layers_of_five_containers_are_equal_to_a_plain_directory() {
    compare("layer", false, &LAYER_IMAGES);
}

#[test]
fn five_full_images_of_one_container_are_equal_to_a_plain_directory() {
    compare("full", true, &["out/4.squashfs"]);
}

#[test]
fn five_full_images_of_five_containers_are_equal_to_a_plain_directory() {
    compare("full", false, &["out/4.squashfs"]);
}

also_with_runc! {
    five_layers_of_one_container_are_equal_to_a_plain_directory,
}
