//! Hostile archives and images as roots: names that lead out, links, nodes, whiteouts, bombs, damage.

use std::fs::{self, File};
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::attack::{Attack, Verdict, safe, tried};
use crate::lab::{Lab, Project};

pub const ATTACKS: &[Attack] = &[
    Attack {
        row: "contained",
        name: "archive-names",
        summary: "tars with .., absolute names, members behind links",
        run: names,
    },
    Attack {
        row: "contained",
        name: "archive-links",
        summary: "tars with hard links out, and to links",
        run: hard_links,
    },
    Attack {
        row: "contained",
        name: "archive-whiteouts",
        summary: "whiteouts and trusted.overlay.* in a tar",
        run: whiteouts,
    },
    Attack {
        row: "contained",
        name: "image-whiteouts",
        summary: "whiteouts and trusted.overlay.* in a squashfs",
        run: image_whiteouts,
    },
    Attack { row: "contained", name: "archive-bomb", summary: "a tar that unpacks to 3 GiB", run: bomb },
    Attack { row: "contained", name: "damaged-archives", summary: "100 damaged tars", run: damaged_archives },
    Attack {
        row: "low",
        name: "damaged-images",
        summary: "40 damaged squashfs images, read and snapshotted",
        run: damaged_images,
    },
];

/// Adds a member with its name unchanged, which no library does.
fn member(archive: &mut Vec<u8>, name: &str, kind: tar::EntryType, link: &str, content: &[u8]) {
    let mut header = tar::Header::new_ustar();
    let fields = header.as_old_mut();
    fields.name[..name.len()].copy_from_slice(name.as_bytes());
    fields.linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(kind);
    header.set_size(content.len() as u64);
    header.set_mode(if kind.is_dir() { 0o755 } else { 0o4777 });
    let _ = header.set_device_major(1);
    let _ = header.set_device_minor(1);
    header.set_cksum();
    archive.extend(header.as_bytes());
    archive.extend(content);
    archive.resize(archive.len().next_multiple_of(512), 0);
}

/// Adds a record of a pax header, with its length in front of itself.
fn pax(archive: &mut Vec<u8>, records: &[(&str, &str)]) {
    let mut text = String::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let length = (rest..).find(|length| length - rest == length.to_string().len()).unwrap_or_default();
        text.push_str(&format!("{length} {key}={value}\n"));
    }
    member(archive, "pax", tar::EntryType::XHeader, "", text.as_bytes());
}

/// Returns a build on this archive, with the tools of the lab in it.
fn on_archive(lab: &Lab, hostile: &[u8], steps: &str) -> Project {
    let project = lab.project(&format!("\ncontainers: {{ c: {{ rootfs: {{ tar: root.tar }} }} }}\nsteps:\n{steps}\n"));
    lab.unpack_base(&project.path("base"));
    let mut tar = tar::Builder::new(File::create(project.path("root.tar")).unwrap());
    tar.follow_symlinks(false);
    tar.append_dir_all(".", project.path("base")).unwrap();
    let mut file = tar.into_inner().unwrap();
    // In place of the end of the archive, which is two empty blocks.
    let end = file.metadata().unwrap().len() - 1024;
    std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(end)).unwrap();
    file.write_all(hostile).unwrap();
    file.write_all(&[0; 1024]).unwrap();
    project.write("victim/marker", "of the host\n");
    project
}

const LOOK: &str = "  - { name: s, run: 'echo TRYING; ls -lR /planted /up /l /evil /hard 2> /dev/null || true; cat /hard /l/marker 2> /dev/null || true' }";

