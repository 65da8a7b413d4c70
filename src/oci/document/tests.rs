//! Images that are read, and those that are refused.

use std::cell::RefCell;
use std::collections::HashMap;

use serde_json::{Value, json};

use super::*;

/// Documents by digest.
#[derive(Default)]
struct Documents(RefCell<HashMap<Digest, Vec<u8>>>);

impl Documents {
    fn add(&self, document: &Value) -> Digest {
        let bytes = document.to_string().into_bytes();
        let digest = Digest::of_bytes(&bytes);
        self.0.borrow_mut().insert(digest, bytes);
        digest
    }

    /// Adds an image for a platform with that many layers, and returns the digest of its manifest.
    fn image(&self, architecture: &str, layers: usize) -> Digest {
        let diff_ids: Vec<String> = (0..layers).map(|n| Digest::of_bytes(&[n as u8]).to_string()).collect();
        let config = json!({ "architecture": architecture, "os": "linux", "rootfs": { "type": "layers", "diff_ids": diff_ids } });
        let config = self.add(&config);
        let blob =
            |n: usize| descriptor(&Digest::of_bytes(&[n as u8, 1]), "application/vnd.oci.image.layer.v1.tar+gzip");
        let layers: Vec<Value> = (0..layers).map(blob).collect();
        self.add(&json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": descriptor(&config, "application/vnd.oci.image.config.v1+json"),
            "layers": layers,
        }))
    }

    fn read(&self, first: &Digest, platform: &str) -> Result<Image, OciError> {
        read_image(self, first, &platform.parse().unwrap())
    }
}

impl Blobs for Documents {
    type Error = OciError;

    fn document(&self, digest: &Digest, _: bool) -> Result<Vec<u8>, OciError> {
        self.0.borrow().get(digest).cloned().ok_or_else(|| refused("the test", "missing"))
    }

    fn layer(&self, _: &LayerBlob, _: &File, _: &dyn Fn(u64) -> ControlFlow<()>) -> Result<(), OciError> {
        Ok(())
    }
}

fn descriptor(digest: &Digest, media_type: &str) -> Value {
    json!({ "mediaType": media_type, "digest": digest.to_string(), "size": 7 })
}

fn entry(digest: &Digest, architecture: &str, variant: Option<&str>) -> Value {
    let mut entry = descriptor(digest, MANIFEST);
    entry["platform"] = json!({ "architecture": architecture, "os": "linux" });
    if let Some(variant) = variant {
        entry["platform"]["variant"] = json!(variant);
    }
    entry
}

fn index(entries: &[Value]) -> Value {
    json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": entries })
}

#[test]
fn an_index_leads_to_the_image_of_the_platform() {
    let documents = Documents::default();
    let (amd, arm) = (documents.image("amd64", 2), documents.image("arm64", 1));
    let mut attestation = entry(&amd, "unknown", None);
    attestation["platform"]["os"] = json!("unknown");
    let all = index(&[attestation, entry(&amd, "amd64", None), entry(&arm, "arm64", Some("v8"))]);
    let first = documents.add(&all);
    assert_eq!(documents.read(&first, "linux/amd64").unwrap().digest, amd);
    assert_eq!(documents.read(&first, "linux/arm64").unwrap().digest, arm);
    assert_eq!(documents.read(&arm, "linux/arm64").unwrap().layers.len(), 1);
    let error = documents.read(&first, "linux/s390x").unwrap_err();
    assert_eq!(error.hint().unwrap(), "write `platform:` with one of these: linux/amd64, linux/arm64/v8");
    let error = documents.read(&amd, "linux/arm64").unwrap_err();
    assert!(matches!(error, OciError::Platform { found, .. } if found == ["linux/amd64"]));
}

#[test]
fn a_layer_is_named_by_itself_and_all_below_it() {
    let documents = Documents::default();
    let image = documents.read(&documents.image("amd64", 3), "linux/amd64").unwrap();
    let ids: Vec<Digest> = image.layers.iter().map(|layer| layer.chain_id).collect();
    assert_eq!(ids[0], image.layers[0].diff_id);
    let second = format!("{} {}", ids[0], image.layers[1].diff_id);
    assert_eq!(ids[1], Digest::of_bytes(second.as_bytes()));
    assert_eq!(ids[2], Digest::of_bytes(format!("{} {}", ids[1], image.layers[2].diff_id).as_bytes()));
}

#[test]
fn changed_documents_and_wrong_ones_are_refused() {
    let documents = Documents::default();
    let manifest = documents.image("amd64", 1);
    documents.0.borrow_mut().get_mut(&manifest).unwrap().push(b' ');
    assert!(matches!(documents.read(&manifest, "linux/amd64"), Err(OciError::Digest { .. })));
    let changed = |change: &dyn Fn(&mut Value)| {
        let documents = Documents::default();
        let manifest = documents.image("amd64", 2);
        let mut value: Value = serde_json::from_slice(&documents.0.borrow()[&manifest]).unwrap();
        change(&mut value);
        let digest = documents.add(&value);
        documents.read(&digest, "linux/amd64").unwrap_err().to_string()
    };
    assert!(changed(&|it| it["schemaVersion"] = json!(1)).contains("schema 1"));
    assert!(changed(&|it| it["mediaType"] = json!(INDEX)).contains("neither"));
    assert!(changed(&|it| it["manifests"] = json!([])).contains("neither"));
    assert!(changed(&|it| it["layers"] = json!([])).contains("describes 2 layers"));
    assert!(changed(&|it| it["layers"] = json!(vec![json!(1); 2])).contains("refused"));
    assert!(changed(&|it| it["layers"][0]["size"] = json!(1_u64 << 50)).contains("terabyte"));
    assert!(changed(&|it| it["layers"][0]["size"] = json!(-1)).contains("refused"));
    assert!(changed(&|it| it["layers"][0]["mediaType"] = json!("image/png")).contains("image/png"));
    assert!(
        changed(&|it| it["layers"][0]["digest"] = json!(format!("sha512:{}", "a".repeat(128)))).contains("SHA-256")
    );
    assert!(changed(&|it| it["layers"][0]["digest"] = json!("../../etc/passwd")).contains("refused"));
    let many: Vec<Value> = vec![descriptor(&manifest, "x.tar"); MAX_LAYERS + 1];
    assert!(changed(&|it| it["layers"] = json!(many)).contains("501 layers"));
}

#[test]
fn indexes_that_lead_to_each_other_end() {
    let documents = Documents::default();
    let mut first = documents.image("amd64", 1);
    for _ in 0..MAX_INDEXES {
        first = documents.add(&index(&[descriptor(&first, INDEX)]));
    }
    assert!(documents.read(&first, "linux/amd64").unwrap_err().to_string().contains("lead to each other"));
}
