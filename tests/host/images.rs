//! Roots of OCI images: layouts that umoci and skopeo write, and a registry on this host.

use std::fs;
use std::io::Write;

use runner::digest::Digest;
use serde_json::{Value, json};

use crate::built::{Built, project};
use crate::project::Project;
use crate::registry::{Registry, server};

/// Writes a layout with the image `layout:v1`: a small root, and layers on it that replace, remove and hide files, go through
/// links of a lower layer, and link to files of one.
const LAYOUT: &str = r#"
rm -rf layout root more; mkdir -p root/bin root/etc/dir/sub root/usr/data root/proc root/sys root/dev root/tmp
cp /bin/sh /bin/cat /bin/ls root/bin
for file in $(ldd /bin/sh /bin/cat /bin/ls | grep -o '/[^ :)]*' | grep lib); do
    mkdir -p root$(dirname $file); cp $file root$file; done
echo one > root/etc/marker; echo removed > root/etc/removed; echo hidden > root/etc/dir/hidden
echo deep > root/etc/dir/sub/deep; echo data > root/usr/data/file; ln -s usr/data root/link
mkdir -p root/becomes-file/full; echo x > root/becomes-file/full/x; chmod 4755 root/bin/ls; chown 1000:1000 root/usr/data
setfattr -n user.note -v kept root/etc/marker; touch -hd @1000000000 $(find root)
tar -C root --xattrs -cf one.tar .
mkdir -p more/etc/dir more/link more/etc; echo two > more/etc/marker; echo new > more/etc/dir/new
echo through > more/link/through; : > more/etc/.wh.removed; : > more/etc/dir/.wh..wh..opq; echo file > more/becomes-file
touch -hd @1100000000 $(find more)
# An entry for neither `link` nor the directory that it leads to, and the opaque mark after the file beside it.
tar -C more --no-recursion -cf two.tar etc/marker etc/dir/new link/through etc/.wh.removed etc/dir/.wh..wh..opq becomes-file
rm -rf root more
"#;

/// Writes the layout of the layers `one.tar`, `two.tar` and a link to a file of the first one.
pub fn pack(project: &Project, change: impl Fn(usize, Vec<u8>) -> Vec<u8>) {
    let put = |data: &[u8], kind: &str| {
        let digest = Digest::of_bytes(data);
        project.write("layout/oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#);
        fs::create_dir_all(project.path("layout/blobs/sha256")).unwrap();
        fs::write(project.path("layout/blobs/sha256").join(digest.hex()), data).unwrap();
        let media_type = format!("application/vnd.oci.image.{kind}");
        json!({ "mediaType": media_type, "digest": digest.to_string(), "size": data.len() })
    };
    let mut third = tar::Builder::new(Vec::new());
    let mut link = tar::Header::new_ustar();
    link.set_entry_type(tar::EntryType::Link);
    link.set_size(0);
    link.set_mtime(1_200_000_000);
    third.append_link(&mut link, "usr/data/hard", "usr/data/file").unwrap();
    let tars = [
        fs::read(project.path("one.tar")).unwrap(),
        fs::read(project.path("two.tar")).unwrap(),
        third.into_inner().unwrap(),
    ];
    let diff_ids: Vec<String> = tars.iter().map(|tar| Digest::of_bytes(tar).to_string()).collect();
    let layers: Vec<Value> = (0..)
        .zip(tars)
        .map(|(n, tar)| {
            let tar = change(n, tar);
            // The second one is not compressed.
            if n == 1 {
                return put(&tar, "layer.v1.tar");
            }
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            gzip.write_all(&tar).unwrap();
            put(&gzip.finish().unwrap(), "layer.v1.tar+gzip")
        })
        .collect();
    let machine = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let rootfs = json!({ "type": "layers", "diff_ids": diff_ids });
    let config = json!({ "architecture": machine, "os": "linux", "config": {}, "rootfs": rootfs });
    let config = put(config.to_string().as_bytes(), "config.v1+json");
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({ "schemaVersion": 2, "mediaType": media_type, "config": config, "layers": layers });
    let mut entry = put(manifest.to_string().as_bytes(), "manifest.v1+json");
    entry["annotations"] = json!({ "org.opencontainers.image.ref.name": "v1" });
    project.write("layout/index.json", &json!({ "schemaVersion": 2, "manifests": [entry] }).to_string());
}

const BUILD: &str = r#"
containers: { c: { rootfs: { $ROOT } } }
steps:
  - { name: look, run: "cat /etc/marker; ls /etc/dir /etc; cat /link/through /becomes-file /usr/data/hard" }
  - { name: whole, snapshot: { mode: full, output: whole.squashfs } }
"#;

pub fn with_root(root: &str) -> Project {
    let project = project(&BUILD.replace("$ROOT", root));
    project.script(LAYOUT);
    pack(&project, |_, tar| tar);
    project
}

/// Prints each file of a directory with its type, mode, owner, size, time, content and attributes.
const TREE: &str = r#"tree() { ( cd "$1"; find . -printf '%P %y %m %U:%G %n %l\n' | sort; find . -type f -printf '%P %Ts\n' | sort
find . -type f | sort | xargs sha256sum; getfattr -R -d . ) 2>&1; }
"#;

