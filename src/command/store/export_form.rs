//! `runner store export --format`: writes the root that a layer completes, in one of the forms of an export step.

use std::path::{Path, PathBuf};

use super::location::StoreLocation;
use crate::cli::ExportArgs;
use crate::command::command_error::{CommandError, store_error};
use crate::command::console::{notice, print};
use crate::command::naming::named;
use crate::digest::Digest;
use crate::error::{Error, Exit, error_chain_with_hint};
use crate::execute::Interrupt;
use crate::export::{ExportError, Job, Layers, caller};
use crate::fs::output::OutputPlace;
use crate::fs::regular;
use crate::model::{Export, ExportFormat, OciImage, OciLayers};
use crate::mount::{FileNumbers, enter_private_namespace, mount_overlay};
use crate::named_paths::NamedPathError;
use crate::report::size;
use crate::runtime::Runtime;
use crate::session::{LowerLayer, Workspace};
use crate::store::{ExportForm, ExportedTree, Inventory, Lease, OutputAttributes, RecordFile, Store};

/// The id of a rootfs source that is nothing.
const EMPTY: &str = "scratch";

/// Writes the root to the output, complete or not at all.
pub fn export(location: &StoreLocation, args: &ExportArgs, format: ExportFormat) -> Result<(), CommandError> {
    if !rustix::process::geteuid().is_root() {
        let hint = "run it with sudo, or in a container with --privileged".to_owned();
        return Err(Error::new(Exit::Host, "cannot mount the layers: that needs root").with_hint(Some(hint)).into());
    }
    let export = checked(args, format)?;
    let (store, facts) = location.facts()?;
    let layer = named(&facts.inventory, &args.layer)?;
    let (chain, epoch) = chain(store, &facts.inventory, &layer, &args.layer)?;
    let output = open(store, &export)?;
    // A fork of the mounts, before any thread is started.
    enter_private_namespace().map_err(failed("enter a private mount namespace"))?;
    let lease = store.lease().map_err(store_error)?;
    let disk = store.root().join("scratch").join(lease.id());
    let workspace = Workspace::open(&store.mnt(), &disk, lease.id(), Runtime::Embedded);
    let workspace = workspace.map_err(failed("prepare the mounts"))?;
    let written = write(store, &lease, &workspace, &chain, (&export, epoch), &output);
    let closed = workspace.close().map_err(failed("unmount the layers"));
    let text = written?;
    closed?;
    lease.close().map_err(store_error)?;
    print(text.as_bytes())
}

fn failed(action: &'static str) -> impl Fn(std::io::Error) -> Error {
    move |error| Error::new(Exit::Host, format!("cannot {action}: {error}"))
}

/// Checks the options, as `validate` checks those of a step.
fn checked(args: &ExportArgs, format: ExportFormat) -> Result<Export, Error> {
    let usage = |message: String, hint: String| Err(Error::new(Exit::Usage, message).with_hint(Some(hint)));
    let output = std::path::absolute(&args.file).map_err(failed("find the current directory"))?;
    let known = format.compressions();
    let compression = match args.compression {
        Some(compression) if !known.contains(&compression) => {
            let names: Vec<&str> = known.iter().map(|known| known.name()).collect();
            let message = format!("the format {} has no compression {}", format.name(), compression.name());
            let hint =
                if names.is_empty() { "leave it out".to_owned() } else { format!("write one of {}", names.join(", ")) };
            return usage(message, hint);
        }
        Some(compression) => compression,
        None => format.default_compression(&args.file.to_string_lossy()),
    };
    if let Some(level) = args.level {
        let most = compression.max_level().filter(|_| !known.is_empty()).unwrap_or(0);
        if !(1..=most).contains(&level) {
            let message = format!("the compression {} has no level {level}", compression.name());
            let hint = if most == 0 { "leave it out".to_owned() } else { format!("write a number from 1 to {most}") };
            return usage(message, hint);
        }
    }
    let is_archive = args.file.to_string_lossy().ends_with(".tar");
    let image = || OciImage { is_archive, layers: OciLayers::Tar, tag: "latest".into(), ..OciImage::default() };
    let oci = (format == ExportFormat::Oci).then(|| Box::new(image()));
    Ok(Export {
        format,
        path: args.path.clone().unwrap_or_else(|| "/".into()),
        output: Some(output),
        compression,
        level: args.level,
        oci,
        push: None,
    })
}