fn judge(project: &Project) -> Verdict {
    let build = project.apply(&[])?;
    build.did_not_hang()?;
    let refused = build.status("s") == "failed" && build.reason("s").contains("root.tar");
    tried(refused || build.printed("s", "TRYING"), build.to_string())?;
    safe(!build.printed("s", "of the host"), "a step reads a file of the host")?;
    safe(project.read("victim/marker") == "of the host\n", "a file of the host was written to")?;
    let others = fs::read_dir(project.path("victim")).unwrap().count();
    safe(others == 1, "a file came to be in a directory of the host")?;
    for name in ["/tmp/runner-attack-planted", "/etc/runner-attack-planted", "/runner-attack-planted"] {
        safe(!fs::exists(name).unwrap(), format!("{name} came to be"))?;
    }
    Ok(())
}

fn names(lab: &Lab) -> Verdict {
    use tar::EntryType as Kind;
    let up = "../".repeat(12);
    for (name, planted) in [
        ("runner-attack-planted", String::new()),
        ("tmp/runner-attack-planted", up.clone()),
        ("etc/runner-attack-planted", "/".into()),
    ] {
        let mut archive = Vec::new();
        member(&mut archive, &format!("{planted}{name}"), Kind::Regular, "", b"evil\n");
        judge(&on_archive(lab, &archive, LOOK))?;
    }
    // The target of a link of the archive lies in the root, or nowhere.
    for relative in [false, true] {
        let project = on_archive(lab, &[], LOOK);
        let victim = project.path("victim").display().to_string();
        let link = if relative { format!("{up}{}", victim.trim_start_matches('/')) } else { victim };
        let mut archive = Vec::new();
        member(&mut archive, "l", Kind::Symlink, &link, b"");
        member(&mut archive, "l/planted", Kind::Regular, "", b"evil\n");
        member(&mut archive, "l/marker", Kind::Regular, "", b"evil\n");
        member(&mut archive, "l/node", Kind::Char, "", b"");
        member(&mut archive, "l", Kind::Directory, "", b"");
        judge(&on_archive_of(lab, &project, &archive))?;
    }
    Ok(())
}

/// Returns the same project with more members in its archive, whose links know its path.
fn on_archive_of(lab: &Lab, project: &Project, hostile: &[u8]) -> Project {
    let other = on_archive(lab, hostile, LOOK);
    fs::copy(other.path("root.tar"), project.path("root.tar")).unwrap();
    let moved = lab.project("");
    // The links lead to the first project, which lives as long as its caller: its victim is checked.
    moved.write("build.yaml", &project.read("build.yaml"));
    fs::copy(project.path("root.tar"), moved.path("root.tar")).unwrap();
    moved.write("victim/marker", &project.read("victim/marker"));
    moved
}

fn hard_links(lab: &Lab) -> Verdict {
    use tar::EntryType as Kind;
    let project = on_archive(lab, &[], LOOK);
    let marker = project.path("victim/marker").display().to_string();
    for link in [marker.clone(), format!("{}{marker}", "../".repeat(12)), "/etc/shadow".into(), "l".into()] {
        let mut archive = Vec::new();
        member(&mut archive, "l", Kind::Symlink, &marker, b"");
        member(&mut archive, "hard", Kind::Link, &link, b"");
        member(&mut archive, "hard", Kind::Regular, "", b"evil\n");
        judge(&on_archive_of(lab, &project, &archive))?;
        safe(project.read("victim/marker") == "of the host\n", format!("{link} was written to"))?;
    }
    Ok(())
}

