//! The calls that the default profile refuses, and those that a capability allows.

use oci_spec::runtime::Capability;

use super::{KERNEL, standard};
use crate::seccomp::{Action, Architecture, Kernel, Profile, compile, number, status};

const EPERM: Action = Action::Errno(1);
const ENOSYS: Action = Action::Errno(38);

fn answer(capabilities: &[Capability], name: &str, first: u64) -> Action {
    let number = number(Architecture::X86_64, name).unwrap();
    status(&compile(&standard(capabilities)).unwrap(), Architecture::X86_64, number, &[first, 0, 0, 0, 0, 0])
}

#[test]
fn calls_that_reach_the_host_are_refused() {
    for name in [
        "add_key",
        "bpf",
        "io_uring_setup",
        "kexec_load",
        "keyctl",
        "mount",
        "open_by_handle_at",
        "perf_event_open",
        "pivot_root",
        "reboot",
        "request_key",
        "setns",
        "swapon",
        "umount2",
        "unshare",
        "userfaultfd",
    ] {
        assert_eq!(answer(&[], name, 0), EPERM, "{name}");
    }
    for name in ["read", "openat", "execve", "mknod", "ptrace", "landlock_restrict_self", "uretprobe", "removexattrat"]
    {
        assert_eq!(answer(&[], name, 0), Action::Allow, "{name}");
    }
}

#[test]
fn clone_makes_no_namespace_and_clone3_gives_enosys() {
    for flag in [0x20000, 0x0200_0000, 0x0400_0000, 0x0800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000] {
        assert_eq!(answer(&[], "clone", flag | 17), EPERM, "{flag:x}");
        assert_eq!(answer(&[Capability::SysAdmin], "clone", flag | 17), Action::Allow, "{flag:x}");
    }
    assert_eq!(answer(&[], "clone", 17), Action::Allow);
    assert_eq!(answer(&[], "clone3", 0), ENOSYS);
    assert_eq!(answer(&[Capability::SysAdmin], "clone3", 0), Action::Allow);
}

#[test]
fn sockets_to_the_kernels_ciphers_and_to_the_hypervisor_are_refused() {
    for family in 0..64 {
        let expected = if [38, 40].contains(&family) { EPERM } else { Action::Allow };
        for upper_half in [0, 1 << 32, 1 << 63] {
            assert_eq!(answer(&[], "socket", upper_half | family), expected, "{upper_half:x} {family}");
        }
    }
    assert_eq!(answer(&[Capability::SysAdmin], "socket", 40), EPERM);
}

#[test]
fn a_personality_is_one_of_linux() {
    for persona in [0, 8, 0x20000, 0x20008, 0xffff_ffff] {
        assert_eq!(answer(&[], "personality", persona), Action::Allow, "{persona:x}");
    }
    for persona in [1, 0x0040_0000, 0x4_0000, 1 << 32] {
        assert_eq!(answer(&[], "personality", persona), EPERM, "{persona:x}");
    }
}

#[test]
fn each_capability_allows_the_calls_that_need_it() {
    for (capability, name) in [
        (Capability::Bpf, "bpf"),
        (Capability::DacReadSearch, "open_by_handle_at"),
        (Capability::Perfmon, "perf_event_open"),
        (Capability::SysAdmin, "mount"),
        (Capability::SysAdmin, "unshare"),
        (Capability::SysBoot, "reboot"),
        (Capability::SysChroot, "chroot"),
        (Capability::SysModule, "init_module"),
        (Capability::SysNice, "mbind"),
        (Capability::SysPacct, "acct"),
        (Capability::SysPtrace, "kcmp"),
        (Capability::SysRawio, "iopl"),
        (Capability::SysTime, "settimeofday"),
        (Capability::SysTtyConfig, "vhangup"),
        (Capability::Syslog, "syslog"),
    ] {
        assert_eq!((answer(&[], name, 0), answer(&[capability], name, 0)), (EPERM, Action::Allow), "{name}");
    }
}

#[test]
fn calls_of_later_kernels_give_enosys() {
    let program = compile(&standard(&[])).unwrap();
    for of in Architecture::ALL {
        let newest = number(of, "removexattrat").unwrap();
        for (number, expected) in [(newest, Action::Allow), (newest + 1, ENOSYS), (newest + 10_000, ENOSYS)] {
            let is_listed = !matches!(of, Architecture::Aarch64 | Architecture::Arm);
            let expected = if is_listed { expected } else { Action::KillProcess };
            assert_eq!(status(&program, of, number, &[0; 6]), expected, "{of:?} {number}");
        }
    }
    assert_eq!(status(&program, Architecture::X86_64, u32::MAX, &[0; 6]), ENOSYS);
}

#[test]
fn an_old_kernel_allows_no_tracing_and_each_machine_has_its_own_calls() {
    let at = |machine, kernel, name: &str| {
        let filter = Profile::standard().resolve(&[], machine, kernel).unwrap();
        status(&compile(&filter).unwrap(), machine, number(machine, name).unwrap(), &[0; 6])
    };
    let old = Kernel { version: 4, revision: 7 };
    assert_eq!(at(Architecture::X86_64, old, "ptrace"), EPERM);
    assert_eq!(at(Architecture::X86_64, Kernel { version: 4, revision: 8 }, "ptrace"), Action::Allow);
    assert_eq!(at(Architecture::X86_64, KERNEL, "arch_prctl"), Action::Allow);
    assert_eq!(at(Architecture::Aarch64, KERNEL, "openat"), Action::Allow);
    let filter = Profile::standard().resolve(&[], Architecture::Aarch64, KERNEL).unwrap();
    let program = compile(&filter).unwrap();
    let set_tls = number(Architecture::Arm, "set_tls").unwrap();
    assert_eq!(status(&program, Architecture::Arm, set_tls, &[0; 6]), Action::Allow);
    assert_eq!(status(&program, Architecture::X86_64, 0, &[0; 6]), Action::KillProcess);
}

#[test]
fn releases_of_all_makers_are_read() {
    for (text, version, revision) in [
        ("6.1.0-25-amd64", 6, 1),
        ("5.15.167.4-microsoft-standard-WSL2", 5, 15),
        ("5.4.0-150-generic", 5, 4),
        ("6.9-rc3", 6, 9),
        ("4.18.0-553.el8_10.x86_64", 4, 18),
        ("7.0", 7, 0),
    ] {
        assert_eq!(Kernel::of_release(text), Some(Kernel { version, revision }), "{text}");
    }
    for text in ["", "6", "x.1", "6.", "6.x", "99999999999.1"] {
        assert_eq!(Kernel::of_release(text), None, "{text}");
    }
}
