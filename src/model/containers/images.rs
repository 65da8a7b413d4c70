//! Checks of the OCI image or the URL that a container's root comes from, and of the digest of any source.

use std::path::PathBuf;

use super::Definitions;
use crate::diagnostic::{Place, Problem, Trail};
use crate::digest::Digest;
use crate::http::{Origin, Uri};
use crate::manifest::RootfsDef;
use crate::model::build::{ImagePlace, ImageSource, Rootfs, UrlSource};
use crate::model::check::{Check, has_nul};
use crate::model::host::FileKind;
use crate::oci::{ImageName, Platform};

impl Check<'_> {
    pub(super) fn image(&mut self, def: &RootfsDef, at: &Trail<'_>, known: &Definitions<'_>) -> Rootfs {
        let digest = self.digest(def, at);
        let platform = def
            .platform
            .as_ref()
            .and_then(|text| self.quantity(&at.key("platform"), "platform", text, |text| text.parse::<Platform>()));
        let place = match (&def.image, &def.oci) {
            (Some(name), _) => self.image_name(name, digest.as_ref(), &at.key("image")),
            (None, Some(layout)) => self.layout(layout, &at.key("oci"), known),
            (None, None) => None,
        };
        place.map_or(Rootfs::Scratch, |place| Rootfs::Image(ImageSource { place, digest, platform }))
    }

    pub(super) fn url(&mut self, url: &str, def: &RootfsDef, at: &Trail<'_>) -> Rootfs {
        self.refuse_platform(def, at, "a URL");
        let digest = self.digest(def, at);
        let at = at.key("url");
        let uri: Option<Uri> = url.parse().ok();
        let has_user = uri.as_ref().and_then(Uri::authority).is_some_and(|authority| authority.as_str().contains('@'));
        if uri.as_ref().and_then(Origin::of).is_none() {
            let problem = Problem::new(&at, format!("{url:?} is not a URL of a web server")).label("here");
            let help = match url.strip_prefix("file://") {
                Some(path) => format!("write `squashfs: {path}` or `tar: {path}`"),
                None => "write a URL that begins with https:// or http://".to_owned(),
            };
            self.add(problem.help(help));
        } else if has_user {
            let problem =
                Problem::new(&at, "the URL has a user or a password in it").label("everyone can read a manifest");
            self.add(problem.help("remove it: runner sends no credentials to the server of a URL"));
        }
        Rootfs::Url(UrlSource { url: url.to_owned(), digest })
    }

    /// Refuses a platform beside a source that has none.
    pub(super) fn refuse_platform(&mut self, def: &RootfsDef, at: &Trail<'_>, beside: &str) {
        if def.platform.is_some() {
            let problem =
                Problem::new(Place::key(at.key("platform").path()), "only `image` and `oci` have a `platform`");
            self.add(problem.label(format!("beside {beside}")).help("remove it"));
        }
    }

    /// Refuses a digest beside a source that is no file, no image and no URL.
    pub(super) fn refuse_digest_of_others(&mut self, def: &RootfsDef, at: &Trail<'_>) {
        const OF_FILES: &str = "`digest` belongs to `squashfs`, `erofs`, `tar`, `oci`, `image` and `url`";
        let (beside, help) = if def.dir.is_some() {
            (
                "a directory",
                "remove it: no file has the digest of a directory; `runner lock` locks its content".to_owned(),
            )
        } else if def.programs.is_some() {
            ("programs", "remove it: `runner lock` locks the programs and everything that they load".to_owned())
        } else if def.snapshot.is_some() {
            (
                "a snapshot",
                "remove it: the digest is known when the snapshot is taken; `runner lock` locks it".to_owned(),
            )
        } else if def.debian.is_some() {
            ("a Debian root", "remove it: the digest is known when the root is made; `runner lock` locks it".to_owned())
        } else {
            ("this source", format!("remove it: {OF_FILES}"))
        };
        self.refuse_digest(def, at, beside, &help);
    }

    /// Refuses a digest, if there is one.
    pub(super) fn refuse_digest(&mut self, def: &RootfsDef, at: &Trail<'_>, beside: &str, help: &str) {
        if def.digest.is_some() {
            let problem =
                Problem::new(Place::key(at.key("digest").path()), "only a file, an image or a URL has a `digest`");
            self.add(problem.label(format!("beside {beside}")).help(help));
        }
    }

    /// Returns the digest that a source must have, if the manifest names it.
    pub(super) fn digest(&mut self, def: &RootfsDef, at: &Trail<'_>) -> Option<Digest> {
        let digest = def.digest.as_deref()?;
        let help = "write `sha256:` and 64 lower-case hexadecimal digits";
        self.quantity(&at.key("digest"), "digest", digest, |text| text.parse::<Digest>().map_err(|_| help.to_owned()))
    }

    fn image_name(&mut self, name: &str, digest: Option<&Digest>, at: &Trail<'_>) -> Option<ImagePlace> {
        let parsed: ImageName = match name.parse() {
            Ok(parsed) => parsed,
            Err(problem) => {
                let problem = Problem::new(at, format!("the name of the image {problem}")).label("no name of an image");
                let help = "write it as in Compose: debian:12, ghcr.io/OWNER/NAME:TAG or NAME@sha256:DIGEST";
                self.add(problem.help(if name.contains("://") { "write it without `https://`" } else { help }));
                return None;
            }
        };
        if let Some((own, other)) = parsed.digest().as_ref().zip(digest)
            && own != other
        {
            let problem = Problem::new(at, "the image has two digests").label("this one differs from `digest`");
            self.add(problem.help("write one of them"));
        }
        Some(ImagePlace::Registry(parsed))
    }

    fn is_on_host(&self, written: &str) -> bool {
        let path: PathBuf = self.directory.join(written).components().collect();
        !has_nul(&path) && self.host.kind(&path).is_ok()
    }

    /// Splits a tag from the path of a layout, unless the path with the colon exists.
    fn layout(&mut self, written: &str, at: &Trail<'_>, known: &Definitions<'_>) -> Option<ImagePlace> {
        let is_tag = |tag: &str| !tag.is_empty() && !tag.contains('/');
        let (path, tag) = match written.rsplit_once(':') {
            Some((path, tag)) if is_tag(tag) && !path.is_empty() && !self.is_on_host(written) => {
                (path, Some(tag.to_owned()))
            }
            _ => (written, None),
        };
        Some(ImagePlace::Layout(self.rootfs_path(at, path, &[FileKind::Dir, FileKind::File], known), tag))
    }
}
