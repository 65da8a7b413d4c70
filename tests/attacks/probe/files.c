/* Attacks by files, descriptors, memory and processes. */
#include <ftw.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <termios.h>

#include "probe.h"

/* Checks whether the working directory lies outside of the root: its path, and the files of the host that it leads to. */
int look_from_cwd(int count, char **markers) {
    static const char *const KERNEL[] = {"sys/kernel/core_pattern", "kernel/core_pattern", "core_pattern",
        "../sys/kernel/core_pattern", "../../sys/kernel/core_pattern", "sysrq-trigger"};
    char path[8192], up[4200] = "";
    puts("TRYING");
    long length = syscall(SYS_getcwd, path, sizeof path);
    printf("cwd %s\n", length > 0 ? path : strerrorname_np(errno));
    if (length <= 0 || path[0] != '/')
        puts("OUTSIDE by getcwd");
    struct stat here, there;
    if (length > 0 && (stat(".", &here) || stat(path, &there) || here.st_dev != there.st_dev || here.st_ino != there.st_ino))
        puts("OUTSIDE by stat");
    for (size_t i = 0; i < sizeof KERNEL / sizeof *KERNEL; i++)
        if (open(KERNEL[i], O_WRONLY | O_CLOEXEC) >= 0)
            printf("WRITABLE %s\n", KERNEL[i]);
    for (int depth = 0; depth < 24; depth++) {
        for (int i = 0; i < count; i++) {
            snprintf(path, sizeof path, "%s%s", up, markers[i]);
            int fd = open(path, O_RDONLY | O_CLOEXEC);
            if (fd >= 0)
                printf("REACHED %s\n", path), close(fd);
        }
        strcat(up, "../");
    }
    return 0;
}

static const char *wanted;
static long seen;

static int inspect(const char *path, const struct stat *status, int kind, struct FTW *at) {
    static char buffer[1 << 18];
    const char *name = path + at->base;
    seen++;
    if (kind == FTW_D || kind == FTW_DP) {
        if (!strncmp(name, "bundle", 6) || !strcmp(name, "layers") || !strcmp(name, "leases"))
            printf("STORE %s\n", path);
        return 0;
    }
    if (kind != FTW_F || !S_ISREG(status->st_mode))
        return 0;
    int guarded = !strcmp(name, "core_pattern") || !strcmp(name, "config.json") || !strcmp(name, "cgroup.procs");
    int fd = open(path, guarded ? O_WRONLY | O_CLOEXEC : O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return 0;
    if (guarded)
        printf("WRITABLE %s\n", path);
    long length = guarded ? 0 : read(fd, buffer, sizeof buffer);
    if (length > 0 && memmem(buffer, length, wanted, strlen(wanted)))
        printf("FOUND %s\n", path);
    close(fd);
    return 0;
}

/* Searches a directory: for the store, files with a text in them, and writable files of the kernel and of runtimes. */
int hunt(const char *directory, const char *text) {
    wanted = text;
    puts("TRYING");
    nftw(directory, inspect, 64, FTW_PHYS);
    printf("hunted through %ld\n", seen);
    return 0;
}

int list_descriptors(void) {
    DIR *directory = opendir("/proc/self/fd");
    struct dirent *entry;
    char path[300], link[4096];
    puts("TRYING");
    while (directory && (entry = readdir(directory))) {
        if (entry->d_name[0] == '.' || atoi(entry->d_name) == dirfd(directory))
            continue;
        snprintf(path, sizeof path, "/proc/self/fd/%s", entry->d_name);
        long length = readlink(path, link, sizeof link - 1);
        link[length < 0 ? 0 : length] = 0;
        printf("%s %s %s\n", atoi(entry->d_name) > 2 ? "LEAKED" : "fd", entry->d_name, link);
    }
    return 0;
}

int make_files(const char *directory, long most) {
    char path[4200];
    long made = 0;
    puts("TRYING");
    for (; made < most; made++) {
        snprintf(path, sizeof path, "%s/f%ld", directory, made);
        int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        if (fd < 0)
            break;
        close(fd);
    }
    printf("files %ld\n", made);
    return 0;
}

/* Writes MiB of extended attributes. */
int make_attributes(const char *directory, long most) {
    static char value[60000];
    char path[4200], name[64];
    long bytes = 0;
    puts("TRYING");
    for (int file = 0; bytes < most << 20; file++) {
        snprintf(path, sizeof path, "%s/x%d", directory, file);
        int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600), some = 0;
        for (int i = 0; fd >= 0 && i < 64; i++) {
            snprintf(name, sizeof name, "user.a%d", i);
            if (fsetxattr(fd, name, value, sizeof value, 0) < 0)
                break;
            bytes += sizeof value, some = 1;
        }
        if (!some)
            break;
        close(fd);
    }
    printf("attributes %ld\n", bytes >> 20);
    return 0;
}