#[test]
fn an_image_of_a_layout_has_the_tree_that_umoci_unpacks() {
    let project = with_root("oci: layout:v1");
    project.script("echo 'source_date_epoch: none' >> build.yaml");
    let built = Built::succeed(&project);
    let expected = ["two", "/etc:", "dir", "hosts", "marker", "", "/etc/dir:", "new", "through", "file", "data"];
    assert_eq!(built.lines("look"), expected);
    let compared = format!(
        "{TREE} umoci unpack --image layout:v1 bundle > log 2>&1 || {{ cat log >&2; exit 1; }}
         unsquashfs -no-progress -d whole whole.squashfs > log; tree bundle/rootfs > expected; tree whole > found; diff expected found"
    );
    assert_eq!(project.script(&format!("{{ {compared}; }} 2>&1 || true")), "");
    // Nothing is unpacked again, and an archive of the layout gives the same root.
    project.script("tar -C layout -cf layout.tar . && sed -i 's/oci: layout:v1/oci: layout.tar/' build.yaml");
    let again = Built::succeed(&project);
    assert_eq!((again.status("look"), again.status("whole")), ("cached", "cached"));
}

#[test]
fn an_image_of_several_layers_comes_into_a_store_on_an_overlay_as_in_a_ci_container() {
    let project = with_root("oci: layout:v1");
    let digest = Built::succeed(&project).digest("whole").to_owned();
    let overlay = "mkdir -p changes && mount -t tmpfs none changes && mkdir changes/upper changes/work lower && \
                   rm -rf store && mkdir store && \
                   mount -t overlay -o lowerdir=lower,upperdir=changes/upper,workdir=changes/work none store && \
                   stat -f -c %T store >&2 && \"$@\"";
    let run = project.runner_in_shell(
        &format!("exec unshare --mount sh -c '{overlay}' sh \"$@\""),
        &["apply", "--progress", "json"],
    );
    assert_eq!(run.code, 0, "{run}");
    assert!(run.stderr.contains("overlayfs"), "{run}");
    assert_eq!(Built::from_run(run).digest("whole"), digest);
}

#[test]
fn a_layer_in_an_image_may_have_any_compression_and_be_squashfs() {
    let project = with_root("oci: layout:v1");
    let first = Built::succeed(&project).digest("whole").to_owned();
    project.script("rm -rf store; skopeo copy -q --dest-compress-format zstd --dest-compress oci:layout:v1 oci:other:v1 && sed -i 's/oci: layout/oci: other/' build.yaml");
    assert_eq!(Built::succeed(&project).digest("whole"), first);
}

#[test]
fn a_squashfs_image_of_a_url_and_squashfs_layers_of_an_image_are_layers_as_they_are() {
    let project = with_root("oci: layout:v1");
    let first = Built::succeed(&project).digest("whole").to_owned();
    let served = fs::read(project.path("whole.squashfs")).unwrap();
    let server = server::Server::start(move |_, _| server::Answer::new(200, served.clone()));
    let export = "  - { name: again, export: { format: oci, output: squashed, layers: squashfs, tag: v1 } }\n";
    let manifest = fs::read_to_string(project.path("build.yaml")).unwrap();
    project.write("build.yaml", &format!("{manifest}{export}"));
    project.apply();
    let url = format!("url: 'http://{}/whole.squashfs', digest: '{first}'", server.address);
    for root in [url.as_str(), "oci: squashed:v1"] {
        project.write("build.yaml", &manifest.replace("oci: layout:v1", root));
        project.script("rm -rf store");
        for status in ["ran", "cached"] {
            let built = Built::succeed(&project);
            assert_eq!((built.status("look"), built.digest("whole")), (status, first.as_str()), "{root}");
        }
        project.script("test $(ls store/layers/sha256 | wc -l) -ge 1");
    }
}