/// Deletions and redirections that overlayfs would follow, in an archive that is no layer.
fn whiteouts(lab: &Lab) -> Verdict {
    use tar::EntryType as Kind;
    let mut archive = Vec::new();
    pax(
        &mut archive,
        &[
            ("SCHILY.xattr.trusted.overlay.opaque", "y"),
            ("SCHILY.xattr.trusted.overlay.redirect", "/../../../../etc"),
            ("SCHILY.xattr.trusted.overlay.metacopy", ""),
        ],
    );
    member(&mut archive, "evil", Kind::Directory, "", b"");
    member(&mut archive, "evil/.wh..wh..opq", Kind::Regular, "", b"");
    member(&mut archive, ".wh.probe", Kind::Regular, "", b"");
    let steps = "  - { name: s, run: 'echo TRYING; ls -a /evil; [ -e /probe ] && echo control' }\n  - { name: image, snapshot: { mode: full, output: i.squashfs } }";
    let project = on_archive(lab, &archive, steps);
    let build = project.apply(&[])?;
    build.did_not_hang()?;
    let refused = build.status("s") == "failed" && build.reason("s").contains("root.tar");
    tried(refused || build.printed("s", "TRYING"), build.to_string())?;
    let seen: Vec<_> =
        build.lines("s").into_iter().filter(|line| ["shadow", "passwd", "hostname"].contains(line)).collect();
    safe(seen.is_empty(), format!("a redirect led to {seen:?}"))?;
    safe(refused || build.printed("s", "control"), "a whiteout of an archive removed a file")
}

fn image_whiteouts(lab: &Lab) -> Verdict {
    let project = lab.project(
        "
containers: { c: { rootfs: { squashfs: root.squashfs } } }
steps:
  - { name: s, run: 'echo TRYING; ls -a /evil /etc; cat /evil/shadow 2> /dev/null || true; [ -e /probe ] && echo control' }
  - { name: image, snapshot: {} }
  - { name: after, run: '[ -e /probe ] && echo control' }
",
    );
    let root = project.path("root");
    lab.unpack_base(&root);
    fs::create_dir(root.join("evil")).unwrap();
    let run = |program: &str, arguments: &[&str]| {
        let output =
            std::process::Command::new(program).args(arguments).current_dir(project.path("")).output().unwrap();
        tried(output.status.success(), format!("{program}: {}", String::from_utf8_lossy(&output.stderr)))
    };
    run("mknod", &["root/evil/gone", "c", "0", "0"])?;
    for (name, value) in [("opaque", "y"), ("redirect", "/../../../../etc"), ("metacopy", "")] {
        run("setfattr", &["-n", &format!("trusted.overlay.{name}"), "-v", value, "root/evil"])?;
        run("setfattr", &["-n", &format!("trusted.overlay.{name}"), "-v", value, "root/etc"])?;
    }
    run("mksquashfs", &["root", "root.squashfs", "-quiet", "-no-progress"])?;
    let build = project.apply(&[])?;
    build.did_not_hang()?;
    let refused = build.status("s") == "failed" && !build.reason("s").is_empty();
    tried(refused || build.printed("s", "TRYING"), build.to_string())?;
    let seen: Vec<_> = build.lines("s").into_iter().filter(|line| ["shadow", "hostname"].contains(line)).collect();
    safe(seen.is_empty(), format!("a redirect led to {seen:?}"))?;
    safe(refused || build.printed("after", "control"), format!("the root lost its files: {build}"))
}

fn bomb(lab: &Lab) -> Verdict {
    let project = lab.project("\ncontainers: { c: { rootfs: { tar: bomb.tar.gz }, scratch: { tmpfs: 64MiB } } }\nsteps: [{ name: s, exec: [/nothing] }]\n");
    let mut header = tar::Header::new_ustar();
    header.set_path("big").unwrap();
    header.set_size(3 << 30);
    header.set_mode(0o644);
    header.set_cksum();
    let packed = |bytes: &[u8]| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    // Members of gzip follow one another.
    let mut file = File::create(project.path("bomb.tar.gz")).unwrap();
    file.write_all(&packed(header.as_bytes())).unwrap();
    let piece = packed(&vec![0; 16 << 20]);
    (0..192).for_each(|_| file.write_all(&piece).unwrap());
    file.write_all(&packed(&[0; 1024])).unwrap();
    drop(file);
    let build = project.apply(&[])?;
    build.did_not_hang()?;
    let reason = build.reason("s");
    safe(!reason.contains("/nothing"), "3 GiB were unpacked into 64 MiB")?;
    tried(build.status("s") == "failed" && reason.contains("space"), build.to_string())
}

