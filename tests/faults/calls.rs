//! The system calls that the tests make fail, the labels that distinguish them, and the errors of each.

use nix::errno::Errno;
use nix::libc;

/// The way in which a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The call does nothing and returns this error.
    Errno(Errno),
    /// The call writes one byte, and returns 1.
    Short,
    /// The process is killed when it makes the call.
    Kill,
}

/// How the tests distinguish calls of the same name.
pub enum Label {
    /// By nothing.
    Plain,
    /// The path in that argument.
    Path(usize),
    /// The path in the second, relative to the descriptor in the first.
    At(usize, usize),
    /// The file of the descriptor in that argument.
    Descriptor(usize),
    /// The request, and the file of the descriptor.
    Ioctl,
    /// That argument.
    Number(usize),
    /// The command and the key.
    Fsconfig,
    /// The flags.
    Clone,
    /// The file of the descriptor that fcntl(2) duplicates.
    Duplicate,
}

/// A system call.
pub struct Call {
    number: i64,
    pub name: &'static str,
    pub label: Label,
    pub errnos: &'static [Errno],
}

const OPENS: &[Errno] = &[Errno::EMFILE, Errno::EIO, Errno::ENOMEM, Errno::EPERM, Errno::ENOSPC];
const MAKES: &[Errno] = &[Errno::ENOSPC, Errno::EIO, Errno::EPERM, Errno::ENOMEM];
const MOUNTS: &[Errno] = &[Errno::EPERM, Errno::ENOMEM, Errno::EBUSY, Errno::EIO];
const MOUNT_OPENS: &[Errno] = &[Errno::EMFILE, Errno::EPERM, Errno::ENOMEM, Errno::EIO];
const WRITES: &[Errno] = &[Errno::ENOSPC, Errno::EIO];
const SYNCS: &[Errno] = &[Errno::EIO, Errno::ENOSPC];
const READS: &[Errno] = &[Errno::EIO, Errno::ENOMEM];
const TAKES: &[Errno] = &[Errno::EBUSY, Errno::EIO, Errno::EPERM];
const DESCRIPTORS: &[Errno] = &[Errno::EMFILE, Errno::ENOMEM];
const RIGHTS: &[Errno] = &[Errno::EPERM, Errno::ENOMEM];
const LOCKS: &[Errno] = &[Errno::EIO, Errno::ENOLCK];
const IOCTLS: &[Errno] = &[Errno::EBUSY, Errno::ENXIO, Errno::EPERM, Errno::ENOMEM];
// The errors that a Unix socket can return: no other reaches it.
const SENDS: &[Errno] = &[Errno::ENOMEM, Errno::ENOBUFS, Errno::ETOOMANYREFS];
const RECEIVES: &[Errno] = &[Errno::ENOMEM];
const FORKS: &[Errno] = &[Errno::EAGAIN, Errno::ENOMEM];