#[test]
fn a_broken_image_is_refused_and_nothing_of_it_is_stored() {
    let project = with_root("oci: layout:v1");
    // The content of the second layer is another one than the configuration says, and its own digest is right.
    pack(&project, |n, mut tar| {
        if n == 1 {
            let place = tar.windows(4).position(|bytes| bytes == b"two\n").unwrap();
            tar[place..place + 3].copy_from_slice(b"TWO");
        }
        tar
    });
    let built = Built::of(&project, &[]);
    assert_eq!(built.run.code, 2, "{}", built.run);
    assert!(built.reason("look").contains("the content of the layer"), "{}", built.reason("look"));
    let stored = fs::read_dir(project.store().join("layers/sha256")).unwrap().count();
    assert_eq!(stored, 1, "only the layer below");
    assert_eq!(project.leftovers(built.run.pid), Vec::<String>::new());
}

#[test]
fn a_tag_is_resolved_once_and_again_by_pull_and_a_lock_leads_to_the_same_image() {
    let project = with_root("image: $REGISTRY/base/image:v1");
    let registry = Registry::start(&project);
    let manifest = fs::read_to_string(project.path("build.yaml")).unwrap().replace("$REGISTRY", &registry.address);
    project.write("build.yaml", &manifest);
    registry.push(&project, "layout:v1", "base/image:v1");
    assert!(project.runner(&["plan"]).stdout.contains("look"), "a plan asks no registry");
    let first = Built::succeed(&project);
    assert_eq!(first.lines("look")[0], "two");
    assert_eq!(project.runner(&["lock"]).code, 0);
    // Another image under the same tag.
    project.script(&LAYOUT.replace("echo two", "echo three"));
    pack(&project, |_, tar| tar);
    registry.push(&project, "layout:v1", "base/image:v1");
    assert_eq!(Built::succeed(&project).status("look"), "cached");
    // With the lock alone.
    let digest = first.digest("whole").to_owned();
    project.script("mv store old-store");
    let locked = project.runner(&["apply", "--locked", "--progress", "json"]);
    assert_eq!(locked.code, 0, "{locked}");
    assert_eq!(Built::from_run(locked).digest("whole"), digest);
    let pulled = Built::of(&project, &["--pull"]);
    assert_eq!(pulled.lines("look")[0], "three");
    // Without the lock, the store remembers what `--pull` found.
    project.script("mv runner.lock old.lock");
    assert_eq!(Built::succeed(&project).status("look"), "cached");
    // Without the registry as well, and without both the image cannot be had.
    drop(registry);
    assert_eq!(Built::succeed(&project).status("look"), "cached");
    project.script("rm -rf store");
    let run = project.runner(&["apply"]);
    assert_eq!(run.code, 3, "{run}");
    assert!(run.stderr.contains("cannot get the image of container c: cannot get http://127.0.0.1"), "{run}");
}

#[test]
fn a_registry_that_breaks_gives_no_half_image() {
    let project = with_root("image: $REGISTRY/o/n:v1");
    let index: Value = serde_json::from_slice(&fs::read(project.path("layout/index.json")).unwrap()).unwrap();
    let manifest = index["manifests"][0]["digest"].as_str().unwrap().to_owned();
    let layouts = project.path("layout/blobs/sha256");
    let server = server::Server::start(move |request, _| {
        let name = request.path.rsplit('/').next().unwrap();
        let name = if name == "v1" { manifest.as_str() } else { name };
        match fs::read(layouts.join(name.trim_start_matches("sha256:"))) {
            // The large layer has another content each time.
            Ok(mut bytes) if request.path.contains("/blobs/") && bytes.len() > 100_000 => {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                server::Answer::new(200, bytes)
            }
            Ok(bytes) => server::Answer::new(200, bytes),
            Err(_) => server::Answer::new(404, ""),
        }
    });
    let manifest = fs::read_to_string(project.path("build.yaml")).unwrap().replace("$REGISTRY", &server.address);
    project.write("build.yaml", &manifest);
    let built = Built::of(&project, &[]);
    assert_eq!(built.run.code, 2, "{}", built.run);
    let reason = built.reason("look");
    assert!(reason.contains("sent content with the digest") && reason.contains("was expected"), "{reason}");
    assert_eq!(fs::read_dir(project.store().join("layers/sha256")).unwrap().count(), 0);
    assert_eq!(project.leftovers(built.run.pid), Vec::<String>::new());
}

