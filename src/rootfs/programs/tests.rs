//! Tests of assembling a root from programs: the programs run in it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::search::HostLibraries;
use super::{assemble, assemble_with};
use crate::fs::opened::OpenedPaths;
use crate::rootfs::RootfsError;

fn assembled(programs: &[&Path]) -> Result<tempfile::TempDir, RootfsError> {
    let root = tempfile::tempdir().unwrap();
    let programs: Vec<PathBuf> = programs.iter().map(|program| program.to_path_buf()).collect();
    assemble(&programs, &OpenedPaths::default(), File::open(root.path()).unwrap().as_fd())?;
    Ok(root)
}

fn failure(programs: &[&Path]) -> String {
    let error = assembled(programs).unwrap_err();
    let source = std::error::Error::source(&error).map(|source| format!(": {source}"));
    format!("{error}{}", source.unwrap_or_default())
}

/// Returns the output of a command inside, with /proc mounted, which the loader needs for `$ORIGIN`.
fn output(root: &Path, command: &[&str]) -> String {
    const CHROOT: &str =
        r#"mkdir -p "$0/proc"; mount -t proc proc "$0/proc"; exec env -i PATH="$PATH" chroot "$0" "$@""#;
    let path = "/usr/sbin:/usr/bin:/sbin:/bin";
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "sh", "-ec", CHROOT]).arg(root).args(command).env("PATH", path);
    let mut output = unshare.output().unwrap();
    // Another test is starting a process, which has the program that this test wrote open until its execve(2).
    while String::from_utf8_lossy(&output.stderr).contains("Text file busy") {
        output = unshare.output().unwrap();
    }
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Returns the type, mode, owner, time and content of all files below a directory.
fn listing(root: &Path) -> BTreeMap<PathBuf, String> {
    fn add(root: &Path, path: &Path, listing: &mut BTreeMap<PathBuf, String>) {
        let meta = fs::symlink_metadata(path).unwrap();
        let content = match meta.file_type() {
            kind if kind.is_symlink() => format!("{:?}", fs::read_link(path).unwrap()),
            kind if kind.is_file() => format!("{}", fs::read(path).unwrap().len()),
            _ => String::new(),
        };
        let line =
            format!("{:o} {}:{} {}.{} {content}", meta.mode(), meta.uid(), meta.gid(), meta.mtime(), meta.mtime_nsec());
        listing.insert(path.strip_prefix(root).unwrap().to_owned(), line);
        if meta.is_dir() {
            for entry in fs::read_dir(path).unwrap() {
                add(root, &entry.unwrap().path(), listing);
            }
        }
    }
    let mut found = BTreeMap::new();
    add(root, root, &mut found);
    found
}

#[test]
fn on_a_merged_usr_a_shell_named_by_its_path_in_usr_is_also_at_bin_sh() {
    assert!(Path::new("/bin").is_symlink(), "this host has no merged /usr");
    let root = assembled(&[Path::new("/usr/bin/sh")]).unwrap();
    assert_eq!(output(root.path(), &["/bin/sh", "-c", "echo hi"]), "hi\n");
    assert_eq!(fs::read_link(root.path().join("bin")).unwrap(), fs::read_link("/bin").unwrap());
    // No link is dangling.
    assert!(!root.path().join("sbin").is_symlink());
    let programs = [PathBuf::from("/usr/bin/sh")];
    assert!(super::sources(&programs).unwrap().contains_key(&b"bin"[..]));
}

/// Writes a script into a directory of the host that the root does not have.
fn script(directory: &Path, name: &str, text: &str) -> PathBuf {
    let path = directory.join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o4755)).unwrap();
    path
}

#[test]
fn a_shell_runs_in_a_root_with_only_its_own_files() {
    let root = assembled(&[Path::new("/bin/sh"), Path::new("/bin/cat"), Path::new("/usr/bin/id")]).unwrap();
    assert_eq!(output(root.path(), &["/bin/sh", "-c", "echo hi"]), "hi\n");
    assert_eq!(
        output(root.path(), &["/bin/sh", "-c", "cat /etc/group; cat < /etc/passwd; id -un"]),
        "root:x:0:\nroot:x:0:0:root:/root:/bin/sh\nroot\n"
    );
}

#[test]
fn symlinks_on_the_way_are_those_of_the_host() {
    let root = assembled(&[Path::new("/bin/sh")]).unwrap();
    for link in ["/bin", "/bin/sh", "/lib64", "/lib64/ld-linux-x86-64.so.2"] {
        let Ok(target) = fs::read_link(link) else { continue };
        assert_eq!(fs::read_link(root.path().join(&link[1..])).unwrap(), target, "{link}");
    }
}

#[test]
fn the_same_programs_give_the_same_tree_in_any_order_and_number() {
    let (sh, cat) = (Path::new("/bin/sh"), Path::new("/bin/cat"));
    let one = assembled(&[sh, cat]).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(20));
    let other = assembled(&[cat, sh, cat]).unwrap();
    assert_eq!(listing(one.path()), listing(other.path()));
    let of = listing(one.path());
    for (path, line) in &of {
        let expected = match path.to_str().unwrap() {
            "tmp" => "41777 0:0 0.0 ",
            "root" => "40700 0:0 0.0 ",
            _ if line.starts_with('4') => "40755 0:0 0.0 ",
            _ => continue,
        };
        assert_eq!(line, expected, "{path:?}");
    }
}

