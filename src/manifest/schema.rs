//! The JSON Schema of the manifest, generated from the types that read it.

use schemars::Schema;
use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use serde_json::{Value, json};

use super::Manifest;

/// The pattern of names of containers and steps.
pub const NAME_PATTERN: &str = "^[a-zA-Z0-9._-]+$";
/// The keys of a step, of which exactly one is required.
const ACTIONS: [&str; 5] = ["run", "exec", "copy", "snapshot", "export"];

/// Returns the JSON Schema (draft 2020-12) of a manifest.
pub fn schema() -> Value {
    let settings = SchemaSettings::draft2020_12().for_deserialize().with_transform(RecursiveTransform(as_parsed));
    settings.into_generator().into_root_schema_for::<Manifest>().to_value()
}

/// Returns the text of `schemas/manifest.v1.schema.json`.
pub fn schema_text() -> String {
    // Printing a value of strings, numbers and maps cannot fail; its plain form is the same schema.
    let schema = schema();
    let mut text = serde_json::to_string_pretty(&schema).unwrap_or_else(|_| schema.to_string());
    text.push('\n');
    text
}

/// Returns the text without the line ends of the source code, which editors would show.
fn paragraphs(text: &str) -> String {
    text.split("\n\n").map(|paragraph| paragraph.replace('\n', " ")).collect::<Vec<_>>().join("\n\n")
}

/// Adapts a schema to the parser: an optional key cannot be null, since `needs:` without a value is refused, and a
/// number has the range that is read, not only a format, which validators may ignore.
fn as_parsed(schema: &mut Schema) {
    let Some(object) = schema.as_object_mut() else { return };
    if let Some(Value::String(text)) = object.get_mut("description") {
        *text = paragraphs(text);
    }
    if object.get("default").is_some_and(Value::is_null) {
        object.remove("default");
    }
    if let Some(Value::Array(types)) = object.get_mut("type") {
        types.retain(|kind| kind != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            object.insert("type".into(), only);
        }
    }
    if object.get("format").is_some_and(|format| format == "uint32") {
        object.insert("maximum".into(), json!(u32::MAX));
    }
    let Some(Value::Array(any)) = object.get_mut("anyOf") else { return };
    any.retain(|option| option.get("type").is_none_or(|kind| kind != "null"));
    if let [Value::Object(only)] = any.as_slice() {
        let only = only.clone();
        object.remove("anyOf");
        object.extend(only);
    }
}

/// Returns the schema of one of these values, each with its meaning, which editors show beside the value.
fn values(known: &[(&str, &str)]) -> Value {
    let (values, meanings): (Vec<_>, Vec<_>) = known.iter().copied().unzip();
    json!({ "enum": values, "enumDescriptions": meanings })
}

/// Permits one of these values, or the other schema.
fn values_or(schema: &mut Schema, known: &[(&str, &str)], other: &Value) {
    schema.remove("type");
    schema.insert("anyOf".into(), json!([values(known), other]));
}

/// Permits one of these values, or a text with a variable.
fn one_of(schema: &mut Schema, variable: &str, known: &[(&str, &str)]) {
    let variable = json!({
        "type": "string",
        "pattern": r"\$\{\{",
        "description": "A variable of `vars` that stands for one of the values.",
        "examples": [format!("${{{{ {variable} }}}}")],
    });
    values_or(schema, known, &variable);
}

pub(super) fn network(schema: &mut Schema) {
    one_of(
        schema,
        "network",
        &[
            ("none", "A network of its own, with a loopback interface and nothing else."),
            ("host", "The network of the host, with its /etc/resolv.conf, which is in no snapshot."),
        ],
    );
}

pub(super) fn checkpoint(schema: &mut Schema) {
    let slow = json!({
        "type": "string",
        "description": "A time: after each step that took longer.",
        "examples": ["30s"],
    });
    let known =
        [("off", "Never."), ("auto", "After each step that took more than 5 seconds, however long the copy takes.")];
    values_or(schema, &known, &slow);
}

pub(super) fn seccomp(schema: &mut Schema) {
    let file = json!({
        "type": "string",
        "description": "A profile in Docker's JSON: a path, relative to the manifest. Unknown names of system calls are ignored.",
        "examples": ["seccomp.json"],
    });
    let known = [
        (
            "default",
            "The system calls that Docker's default profile permits: no namespaces, mounts, keyrings, io_uring, userfaultfd, bpf, perf or AF_VSOCK without a capability for it.",
        ),
        ("unconfined", "All system calls of the kernel."),
    ];
    values_or(schema, &known, &file);
}

pub(super) fn snapshot_mode(schema: &mut Schema) {
    one_of(
        schema,
        "mode",
        &[
            (
                "layer",
                "The changes since the layer below. Such an image must be mounted above the layers that it was built on.",
            ),
            ("full", "The whole root filesystem, which can be mounted or shipped alone."),
        ],
    );
}

pub(super) fn compression(schema: &mut Schema) {
    one_of(
        schema,
        "compression",
        &[
            ("zstd", "Fast, and small enough."),
            ("gzip", "For programs that read no other compression."),
            ("xz", "The smallest, and slow to write and to read."),
            ("lz4", "The fastest, and larger."),
            ("none", "Not compressed."),
        ],
    );
}