/// The calls of opening, freezing, snapshotting, committing and closing a session.
const CALLS: &[Call] = &[
    call(libc::SYS_openat, "openat", Label::At(0, 1), OPENS),
    call(libc::SYS_open, "open", Label::Path(0), OPENS),
    call(libc::SYS_openat2, "openat2", Label::At(0, 1), OPENS),
    call(libc::SYS_fsopen, "fsopen", Label::Path(0), MOUNT_OPENS),
    call(libc::SYS_fsconfig, "fsconfig", Label::Fsconfig, MOUNTS),
    call(libc::SYS_fsmount, "fsmount", Label::Plain, MOUNT_OPENS),
    call(libc::SYS_open_tree, "open_tree", Label::At(0, 1), MOUNT_OPENS),
    call(libc::SYS_move_mount, "move_mount", Label::At(2, 3), MOUNTS),
    call(libc::SYS_mount_setattr, "mount_setattr", Label::At(0, 1), MOUNTS),
    call(libc::SYS_mount, "mount", Label::Path(1), MOUNTS),
    call(libc::SYS_umount2, "umount2", Label::Path(0), TAKES),
    call(libc::SYS_pivot_root, "pivot_root", Label::Path(0), TAKES),
    call(libc::SYS_chdir, "chdir", Label::Path(0), READS),
    call(libc::SYS_fchdir, "fchdir", Label::Descriptor(0), READS),
    call(libc::SYS_unshare, "unshare", Label::Number(0), RIGHTS),
    call(libc::SYS_setns, "setns", Label::Descriptor(0), RIGHTS),
    call(libc::SYS_mkdir, "mkdir", Label::Path(0), MAKES),
    call(libc::SYS_mkdirat, "mkdirat", Label::At(0, 1), MAKES),
    call(libc::SYS_mknodat, "mknodat", Label::At(0, 1), MAKES),
    call(libc::SYS_symlinkat, "symlinkat", Label::At(1, 2), MAKES),
    call(libc::SYS_rename, "rename", Label::Path(1), MAKES),
    call(libc::SYS_renameat, "renameat", Label::At(2, 3), MAKES),
    call(libc::SYS_renameat2, "renameat2", Label::At(2, 3), MAKES),
    call(libc::SYS_linkat, "linkat", Label::At(2, 3), MAKES),
    call(libc::SYS_unlink, "unlink", Label::Path(0), TAKES),
    call(libc::SYS_unlinkat, "unlinkat", Label::At(0, 1), TAKES),
    call(libc::SYS_rmdir, "rmdir", Label::Path(0), TAKES),
    call(libc::SYS_fsync, "fsync", Label::Descriptor(0), SYNCS),
    call(libc::SYS_fdatasync, "fdatasync", Label::Descriptor(0), SYNCS),
    call(libc::SYS_write, "write", Label::Descriptor(0), WRITES),
    call(libc::SYS_pwrite64, "pwrite64", Label::Descriptor(0), WRITES),
    call(libc::SYS_copy_file_range, "copy_file_range", Label::Descriptor(2), WRITES),
    call(libc::SYS_sendfile, "sendfile", Label::Descriptor(0), WRITES),
    call(libc::SYS_ftruncate, "ftruncate", Label::Descriptor(0), WRITES),
    call(libc::SYS_fallocate, "fallocate", Label::Descriptor(0), WRITES),
    call(libc::SYS_read, "read", Label::Descriptor(0), READS),
    call(libc::SYS_getdents64, "getdents64", Label::Descriptor(0), READS),
    call(libc::SYS_statx, "statx", Label::At(0, 1), READS),
    call(libc::SYS_newfstatat, "newfstatat", Label::At(0, 1), READS),
    call(libc::SYS_fstatfs, "fstatfs", Label::Descriptor(0), READS),
    call(libc::SYS_flock, "flock", Label::Descriptor(0), LOCKS),
    call(libc::SYS_ioctl, "ioctl", Label::Ioctl, IOCTLS),
    call(libc::SYS_clone3, "clone3", Label::Clone, FORKS),
    call(libc::SYS_execve, "execve", Label::Path(0), RIGHTS),
    call(libc::SYS_execveat, "execveat", Label::At(0, 1), RIGHTS),
    call(libc::SYS_pidfd_open, "pidfd_open", Label::Plain, DESCRIPTORS),
    call(libc::SYS_socketpair, "socketpair", Label::Plain, DESCRIPTORS),
    call(libc::SYS_socket, "socket", Label::Plain, DESCRIPTORS),
    call(libc::SYS_pipe2, "pipe2", Label::Plain, DESCRIPTORS),
    call(libc::SYS_memfd_create, "memfd_create", Label::Path(0), DESCRIPTORS),
    call(libc::SYS_dup3, "dup3", Label::Descriptor(0), DESCRIPTORS),
    call(libc::SYS_fcntl, "fcntl", Label::Duplicate, DESCRIPTORS),
    call(libc::SYS_sendmsg, "sendmsg", Label::Descriptor(0), SENDS),
    call(libc::SYS_recvmsg, "recvmsg", Label::Descriptor(0), RECEIVES),
    call(libc::SYS_setxattr, "setxattr", Label::Path(0), WRITES),
    call(libc::SYS_lsetxattr, "lsetxattr", Label::Path(0), WRITES),
    call(libc::SYS_fsetxattr, "fsetxattr", Label::Descriptor(0), WRITES),
    call(libc::SYS_llistxattr, "llistxattr", Label::Path(0), READS),
    call(libc::SYS_flistxattr, "flistxattr", Label::Descriptor(0), READS),
    call(libc::SYS_lremovexattr, "lremovexattr", Label::Path(0), WRITES),
    call(libc::SYS_fchown, "fchown", Label::Descriptor(0), RIGHTS),
    call(libc::SYS_fchownat, "fchownat", Label::At(0, 1), RIGHTS),
    call(libc::SYS_fchmod, "fchmod", Label::Descriptor(0), RIGHTS),
    call(libc::SYS_fchmodat, "fchmodat", Label::At(0, 1), RIGHTS),
    call(libc::SYS_chmod, "chmod", Label::Path(0), RIGHTS),
    call(libc::SYS_utimensat, "utimensat", Label::At(0, 1), RIGHTS),
    call(libc::SYS_setresuid, "setresuid", Label::Plain, RIGHTS),
    call(libc::SYS_setresgid, "setresgid", Label::Plain, RIGHTS),
    call(libc::SYS_setgroups, "setgroups", Label::Plain, RIGHTS),
    call(libc::SYS_capset, "capset", Label::Plain, RIGHTS),
    call(libc::SYS_prctl, "prctl", Label::Number(0), RIGHTS),
    call(libc::SYS_keyctl, "keyctl", Label::Number(0), RIGHTS),
    call(libc::SYS_sethostname, "sethostname", Label::Plain, RIGHTS),
];