#[test]
fn a_script_brings_its_interpreter_and_what_env_runs_and_loses_its_setuid_bit() {
    let directory = tempfile::tempdir().unwrap();
    let plain = script(directory.path(), "plain", "#! /bin/sh -e\necho plain\n");
    script(directory.path(), "env", "#!/usr/bin/env bash\necho \"env ${BASH_VERSION:+bash}\"\n");
    let outer = script(directory.path(), "outer", &format!("#!{}\n", plain.display()));
    let link = directory.path().join("link");
    symlink("env", &link).unwrap();
    let root = assembled(&[&outer, &link]).unwrap();
    assert_eq!(output(root.path(), &[plain.to_str().unwrap()]), "plain\n");
    assert_eq!(output(root.path(), &[outer.to_str().unwrap()]), "plain\n");
    assert_eq!(output(root.path(), &[link.to_str().unwrap()]), "env bash\n");
    let inside = fs::metadata(root.path().join(plain.strip_prefix("/").unwrap())).unwrap();
    let outside = fs::metadata(&plain).unwrap();
    assert_eq!(inside.mode() & 0o7777, 0o755);
    assert_eq!((inside.mtime(), inside.mtime_nsec()), (outside.mtime(), outside.mtime_nsec()));
}

/// Compiles a program that needs its own library, with these arguments for the linker.
fn compiled(directory: &Path, linker: &str) -> PathBuf {
    fs::create_dir_all(directory.join("lib")).unwrap();
    fs::write(directory.join("answer.c"), "int answer(void) { return 42; }").unwrap();
    fs::write(directory.join("main.c"), "int answer(void); int main(void) { return answer() - 42; }").unwrap();
    let cc = |args: &[&str]| {
        let output = Command::new("cc").args(args).current_dir(directory).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    cc(&["-shared", "-fPIC", "-Wl,-soname,libanswer.so.1", "-o", "lib/libanswer.so.1", "answer.c"]);
    cc(&["-o", "program", "main.c", "lib/libanswer.so.1", linker]);
    directory.join("program")
}

#[test]
fn a_library_is_found_by_rpath_and_by_runpath_relative_to_the_program() {
    for linker in ["-Wl,--enable-new-dtags,-rpath,$ORIGIN/lib", "-Wl,--disable-new-dtags,-rpath,$ORIGIN/lib"] {
        let directory = tempfile::tempdir().unwrap();
        let program = compiled(directory.path(), linker);
        let root = assembled(&[&program]).unwrap();
        assert_eq!(output(root.path(), &[program.to_str().unwrap()]), "");
    }
}

#[test]
fn a_library_found_by_the_hosts_configuration_is_found_inside_too() {
    let directory = tempfile::tempdir().unwrap();
    let program = compiled(directory.path(), "-Wl,--as-needed");
    let root = tempfile::tempdir().unwrap();
    let libraries = HostLibraries { conf: vec![directory.path().join("lib")] };
    assemble_with(
        std::slice::from_ref(&program),
        &OpenedPaths::default(),
        File::open(root.path()).unwrap().as_fd(),
        libraries,
    )
    .unwrap();
    assert_eq!(output(root.path(), &[program.to_str().unwrap()]), "");
}

#[test]
fn a_missing_library_is_reported_with_its_program_and_the_searched_directories() {
    let directory = tempfile::tempdir().unwrap();
    let program = compiled(directory.path(), "-Wl,-rpath,/nowhere/lib");
    let message = failure(&[&program]);
    let program = program.to_str().unwrap();
    assert!(message.starts_with("cannot find libanswer.so.1, which "), "{message}");
    assert!(message.contains(program) && message.contains("searched in /nowhere/lib, "), "{message}");
}

#[test]
fn a_static_program_needs_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("main.c"), "int main(void) { return 0; }").unwrap();
    let cc = Command::new("cc").args(["-static", "-o", "program", "main.c"]).current_dir(directory.path()).status();
    assert!(cc.unwrap().success());
    let program = directory.path().join("program");
    let root = assembled(&[&program]).unwrap();
    assert_eq!(output(root.path(), &[program.to_str().unwrap()]), "");
    assert!(!root.path().join("usr").exists() && !root.path().join("lib64").exists());
}

#[test]
fn files_that_cannot_be_executed_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    assert!(failure(&[Path::new("bin/sh")]).contains("not absolute"));
    assert!(failure(&[Path::new("/bin/no-such-program")]).contains("No such file"));
    assert!(failure(&[Path::new("/etc/passwd")]).contains("not executable"));
    assert!(failure(&[Path::new("/usr")]).contains("not a regular file"));
    assert!(failure(&[Path::new("/dev/null")]).contains("not a regular file"));
    assert!(failure(&[Path::new("/bin/sh/x")]).contains("use /bin/sh/x as a program"));
    assert!(failure(&[&script(directory.path(), "text", "text")]).contains("neither an ELF program nor a script"));
    assert!(failure(&[&script(directory.path(), "empty", "")]).contains("neither an ELF program nor a script"));
    assert!(failure(&[&script(directory.path(), "broken", "\x7fELF")]).contains("malformed"));
    assert!(failure(&[&script(directory.path(), "env", "#!/usr/bin/env no-such-program")]).contains("no-such-program"));
    let own = directory.path().join("own");
    script(directory.path(), "own", &format!("#!{}\n", own.display()));
    assert!(failure(&[&own]).contains("scripts of each other"));
    let a = directory.path().join("a");
    symlink(&a, &a).unwrap();
    assert!(failure(&[&a]).contains("Too many levels"));
}