pub(super) fn export_format(schema: &mut Schema) {
    one_of(
        schema,
        "format",
        &[
            (
                "files",
                "The file or directory itself, with modes, times, links and `user.*` attributes. Set-uid and set-gid bits, file capabilities and access control lists are removed, and device nodes, fifos and sockets left out.",
            ),
            (
                "oci",
                "An OCI image: a layout directory, or an archive of one where the output ends in `.tar`. It has one layer for each layer of the root.",
            ),
            ("tar", "A tar archive of a directory, with owners, device nodes, hard links and extended attributes."),
            ("squashfs", "A squashfs image of a directory, as a full snapshot is."),
            (
                "erofs",
                "An EROFS image of a directory, written by mkfs.erofs of erofs-utils. All its times are `source_date_epoch`.",
            ),
            (
                "cpio",
                "A cpio archive of a directory, as the kernel takes it for an initramfs. It has no extended attributes.",
            ),
        ],
    );
}

pub(super) fn oci_layers(schema: &mut Schema) {
    one_of(
        schema,
        "layers",
        &[
            ("tar", "Tar archives, which every container runtime takes."),
            ("squashfs", "Squashfs images, which are mounted as they are by the few runtimes that know them."),
        ],
    );
}

pub(super) fn mount_type(schema: &mut Schema) {
    let known = [
        ("bind", "A file or directory of the host: `source`."),
        ("tmpfs", "A filesystem in memory, for all steps of the container's session."),
        (
            "cache",
            "A directory of the store, which later builds find again, and which all manifests with its `id` share.",
        ),
        (
            "secret",
            "A file of the host (`source`) or a variable of its environment (`env`), readable by the steps. It is in no log and no key.",
        ),
        ("snapshot", "The root as it was at a snapshot (`step`), or a `path` of it, read-only."),
        ("image", "A squashfs or EROFS image of the host: `source`, read-only."),
        (
            "ssh",
            "The caller's SSH agent: the one of `SSH_AUTH_SOCK`, or of the socket `source`. Steps have `SSH_AUTH_SOCK` too, and can list \
             its keys and sign with them, and nothing else. It is in no snapshot and no key.",
        ),
    ];
    let filesystem = json!({
        "type": "string",
        "not": { "enum": known.map(|(name, _)| name) },
        "description": "The name of a filesystem that this kernel, or another Linux, has, mounted with `source` and `options` as they are.",
        "examples": ["proc"],
    });
    values_or(schema, &known, &filesystem);
}

pub(super) fn mount_cache(schema: &mut Schema) {
    one_of(
        schema,
        "cache",
        &[("ignore", "The content does not change the results of the steps, and runner does not read it.")],
    );
}

pub(super) fn sharing(schema: &mut Schema) {
    one_of(
        schema,
        "sharing",
        &[
            (
                "shared",
                "Any number of steps at the same time: for programs that lock their own files, such as cargo and ccache.",
            ),
            (
                "locked",
                "One step at a time, while the others wait: for programs that fail where another one runs, such as apt.",
            ),
        ],
    );
}

/// Requires the target of every mount but an SSH agent.
pub(super) fn mount(schema: &mut Schema) {
    schema.insert("if".into(), json!({ "properties": { "type": { "const": "ssh" } }, "required": ["type"] }));
    schema.insert("else".into(), json!({ "required": ["target"] }));
}

/// Requires an output of every export that is not pushed.
pub(super) fn export(schema: &mut Schema) {
    schema.insert("if".into(), json!({ "required": ["push"] }));
    schema.insert("else".into(), json!({ "required": ["output"] }));
}

pub(super) fn names(schema: &mut Schema) {
    schema.insert("propertyNames".into(), json!({ "pattern": NAME_PATTERN }));
    schema.insert("minProperties".into(), json!(1));
}

/// Requires exactly one of all keys.
pub(super) fn one_key(schema: &mut Schema) {
    let keys = schema.get("properties").and_then(Value::as_object);
    let keys: Vec<String> = keys.into_iter().flat_map(|keys| keys.keys().cloned()).collect();
    exactly_one(schema, &keys);
}

/// Requires exactly one of the keys of a rootfs that name a source.
pub(super) fn one_source(schema: &mut Schema) {
    let keys = schema.get("properties").and_then(Value::as_object);
    let keys = keys.into_iter().flat_map(|keys| keys.keys().cloned());
    let keys: Vec<String> = keys.filter(|key| !["digest", "platform"].contains(&key.as_str())).collect();
    exactly_one(schema, &keys);
}

/// Requires exactly one of the actions of a step.
pub(super) fn one_action(schema: &mut Schema) {
    exactly_one(schema, &ACTIONS.map(String::from));
}

/// Requires exactly one of these keys. It does not use `maxProperties`, with which editors complete nothing on an
/// empty line.
fn exactly_one(schema: &mut Schema, keys: &[String]) {
    let message = format!("write one of {}", keys.join(", "));
    let one = |key| json!({ "type": "object", "required": [key], "errorMessage": message });
    schema.insert("oneOf".into(), keys.iter().map(one).collect::<Vec<_>>().into());
}
