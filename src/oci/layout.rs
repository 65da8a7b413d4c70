//! An OCI image layout: a directory, or a tar archive of one.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use oci_spec::image::{Descriptor, ImageIndex};
use rustix::fs::{FileType, Mode, OFlags, fstat, openat};

use super::document::{MAX_DOCUMENT, sha256};
use super::{Blobs, LayerBlob, OciError};
use crate::digest::{Digest, Hasher};
use crate::fs::in_root::open_beneath;
use crate::fs::regular;

/// The annotation that has the tag of an image.
const TAG: &str = "org.opencontainers.image.ref.name";

/// The most files in an archive of a layout.
const MAX_MEMBERS: usize = 100_000;

/// An open layout.
#[derive(Debug)]
pub struct Layout {
    path: PathBuf,
    files: Files,
    index: ImageIndex,
    index_bytes: Vec<u8>,
}

/// The files of a layout.
#[derive(Debug)]
enum Files {
    Directory(OwnedFd),
    /// An archive, with the offset and the size of each regular file in it.
    Archive(File, HashMap<String, (u64, u64)>),
}

/// A file of a layout, which may be in an archive. Reading it takes bytes from its beginning.
#[derive(Debug)]
pub struct FilePart {
    /// The file or the archive.
    pub file: File,
    /// The offset of the first byte.
    pub offset: u64,
    /// The number of bytes.
    pub size: u64,
}

impl Layout {
    /// Opens a layout; `place` is the open directory or archive, perhaps as `O_PATH`.
    ///
    /// # Errors
    /// It cannot be read, or it is no layout.
    pub fn open(path: &Path, place: BorrowedFd<'_>) -> Result<Self, OciError> {
        let read = |source| OciError::Read { path: path.to_owned(), name: "index.json".to_owned(), source };
        let found = fstat(place).map_err(|errno| read(errno.into()))?;
        let files = if FileType::from_raw_mode(found.st_mode) == FileType::Directory {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            Files::Directory(openat(place, ".", flags, Mode::empty()).map_err(|errno| read(errno.into()))?)
        } else {
            let file = regular::reopen(place).map_err(read)?;
            let members = members(&file).map_err(|problem| no_layout(path, problem))?;
            Files::Archive(file, members)
        };
        let mut layout = Self { path: path.to_owned(), files, index: ImageIndex::default(), index_bytes: Vec::new() };
        layout.index_bytes = match layout.read("index.json") {
            Err(OciError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Err(layout.without_index());
            }
            bytes => bytes?,
        };
        layout.index = serde_json::from_slice(&layout.index_bytes)
            .map_err(|error| no_layout(path, format!("its index.json is broken: {error}")))?;
        Ok(layout)
    }

    /// Returns the digest of the first document of the image with that tag, or of the only image.
    ///
    /// # Errors
    /// Without a tag several images, or none with that tag.
    pub fn first(&self, tag: Option<&str>) -> Result<Digest, OciError> {
        let entries = self.index.manifests();
        let of = |entry: &Descriptor| entry.annotations().as_ref().and_then(|all| all.get(TAG).cloned());
        let mut tags: Vec<String> = entries.iter().filter_map(of).map(|tag| tag.escape_debug().to_string()).collect();
        tags.sort();
        let missing = |problem: String| OciError::Tag { path: self.path.clone(), problem, tags: tags.clone() };
        match (tag, entries.as_slice()) {
            (_, []) => Err(missing("no image".to_owned())),
            (None, [only]) => sha256(only),
            // One image: its manifests by platform.
            (None, several) if tags.is_empty() && several.iter().all(|entry| entry.platform().is_some()) => {
                Ok(Digest::of_bytes(&self.index_bytes))
            }
            (None, several) => Err(missing(format!("{} images, and no tag says which one", several.len()))),
            (Some(tag), entries) => match entries.iter().find(|entry| of(entry).as_deref() == Some(tag)) {
                Some(entry) => sha256(entry),
                None => Err(missing(format!("no image with the tag `{}`", tag.escape_debug()))),
            },
        }
    }