/// Returns numbers that look random and are the same each time.
fn scatter(seed: u64) -> u64 {
    let mixed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 8
}

/// Checks that runner ended by itself with a code of its own.
fn ended_well(build: &crate::build::Build, which: u64) -> Verdict {
    build.did_not_hang()?;
    safe((0..=3).contains(&build.code), format!("{which}: {build}"))?;
    safe(!build.stderr.contains("panicked"), format!("{which}: {build}"))
}

fn damaged_archives(lab: &Lab) -> Verdict {
    use tar::EntryType as Kind;
    let mut whole = Vec::new();
    member(&mut whole, "d", Kind::Directory, "", b"");
    pax(&mut whole, &[("path", "d/long-name"), ("SCHILY.xattr.user.x", "value"), ("mtime", "1.5")]);
    member(&mut whole, "d/file", Kind::Regular, "", &[7; 3000]);
    member(&mut whole, "d/link", Kind::Symlink, "file", b"");
    member(&mut whole, "d/hard", Kind::Link, "d/long-name", b"");
    member(&mut whole, "d/null", Kind::Char, "", b"");
    whole.extend([0; 1024]);
    let containers: String =
        (0..100).map(|at| format!("  c{at}: {{ rootfs: {{ tar: damaged/{at}.tar }} }}\n")).collect();
    let steps: String =
        (0..100).map(|at| format!("  - {{ name: s{at}, container: c{at}, exec: [/nothing] }}\n")).collect();
    let project = lab.project(&format!("\ncontainers:\n{containers}steps:\n{steps}"));
    fs::create_dir(project.path("damaged")).unwrap();
    for at in 0..100u64 {
        let mut bytes = whole.clone();
        for damage in 0..1 + at % 4 {
            let place = scatter(at * 16 + damage) as usize % bytes.len();
            bytes[place] ^= 1 + (scatter(at * 16 + damage + 7) % 255) as u8;
        }
        if at % 5 == 0 {
            bytes.truncate(scatter(at) as usize % bytes.len());
        }
        fs::write(project.path("damaged").join(format!("{at}.tar")), bytes).unwrap();
    }
    let build = project.apply(&["-j", "2"])?;
    ended_well(&build, 0)?;
    tried((0..100).all(|at| build.status(&format!("s{at}")) == "failed"), build.to_string())
}

fn damaged_images(lab: &Lab) -> Verdict {
    let project = lab.project("\ncontainers: { c: { rootfs: $BASE } }\nsteps: [{ name: image, snapshot: { mode: full, output: whole.squashfs, compression: gzip } }]\n");
    project.apply(&[])?.succeeded()?;
    let whole = fs::read(project.path("whole.squashfs")).unwrap();
    project.write(
        "build.yaml",
        "version: 1
containers: { c: { rootfs: { squashfs: damaged.squashfs } } }
steps:
  - { name: read, run: 'ls -lR /bin /etc /usr > /dev/null; cat /probe > /dev/null' }
  - { name: image, needs: [read], snapshot: { mode: full } }
",
    );
    for at in 0..40u64 {
        let mut bytes = whole.clone();
        // The tables are at the end, the superblock at the beginning.
        for damage in 0..4 {
            let (from, among) = match at % 3 {
                0 => (0, 96),
                1 => (whole.len() - 3000.min(whole.len()), 3000.min(whole.len())),
                _ => (0, whole.len()),
            };
            let place = from + scatter(at * 64 + damage) as usize % among;
            bytes[place] ^= 1 + (scatter(at * 64 + damage + 9) % 255) as u8;
        }
        fs::write(project.path("damaged.squashfs"), bytes).unwrap();
        ended_well(&project.runner(&["apply", "--progress", "plain"])?, at)?;
    }
    Ok(())
}