int fork_many(long most) {
    long made = 0;
    puts("TRYING");
    for (; made < most; made++) {
        pid_t child = fork();
        if (child < 0)
            break;
        if (child == 0)
            for (;;)
                pause();
    }
    printf("forked %ld\n", made);
    return 0;
}

int take_memory(long mebibytes) {
    puts("TRYING");
    for (long i = 0; i < mebibytes; i++) {
        char *piece = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (piece == MAP_FAILED) {
            printf("refused after %ld\n", i);
            return 0;
        }
        memset(piece, 1, 1 << 20);
    }
    printf("TOOK %ld\n", mebibytes);
    return 0;
}

/* Makes and opens device nodes: all well-known ones, and the first of each number. */
int open_nodes(void) {
    static const int ALLOWED[][2] = {{1, 3}, {1, 5}, {1, 7}, {1, 8}, {1, 9}, {5, 0}, {5, 2}};
    long made = 0;
    puts("TRYING");
    for (int block = 0; block < 2; block++)
        for (int major = 0; major < 512; major++)
            for (int minor = 0; minor < (major < 16 || major == 229 || major == 237 ? 256 : 2); minor++) {
                int allowed = 0;
                for (size_t i = 0; i < sizeof ALLOWED / sizeof *ALLOWED; i++)
                    allowed |= !block && ALLOWED[i][0] == major && ALLOWED[i][1] == minor;
                /* The terminals of the container's own instance. */
                if (allowed || (!block && major >= 136 && major < 144))
                    continue;
                unlink("/tmp/node");
                if (mknod("/tmp/node", (block ? S_IFBLK : S_IFCHR) | 0600, makedev(major, minor)) < 0)
                    continue;
                made++;
                static const int MODES[] = {O_RDONLY, O_WRONLY};
                for (int i = 0; i < 2; i++) {
                    int fd = open("/tmp/node", MODES[i] | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
                    /* ENXIO and ENODEV come after the permission: the rule let it through. */
                    if (fd >= 0)
                        printf("OPENED %c %d:%d %s\n", block ? 'b' : 'c', major, minor, i ? "to write" : "to read");
                    if (fd >= 0)
                        close(fd);
                }
            }
    printf("nodes %ld\n", made);
    return 0;
}

/* Leaves a chroot, and goes on upwards: that leads to the root that the step began with, and no further. */
int break_chroot(const char *marker) {
    char path[4200] = "";
    puts("TRYING");
    mkdir("/tmp/jail", 0755);
    if (chroot("/tmp/jail") < 0)
        printf("chroot %s\n", strerrorname_np(errno));
    for (int i = 0; i < 64; i++)
        if (chdir("..") < 0)
            break;
    chroot(".");
    for (int depth = 0; depth < 24; depth++) {
        char full[8500];
        snprintf(full, sizeof full, "%s%s", path, marker);
        if (open(full, O_RDONLY | O_CLOEXEC) >= 0)
            printf("REACHED %s\n", full);
        strcat(path, "../");
    }
    return 0;
}

/* Types into the terminal that it was started on. */
int push_input(void) {
    puts("TRYING");
    for (const char *at = "\necho PUSHED\n"; *at; at++)
        if (ioctl(0, TIOCSTI, at) < 0) {
            printf("refused %s\n", strerrorname_np(errno));
            break;
        }
    return 0;
}

/* Leaves a loop device attached. */
int attach_loop(const char *file) {
    puts("TRYING");
    int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
    for (int number = 0; number < 64; number++) {
        char path[32];
        snprintf(path, sizeof path, "/dev/loop%d", number);
        int device = open(path, O_RDWR | O_CLOEXEC), backing = open(file, O_RDWR | O_CLOEXEC);
        if (device < 0)
            continue;
        if (ioctl(device, LOOP_SET_FD, backing) == 0) {
            printf("attached %s\n", path);
            return 0;
        }
    }
    printf("not attached %d %s\n", control, strerrorname_np(errno));
    return 0;
}

/* Takes a lease on a file against its readers, then makes the file `done`, and never gives the lease up. */
int take_lease(const char *path, const char *done) {
    signal(SIGIO, SIG_IGN);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    int result = fd < 0 ? -1 : fcntl(fd, F_SETLEASE, F_WRLCK);
    say("lease", result);
    if (result < 0 || creat(done, 0644) < 0)
        return 1;
    for (;;)
        pause();
}