    /// Returns the file of a blob.
    ///
    /// # Errors
    /// The layout lacks it, or it cannot be read.
    pub fn blob(&self, digest: &Digest) -> Result<FilePart, OciError> {
        let name = blob(digest);
        self.part(&name).map_err(self.failed(&name))
    }

    fn without_index(&self) -> OciError {
        let is_docker = self.part("manifest.json").is_ok() || self.part("repositories").is_ok();
        let shown = self.path.display();
        if is_docker {
            let hint = format!("convert it: `skopeo copy docker-archive:{shown} oci:DIRECTORY:TAG`");
            let problem = "it is an archive of `docker save`".to_owned();
            return OciError::NoLayout { path: self.path.clone(), problem, hint };
        }
        no_layout(&self.path, "it has no index.json".to_owned())
    }

    fn part(&self, name: &str) -> io::Result<FilePart> {
        match &self.files {
            Files::Directory(directory) => {
                let place = open_beneath(directory, name, OFlags::PATH).map_err(io::Error::from)?;
                let file = regular::reopen(place.as_fd())?;
                let size = file.metadata()?.len();
                Ok(FilePart { file, offset: 0, size })
            }
            Files::Archive(file, members) => {
                let (offset, size) = *members.get(name).ok_or(io::ErrorKind::NotFound)?;
                Ok(FilePart { file: file.try_clone()?, offset, size })
            }
        }
    }

    fn failed<'n>(&'n self, name: &'n str) -> impl Fn(io::Error) -> OciError + 'n {
        move |source| OciError::Read { path: self.path.clone(), name: name.to_owned(), source }
    }

    /// Reads a small file into memory.
    fn read(&self, name: &str) -> Result<Vec<u8>, OciError> {
        let mut part = self.part(name).map_err(self.failed(name))?;
        if part.size > MAX_DOCUMENT {
            let problem = format!("it has {} bytes, and {MAX_DOCUMENT} are the most", part.size);
            return Err(OciError::Document { name: name.to_owned(), problem });
        }
        let mut bytes = Vec::new();
        let limit = part.size;
        part.by_ref().take(limit).read_to_end(&mut bytes).map_err(self.failed(name))?;
        Ok(bytes)
    }
}

impl Read for FilePart {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(usize::try_from(self.size).unwrap_or(usize::MAX));
        let count = self.file.read_at(&mut buffer[..most], self.offset)?;
        self.offset += count as u64;
        self.size -= count as u64;
        Ok(count)
    }
}

impl Blobs for Layout {
    type Error = OciError;

    fn document(&self, digest: &Digest, _: bool) -> Result<Vec<u8>, OciError> {
        if *digest == Digest::of_bytes(&self.index_bytes) {
            return Ok(self.index_bytes.clone());
        }
        self.read(&blob(digest))
    }

    fn layer(
        &self,
        layer: &LayerBlob,
        mut into: &File,
        progress: &dyn Fn(u64) -> ControlFlow<()>,
    ) -> Result<(), OciError> {
        let name = blob(&layer.digest);
        let mut part = self.blob(&layer.digest)?;
        if part.size != layer.size {
            return Err(OciError::Size { digest: layer.digest, expected: layer.size, found: part.size });
        }
        let (mut hasher, mut buffer, mut written) = (Hasher::new(), vec![0; 1 << 20], 0_u64);
        loop {
            let count = match part.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.failed(&name)(error)),
            };
            hasher.update(&buffer[..count]);
            into.write_all(&buffer[..count]).map_err(OciError::Write)?;
            written += count as u64;
            if progress(written).is_break() {
                return Err(OciError::Write(io::ErrorKind::Interrupted.into()));
            }
        }
        match hasher.finish() {
            found if found != layer.digest => Err(OciError::Digest { expected: layer.digest, found }),
            // The file became shorter meanwhile.
            _ if written != layer.size => {
                Err(OciError::Size { digest: layer.digest, expected: layer.size, found: written })
            }
            _ => Ok(()),
        }
    }
}

