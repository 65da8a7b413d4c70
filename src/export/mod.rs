//! Exports: files of a root, in the form that the user of a build needs, on the host.
//!
//! A form is written from a view of the root, which is read-only, into a file of the store: one of the host, or a squashfs image of
//! a directory. From there it is copied to its output, in the first build and in each later one that finds it gone. The root is
//! hostile: paths are resolved inside it, and nothing of it gives rights on the host.

mod archive;
mod compress;
mod erofs;
mod error;
mod oci;
mod watch;
mod writer;

use std::fs::{DirBuilder, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, fstat};

pub use error::ExportError;
pub use oci::Layers;
pub use writer::{Writer, writer};

use archive::cpio::CpioWriter;
use archive::tar::TarWriter;
use compress::compressed;
use watch::Watch;

pub use crate::fs::caller::caller;
use crate::fs::copy_tree::{CHUNK, copy_data, copy_tree};
use crate::fs::in_root;
use crate::fs::regular;
use crate::model::{Compression, Export, ExportFormat};
use crate::snapshot::{ImageOptions, ImageProgress, write_image};
use crate::store::ExportForm;

/// Whole seconds since 1970 that no time of an export is later than.
pub type Epoch = Option<u64>;

/// The form of an image: a new file, less the umask of other outputs.
const IMAGE: ExportForm = ExportForm::File { mode: 0o644, time: None };

/// A file of a root that is exported.
enum Found {
    File(File),
    /// Its path in the view, without links.
    Directory(PathBuf),
}

/// The result of an export.
pub struct Written {
    /// The form of its output.
    pub form: ExportForm,
    /// The files that the format has no place for: device nodes and the like, and extended attributes.
    pub lost: Lost,
}

/// The files of which a format loses something.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lost {
    /// The number of sockets that are left out.
    pub sockets: u64,
    /// Files without their extended attributes: the first ones, and the number of all.
    pub attributes: (Vec<PathBuf>, u64),
}

/// A view of a root that is exported, and how.
#[derive(Clone, Copy)]
pub struct Job<'a> {
    /// Where the root is mounted.
    pub view: &'a Path,
    /// Its layers, for an OCI image.
    pub layers: &'a Layers,
    /// An empty directory in the store, for files that are removed afterwards.
    pub scratch: Option<&'a Path>,
    pub export: &'a Export,
    pub epoch: Epoch,
    /// Readable when the build is interrupted.
    pub interrupt: BorrowedFd<'a>,
}

