//! Hosts that lack something: space, a writable store, loop devices, mksquashfs, a clock that only goes forward.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::judge::{self, Finding, Kind};
use crate::project::Run;
use crate::sample;
use crate::tally::Tally;

const HOST: &[i32] = &[3];
const ANY: &[i32] = &[0, 1, 3];
const FULL: &str = "No space left on device";

pub fn all(tally: &Tally) {
    full_store(tally);
    full_output(tally);
    read_only_store(tally);
    lost_store(tally);
    no_loop_devices(tally);
    other_mksquashfs(tally);
    clock_set_back(tally);
}

fn causes(words: &[&str]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}

/// Runs a shell command in a mount namespace of its own, in which `"$@"` is runner, and then checks all promises.
///
/// A line that begins with `left: ` or `damaged: ` is a finding.
fn in_shell(tally: &Tally, fault: &str, shell: &str, words: &[&str], codes: &[i32]) {
    let sample = sample::Sample::new();
    for directory in ["store", "out"] {
        fs::create_dir(sample.project.path(directory)).unwrap();
    }
    let checked = format!(
        r#"{shell}
"$@" store verify >verified.txt || echo "damaged: $(cat verified.txt)"
for directory in tmp scratch leases mnt building; do
    for file in $(ls -A store/$directory 2>/dev/null); do
        case $directory in building) ;; *) echo "left: $directory/$file" ;; esac
    done
done
exit $code"#
    );
    let run = sample.in_namespace(&checked);
    let mut found = judge::ending(&run, &causes(words), codes);
    for line in run.stdout.lines() {
        if let Some(left) = line.strip_prefix("left: ") {
            found.push(Finding::new(Kind::LeftBehind, left));
        }
        if let Some(damaged) = line.strip_prefix("damaged: ") {
            found.push(Finding::new(Kind::Damaged, damaged));
        }
    }
    found.extend(judge::whole(&sample.project, &sample.right, true));
    found.extend(judge::leftovers(&sample.project, &[run.pid]).into_iter().map(|l| Finding::new(Kind::LeftBehind, l)));
    tally.add("host", fault, found, || run.to_string());
}

/// The shell command after the fault: the next build must be right.
const AGAIN: &str = r#""$@" apply >next.txt 2>&1 || echo "damaged: the next build: $(tr '\n' ' ' <next.txt)""#;

/// The store is on a tmpfs of 64 MiB, and a filler leaves little space on it.
fn full_store(tally: &Tally) {
    for kilobytes in [0, 4, 32, 128, 512, 1000, 1200, 1800, 2400, 4000] {
        let shell = format!(
            r#"mkdir disk; mount -t tmpfs -o size=64m tmpfs disk; mkdir disk/store; mount --bind disk/store store
head -c 80000000 /dev/zero >disk/filler 2>/dev/null; truncate -s "-{kilobytes}K" disk/filler
"$@" apply; code=$?
rm disk/filler
{AGAIN}"#
        );
        in_shell(tally, &format!("{kilobytes} KiB of room in the store"), &shell, &[FULL], ANY);
    }
}

