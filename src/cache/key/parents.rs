//! The parents of a segment: the rootfs source and the layers that its root is built on, as one value of constant size.
//!
//! A key names all of them by one digest: that of the topmost parent and of the digest of those below it. So making a
//! key takes the same time on any number of layers, and two chains with the same beginning share its digests.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::KeyFields;
use crate::digest::Digest;

/// The word before a layer's digest in an id.
const LAYER: &str = "layer ";

/// One parent of a root: a rootfs source, or a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The snapshot step or the rootfs source that gave it, for messages.
    pub name: String,
    /// A word for the kind of its content, and the digest of the content.
    pub id: String,
}

/// The topmost parent in the form that the store has, with the digest of those below.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParentRecord {
    /// As in [`Link`].
    pub id: String,
    /// The digest of the parents below it; none where it is the lowest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub below: Option<Digest>,
}

impl ParentRecord {
    /// Makes the record of a layer.
    pub fn of_layer(layer: &Digest, below: Option<Digest>) -> Self {
        Self { id: format!("{LAYER}{layer}"), below }
    }

    /// Returns the digest of the parent and of all below it.
    pub fn digest(&self) -> Digest {
        let mut fields = KeyFields::default();
        fields.set("id", self.id.clone());
        if let Some(below) = &self.below {
            fields.set("below", below.to_string());
        }
        fields.key()
    }

    /// Returns the layer; none for a rootfs source.
    pub fn layer(&self) -> Option<Digest> {
        self.id.strip_prefix(LAYER)?.parse().ok()
    }
}

/// All parents of a root. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Parents(Option<Arc<Node>>);

#[derive(Debug)]
struct Node {
    link: Link,
    /// The digest of this parent and of all below it.
    digest: Digest,
    /// The number of parents below it.
    depth: usize,
    /// The digest of the rootfs source at the bottom; none where a full image is at the bottom.
    source: Option<Digest>,
    below: Parents,
}

/// Two values are equal if their contents are, whatever the names.
impl PartialEq for Parents {
    fn eq(&self, other: &Self) -> bool {
        self.digest() == other.digest()
    }
}

impl Eq for Parents {}

impl Parents {
    /// Returns these parents with one more above them.
    #[must_use]
    pub fn with(&self, link: Link) -> Self {
        let record = ParentRecord { id: link.id.clone(), below: self.digest() };
        let digest = record.digest();
        let source = match (record.layer(), &self.0) {
            (None, _) => Some(digest),
            (Some(_), Some(below)) => below.source,
            (Some(_), None) => None,
        };
        let depth = self.0.as_ref().map_or(0, |below| below.depth + 1);
        Self(Some(Arc::new(Node { link, digest, depth, source, below: self.clone() })))
    }

    /// Returns these parents with a layer above them.
    #[must_use]
    pub fn with_layer(&self, name: &str, layer: &Digest) -> Self {
        self.with(Link { name: name.to_owned(), id: ParentRecord::of_layer(layer, None).id })
    }

    /// Returns the digest of all parents; none where there are none.
    pub fn digest(&self) -> Option<Digest> {
        self.0.as_ref().map(|top| top.digest)
    }

    /// Returns the topmost parent.
    pub fn top(&self) -> Option<&Link> {
        self.0.as_ref().map(|top| &top.link)
    }

    /// Returns the parents below the topmost one.
    #[must_use]
    pub fn below(&self) -> Self {
        self.0.as_ref().map(|top| top.below.clone()).unwrap_or_default()
    }

    /// Returns the record of the topmost parent, for the store.
    pub fn record(&self) -> Option<ParentRecord> {
        self.0.as_ref().map(|top| ParentRecord { id: top.link.id.clone(), below: top.below.digest() })
    }

    /// Returns the same layers on that rootfs source. Layers on a full image have no source and are unchanged.
    #[must_use]
    pub fn on_source(&self, source: &Self) -> Self {
        let own = self.0.as_ref().and_then(|top| top.source);
        if own.is_none() || own == source.digest() {
            return self.clone();
        }
        let layers = self.downwards().take_while(|node| Some(node.digest) != own);
        let layers: Vec<&Node> = layers.collect();
        layers.iter().rev().fold(source.clone(), |parents, node| parents.with(node.link.clone()))
    }