const fn call(number: i64, name: &'static str, label: Label, errnos: &'static [Errno]) -> Call {
    Call { number, name, label, errnos }
}

/// Returns the call of that number, if the tests make it fail.
pub fn find(number: i64) -> Option<&'static Call> {
    CALLS.iter().find(|call| call.number == number)
}

/// Returns how a call of that name fails; its process may be killed as well.
pub fn faults(name: &str) -> impl Iterator<Item = Fault> {
    let call = CALLS.iter().find(|call| call.name == name);
    let short = matches!(name, "write" | "pwrite64").then_some(Fault::Short);
    call.into_iter().flat_map(|call| call.errnos).copied().map(Fault::Errno).chain(short)
}

/// Returns a label without the parts that change with each run; none for the libraries that programs load.
pub fn plain(text: &str, directory: &str) -> Option<String> {
    let text = text.replace(directory, "");
    if ["/lib/", "/usr/lib/", "/etc/ld.so", "/etc/localtime"].iter().any(|start| text.starts_with(start)) {
        return None;
    }
    Some(text.split('/').map(component).collect::<Vec<_>>().join("/"))
}

/// Replaces numbers, digests and random letters in a part of a path.
fn component(text: &str) -> String {
    const RANDOM: [&str; 3] = [".half-", ".runner-", ".tmp"];
    if let Some(start) = RANDOM.iter().find(|start| text.starts_with(**start)) {
        return format!("{start}*");
    }
    let hexadecimal = text.bytes().take_while(u8::is_ascii_hexdigit).count();
    if hexadecimal == 64 {
        return format!("DIGEST{}", &text[64..]);
    }
    let mut plain = String::new();
    for character in text.chars() {
        match character {
            '0'..='9' if plain.ends_with('#') => {}
            '0'..='9' => plain.push('#'),
            // A process and random letters, or a time and random letters.
            '-' if plain.ends_with('#') || plain.ends_with("#Z") => return plain + "-*",
            _ => plain.push(character),
        }
    }
    plain
}
