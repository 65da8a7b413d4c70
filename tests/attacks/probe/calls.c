/* System calls that reach the host or its kernel, each in its own process, and the kernel's keyrings. */
#include <linux/keyctl.h>
#include <sys/socket.h>
#include <time.h>

#include "probe.h"

static char zeros[4096];

static long new_user(void) { return unshare(CLONE_NEWUSER); }
static long new_all(void) { return unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWCGROUP); }
static long new_mounts(void) { return unshare(CLONE_NEWNS); }
static long cloned_user(void) {
    long child = syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0);
    if (child == 0)
        _exit(0);
    return child;
}
static long cloned3_user(void) {
    struct { unsigned long flags, rest[10]; } arguments = {CLONE_NEWUSER, {0}};
    arguments.rest[3] = SIGCHLD;
    long child = syscall(SYS_clone3, &arguments, 88);
    if (child == 0)
        _exit(0);
    return child;
}
static long add_key(void) { return syscall(SYS_add_key, "user", "runner-attack", "x", 1, KEY_SPEC_USER_KEYRING); }
static long keyctl(void) { return syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_USER_KEYRING, 1); }
static long request_key(void) { return syscall(SYS_request_key, "user", "runner-attack", NULL, KEY_SPEC_USER_KEYRING); }
static long io_uring(void) { return syscall(SYS_io_uring_setup, 1, zeros); }
static long userfaultfd(void) { return syscall(SYS_userfaultfd, 1); }
static long perf(void) {
    unsigned attributes[32] = {1 /* software */, 128, 0 /* cpu-clock */};
    return syscall(SYS_perf_event_open, attributes, 0, -1, -1, 0);
}
static long bpf(void) { return syscall(SYS_bpf, 0, zeros, 48); }
static long vsock(void) { return socket(AF_VSOCK, SOCK_STREAM, 0); }
static long alg(void) { return socket(AF_ALG, SOCK_SEQPACKET, 0); }
static long packet(void) { return socket(AF_PACKET, SOCK_RAW, 0); }
static long setns_pid1(void) { return setns(open("/proc/1/ns/mnt", O_RDONLY), 0); }
static long handle(void) {
    struct { unsigned bytes; int type; unsigned char data[128]; } file = {128, 0, {0}};
    int mount;
    if (syscall(SYS_name_to_handle_at, AT_FDCWD, "/", &file, &mount, 0) < 0)
        file.bytes = 8, file.type = 1, file.data[0] = 2; /* the root directory of most filesystems */
    return syscall(SYS_open_by_handle_at, open("/", O_RDONLY), &file, O_RDONLY);
}
static long load_module(void) { return syscall(SYS_init_module, zeros, 64, ""); }
static long load_module_file(void) { return syscall(SYS_finit_module, open("/proc/self/exe", O_RDONLY), "", 0); }
static long remove_module(void) { return syscall(SYS_delete_module, "runner_attack_no_module", O_NONBLOCK); }
static long kexec(void) { return syscall(SYS_kexec_load, 0, 0, zeros, 0); }
static long mount_tmpfs(void) { return mount("x", "/tmp", "tmpfs", 0, NULL); }
static long mount_proc(void) { return mount("x", "/tmp", "proc", 0, NULL); }
static long remount_root(void) { return mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND, NULL); }
static long umount_proc(void) { return umount2("/proc", MNT_DETACH); }
static long new_fs(void) { return syscall(SYS_fsopen, "tmpfs", 0); }
static long clone_tree(void) { return syscall(SYS_open_tree, AT_FDCWD, "/proc", 1); }
static long pivot(void) { return syscall(SYS_pivot_root, "/", "/"); }
static long accounting(void) { return syscall(SYS_acct, NULL); }
static long swap(void) { return syscall(SYS_swapoff, "/none"); }
static long host_name(void) { return sethostname("evil", 4); }
static long clock_set(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return clock_settime(CLOCK_REALTIME, &now);
}
static long kernel_log(void) { return syscall(SYS_syslog, 3, zeros, sizeof zeros); }
static long ports(void) { return syscall(SYS_iopl, 3); }
static long random_access(void) { return syscall(SYS_personality, 0x0040000); }
static long fanotify(void) { return syscall(SYS_fanotify_init, 0x4, 0); }
static long nice_realtime(void) {
    int priority = 50;
    return syscall(SYS_sched_setscheduler, 0, 1, &priority);
}

static void apart(const char *name, long (*call)(void)) {
    pid_t child = fork();
    if (child == 0) {
        say(name, call());
        _exit(0);
    }
    waitpid(child, NULL, 0);
}

int try_calls(void) {
    static const struct { const char *name; long (*call)(void); } calls[] = {
        {"unshare-user", new_user}, {"unshare-all", new_all}, {"unshare-mounts", new_mounts}, {"clone-user", cloned_user},
        {"clone3-user", cloned3_user}, {"add_key", add_key}, {"keyctl", keyctl}, {"request_key", request_key},
        {"io_uring_setup", io_uring}, {"userfaultfd", userfaultfd}, {"perf_event_open", perf}, {"bpf", bpf},
        {"socket-vsock", vsock}, {"socket-alg", alg}, {"socket-packet", packet}, {"setns", setns_pid1},
        {"open_by_handle_at", handle}, {"init_module", load_module}, {"finit_module", load_module_file},
        {"delete_module", remove_module}, {"kexec_load", kexec}, {"mount-tmpfs", mount_tmpfs}, {"mount-proc", mount_proc},
        {"remount-root", remount_root}, {"umount-proc", umount_proc}, {"fsopen", new_fs}, {"open_tree-clone", clone_tree},
        {"pivot_root", pivot}, {"acct", accounting}, {"swapoff", swap}, {"sethostname", host_name}, {"clock_settime", clock_set},
        {"syslog", kernel_log}, {"iopl", ports},
        {"personality", random_access}, {"fanotify_init", fanotify}, {"sched_setscheduler", nice_realtime},
    };
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
        apart(calls[i].name, calls[i].call);
    puts("calls over");
    return 0;
}

