//! Sets the device rules of a session's cgroup, before anything runs in it.
//!
//! On v1 by the device controller's files, on v2 by a small BPF program, see bpf(2) and
//! Documentation/admin-guide/cgroup-v1/devices.rst of the kernel. Some external runtimes open /dev/net/tun to every
//! container; these rules hold above theirs.

use std::error::Error;
use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType, Spec};

use crate::cgroup::{GroupDir, GroupSet};
use crate::error::error_chain;
use crate::runtime::cgroups;
use crate::sys;

/// How to fix a host without device rules.
const FIX: &str = "see `runner doctor`, or write `capabilities: { drop: [MKNOD] }` for the container";

const NO_GROUPS: &str = "this host has no device cgroup: mount the v1 device controller or cgroup2";

/// Returns the device rules of a config.json.
pub fn of(spec: &Spec) -> Vec<LinuxDeviceCgroup> {
    let resources = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref());
    resources.and_then(|resources| resources.devices().clone()).unwrap_or_default()
}

/// Lets the processes in these groups, and in all later groups below them, use only the devices that `rules` allow.
///
/// On v1 they must not have a group below them yet.
///
/// # Errors
/// Where the host has no device cgroup, or the kernel cannot enforce rules there: then nothing may run.
pub fn allow_only(groups: &GroupSet, rules: &[LinuxDeviceCgroup]) -> Result<(), Box<dyn Error>> {
    match (groups.v1("devices"), groups.v2()) {
        (Some(group), _) => write_files(group, rules),
        (None, Some(group)) => attach_program(group, rules),
        (None, None) => Err(NO_GROUPS.into()),
    }
}

/// Checks whether rules can be enforced below `home`: sets those of an empty group, and removes the group at once.
///
/// # Errors
/// The message for a container that may not start without them.
pub fn check_below(home: &GroupSet, name: &str, rules: &[LinuxDeviceCgroup]) -> Result<(), String> {
    let attempt = || -> Result<(), Box<dyn Error>> {
        let group = home.create(name)?;
        let allowed = allow_only(&group, rules);
        if group.remove() { allowed } else { Err("a cgroup made to try that cannot be removed".into()) }
    };
    attempt().map_err(refusal)
}

/// Returns the message for a container that may make device nodes, where rules cannot be enforced.
pub fn refusal(error: Box<dyn Error>) -> String {
    format!("device rules cannot be enforced here: {}; {FIX}", error_chain(&*error))
}

fn write_files(group: &GroupDir, rules: &[LinuxDeviceCgroup]) -> Result<(), Box<dyn Error>> {
    for rule in rules {
        let file = if rule.allow() { "devices.allow" } else { "devices.deny" };
        group.write(file, &rule.to_string()).map_err(|error| {
            let failure = format!("cannot write {rule} to {}: {error}", group.path().join(file).display());
            match callers_group(group.path()) {
                Some(above) if rule.allow() && error.kind() == io::ErrorKind::PermissionDenied => {
                    format!("{failure}; {}", refused_above(rule, above))
                }
                _ => failure,
            }
        })?;
    }
    Ok(())
}

/// Returns the group in which runner was started, above those that runner makes for a container.
fn callers_group(group: &Path) -> Option<&Path> {
    let is_own = |group: &&Path| {
        let name = group.file_name().and_then(OsStr::to_str);
        name.is_some_and(|name| name.starts_with(cgroups::NAME_PREFIX))
    };
    group.ancestors().find(is_own)?.parent()
}

/// Returns how to allow a device in the group above: a group cannot allow a device that the one above it refuses.
fn refused_above(rule: &LinuxDeviceCgroup, above: &Path) -> String {
    let file = above.join("devices.allow");
    format!("the group above refuses it, or a part of it: `echo '{rule}' > {}` allows it", file.display())
}

fn attach_program(group: &GroupDir, rules: &[LinuxDeviceCgroup]) -> Result<(), Box<dyn Error>> {
    sys::attach_device_program(group.as_fd(), &program(rules)?).map_err(|error| {
        format!("cannot load a BPF program for device rules: {error}; the kernel needs CONFIG_CGROUP_BPF").into()
    })
}

/// `BPF_DEVCG_*` of linux/bpf.h.
const TYPE_BLOCK: i32 = 1;
const TYPE_CHARACTER: i32 = 2;
const ACCESS_MKNOD: i32 = 1;
const ACCESS_READ: i32 = 2;
const ACCESS_WRITE: i32 = 4;

/// Encodes one BPF instruction, `struct bpf_insn` of linux/bpf.h.
const fn instruction(code: u8, to: u8, from: u8, offset: i16, value: i32) -> u64 {
    code as u64 | ((to | from << 4) as u64) << 8 | (offset as u16 as u64) << 16 | (value as u32 as u64) << 32
}

const LOAD_WORD: u8 = 0x61;
const MOVE: u8 = 0xbf;
const MOVE_VALUE: u8 = 0xb7;
const AND_VALUE: u8 = 0x57;
const SHIFT_RIGHT_VALUE: u8 = 0x77;
const JUMP_UNLESS_VALUE: u8 = 0x55;
const EXIT: u8 = 0x95;

/// Returns a program that answers 1 for an access that a rule allows, and 0 for any other.
/// Register 1 points to the kernel's request: type and access in one word, then major and minor.
fn program(rules: &[LinuxDeviceCgroup]) -> Result<Vec<u64>, Box<dyn Error>> {
    let mut code = vec![
        instruction(LOAD_WORD, 2, 1, 0, 0),
        instruction(AND_VALUE, 2, 0, 0, 0xffff),
        instruction(LOAD_WORD, 3, 1, 0, 0),
        instruction(SHIFT_RIGHT_VALUE, 3, 0, 0, 16),
        instruction(LOAD_WORD, 4, 1, 4, 0),
        instruction(LOAD_WORD, 5, 1, 8, 0),
    ];
    for rule in rules {
        let kind = match (rule.allow(), rule.typ().unwrap_or_default()) {
            (false, LinuxDeviceType::A) => continue,
            (true, LinuxDeviceType::B) => TYPE_BLOCK,
            (true, LinuxDeviceType::C) => TYPE_CHARACTER,
            _ => return Err(format!("the device rule {rule} is neither the denial of all nor one device's").into()),
        };
        let access = rule.access().as_deref().unwrap_or_default();
        let bit = |letter, bit| if access.contains(letter) { bit } else { 0 };
        let allowed = bit('m', ACCESS_MKNOD) | bit('r', ACCESS_READ) | bit('w', ACCESS_WRITE);
        // A test that fails jumps over the remainder of this rule: the tests after it, and the answer, which has two instructions.
        let mut tests = vec![(2, kind)];
        tests.push((6, 0));
        for (register, number) in [(4, rule.major()), (5, rule.minor())] {
            if let Some(number) = number {
                tests.push((register, i32::try_from(number)?));
            }
        }
        code.push(instruction(MOVE, 6, 3, 0, 0));
        code.push(instruction(AND_VALUE, 6, 0, 0, !allowed));
        for (index, (register, value)) in tests.iter().enumerate() {
            let remaining = i16::try_from(tests.len() - index - 1 + 2)?;
            code.push(instruction(JUMP_UNLESS_VALUE, *register, 0, remaining, *value));
        }
        code.push(instruction(MOVE_VALUE, 0, 0, 0, 1));
        code.push(instruction(EXIT, 0, 0, 0, 0));
    }
    code.push(instruction(MOVE_VALUE, 0, 0, 0, 0));
    code.push(instruction(EXIT, 0, 0, 0, 0));
    Ok(code)
}