impl Job<'_> {
    /// Writes the export to the new file `to`.
    ///
    /// # Errors
    /// See [`ExportError`]. The caller removes a partly written file.
    pub fn write(self, to: &Path, progress: &mut dyn FnMut(ImageProgress)) -> Result<Written, ExportError> {
        let Self { view, export, epoch, interrupt, .. } = self;
        let Export { compression, level, .. } = *export;
        let form = match (export.format, find(view, &export.path)?) {
            (ExportFormat::Files, Found::File(file)) => {
                copy(file, epoch, to).map_err(|source| ExportError::Read { path: export.path.clone(), source })?
            }
            (ExportFormat::Files, Found::Directory(path)) => {
                let options = ImageOptions { compression: Compression::Zstd, level: None, source_date_epoch: epoch };
                write_image(&path, to, options, interrupt, progress)?;
                ExportForm::Directory
            }
            (format, Found::File(_)) => {
                return Err(ExportError::NoDirectory { path: export.path.clone(), format: format.name() });
            }
            (ExportFormat::Squashfs, Found::Directory(path)) => {
                let options = ImageOptions { compression, level, source_date_epoch: epoch };
                write_image(&path, to, options, interrupt, progress)?;
                IMAGE
            }
            (ExportFormat::Erofs, Found::Directory(path)) => {
                let mut watch = Watch::new(interrupt, progress);
                let copy =
                    self.copy_with_attributes(&path, &mut watch).map_err(|source| match watch.is_interrupted() {
                        true => ExportError::Interrupted,
                        false => ExportError::Write { source },
                    })?;
                erofs::write(copy.as_deref().unwrap_or(&path), to, compression, epoch, interrupt)?;
                IMAGE
            }
            (ExportFormat::Oci, Found::Directory(path)) => return self.oci(&path, to, progress),
            (ExportFormat::Tar | ExportFormat::Cpio, Found::Directory(path)) => {
                let mut watch = Watch::new(interrupt, progress);
                let lost = self.archive(&path, to, &mut watch).map_err(|source| match watch.is_interrupted() {
                    true => ExportError::Interrupted,
                    false => ExportError::Write { source },
                })?;
                return Ok(Written { form: IMAGE, lost });
            }
        };
        Ok(Written { form, lost: Lost::default() })
    }

    /// Copies a directory where a layer is on a filesystem without extended attributes, as squashfs is if no file of it has any:
    /// mkfs.erofs takes the error of listing them for a failure.
    fn copy_with_attributes(self, directory: &Path, watch: &mut Watch<'_>) -> io::Result<Option<PathBuf>> {
        let lacks_attributes = |layer: &PathBuf| {
            let listed = rustix::fs::listxattr(layer, &mut [0_u8; 0][..]);
            listed.is_err_and(|error| error == rustix::io::Errno::OPNOTSUPP)
        };
        let (Some(scratch), true) = (self.scratch, self.layers.all.iter().any(lacks_attributes)) else {
            return Ok(None);
        };
        let copy = scratch.join("copy");
        DirBuilder::new().mode(0o700).create(&copy)?;
        copy_tree(directory, &copy, &mut |_| watch.check())?;
        Ok(Some(copy))
    }

    /// Writes an OCI image: of the layers, or of one directory of the root.
    fn oci(self, directory: &Path, to: &Path, progress: &mut dyn FnMut(ImageProgress)) -> Result<Written, ExportError> {
        let Self { export, epoch, interrupt, .. } = self;
        let mut watch = Watch::new(interrupt, progress);
        let nothing = || io::Error::other("it has no settings and no scratch");
        let mut write = || -> io::Result<(Lost, PathBuf)> {
            let (Some(image), Some(scratch)) = (&export.oci, self.scratch) else { return Err(nothing()) };
            let layout = scratch.join("layout");
            std::fs::create_dir(&layout)?;
            let part = Layers { all: vec![directory.to_owned()], is_top_in_use: false };
            let layers = if export.path == Path::new("/") { self.layers } else { &part };
            let lost = oci::Layout::new(export, epoch, interrupt, &layout)?.write(image, layers, &mut watch)?;
            if image.is_archive {
                compressed(to, Compression::None, None, |to| {
                    let mut archive = TarWriter::new(to, epoch);
                    archive::walk(&layout, &mut archive, &mut watch)?;
                    Ok((archive.finish()?, ()))
                })?;
            }
            Ok((lost, layout))
        };
        let (lost, layout) = write().map_err(|source| match watch.is_interrupted() {
            true => ExportError::Interrupted,
            false => ExportError::Write { source },
        })?;
        if export.oci.as_ref().is_some_and(|image| image.is_archive) {
            return Ok(Written { form: IMAGE, lost });
        }
        // Its blobs are compressed already.
        let options = ImageOptions { compression: Compression::None, level: None, source_date_epoch: epoch };
        write_image(&layout, to, options, interrupt, &mut |_| {})?;
        Ok(Written { form: ExportForm::Directory, lost })
    }

    fn archive(self, directory: &Path, to: &Path, watch: &mut Watch<'_>) -> io::Result<Lost> {
        let Export { compression, level, .. } = *self.export;
        compressed(to, compression, level, |to| {
            if self.export.format == ExportFormat::Cpio {
                let mut archive = CpioWriter::new(to, self.epoch);
                archive::walk(directory, &mut archive, watch)?;
                let attributes = std::mem::take(&mut archive.with_attributes);
                return Ok((archive.finish()?, Lost { attributes, ..Lost::default() }));
            }
            let mut archive = TarWriter::new(to, self.epoch);
            archive::walk(directory, &mut archive, watch)?;
            let sockets = archive.left_out;
            Ok((archive.finish()?, Lost { sockets, ..Lost::default() }))
        })
    }
}