/// The directory of the outputs has no space.
fn full_output(tally: &Tally) {
    for kilobytes in [0, 4, 8, 512] {
        let shell = format!(
            r#"mount -t tmpfs -o size=8m tmpfs out
head -c 16000000 /dev/zero >out/filler 2>/dev/null; truncate -s "-{kilobytes}K" out/filler
"$@" apply; code=$?
[ -z "$(ls -A out | grep runner-)" ] || echo "left: $(ls -A out)"
rm out/filler
{AGAIN}
mkdir copy; cp out/* copy; umount out; cp copy/* out; rm -r copy"#
        );
        in_shell(tally, &format!("{kilobytes} KiB of room for the outputs"), &shell, &[FULL], ANY);
    }
}

fn read_only_store(tally: &Tally) {
    const READ_ONLY: &[&str] = &["Read-only file system"];
    let tried = format!(
        r#"mount --bind store store; mount -o remount,ro,bind store
"$@" apply; code=$?
mount -o remount,rw,bind store
{AGAIN}"#
    );
    in_shell(tally, "an empty store that is read-only", &tried, READ_ONLY, HOST);
    let built = format!("\"$@\" apply >/dev/null; rm -r out/*\n{tried}");
    // Nothing has to run: the outputs come from the store.
    in_shell(tally, "a store with all layers that is read-only", &built, READ_ONLY, &[0]);
    let removed = r#"mount -t tmpfs tmpfs store; mount -o remount,ro store
"$@" apply; code=$?
umount store
"$@" apply >next.txt 2>&1 || echo "damaged: the next build: $(tr '\n' ' ' <next.txt)""#;
    in_shell(tally, "a filesystem for the store that is read-only", removed, READ_ONLY, HOST);
}

/// Another process removes the store, or a directory of it, while a step runs.
fn lost_store(tally: &Tally) {
    for part in ["", "layers", "keys", "tmp", "leases", "logs", "building", "last"] {
        let sample = sample::Sample::with_gate();
        let build = sample.project.spawn(&["apply"]);
        let pid = build.id();
        sample.await_gate();
        let lost = sample.project.store().join(part);
        // A runner that records a step meanwhile adds to a directory that is being removed.
        while lost.exists() {
            let _ = fs::remove_dir_all(&lost);
        }
        sample.open_gate();
        let run = Run::new(pid, &build.wait_with_output().unwrap());
        let mut found = judge::ending(&run, &causes(&["No such file or directory"]), ANY);
        found.extend(judge::whole(&sample.project, &sample.right, run.code == 0));
        found.extend(judge::next_build(&sample.project, &sample.right, &[pid]));
        tally.add("host", &format!("the store loses {part:?} meanwhile"), found, || run.to_string());
    }
}

/// The host gives no loop devices.
fn no_loop_devices(tally: &Tally) {
    let shell = format!(
        r#"mount --bind /dev/null /dev/loop-control
"$@" apply; code=$?
umount /dev/loop-control
{AGAIN}"#
    );
    in_shell(tally, "no loop devices", &shell, &["find a free loop device"], HOST);
}

/// Another program has the name of mksquashfs, which must write the images.
fn other_mksquashfs(tally: &Tally) {
    const REAL: &str = "/usr/bin/mksquashfs";
    let cases = [
        ("missing", "", &["mksquashfs is not in PATH"][..]),
        ("cannot be run", "#!/nowhere/sh", &["mksquashfs is not in PATH"]),
        ("fails", "echo words of its own >&2; exit 7", &["words of its own"]),
        ("is killed", "kill -9 $$", &["killed by signal 9"]),
        ("is killed half-way", r#"real "$@" & sleep 0.01; kill -9 $!; kill -9 $$"#, &["killed by signal 9"]),
        ("writes nothing", "exit 0", &["mksquashfs"]),
        ("writes an empty file", r#": >"$2""#, &["mksquashfs"]),
        ("writes rubbish", r#"head -c 100000 /dev/urandom >"$2""#, &["mksquashfs"]),
        ("writes half of an image", r#"real "$@"; truncate -s -4096 "$2""#, &["mksquashfs"]),
        ("writes an image and fails", r#"real "$@"; exit 1"#, &["mksquashfs"]),
    ];
    for (name, script, words) in cases {
        let sample = sample::Sample::new();
        let programs = sample.project.path("programs");
        fs::create_dir(&programs).unwrap();
        if !script.is_empty() {
            let version = format!("case $1 in -version) exec {REAL} -version ;; esac");
            let text = match script.starts_with("#!") {
                true => script.to_owned(),
                false => format!("#!/bin/sh\nreal() {{ {REAL} \"$@\"; }}\n{version}\n{script}\n"),
            };
            fs::write(programs.join("mksquashfs"), text).unwrap();
            fs::set_permissions(programs.join("mksquashfs"), fs::Permissions::from_mode(0o755)).unwrap();
        }
        let programs = programs.display().to_string();
        // Without one that can be started, the next in PATH would be.
        let is_alone = script.is_empty() || script.starts_with("#!");
        let path = if is_alone { programs } else { format!("{programs}:/usr/bin:/bin") };
        let mut command = sample.project.command(&["apply"]);
        let child = command.env("PATH", path).env("RUNNER_MKSQUASHFS", "1");
        let child = child.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        let child = child.spawn().unwrap();
        let pid = child.id();
        let run = Run::new(pid, &child.wait_with_output().unwrap());
        let mut found = judge::ending(&run, &causes(words), HOST);
        found.extend(judge::whole(&sample.project, &sample.right, false));
        found.extend(judge::next_build(&sample.project, &sample.right, &[pid]));
        tally.add("host", &format!("mksquashfs {name}"), found, || run.to_string());
    }
}

/// The clock was a year ahead when the store was written, and an input is older than its results.
fn clock_set_back(tally: &Tally) {
    const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
    let sample = sample::Sample::new();
    let first = sample.project.apply();
    age(&sample.project.store(), SystemTime::now() + YEAR);
    let mut found = judge::next_build(&sample.project, &sample.right, &[first.pid]);
    let cached = sample.project.apply();
    if !cached.stdout.contains("5 cached") {
        found.push(Finding::new(Kind::Damaged, "it builds again"));
    }
    tally.add("host", "the store is from the future", found, || cached.to_string());

    // Only the content changes; the size is the same, and the time is older.
    let input = sample.project.path("src/file");
    let time = fs::metadata(&input).unwrap().modified().unwrap() - YEAR;
    fs::write(&input, "eno\n").unwrap();
    File::open(&input).unwrap().set_modified(time).unwrap();
    let changed = sample.project.apply();
    let mut found = judge::ending(&changed, &[], &[0]);
    if judge::outputs(&sample.project) == sample.right {
        found.push(Finding::new(Kind::Damaged, "what was made of the input of before is taken for right"));
    }
    tally.add("host", "an input that is older than before", found, || changed.to_string());

    // The next start removes a killed runner's files also where they are newer than the present.
    let left = sample.project.store().join("tmp/1-abcdefgh");
    fs::create_dir(&left).unwrap();
    fs::write(left.join("layer.squashfs"), "half").unwrap();
    fs::write(sample.project.store().join("keys/.half-abcdef"), "half").unwrap();
    fs::write(sample.project.store().join("leases/1-abcdefgh"), "").unwrap();
    fs::write(&input, "one\n").unwrap();
    age(&sample.project.store(), SystemTime::now() + YEAR);
    let found = judge::next_build(&sample.project, &sample.right, &[]);
    tally.add("host", "leftovers from the future", found, String::new);
}

/// Gives every file below `path` that time.
fn age(path: &Path, time: SystemTime) {
    for entry in fs::read_dir(path).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            age(&entry.path(), time);
        }
        File::open(entry.path()).unwrap().set_modified(time).unwrap();
    }
}
