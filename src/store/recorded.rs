//! The results of keys: records that are found by the key, and the last key of each step.

use std::fs::{self};
use std::io;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::error::io as failed;
use super::{MAX_PROJECTS, RecordedExport, Store, StoreError};
use crate::cache::key::{KeyFields, Parents};
use crate::digest::Digest;
use crate::fs::atomic;
use crate::fs::regular::{self, MAX_OF_OURS};

/// The result that was built under a key. Written when all of it is in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheRecord {
    /// The key's fields: the key is their digest.
    pub fields: KeyFields,
    /// The build's name.
    pub build: String,
    /// The container's name.
    pub container: String,
    /// The names of the steps in order, the snapshot's last.
    pub steps: Vec<String>,
    /// The duration of all steps together, in milliseconds.
    pub duration_ms: u64,
    /// The time at which it was recorded, RFC 3339.
    pub time: String,
    /// The layer; none for steps that no snapshot follows.
    pub layer: Option<RecordedLayer>,
    /// The contents of its exports, in the order of their steps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exports: Vec<RecordedExport>,
    /// Targets of tmpfs mounts in which the steps left something that later steps of the session could read.
    pub tmpfs_left: Vec<PathBuf>,
}

/// The layer that a snapshot wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedLayer {
    /// Its name in the store.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// The layers that it is built on, the lowest first; none for a full image. A record of a key before format 6 lists all of
    /// them, a later one the topmost.
    pub below: Vec<Digest>,
    /// The digest of the parents below those, see [`Parents`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lower: Option<Digest>,
}

impl RecordedLayer {
    /// Makes the entry of a layer on these parents.
    pub fn on(parents: &Parents, digest: Digest, size: u64) -> Self {
        let top = parents.record().and_then(|top| Some((top.layer()?, top.below)));
        let lower = top.and_then(|(_, below)| below);
        Self { digest, size, below: top.map(|(layer, _)| layer).into_iter().collect(), lower }
    }
}

/// The last keys of a step, one for each project that has a build and a step of that name, the one used last at the end.
#[derive(Debug, Default, Serialize, Deserialize)]
struct LastKeys {
    keys: Vec<LastKey>,
}

/// The last key of a step in a project: its next key is compared with this one.
#[derive(Debug, Serialize, Deserialize)]
struct LastKey {
    /// The manifest's path, all links followed: the key of another project explains nothing.
    project: PathBuf,
    /// The key's fields.
    fields: KeyFields,
}

impl Store {
    /// Returns the result of that key; none where its record cannot be read, or is of another key.
    pub fn recorded(&self, key: &Digest) -> Option<CacheRecord> {
        let recorded: CacheRecord = read(&self.key_path(key))?;
        (recorded.fields.key() == *key).then_some(recorded)
    }

    /// Stores a result with the parents that it is built on, and its key as the last one of its last step in that
    /// project. When this returns, the record survives a crash.
    ///
    /// # Errors
    /// Those of writing; nothing is recorded then.
    pub fn record(&self, recorded: &CacheRecord, parents: &Parents, project: &Path) -> Result<(), StoreError> {
        self.put_parents(parents)?;
        let key = recorded.fields.key();
        self.write_whole(&self.key_path(&key), recorded, true)?;
        let Some(step) = recorded.steps.last() else { return Ok(()) };
        self.set_last_key(&recorded.build, project, step, &recorded.fields)
    }

    /// Stores the fields of the key under which a step was last built or found. They only serve explanations, so losing
    /// them in a crash does no harm.
    ///
    /// # Errors
    /// Those of writing.
    pub fn set_last_key(&self, build: &str, project: &Path, step: &str, fields: &KeyFields) -> Result<(), StoreError> {
        let mut last_keys = self.last_keys(build, step);
        if last_keys.keys.last().is_some_and(|last| last.project == project && last.fields == *fields) {
            return Ok(());
        }
        last_keys.keys.retain(|last| last.project != project);
        last_keys.keys.push(LastKey { project: project.to_owned(), fields: fields.clone() });
        last_keys.keys.drain(..last_keys.keys.len().saturating_sub(MAX_PROJECTS));
        self.write_whole(&self.last_path(build, step), &last_keys, false)
    }