/// Returns the layers of a whole root, the lowest first, and the `source_date_epoch` of the build that wrote the topmost one.
fn chain(
    store: &Store,
    inventory: &Inventory,
    layer: &Digest,
    name: &str,
) -> Result<(Vec<Digest>, Option<u64>), Error> {
    let giving = inventory.giving(layer);
    // The same layer may be on several roots: a step is on one of them.
    let is_of = |record: &RecordFile| name.rsplit('/').next() == Some(record.step());
    let of_step = giving.iter().find(|(_, record)| is_of(record)).or(giving.first());
    let record = of_step.map(|(_, record)| &record.recorded);
    let mut chain = vec![*layer];
    // A full image is built on nothing, whatever its steps ran on.
    let is_full =
        |fields: &crate::cache::key::KeyFields| fields.get("snapshot").is_some_and(|it| it.starts_with("full"));
    let epoch = record.and_then(|record| record.fields.get("source_date_epoch")?.parse().ok());
    let mut next = match record {
        Some(record) if is_full(&record.fields) => None,
        Some(record) => record.fields.below(),
        None => return Err(incomplete(layer, "the store has no record of what it is built on")),
    };
    while let Some(digest) = next {
        let Some(parent) = store.parent(&digest) else {
            return Err(incomplete(layer, "the store has lost what it is built on"));
        };
        if parent.id == EMPTY {
            break;
        }
        let Some(below) = parent.layer() else {
            return Err(incomplete(layer, "its root has a source that is not in the store"));
        };
        chain.push(below);
        // Below a full image are no layers.
        let is_whole = inventory.giving(&below).iter().any(|(_, record)| is_full(&record.recorded.fields));
        next = parent.below.filter(|_| !is_whole);
    }
    chain.reverse();
    Ok((chain, epoch))
}

fn incomplete(layer: &Digest, why: &str) -> Error {
    let hint = "write an `export` step after the snapshot, or without `--format` the layer's own image";
    Error::new(Exit::Usage, format!("cannot export the root of {layer}: {why}")).with_hint(Some(hint.into()))
}

fn open(store: &Store, export: &Export) -> Result<OutputPlace, Error> {
    let path = export.output.clone().unwrap_or_default();
    let open = if export.may_be_directory() { OutputPlace::open_for_tree } else { OutputPlace::open };
    let output = open(&path).map_err(|source| {
        let error = NamedPathError::Output { path: path.clone(), source };
        let hint = error.hint();
        Error::new(error.exit(), error).with_hint(hint)
    })?;
    // A file in the place of a directory is reported when it is replaced.
    if export.may_be_directory()
        && let Ok(Some(file)) = store.foreign_file(&output)
    {
        let error = crate::store::StoreError::Foreign { path, file };
        let hint = error.hint();
        return Err(Error::new(Exit::Usage, error).with_hint(hint));
    }
    Ok(output)
}

/// Mounts the layers, writes the export into the store's temporary files, and copies it to the output. Returns what to print.
fn write(
    store: &Store,
    lease: &Lease,
    workspace: &Workspace,
    chain: &[Digest],
    (export, epoch): (&Export, Option<u64>),
    output: &OutputPlace,
) -> Result<String, Error> {
    let mut pins = Vec::new();
    for digest in chain {
        let gone = || Error::new(Exit::Usage, format!("the layer {digest} is not in the store any more"));
        pins.push(store.pin_layer(digest).map_err(store_error)?.ok_or_else(gone)?);
    }
    let mount = failed("mount the layers");
    let mounted: Vec<LowerLayer> =
        pins.iter().map(|pin| workspace.image(pin.path())).collect::<Result<_, _>>().map_err(&mount)?;
    let mounted = workspace.distinct(mounted).map_err(&mount)?;
    let empty = workspace.directory("empty").map_err(&mount)?;
    let mut lowers: Vec<&Path> = mounted.iter().rev().map(LowerLayer::path).collect();
    lowers.push(&empty);
    let target = workspace.directory("export").map_err(&mount)?;
    let view = mount_overlay(&lowers, None, &target, FileNumbers::Stable)
        .map_err(|error| Error::new(Exit::Host, format!("cannot mount the layers: {error}")).with_hint(error.hint()))?;
    let all: Vec<PathBuf> = mounted.iter().map(|layer| layer.path().to_owned()).collect();
    let (layers, temp) = (Layers { all, is_top_in_use: false }, lease.temp_file("export").map_err(store_error)?);
    let interrupt = Interrupt::new().map_err(failed("create a pipe for interrupts"))?;
    let scratch = lease.scratch_dir("oci").map_err(store_error)?;
    let job = Job {
        view: view.path(),
        layers: &layers,
        scratch: Some(&scratch),
        export,
        epoch,
        interrupt: interrupt.descriptor(),
    };
    let written = job.write(&temp, &mut |_| {}).map_err(|error: ExportError| {
        let exit = if error.is_of_root() { Exit::Usage } else { Exit::Host };
        let hint = error.hint();
        Error::new(exit, error_chain_with_hint(&error, None)).with_hint(hint)
    })?;
    drop(view);
    let bytes = temp.metadata().map_err(failed("look at the export"))?.len();
    match written.form {
        ExportForm::File { mode, time } => {
            let attributes = OutputAttributes { mode, owner: caller(), time };
            lease.publish_as(&temp, output, Some(attributes)).map_err(store_error)?;
        }
        ExportForm::Directory => {
            let digest =
                regular::open(&temp).and_then(|file| Digest::of_file(&file)).map_err(failed("read the export"))?;
            let image = workspace.image(&temp).map_err(failed("mount the export"))?;
            let tree = ExportedTree { from: image.path(), digest: &digest, owner: caller() };
            let left_out = lease.publish_tree(tree, output, &mut |_| Ok(())).map_err(store_error)?;
            for warning in crate::warning::Warning::of_left_out(left_out, &export.path) {
                notice(&format!("warning: {warning}"));
            }
        }
    }
    Ok(format!("wrote {} ({})\n", output.path().display(), size(bytes)))
}
