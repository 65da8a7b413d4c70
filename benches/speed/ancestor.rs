//! The program that runner is compared with: squashfs and overlay mounted once, `runc run` a step, mksquashfs of the merged root.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::{Value, json};

use crate::Result;
use crate::roots::{checked, image};

/// A mounted root and a bundle for runc.
#[derive(Debug)]
pub struct Ancestor {
    directory: PathBuf,
    template: Value,
}

impl Ancestor {
    /// Mounts the image under an overlay on a tmpfs.
    pub fn open(directory: &Path, image: &Path) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("ancestor-").tempdir_in(directory)?.keep();
        for name in ["lower", "scratch", "rootfs"] {
            fs::create_dir(directory.join(name))?;
        }
        let (lower, scratch, rootfs) = (directory.join("lower"), directory.join("scratch"), directory.join("rootfs"));
        checked(Command::new("mount").args(["-t", "squashfs", "-o", "loop,ro"]).arg(image).arg(&lower))?;
        checked(Command::new("mount").args(["-t", "tmpfs", "tmpfs"]).arg(&scratch))?;
        fs::create_dir(scratch.join("upper"))?;
        fs::create_dir(scratch.join("work"))?;
        let (lower, upper, work) = (lower.display(), scratch.join("upper"), scratch.join("work"));
        let options = format!("lowerdir={lower},upperdir={},workdir={}", upper.display(), work.display());
        checked(Command::new("mount").args(["-t", "overlay", "overlay", "-o", &options]).arg(&rootfs))?;
        checked(Command::new("runc").args(["spec", "--bundle"]).arg(&directory))?;
        let mut template: Value = serde_json::from_slice(&fs::read(directory.join("config.json"))?)?;
        template["root"]["readonly"] = json!(false);
        template["process"]["terminal"] = json!(false);
        Ok(Self { directory, template })
    }

    /// Runs a step as runc does: a container from its config.json, to its end. Returns the milliseconds.
    pub fn run(&self, argv: &[&str]) -> Result<f64> {
        let begun = Instant::now();
        let mut config = self.template.clone();
        config["process"]["args"] = json!(argv);
        fs::write(self.directory.join("config.json"), serde_json::to_vec(&config)?)?;
        let id = format!("runner-bench-{}", std::process::id());
        let mut command = Command::new("runc");
        command.args(["run", "--bundle"]).arg(&self.directory).arg(&id);
        // To /dev/null, and not a pipe: reading it would be part of the measurement.
        let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status()?;
        if !status.success() {
            return Err(format!("{command:?} of {argv:?}: {status}").into());
        }
        Ok(begun.elapsed().as_secs_f64() * 1e3)
    }

    /// Writes an image of the merged root.
    pub fn snapshot(&self) -> Result<()> {
        image(&self.directory.join("rootfs"), &self.directory.join("out.squashfs"))
    }

    /// Unmounts everything.
    pub fn close(self) -> Result<()> {
        for name in ["rootfs", "scratch", "lower"] {
            checked(Command::new("umount").arg(self.directory.join(name)))?;
        }
        Ok(fs::remove_dir_all(&self.directory)?)
    }
}