    /// Stores the layer that a rootfs source was imported into.
    ///
    /// # Errors
    /// Those of writing.
    pub fn record_import(&self, recorded: &CacheRecord) -> Result<(), StoreError> {
        self.write_whole(&self.key_path(&recorded.fields.key()), recorded, true)
    }

    /// Stores a checkpoint that was made after the last of its steps.
    ///
    /// # Errors
    /// Those of writing.
    pub fn record_checkpoint(&self, recorded: &CacheRecord) -> Result<(), StoreError> {
        self.write_whole(&self.key_path(&recorded.fields.key()), recorded, true)?;
        let step = recorded.steps.last().map_or("", String::as_str);
        self.write_whole(&self.checkpoint_path(&recorded.build, step), &(), false)
    }

    /// Removes a checkpoint. Where its image is in use, a later collection removes it.
    ///
    /// # Errors
    /// Those of removing.
    pub fn remove_checkpoint(&self, key: &Digest) -> Result<(), StoreError> {
        let Some(layer) = self.recorded(key).and_then(|recorded| recorded.layer) else { return Ok(()) };
        self.forget(key)?;
        self.remove_unused_layer(&layer.digest)
    }

    /// Whether a checkpoint was made after that step, under any key.
    pub fn has_checkpoint(&self, build: &str, step: &str) -> bool {
        self.checkpoint_path(build, step).exists()
    }

    fn checkpoint_path(&self, build: &str, step: &str) -> PathBuf {
        let id = Digest::of_bytes(format!("{build}\0{step}\0checkpoint").as_bytes());
        self.root.join(format!("last/{}.json", id.hex()))
    }

    /// Returns the fields of the key under which a step of a build was last built or found in that project.
    pub fn last_key(&self, build: &str, project: &Path, step: &str) -> Option<KeyFields> {
        let mut last_keys = self.last_keys(build, step).keys.into_iter();
        last_keys.find(|last| last.project == project).map(|last| last.fields)
    }

    /// Returns the fields of the last keys of all projects with that build and step: the same project may have moved.
    pub fn last_key_of_any(&self, build: &str, step: &str) -> impl Iterator<Item = KeyFields> {
        self.last_keys(build, step).keys.into_iter().map(|last| last.fields)
    }

    fn last_keys(&self, build: &str, step: &str) -> LastKeys {
        read(&self.last_path(build, step)).unwrap_or_default()
    }

    /// Returns the fields in a file of last keys.
    pub(super) fn last_fields(&self, path: &Path) -> Vec<KeyFields> {
        read::<LastKeys>(path).unwrap_or_default().keys.into_iter().map(|last| last.fields).collect()
    }

    /// Removes the record of a key.
    ///
    /// # Errors
    /// Those of removing the record.
    pub fn forget(&self, key: &Digest) -> Result<(), StoreError> {
        let path = self.key_path(key);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", &path)(error)),
            _ => Ok(()),
        }
    }

    /// Returns the keys of all records, in no order.
    ///
    /// # Errors
    /// Those of listing.
    pub fn keys(&self) -> Result<Vec<Digest>, StoreError> {
        let directory = self.root.join("keys");
        let list = || -> io::Result<Vec<Digest>> {
            let mut keys = Vec::new();
            for entry in fs::read_dir(&directory)? {
                let name = entry?.file_name().to_string_lossy().into_owned();
                // A file that is being written has another name.
                keys.extend(name.strip_suffix(".json").and_then(|hex| format!("sha256:{hex}").parse::<Digest>().ok()));
            }
            Ok(keys)
        };
        list().map_err(failed("list", &directory))
    }

    pub(super) fn key_path(&self, key: &Digest) -> PathBuf {
        self.root.join(format!("keys/{}.json", key.hex()))
    }

    pub(super) fn last_path(&self, build: &str, step: &str) -> PathBuf {
        // A NUL is in neither name.
        let id = Digest::of_bytes(format!("{build}\0{step}").as_bytes());
        self.root.join(format!("last/{}.json", id.hex()))
    }

    pub(super) fn write_whole(&self, path: &Path, value: &impl Serialize, lasting: bool) -> Result<(), StoreError> {
        let (directory, name) = (path.parent().unwrap_or(&self.root), path.file_name().unwrap_or_default());
        let put = if lasting { atomic::write_lasting } else { atomic::write };
        let write = || put(directory, &name.to_string_lossy(), &serde_json::to_vec_pretty(value)?);
        write().map_err(failed("write", path))
    }
}

pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&regular::read(path, MAX_OF_OURS).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded(value: &str) -> CacheRecord {
        let fields = serde_json::from_value(serde_json::json!({ "step/00000/run": value })).unwrap();
        let layer =
            RecordedLayer { digest: Digest::of_bytes(b"l"), size: 1, below: vec![Digest::of_bytes(b"b")], lower: None };
        CacheRecord {
            fields,
            build: "b".into(),
            container: "c".into(),
            steps: vec!["a".into(), "s".into()],
            duration_ms: 7,
            time: "2023-11-14T22:13:20Z".into(),
            layer: Some(layer),
            exports: Vec::new(),
            tmpfs_left: Vec::new(),
        }
    }

    #[test]
    fn a_result_is_found_by_its_key_and_its_fields_by_its_step() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let (one, two) = (recorded("one"), recorded("two"));
        let (here, there) = (Path::new("/a/build.yaml"), Path::new("/b/build.yaml"));
        assert_eq!((store.recorded(&one.fields.key()), store.last_key("b", here, "s")), (None, None));
        store.record(&one, &Parents::default(), here).unwrap();
        store.record(&two, &Parents::default(), here).unwrap();
        assert_eq!(store.recorded(&one.fields.key()), Some(one.clone()));
        assert_eq!(store.last_key("b", here, "s"), Some(two.fields.clone()));
        assert_eq!(store.last_key("b", here, "a"), None);
        assert_eq!(store.last_key("b", there, "s"), None);
        store.forget(&one.fields.key()).unwrap();
        store.forget(&one.fields.key()).unwrap();
        assert_eq!(store.keys().unwrap(), [two.fields.key()]);
    }

    #[test]
    fn each_project_has_its_own_last_keys_and_the_oldest_are_removed() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let path = |n: usize| PathBuf::from(format!("/{n}/build.yaml"));
        let fields = |n: usize| recorded(&n.to_string()).fields;
        for n in 0..=MAX_PROJECTS {
            store.set_last_key("b", &path(n), "s", &fields(n)).unwrap();
            store.set_last_key("b", &path(1), "s", &fields(1)).unwrap();
        }
        let last_keys: Vec<usize> =
            (0..=MAX_PROJECTS).filter(|n| store.last_key("b", &path(*n), "s") == Some(fields(*n))).collect();
        assert_eq!(last_keys, (1..=MAX_PROJECTS).collect::<Vec<_>>());
        assert_eq!(store.last_key_of_any("b", "s").count(), MAX_PROJECTS);
    }

    #[test]
    fn a_record_names_the_layer_below_and_an_old_record_lists_all() {
        let [one, two, three] = [b"1", b"2", b"3"].map(|layer| Digest::of_bytes(layer));
        let source = Parents::default().with(crate::cache::key::Link { name: "base".into(), id: "dir 1".into() });
        let (first, second) = (source.with_layer("one", &one), source.with_layer("one", &one).with_layer("two", &two));
        let on = |parents: &Parents| {
            let layer = RecordedLayer::on(parents, three, 7);
            (layer.below, layer.lower)
        };
        assert_eq!(on(&source), (vec![], None));
        assert_eq!(on(&first), (vec![one], source.digest()));
        assert_eq!(on(&second), (vec![two], first.digest()));
        assert_eq!(on(&Parents::default().with_layer("full", &one)), (vec![one], None));
        let former = serde_json::json!({ "digest": three, "size": 7, "below": [one, two] });
        let layer: RecordedLayer = serde_json::from_value(former.clone()).unwrap();
        assert_eq!((&layer.below, layer.lower), (&vec![one, two], None));
        assert_eq!(serde_json::to_value(&layer).unwrap(), former);
    }

    #[test]
    fn a_record_that_is_damaged_or_of_another_key_is_ignored() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let one = recorded("one");
        store.record(&one, &Parents::default(), Path::new("/build.yaml")).unwrap();
        let path = store.key_path(&one.fields.key());
        let text = fs::read_to_string(&path).unwrap();
        for damaged in [&text[..text.len() / 2], "", &text.replace("one", "two")] {
            fs::write(&path, damaged).unwrap();
            assert_eq!(store.recorded(&one.fields.key()), None, "{damaged}");
        }
    }
}