    /// Returns the name of the lowest parent that differs from the old ones; none where all are the same.
    pub fn changed_since(&self, old: &Self) -> Option<String> {
        let depth = |parents: &Self| parents.0.as_ref().map(|top| top.depth);
        let (lower, most) = (depth(self).min(depth(old)), depth(self).max(depth(old)));
        let [of_self, of_old] =
            [self, old].map(|parents| parents.downwards().skip_while(move |node| Some(node.depth) > lower));
        let lowest = of_self.zip(of_old).take_while(|(new, old)| new.digest != old.digest).last();
        if let Some((changed, _)) = lowest {
            return Some(changed.link.name.clone());
        }
        // All parents that both have are the same.
        let more = self.downwards().take_while(|node| Some(node.depth) > lower).last();
        let less = || (lower < most).then(|| "a layer less".to_owned());
        more.map(|node| node.link.name.clone()).or_else(less)
    }

    /// Returns the nodes, the topmost one first.
    fn downwards(&self) -> impl Iterator<Item = &Node> {
        std::iter::successors(self.0.as_deref(), |node| node.below.0.as_deref())
    }
}

/// Collects links, the lowest first.
impl FromIterator<Link> for Parents {
    fn from_iter<I: IntoIterator<Item = Link>>(links: I) -> Self {
        links.into_iter().fold(Self::default(), |parents, link| parents.with(link))
    }
}

/// Drops the nodes one after the other: a recursive drop would need stack space for every layer.
impl Drop for Node {
    fn drop(&mut self) {
        let mut next = self.below.0.take();
        while let Some(mut node) = next.and_then(Arc::into_inner) {
            next = node.below.0.take();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parents(ids: &[u8]) -> Parents {
        let id = |id: &u8| if *id == 0 { "dir 0".to_owned() } else { format!("{LAYER}{}", Digest::of_bytes(&[*id])) };
        ids.iter().enumerate().map(|(n, of)| Link { name: n.to_string(), id: id(of) }).collect()
    }

    #[test]
    fn parents_with_equal_contents_are_equal_whatever_their_names() {
        assert_eq!(parents(&[]).digest(), None);
        assert_eq!(parents(&[0, 1, 2]), parents(&[0, 1]).with_layer("other", &Digest::of_bytes(&[2])));
        for other in [&[0, 2, 1][..], &[1, 2], &[0, 1], &[0, 1, 2, 2], &[]] {
            assert_ne!(parents(&[0, 1, 2]), parents(other), "{other:?}");
        }
    }

    #[test]
    fn a_record_has_the_digest_of_all_parents() {
        let all = parents(&[0, 1, 2]);
        let record = all.record().unwrap();
        assert_eq!((Some(record.digest()), record.below), (all.digest(), all.below().digest()));
        assert_eq!(
            (record.layer(), all.below().below().record().unwrap().layer()),
            (Some(Digest::of_bytes(&[2])), None)
        );
        assert_eq!(parents(&[]).record(), None);
    }

    #[test]
    fn dropping_a_very_long_chain_does_not_overflow_the_stack() {
        let layer = Digest::of_bytes(b"layer");
        let mut all = Parents::default();
        for _ in 0..100_000 {
            all = all.with(Link { name: String::new(), id: layer.hex() });
        }
        drop(all);
    }

    #[test]
    fn on_source_replaces_the_source_below_layers_but_not_below_a_full_image() {
        let source = |id: &str| Parents::default().with(Link { name: "source".into(), id: id.into() });
        let layers =
            |below: &Parents| below.with_layer("a", &Digest::of_bytes(b"a")).with_layer("b", &Digest::of_bytes(b"b"));
        let (old, new, two) = (
            source("tar 1"),
            source("tar 2"),
            source("squashfs 1").with(Link { name: "2".into(), id: "squashfs 2".into() }),
        );
        assert_eq!(layers(&old).on_source(&new), layers(&new));
        assert_eq!(layers(&two).on_source(&new), layers(&new));
        assert_eq!(layers(&old).on_source(&two), layers(&two));
        assert_eq!(old.on_source(&new), new);
        assert_eq!(layers(&Parents::default()).on_source(&new), layers(&Parents::default()));
    }

    proptest! {
        #[test]
        fn the_lowest_parent_that_changed_is_named(
            same in prop::collection::vec(0..3_u8, 0..4),
            new in prop::collection::vec(0..3_u8, 0..4),
            old in prop::collection::vec(0..3_u8, 0..4),
        ) {
            let (new, old) = ([&same[..], &new].concat(), [&same[..], &old].concat());
            let first = (0..new.len().max(old.len())).find(|n| new.get(*n) != old.get(*n));
            let name = first.map(|n| if n < new.len() { n.to_string() } else { "a layer less".to_owned() });
            prop_assert_eq!(parents(&new).changed_since(&parents(&old)), name);
            prop_assert_eq!(parents(&new) == parents(&old), first.is_none());
        }
    }
}
