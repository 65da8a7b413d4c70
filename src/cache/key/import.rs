//! The key of an imported rootfs source.

use super::{FORMAT, KeyFields};

/// The field that names the source by its kind and its digest.
const SOURCE: &str = "import";

impl KeyFields {
    /// Makes the fields of the key under which a rootfs source is imported: its kind and its digest, and the writer of the image.
    pub fn of_import(source: &str, writer: &str) -> Self {
        let mut fields = Self::default();
        fields.set("format", FORMAT);
        fields.set(SOURCE, source);
        fields.set("writer", writer);
        fields
    }

    /// Whether they belong to an imported rootfs source.
    pub fn is_of_import(&self) -> bool {
        self.get(SOURCE).is_some()
    }
}