fn blob(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn no_layout(path: &Path, problem: String) -> OciError {
    let hint = "write an OCI layout: `skopeo copy docker://IMAGE oci:DIRECTORY:TAG`".to_owned();
    OciError::NoLayout { path: path.to_owned(), problem, hint }
}

/// Returns the regular files of an archive by their names, as far as a layout needs them. The error describes the problem.
fn members(file: &File) -> Result<HashMap<String, (u64, u64)>, String> {
    let broken = |error: io::Error| format!("it is no whole tar archive: {error}");
    let mut start = [0; 6];
    let count = file.read_at(&mut start, 0).map_err(broken)?;
    let compressions: [(&[u8], &str); 4] = [
        (&[0x1f, 0x8b], "gunzip"),
        (&[0x28, 0xb5, 0x2f, 0xfd], "unzstd"),
        (b"\xfd7zXZ\0", "unxz"),
        (b"BZh", "bunzip2"),
    ];
    if let Some((_, program)) = compressions.iter().find(|(magic, _)| start[..count].starts_with(magic)) {
        return Err(format!("it is compressed; unpack it with {program} first"));
    }
    let reader = BufReader::new(FilePart { file: file.try_clone().map_err(broken)?, offset: 0, size: u64::MAX });
    let mut members = HashMap::new();
    let mut archive = tar::Archive::new(Seekable(reader));
    // Raw: a layout needs no extended header, whose size has no bound and which would be read into memory.
    for entry in archive.entries_with_seek().map_err(broken)?.raw(true) {
        let entry = entry.map_err(broken)?;
        let is_file = matches!(entry.header().entry_type(), tar::EntryType::Regular | tar::EntryType::Continuous);
        let name = String::from_utf8_lossy(&entry.path_bytes()).trim_start_matches("./").to_owned();
        if is_file && name.len() < 200 {
            members.insert(name, (entry.raw_file_position(), entry.size()));
        }
        if members.len() > MAX_MEMBERS {
            return Err(format!("it has more than {MAX_MEMBERS} files"));
        }
    }
    Ok(members)
}

/// A reader that skips content instead of reading it.
struct Seekable(BufReader<FilePart>);

impl Read for Seekable {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl io::Seek for Seekable {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        let buffered = self.0.buffer().len() as u64;
        let now = self.0.get_ref().offset - buffered;
        let target = match to {
            io::SeekFrom::Start(offset) => Some(offset),
            io::SeekFrom::Current(by) => now.checked_add_signed(by),
            io::SeekFrom::End(_) => None,
        };
        let target = target.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        match target.checked_sub(now).and_then(|ahead| usize::try_from(ahead).ok()) {
            Some(ahead) if ahead as u64 <= buffered => io::BufRead::consume(&mut self.0, ahead),
            _ => {
                let (file, size) = (self.0.get_ref().file.try_clone()?, u64::MAX);
                self.0 = BufReader::new(FilePart { file, offset: target, size });
            }
        }
        Ok(target)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::super::{Platform, read_image};
    use super::*;

    /// Writes a layout with an image of one layer under each tag, and returns the digest of its manifest.
    fn layout(directory: &Path, tags: &[Option<&str>]) -> Digest {
        fs::create_dir_all(directory.join("blobs/sha256")).unwrap();
        let put = |bytes: &[u8]| {
            let digest = Digest::of_bytes(bytes);
            fs::write(directory.join(blob(&digest)), bytes).unwrap();
            json!({ "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest.to_string(), "size": bytes.len() })
        };
        let layer = put(b"a layer");
        let config = json!({
            "architecture": Platform::host().to_string().split('/').nth(1).unwrap(), "os": "linux",
            "rootfs": { "type": "layers", "diff_ids": [layer["digest"]] },
        });
        let config = put(config.to_string().as_bytes());
        let manifest = put(json!({ "schemaVersion": 2, "config": config, "layers": [layer] }).to_string().as_bytes());
        let entry = |tag: &Option<&str>| {
            let mut entry = manifest.clone();
            if let Some(tag) = tag {
                entry["annotations"] = json!({ TAG: tag });
            }
            entry
        };
        let entries: Vec<_> = tags.iter().map(entry).collect();
        fs::write(directory.join("index.json"), json!({ "schemaVersion": 2, "manifests": entries }).to_string())
            .unwrap();
        fs::write(directory.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        manifest["digest"].as_str().unwrap().parse().unwrap()
    }

    fn open(path: &Path) -> Result<Layout, OciError> {
        Layout::open(path, File::open(path).unwrap().as_fd())
    }

    fn archive(directory: &Path, name: &str) -> PathBuf {
        let path = directory.with_extension(name);
        let made = std::process::Command::new("tar").arg("-cf").arg(&path).arg("-C").arg(directory).arg(".").status();
        assert!(made.unwrap().success());
        path
    }

    #[test]
    fn a_directory_and_an_archive_of_it_give_the_same_image() {
        let top = tempfile::tempdir().unwrap();
        let directory = top.path().join("image");
        let manifest = layout(&directory, &[None]);
        for path in [archive(&directory, "tar"), directory] {
            let layout = open(&path).unwrap();
            assert_eq!(layout.first(None).unwrap(), manifest);
            let image = read_image(&layout, &manifest, &Platform::host()).unwrap();
            let file = tempfile::tempfile().unwrap();
            layout.layer(&image.layers[0], &file, &|_| ControlFlow::Continue(())).unwrap();
            assert_eq!(Digest::of_file(&file).unwrap(), Digest::of_bytes(b"a layer"));
        }
    }

    #[test]
    fn a_tag_chooses_among_several_images() {
        let top = tempfile::tempdir().unwrap();
        let manifest = layout(top.path(), &[Some("b"), Some("a")]);
        let layout = open(top.path()).unwrap();
        assert_eq!(layout.first(Some("a")).unwrap(), manifest);
        let error = layout.first(None).unwrap_err();
        assert!(error.to_string().ends_with("has 2 images, and no tag says which one"));
        assert!(error.hint().unwrap().ends_with("tags: a, b"));
        assert!(layout.first(Some("c")).unwrap_err().to_string().ends_with("no image with the tag `c`"));
    }

    #[test]
    fn damaged_layers_are_refused() {
        let top = tempfile::tempdir().unwrap();
        let manifest = layout(top.path(), &[None]);
        let layout = open(top.path()).unwrap();
        let image = read_image(&layout, &manifest, &Platform::host()).unwrap();
        let path = top.path().join(blob(&image.layers[0].digest));
        let error = |content: &str| {
            fs::write(&path, content).unwrap();
            layout.layer(&image.layers[0], &tempfile::tempfile().unwrap(), &|_| ControlFlow::Continue(())).unwrap_err()
        };
        assert!(matches!(error("A layer"), OciError::Digest { .. }));
        assert!(matches!(error("a layer!"), OciError::Size { expected: 7, found: 8, .. }));
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", &path).unwrap();
        let found = layout.layer(&image.layers[0], &tempfile::tempfile().unwrap(), &|_| ControlFlow::Continue(()));
        assert!(matches!(found, Err(OciError::Read { .. })), "a link out of the layout");
    }

    #[test]
    fn what_is_no_layout_is_reported_with_the_way_to_one() {
        let top = tempfile::tempdir().unwrap();
        let directory = top.path().join("image");
        fs::create_dir(&directory).unwrap();
        assert!(open(&directory).unwrap_err().to_string().ends_with("it has no index.json"));
        fs::write(directory.join("manifest.json"), "[]").unwrap();
        for path in [directory.clone(), archive(&directory, "tar")] {
            let error = open(&path).unwrap_err();
            assert!(error.hint().unwrap().starts_with("convert it: `skopeo copy docker-archive:"), "{error}");
        }
        let path = top.path().join("x");
        for (content, problem) in
            [(&b"\x1f\x8b\x08..."[..], "gunzip"), (b"text", "no whole tar archive"), (b"", "no index.json")]
        {
            fs::write(&path, content).unwrap();
            assert!(open(&path).unwrap_err().to_string().contains(problem), "{:?}", open(&path).unwrap_err());
        }
        fs::write(directory.join("index.json"), vec![b' '; 5 << 20]).unwrap();
        assert!(open(&directory).unwrap_err().to_string().contains("are the most"));
    }
}
