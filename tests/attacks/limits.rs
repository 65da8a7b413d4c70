//! More than a container is allowed: files and attributes in memory, archives of very many files, holes of a terabyte.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::time::Duration;

use crate::attack::{Attack, Verdict, safe, tried};
use crate::lab::{self, Lab};
use crate::leftovers::{clear, kill, wait_until};

pub const ATTACKS: &[Attack] = &[
    Attack {
        row: "M1",
        name: "empty-files",
        summary: "empty files in 8 MiB of scratch, of a tmpfs, of /dev",
        run: files,
    },
    Attack {
        row: "M1",
        name: "attributes",
        summary: "extended attributes in 8 MiB of scratch and of a tmpfs",
        run: attributes,
    },
    Attack {
        row: "M1",
        name: "archive-of-empty-files",
        summary: "a tar of 200,000 empty files in 8 MiB",
        run: archive,
    },
    Attack {
        row: "low",
        name: "hole-in-bind",
        summary: "a sparse file of 1 TiB in a read-only bind",
        run: hole_in_bind,
    },
    Attack {
        row: "low",
        name: "file-lease",
        summary: "a lease on a file that a plan and a build read",
        run: file_lease,
    },
    Attack {
        row: "low",
        name: "hole-in-snapshot",
        summary: "a snapshot of a sparse file of 1 TiB",
        run: hole_in_snapshot,
    },
];

fn files(lab: &Lab) -> Verdict {
    let project = lab.project(
        "
mounts: { tmp: { type: tmpfs, target: /small, options: [size=8m] } }
containers: { c: { rootfs: $BASE, scratch: { tmpfs: 8MiB }, mounts: [tmp] } }
steps:
  - { name: root, exec: [/probe, files, /etc, 60000] }
  - { name: tmp, needs: [], exec: [/probe, files, /small, 60000] }
  - { name: dev, needs: [], exec: [/probe, files, /dev, 60000] }
  - { name: shm, needs: [], exec: [/probe, files, /dev/shm, 60000] }
",
    );
    let build = project.apply(&["-j", "1"])?;
    for step in ["root", "tmp", "dev", "shm"] {
        build.tried(step, "TRYING")?;
        let made = build.lines(step).iter().find_map(|line| line.strip_prefix("files ")?.parse::<u32>().ok());
        tried(made.is_some_and(|made| made > 0), build.to_string())?;
        // An empty file takes a kilobyte of the kernel's memory.
        let most = if step == "root" || step == "tmp" { 4096 } else { 40_000 };
        safe(made < Some(most), format!("{step}: {made:?} files, {most} at most"))?;
    }
    Ok(())
}

fn attributes(lab: &Lab) -> Verdict {
    let project = lab.project(
        "
mounts: { tmp: { type: tmpfs, target: /small, options: [size=8m] } }
containers: { c: { rootfs: $BASE, scratch: { tmpfs: 8MiB }, mounts: [tmp] } }
steps:
  - { name: root, exec: [/probe, attributes, /etc, 200] }
  - { name: tmp, needs: [], exec: [/probe, attributes, /small, 200] }
",
    );
    let build = project.apply(&["-j", "1"])?;
    for step in ["root", "tmp"] {
        build.tried(step, "TRYING")?;
        let made = build.lines(step).iter().find_map(|line| line.strip_prefix("attributes ")?.parse::<u32>().ok());
        tried(made.is_some(), build.to_string())?;
        safe(made <= Some(16), format!("{step}: {made:?} MiB of attributes in 8 MiB"))?;
    }
    Ok(())
}

fn archive(lab: &Lab) -> Verdict {
    let project = lab.project(
        "
containers: { c: { rootfs: { tar: bomb.tar }, scratch: { tmpfs: 8MiB } } }
steps: [{ name: s, exec: [/nothing] }]
",
    );
    let mut file = BufWriter::new(File::create(project.path("bomb.tar")).unwrap());
    for number in 0..200_000 {
        let mut header = tar::Header::new_ustar();
        header.set_path(format!("file{number}")).unwrap();
        header.set_size(0);
        header.set_mode(0o644);
        header.set_cksum();
        file.write_all(header.as_bytes()).unwrap();
    }
    file.write_all(&[0; 1024]).unwrap();
    drop(file);
    let build = project.apply(&[])?;
    build.did_not_hang()?;
    let refused = build.reason("s").contains("No space left on device") || build.reason("s").contains("scratch");
    let unpacked =
        build.reason("s").contains("/nothing") || build.lines("s").iter().any(|line| line.contains("/nothing"));
    safe(!unpacked, format!("200,000 files were unpacked into 8 MiB: {build}"))?;
    tried(refused, build.to_string())
}