#[test]
fn a_url_needs_a_digest_and_gives_its_file_alone() {
    let project = with_root("url: 'http://$SERVER/base.tar'");
    let archive = fs::read(project.path("one.tar")).unwrap();
    let digest = Digest::of_bytes(&archive);
    let served = archive.clone();
    let server = server::Server::start(move |request, number| match (request.path.as_str(), number) {
        // Each download breaks once, and continues.
        ("/base.tar", _) if !request.headers.contains_key("range") => {
            let cut = server::Content::Cut(served[..100_000].to_vec(), served.len() as u64);
            server::Answer::content(cut).header("ETag", "\"1\"")
        }
        ("/base.tar", _) => {
            let range = format!("bytes 100000-{}/{}", served.len() - 1, served.len());
            let rest = server::Content::Whole(served[100_000..].to_vec());
            server::Answer { status: 206, ..server::Answer::content(rest) }.header("Content-Range", range)
        }
        _ => server::Answer::new(404, ""),
    });
    let manifest = fs::read_to_string(project.path("build.yaml")).unwrap().replace("$SERVER", &server.address);
    let manifest = manifest.replace("; cat /link/through /becomes-file /usr/data/hard", "");
    project.write("build.yaml", &manifest);
    let run = project.runner(&["apply"]);
    assert_eq!(run.code, 2, "{run}");
    assert!(run.stderr.contains("is not known") && run.stderr.contains("run `runner lock`"), "{run}");
    let run = project.runner(&["lock"]);
    assert_eq!(run.code, 0, "{run}");
    assert!(fs::read_to_string(project.path("runner.lock")).unwrap().contains(&digest.to_string()));
    let downloads = server.received().len();
    assert_eq!(Built::succeed(&project).status("look"), "cached");
    assert_eq!(server.received().len(), downloads, "nothing is downloaded again");
    // With the lock and an empty store.
    project.script("rm -rf store");
    assert_eq!(Built::succeed(&project).lines("look")[0], "one");
    let wrong = format!("base.tar', digest: '{}'", Digest::of_bytes(b"other"));
    project.write("build.yaml", &manifest.replace("base.tar'", &wrong));
    let built = Built::of(&project, &["--no-cache"]);
    assert_eq!(built.run.code, 2, "{}", built.run);
    assert!(built.reason("look").contains("sent content with the digest"), "{}", built.reason("look"));
    assert_eq!(project.leftovers(built.run.pid), Vec::<String>::new());
}

#[test]
fn an_erofs_image_at_a_url_is_refused_and_is_no_empty_root() {
    let project = with_root("url: 'http://$SERVER/base.erofs', digest: $DIGEST");
    project.script("mkdir tree; echo x > tree/file; mkfs.erofs base.erofs tree");
    let image = fs::read(project.path("base.erofs")).unwrap();
    let digest = Digest::of_bytes(&image).to_string();
    let server = server::Server::start(move |_, _| server::Answer::content(server::Content::Whole(image.clone())));
    let manifest = fs::read_to_string(project.path("build.yaml")).unwrap();
    project.write("build.yaml", &manifest.replace("$SERVER", &server.address).replace("$DIGEST", &digest));
    let built = Built::of(&project, &[]);
    assert_eq!(built.run.code, 2, "{}", built.run);
    let words = "base.erofs is an EROFS image, and `url` takes a squashfs image or a tar archive";
    assert!(built.reason("look").contains(words), "{}", built.run);
    assert_eq!(project.leftovers(built.run.pid), Vec::<String>::new());
}
