//! The JSON Schema: the committed file is that of the types, and it agrees with the reader.

use std::collections::BTreeMap;
use std::path::Path;

use runner::load::check;
use runner::manifest::{schema, schema_text};

use crate::host::FakeHost;

#[test]
fn the_committed_schema_is_that_of_the_types() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/manifest.v1.schema.json");
    let committed = std::fs::read_to_string(path).unwrap();
    assert!(committed == schema_text(), "run `runner schema > schemas/manifest.v1.schema.json`");
}

/// Returns whether both accept the document; fails if they differ.
fn accepted(text: &str) -> bool {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    let instance: serde_json::Value = serde_yaml::from_str(text).unwrap();
    let by_schema = validator.is_valid(&instance);
    let read = check(text, Path::new("/work/build.yaml"), &BTreeMap::new(), &FakeHost::default());
    let first: Vec<_> = validator.iter_errors(&instance).map(|error| error.to_string()).collect();
    assert_eq!(by_schema, read.is_ok(), "{text}\nthe schema: {first:#?}\nthe reader: {read:#?}");
    by_schema
}

/// Returns a manifest with these keys beside `version` and a container.
fn top(keys: &str) -> String {
    format!("version: 1\ncontainers: {{c: {{rootfs: {{scratch: true}}}}}}\n{keys}\n")
}

fn container(keys: &str) -> String {
    format!("version: 1\ncontainers: {{c: {{rootfs: {{scratch: true}}, {keys}}}}}\n")
}

fn rootfs(rootfs: &str) -> String {
    format!("version: 1\ncontainers: {{c: {{rootfs: {rootfs}}}}}\n")
}

fn step(keys: &str) -> String {
    top(&format!("vars: {{v: none}}\nsteps: [{{{keys}}}]"))
}

#[test]
fn schema_and_reader_accept_the_same() {
    let good = [
        top(""),
        top("name: x"),
        top("source_date_epoch: 0"),
        top("source_date_epoch: none"),
        top("source_date_epoch: git"),
        top("vars: {a: b, c: 1, d: true}"),
        top("mounts: {m: {type: bind, source: src, target: /m, options: [ro]}}"),
        top("devices: {d: {path: /dev/kvm, access: r, mode: \"0600\", uid: 0, gid: 0, target: /d}}"),
        top("steps: []"),
        container("hostname: h, read_only: false, network: host, user: 0, cwd: /, env: {A: 1}"),
        container("user: a, network: none, no_new_privileges: true, capabilities: {add: [CHOWN], drop: []}"),
        container("seccomp: default"),
        container("xino: false"),
        container("init: true"),
        container("unmask: all, shell: [/bin/bash, -c]"),
        container("unmask: [/proc/kcore, /sys/firmware]"),
        container("seccomp: unconfined"),
        container("seccomp: seccomp.json"),
        container("mounts: [{type: tmpfs, target: /t}], devices: [/dev/kvm, {path: /dev/loop0}]"),
        container("limits: {nofile: 16, memory: 1GiB, cpus: 1.5, pids: 1}, scratch: {tmpfs: 1024}"),
        container("limits: {memory: 6291456, cpus: \"2\"}, scratch: {disk: true}"),
        rootfs("{squashfs: base.squashfs}"),
        rootfs("{squashfs: [base.squashfs, images/debian.squashfs]}"),
        rootfs("{tar: base.tar.zst}"),
        rootfs("{image: debian, platform: linux/arm64}"),
        rootfs("{url: \"https://example.org/base.tar\"}"),
        rootfs("{dir: root}"),
        rootfs("{programs: [sh]}"),
        step("name: a, run: x"),
        step("name: a, container: c, exec: [x, 1, true], needs: [], env: {A: b}, cwd: /, user: 1"),
        step("name: a, run: x, timeout: 10s, grace: 0s, retries: 2, always: true"),
        step("name: a, run: x, cache: true"),
        step("name: a, snapshot: {}"),
        step("name: a, snapshot: {mode: full, output: o, compression: zstd, level: 3}"),
        step("name: a, snapshot: {compression: '${{ v }}'}"),
        step("name: a, export: {format: files, output: o}"),
        step("name: a, export: {format: oci, push: o/n}"),
        step("name: a, export: {format: oci, output: o, push: 'localhost:5000/n:${{ v }}'}"),
    ];
    for text in &good {
        assert!(accepted(text), "{text}");
    }
}