fn hole_in_bind(lab: &Lab) -> Verdict {
    let project = lab.project(
        "
mounts: { src: { type: bind, source: src, target: /src, options: [ro] } }
containers: { c: { rootfs: $BASE, mounts: [src] } }
steps: [{ name: s, run: 'stat -c %s /src/hole' }, { name: layer, snapshot: {} }]
",
    );
    fs::create_dir(project.path("src")).unwrap();
    let made = File::create(project.path("src/hole")).and_then(|file| file.set_len(1 << 40));
    tried(made.is_ok(), format!("{made:?}"))?;
    let build = project.apply(&[])?;
    build.tried("s", "1099511627776")?;
    tried(build.code == 0, build.to_string())?;
    // The second time, the digest is compared.
    project.apply(&[])?.did_not_hang()
}

/// A step has a lease on a file of a bind, and of the rules for that, and gives neither up: the kernel would make a process that
/// reads them wait for 45 s.
fn file_lease(lab: &Lab) -> Verdict {
    let project = lab.project(
        "
mounts: { work: { type: bind, source: work, target: /work } }
containers: { c: { rootfs: $BASE, mounts: [work] } }
steps: [{ name: s, run: '/probe lease /work/in/$FILE /work/ready' }, { name: layer, snapshot: {} }]
",
    );
    let manifest = project.read("build.yaml");
    let victim = manifest.replace("source: work, target: /work", "source: work/in, target: /work, options: [ro]");
    project.write("victim.yaml", &victim.replace("/probe lease /work/in/$FILE /work/ready", "cat /work/file"));
    for file in ["file", ".runnerignore"] {
        project.write("build.yaml", &manifest.replace("$FILE", file));
        project.write("work/in/file", "text\n");
        project.write("work/in/.runnerignore", "nothing\n");
        project.runner(&["apply", "victim.yaml"])?.succeeded()?;
        // Otherwise the digest is known.
        project.write(&format!("work/in/{file}"), "other text\n");
        let log = File::create(project.path("log")).unwrap();
        let mut runner = project.command(&["apply", "--progress", "json"]).stdout(log).spawn().unwrap();
        let leased = wait_until(30, || project.path("work/ready").exists());
        let runs: Vec<_> = if leased { vec!["plan", "apply"] } else { Vec::new() };
        let builds: Vec<_> = runs.iter().map(|command| project.runner(&[command, "victim.yaml"])).collect();
        kill(&runner.id().to_string(), "INT");
        let ended = lab::wait_for_end(&mut runner);
        clear(runner.id(), "");
        let _ = fs::remove_file(project.path("work/ready"));
        tried(leased && ended.is_some(), format!("{file}: {}", project.read("log")))?;
        for build in builds {
            let build = build?;
            let refused = build.code != 0 && build.to_string().contains("F_SETLEASE");
            safe(refused, format!("{file}: the lease was waited for: {build}"))?;
        }
    }
    Ok(())
}

/// It may take long: nothing has to wait for it.
fn hole_in_snapshot(lab: &Lab) -> Verdict {
    let project = lab.project(
        "
containers: { c: { rootfs: $BASE } }
steps:
  - { name: s, run: 'dd if=/dev/null of=/hole bs=1 count=0 seek=1T; stat -c %s /hole' }
  - { name: layer, snapshot: { output: image.squashfs } }
",
    );
    let log = File::create(project.path("stdout")).unwrap();
    let mut runner = project.command(&["apply", "--progress", "json"]).stdout(log).spawn().unwrap();
    let has_ended = |name: &str| project.read("stdout").contains(&format!("\"step_finished\",\"step\":\"{name}\""));
    let begun = wait_until(30, || {
        project.read("stdout").lines().any(|line| line.contains("step_started") && line.contains("\"layer\""))
    });
    wait_until(2, || has_ended("layer"));
    kill(&runner.id().to_string(), "INT");
    let status = lab::wait(&mut runner, Duration::from_secs(30));
    clear(runner.id(), "");
    tried(begun && project.read("stdout").contains("1099511627776"), project.read("stdout"))?;
    safe(status.is_some(), "Ctrl-C does not end a snapshot of 1 TiB of holes in the time that it has")?;
    // A step that had ended before the signal came has written its output whole.
    let whole = !project.path("image.squashfs").exists() || has_ended("layer");
    safe(whole, "an interrupted snapshot left its output")
}