/// Finds the exported file or directory; links are followed inside the root.
fn find(view: &Path, path: &Path) -> Result<Found, ExportError> {
    let read = |source: io::Error| ExportError::Read { path: path.to_owned(), source };
    let open = |flags| rustix::fs::open(view, flags | OFlags::CLOEXEC, Mode::empty());
    let root: OwnedFd = open(OFlags::PATH | OFlags::DIRECTORY).map_err(|error| read(error.into()))?;
    let resolved = in_root::resolve(root.as_fd(), path).map_err(read)?;
    if let Some(missing) = resolved.missing.first() {
        let missing = resolved.existing.join(missing);
        return Err(ExportError::Missing { path: path.to_owned(), missing, existing: resolved.existing });
    }
    let below = resolved.existing.strip_prefix("/").unwrap_or(&resolved.existing);
    match resolved.kind {
        FileType::Directory => Ok(Found::Directory(view.join(below))),
        FileType::RegularFile => {
            let place = in_root::open_beneath(&root, below, OFlags::PATH).map_err(|error| read(error.into()))?;
            Ok(Found::File(regular::reopen(place.as_fd()).map_err(read)?))
        }
        _ => Err(ExportError::Kind { path: path.to_owned() }),
    }
}

/// Copies the bytes of a file; its mode and time are those of the output.
fn copy(file: File, epoch: Epoch, to: &Path) -> io::Result<ExportForm> {
    let stat = fstat(&file)?;
    copy_data(file, File::create_new(to)?, &mut [0; CHUNK], |_| Ok(()))?;
    let latest = epoch.map_or(i64::MAX, |epoch| i64::try_from(epoch).unwrap_or(i64::MAX));
    let time = stat.st_mtime.clamp(0, i64::from(u32::MAX).min(latest));
    Ok(ExportForm::File { mode: stat.st_mode & 0o777, time: Some(time) })
}

/// Returns whether a file has rights that its output does not get.
///
/// # Errors
/// Where it cannot be read.
pub fn loses_rights(view: &Path, path: &Path) -> io::Result<bool> {
    let Ok(Found::File(file)) = find(view, path) else { return Ok(false) };
    let has_capability = crate::fs::xattr::XattrFile::open(file.as_fd()).value("security.capability")?.is_some();
    Ok(has_capability || fstat(&file)?.st_mode & 0o6000 != 0)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    fn root() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("usr/bin")).unwrap();
        fs::write(root.path().join("usr/bin/hello"), "hello").unwrap();
        fs::set_permissions(root.path().join("usr/bin/hello"), fs::Permissions::from_mode(0o4755)).unwrap();
        symlink("usr/bin", root.path().join("bin")).unwrap();
        symlink("/../../etc/passwd", root.path().join("out")).unwrap();
        symlink("loop", root.path().join("loop")).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, root.path().join("fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        root
    }

    #[test]
    fn paths_are_found_inside_the_root_alone() {
        let root = root();
        let found = |path: &str| match find(root.path(), Path::new(path)) {
            Ok(Found::File(_)) => "file".to_owned(),
            Ok(Found::Directory(path)) => path.strip_prefix(root.path()).unwrap().display().to_string(),
            Err(error) => error.to_string(),
        };
        assert_eq!(
            (found("/bin/hello").as_str(), found("/bin").as_str(), found("/").as_str()),
            ("file", "usr/bin", "")
        );
        assert_eq!(found("/out"), "the root has no /out: /etc does not exist there");
        assert_eq!(found("/usr/lib/x"), "the root has no /usr/lib/x: /usr/lib does not exist there");
        assert_eq!(found("/fifo"), "cannot export /fifo: it is neither a file nor a directory");
        assert!(found("/loop").starts_with("cannot read /loop"), "{}", found("/loop"));
        assert!(found("/bin/hello/x").starts_with("cannot read /bin/hello/x"));
    }

    #[test]
    fn a_file_is_copied_with_its_mode_without_the_set_uid_bit_and_a_time_up_to_the_epoch() {
        let (root, to) = (root(), tempfile::tempdir().unwrap());
        let Ok(Found::File(file)) = find(root.path(), Path::new("/bin/hello")) else { panic!("no file") };
        let form = copy(file, Some(7), &to.path().join("new")).unwrap();
        assert_eq!(form, ExportForm::File { mode: 0o755, time: Some(7) });
        let sparse =
            File::options().read(true).write(true).create(true).truncate(true).open(to.path().join("sparse")).unwrap();
        sparse.set_len(64 << 20).unwrap();
        copy(sparse, None, &to.path().join("hole")).unwrap();
        let hole = fs::metadata(to.path().join("hole")).unwrap();
        assert_eq!((hole.len(), hole.blocks()), (64 << 20, 0));
        assert_eq!(fs::read(to.path().join("new")).unwrap(), b"hello");
        assert!(loses_rights(root.path(), Path::new("/bin/hello")).unwrap());
    }
}