#[test]
fn schema_and_reader_refuse_the_same() {
    let bad = [
        "[]".to_owned(),
        "version: 1".to_owned(),
        "containers: {c: {rootfs: {scratch: true}}}".to_owned(),
        "version: 2\ncontainers: {c: {rootfs: {scratch: true}}}".to_owned(),
        "version: '1'\ncontainers: {c: {rootfs: {scratch: true}}}".to_owned(),
        "version: 1\ncontainers: {}".to_owned(),
        "version: 1\ncontainers: {a/b: {rootfs: {scratch: true}}}".to_owned(),
        "version: 1\ncontainers: {c: {}}".to_owned(),
        "version: 1\ncontainers: {c: null}".to_owned(),
        top("nmae: x"),
        top("name: 1"),
        top("name: null"),
        top("source_date_epoch: soon"),
        top("source_date_epoch: -1"),
        top("source_date_epoch: 4294967296"),
        top("vars: [a]"),
        top("vars: {a: 1.5}"),
        top("vars: {a: [b]}"),
        top("mounts: {m: {target: /m}}"),
        top("mounts: {m: {type: tmpfs}}"),
        top("mounts: {m: {type: tmpfs, target: /m, options: ro}}"),
        top("mounts: {m: {type: tmpfs, target: /m, size: 1}}"),
        top("devices: {d: {access: r}}"),
        top("devices: {d: {path: /dev/kvm, mode: 600}}"),
        top("devices: {d: {path: /dev/kvm, uid: -1}}"),
        top("devices: {d: {path: /dev/kvm, uid: 4294967296}}"),
        top("steps: {}"),
        top("steps: null"),
        step("name: a, export: {format: files}"),
        step("name: a, export: {format: oci}"),
        container("network: bridge"),
        container("read_only: 1"),
        container("env: [A]"),
        container("env: {A: null}"),
        container("capabilities: [CHOWN]"),
        container("seccomp: false"),
        container("seccomp: {}"),
        container("mounts: [1]"),
        container("devices: /dev/kvm"),
        container("limits: {nofile: many}"),
        container("limits: {nofile: -1}"),
        container("limits: {memory: 1.5}"),
        container("limits: {nofile: 15}"),
        container("limits: {pids: 0}"),
        container("limits: {pids: 4194305}"),
        container("scratch: {}"),
        container("scratch: {tmpfs: 1GiB, disk: true}"),
        container("scratch: {disk: false}"),
        container("checkpoint: true"),
        rootfs("{}"),
        rootfs("{scratch: false}"),
        rootfs("{dir: root, tar: base.tar.zst}"),
        rootfs("{erofs: [image]}"),
        rootfs("{programs: sh}"),
        rootfs("{squashfs: []}"),
        rootfs("{squashfs: [1]}"),
        rootfs("base.squashfs"),
        step("run: x"),
        step("name: a"),
        step("name: a, run: x, exec: [x]"),
        step("name: a, exec: x"),
        step("name: a, run: [x]"),
        step("name: a, run: x, needs: a"),
        step("name: a, run: x, timeout: 10"),
        step("name: a, run: x, retries: 1.5"),
        step("name: a, run: x, always: 'true'"),
        step("name: a, snapshot: true"),
        step("name: a, snapshot: {mode: half}"),
        step("name: a, snapshot: {level: fast}"),
    ];
    for text in &bad {
        assert!(!accepted(text), "{text}");
    }
}

#[test]
fn each_example_names_the_schema_for_editors_and_fits_it() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let validator = jsonschema::validator_for(&schema()).unwrap();
    let mut count = 0;
    for example in std::fs::read_dir(top.join("examples")).unwrap() {
        let directory = example.unwrap().path();
        let text = std::fs::read_to_string(directory.join("build.yaml")).unwrap();
        let place = text.lines().next().unwrap().strip_prefix("# yaml-language-server: $schema=").unwrap();
        let named = directory.join(place).canonicalize().unwrap();
        assert_eq!(named, top.join("schemas/manifest.v1.schema.json").canonicalize().unwrap());
        assert!(validator.is_valid(&serde_yaml::from_str(&text).unwrap()), "{}", directory.display());
        count += 1;
    }
    assert!(count >= 3, "{count}");
}