#ifdef __x86_64__
/* Makes a call by the gate of i386, with its numbers. */
static long call_i386(long number, long a, long b, long c) {
    long result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c) : "memory");
    errno = result < 0 ? -(int)result : 0;
    return result < 0 ? -1 : result;
}

/* Each call in its own process: a filter may kill the process for it. */
static void foreign(const char *name, int i386, long number, long a, long b, long c) {
    pid_t child = fork();
    if (child == 0) {
        say(name, i386 ? call_i386(number, a, b, c) : syscall(0x40000000 | number, a, b, c));
        _exit(0);
    }
    int status;
    waitpid(child, &status, 0);
    if (WIFSIGNALED(status))
        printf("%s killed by %d\n", name, WTERMSIG(status));
}

int try_foreign_calls(void) {
    foreign("i386-unshare", 1, 310, CLONE_NEWUSER, 0, 0);
    foreign("i386-keyctl", 1, 288, KEYCTL_GET_KEYRING_ID, KEY_SPEC_USER_KEYRING, 1);
    foreign("i386-io_uring_setup", 1, 425, 1, 0, 0);
    foreign("i386-bpf", 1, 357, 0, 0, 0);
    foreign("i386-userfaultfd", 1, 374, 1, 0, 0);
    foreign("i386-socket-vsock", 1, 359, AF_VSOCK, SOCK_STREAM, 0);
    foreign("x32-unshare", 0, SYS_unshare, CLONE_NEWUSER, 0, 0);
    foreign("x32-keyctl", 0, SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_USER_KEYRING, 1);
    foreign("x32-socket-vsock", 0, SYS_socket, AF_VSOCK, SOCK_STREAM, 0);
    puts("calls over");
    return 0;
}
#else
int try_foreign_calls(void) {
    puts("calls over");
    return 0;
}
#endif

static long key_call(int operation, long a, const void *b, const void *c, long d) {
    return syscall(SYS_keyctl, operation, a, b, c, d);
}

static void read_key(const char *how, long key) {
    char value[256] = {0};
    long length = key_call(KEYCTL_READ, key, value, (void *)sizeof value, 0);
    say(how, length);
    if (length > 0)
        printf("READ %.200s\n", value);
}

int try_keys(const char *name) {
    puts("TRYING");
    long key = key_call(KEYCTL_SEARCH, KEY_SPEC_USER_KEYRING, "user", name, 0);
    say("search", key);
    read_key("read", key);
    /* A process whose session keyring has this keyring possesses the keys in it. */
    say("link", key_call(KEYCTL_LINK, KEY_SPEC_USER_KEYRING, (void *)KEY_SPEC_SESSION_KEYRING, NULL, 0));
    read_key("read-linked", key);
    char planted[128];
    snprintf(planted, sizeof planted, "%s-planted", name);
    say("add", syscall(SYS_add_key, "user", planted, "evil", 4, KEY_SPEC_USER_KEYRING));
    say("add-user-session", syscall(SYS_add_key, "user", planted, "evil", 4, KEY_SPEC_USER_SESSION_KEYRING));
    say("revoke", key_call(KEYCTL_REVOKE, key, NULL, NULL, 0));
    int keys = open("/proc/keys", O_RDONLY);
    static char all[65536];
    long got = keys < 0 ? -1 : read(keys, all, sizeof all - 1);
    if (got > 0 && strstr(all, name))
        puts("LISTED in /proc/keys");
    return 0;
}

/* Joins a new session keyring, and links the user's keyring into it: in a service of systemd no session keyring has that
   link, and a process without the link may not read the keys. */
static void possess_user_keyring(void) {
    key_call(KEYCTL_JOIN_SESSION_KEYRING, 0, NULL, NULL, 0);
    key_call(KEYCTL_LINK, KEY_SPEC_USER_KEYRING, (void *)KEY_SPEC_SESSION_KEYRING, NULL, 0);
}

int plant_key(const char *name, const char *value) {
    possess_user_keyring();
    return syscall(SYS_add_key, "user", name, value, strlen(value), KEY_SPEC_USER_KEYRING) < 0;
}

int look_at_key(const char *name) {
    char value[256] = {0}, planted[128];
    possess_user_keyring();
    long key = key_call(KEYCTL_SEARCH, KEY_SPEC_USER_KEYRING, "user", name, 0);
    if (key < 0 || key_call(KEYCTL_READ, key, value, (void *)sizeof value, 0) < 0)
        printf("GONE %s\n", strerrorname_np(errno));
    else
        printf("THERE %s\n", value);
    snprintf(planted, sizeof planted, "%s-planted", name);
    if (key_call(KEYCTL_SEARCH, KEY_SPEC_USER_KEYRING, "user", planted, 0) >= 0)
        puts("PLANTED");
    return 0;
}

int remove_keys(const char *name) {
    char planted[128];
    possess_user_keyring();
    snprintf(planted, sizeof planted, "%s-planted", name);
    const char *names[] = {name, planted};
    for (int i = 0; i < 2; i++) {
        long key = key_call(KEYCTL_SEARCH, KEY_SPEC_USER_KEYRING, "user", names[i], 0);
        if (key >= 0)
            key_call(KEYCTL_UNLINK, key, (void *)KEY_SPEC_USER_KEYRING, NULL, 0);
    }
    return 0;
}
